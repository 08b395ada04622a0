"""Compiles sources with the target's own Python, each set of them once, to bytecode that needs no look at the source.

The files are unchecked hash-based .pyc (PEP 552): Lambda's folders are read-only, and an archive's times say nothing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from pathlib import Path

from msgspec import Struct

from builders.errors import BuildError
from builders.inside import read_script
from builders.once import Once
from builders.sandbox.task import Sandbox, Task
from packer.cache.bundles import load_pack, save_pack
from packer.cache.deflate import CODEC
from packer.cache.store import Store, digest_of
from packer.core.model import OWN_SOURCE, Content, Entry, owner_label
from packer.formats.wheel_outline import OutlineContent, expected_bytecode
from packer.source.test_suites import is_test_module
from packer.trim.handler_prelude import HandlerPrelude

_FORM = "1"
_NO_STARTER = HandlerPrelude()
_KIND = "bytecode"
SCRIPT = "compile.py"
"""What compiles, of `builders.inside`."""
_HEAD = struct.Struct("<III")
"""The number of a file, and the length and CRC-32 of its bytecode, as the script writes them."""
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
_NO_MODULES = ("bin", "share", "include", "etc")
"""Folders at the top of an artifact that hold no modules."""


class CompiledModules(Struct, frozen=True, kw_only=True):
    """The .pyc of each source that compiles, by the source's path; and those that do not."""

    files: Mapping[str, Content]
    failed: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all bytecode."""
        return sum(content.size for content in self.files.values())


class Compiler:
    """Compiles by way of the store; may be used from many threads. ``jobs`` files at once, and ``executor`` saves them."""

    def __init__(self, store: Store, jobs: int, executor: Executor) -> None:
        self._store = store
        self._jobs = jobs
        self._executor = executor
        self._packs: Once[str, Mapping[str, Content]] = Once()

    def compile(self, entries: Iterable[Entry], python: Sandbox, root: str, optimize: int) -> CompiledModules:
        """Compile the modules among entries that will lie at ``root``; raises `BuildError` where the compiler itself fails.

        What one distribution has is kept together. Of what is only outlined, the size of its bytecode is estimated.
        """
        entries = tuple(entries)
        found = self._compile_packs(_by_owner(entries), _Job(python=python, root=root, optimize=optimize))
        return CompiledModules(files={**found.files, **expected_bytecode(filter(_is_module, entries))}, failed=found.failed)

    def warm(
        self,
        trees: Iterable[Iterable[Entry]],
        python: Sandbox,
        root: str,
        optimize: int,
        starter: HandlerPrelude = _NO_STARTER,
    ) -> None:
        """Compile the modules of many trees, which may have paths in common, in one go for later calls of `compile`.

        With a ``starter``, each tree is a handler's module, and the later calls are of `compile_handler`.
        """
        packs = [pack for tree in trees for pack in _by_owner(tree)]
        self._pack(packs, _Job(python=python, root=root, optimize=optimize, starter=starter))

    def compile_handler(
        self, entry: Entry, starter: HandlerPrelude, python: Sandbox, root: str, optimize: int
    ) -> CompiledModules:
        """Compile a handler's module with a starter's statements around its own."""
        return self._compile_packs([[entry]], _Job(python=python, root=root, optimize=optimize, starter=starter))

    def _compile_packs(self, packs: Sequence[Sequence[Entry]], job: _Job) -> CompiledModules:
        found = self._pack(packs, job)
        files = {path: content for pack in found.values() for path, content in pack.items()}
        failed = tuple(entry.path for entries in packs for entry in entries if entry.path not in files)
        return CompiledModules(files=files, failed=failed)

    def _pack(self, packs: Sequence[Sequence[Entry]], job: _Job) -> dict[str, Mapping[str, Content]]:
        """Return the bytecode of each pack, by their keys."""
        keys = {job.key(entries): entries for entries in packs}
        return self._packs.all(keys, lambda missing: self._load_or_compile({key: keys[key] for key in missing}, job))

    def _load_or_compile(self, packs: Mapping[str, Sequence[Entry]], job: _Job) -> dict[str, Mapping[str, Content]]:
        known = dict(zip(packs, self._executor.map(partial(load_pack, self._store, _KIND), packs), strict=True))
        missing = {key: entries for key, entries in packs.items() if known[key] is None}
        answers = iter(
            self._compile_entries([entry for entries in missing.values() for entry in entries], job) if missing else ()
        )
        made = {}
        for key, entries in missing.items():
            pairs = zip(entries, islice(answers, len(entries)), strict=True)
            made[key] = [(entry.path, data) for entry, data in pairs if data]
        saved = {key: self._executor.submit(save_pack, self._store, _KIND, key, files) for key, files in made.items()}
        return {key: saved[key].result() if pack is None else pack for key, pack in known.items()}

    def _compile_entries(self, entries: Sequence[Entry], job: _Job) -> list[bytes]:
        """Compile in one go; return the bytecode of each, empty where there is none."""
        with self._store.workspace() as folder:
            inputs, work = folder / "in", folder / "work"
            inputs.mkdir()
            work.mkdir()
            job.write(entries, inputs)
            task = Task(script=SCRIPT, arguments=("{in}", "{answer}", str(self._jobs)), inputs=inputs, environment=_ENVIRONMENT)
            try:
                done = job.python.run(task, work)
            except BuildError as failure:
                raise _compile_error(entries, job.python, failure.what, failure.detail) from None
        if done.status or done.answer is None:
            raise _compile_error(entries, job.python, f"it ended with status {done.status}", done.log)
        try:
            found = _answers(done.answer)
        except ValueError as error:
            raise _compile_error(entries, job.python, str(error), done.log) from None
        if len(found) != len(entries):
            raise _compile_error(
                entries, job.python, f"{len(entries) - len(found)} of {len(entries)} files got no answer", done.log
            )
        return [found[number] for number in range(len(entries))]


class _Job(Struct, frozen=True, kw_only=True):
    """How sources are compiled."""

    python: Sandbox
    root: str
    optimize: int
    starter: HandlerPrelude = _NO_STARTER

    def key(self, entries: Sequence[Entry]) -> str:
        """Return the digest of all that decides the bytecode of these sources."""
        listed = [part for entry in entries for part in (entry.path, entry.content.digest)]
        how = (self.python.identity, self.root, str(self.optimize), self.starter.before, self.starter.after)
        return digest_of(_FORM, CODEC, read_script(SCRIPT), *how, *listed)

    def write(self, entries: Sequence[Entry], folder: Path) -> None:
        """Write what the script reads."""
        sources = [entry.content.read() for entry in entries]
        (folder / "sources").write_bytes(b"".join(sources))
        lines = (f"{len(data)} {self.root}/{entry.path}" for entry, data in zip(entries, sources, strict=True))
        (folder / "index").write_text("\n".join([str(self.optimize), *lines]) + "\n", encoding="utf-8")
        if self.starter:
            (folder / "before").write_text(self.starter.before, encoding="utf-8")
            (folder / "after").write_text(self.starter.after, encoding="utf-8")


def _by_owner(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return the modules of each distribution."""
    owners: dict[str, list[Entry]] = {}
    for entry in entries:
        if _is_module(entry) and not isinstance(entry.content, OutlineContent):
            owners.setdefault(entry.owner, []).append(entry)
    return list(owners.values())


def _compile_error(entries: Sequence[Entry], python: Sandbox, reason: str, log: str) -> BuildError:
    owners = sorted({entry.owner for entry in entries})
    shown = ", ".join(map(owner_label, owners))
    remedy = 'Fix that Python, or write bytecode = "off".'
    return BuildError(f"Cannot compile {shown} with {python.place}: {reason}.", detail=log.strip(), remedy=remedy)


def _answers(data: bytes) -> dict[int, bytes]:
    """Return the bytecode of each file by its number; ``ValueError`` where it is not all that was compiled."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if len(data) - at < _HEAD.size:
            raise ValueError("its answer is cut short")
        number, length, checksum = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        found[number] = data[at : at + length]
        if len(found[number]) != length or zlib.crc32(found[number]) != checksum:
            raise ValueError("its answer is cut short, or broken")
        at += length
    return found


def _is_module(entry: Entry) -> bool:
    """Return whether a file is compiled: a template among a distribution's data is no module, and tests are not imported."""
    if not entry.path.endswith(".py") or "\n" in entry.path:
        return False
    *folders, name = entry.path.removesuffix(".py").split("/")
    if entry.owner == OWN_SOURCE:  # Lambda imports a handler by its path, whatever its folders are called
        return True
    if is_test_module(entry.path):
        return False
    return name.isidentifier() and all(map(str.isidentifier, folders)) and not (folders and folders[0] in _NO_MODULES)
