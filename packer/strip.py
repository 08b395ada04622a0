"""Strips the shared libraries of distributions, each content once, and keeps the original where that could change a thing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from builders.recipes import BuilderUnavailable, BuildFailure
from builders.strip import Refused, strip_file, strip_version
from packer.assemble import Part
from packer.compress import CODEC
from packer.elf import ElfFile
from packer.elfcheck import difference, unloaded_size
from packer.layout import room_for
from packer.model import OWN_SOURCE, Content, Entry, Tree
from packer.once import Once
from packer.packs import load_pack, save_pack
from packer.ports import Reporter
from packer.store import Store, digest_of
from packer.trim import fitting

_FORM = "1"
_LEAST = 4096
"""Bytes that stripping must save: below, the wheel's own compressed bytes are worth more."""
_KIND, _NAME = "stripped", "library"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripped:
    """A file that became smaller; ``saved`` in bytes."""

    path: str
    owner: str
    saved: int


class Stripper:
    """Strips by way of the store; may be used from many threads. ``executor`` runs several at once."""

    def __init__(self, store: Store, reporter: Reporter, executor: Executor) -> None:
        self._store = store
        self._reporter = reporter
        self._executor = executor
        self._contents: Once[str, Content | None] = Once()

    def unavailable(self) -> str:
        """Say why nothing can be stripped, and what to do; empty where it can."""
        try:
            strip_version()
        except BuilderUnavailable as error:
            return f"Shared libraries are not stripped: {error.reason}. {error.remedy}"
        return ""

    def strip(
        self,
        parts: Sequence[Part],
        native: dict[str, Sequence[ElfFile]],
        restored: frozenset[str],
        keep: Sequence[tuple[str, str]] = (),
    ) -> tuple[tuple[Part, ...], tuple[Stripped, ...]]:
        """Give the parts with smaller libraries; ``native`` are those of each distribution, ``restored`` stay as they are.

        ``keep`` are the user's own patterns (`packer.options.TrimOptions`).
        """
        wanted = {
            name: frozenset(file.path for file in native.get(name, ()))
            for name, _ in parts
            if name != OWN_SOURCE and name not in restored
        }
        if keep:
            wanted = {
                name: frozenset(path for path in paths if not fitting(keep, name, path)) for name, paths in wanted.items()
            }
        # What two distributions share at one path must stay the same in both.
        held = {entry.path for name, tree in parts if name in restored for entry in tree}
        wanted = {name: paths - held for name, paths in wanted.items()}
        found = self._all(entry for name, tree in parts for entry in tree if entry.path in wanted.get(name, ()))
        result: list[Part] = []
        stripped: list[Stripped] = []
        for name, tree in parts:
            if not wanted.get(name):
                result.append((name, tree))
                continue
            entries = []
            for entry in tree:
                smaller = found.get(entry.content.digest) if entry.path in wanted[name] else None
                if smaller is not None:
                    stripped.append(Stripped(path=entry.path, owner=name, saved=entry.content.size - smaller.size))
                entries.append(replace(entry, content=smaller) if smaller is not None else entry)
            result.append((name, Tree(tuple(entries))))
        return tuple(result), tuple(stripped)

    def _all(self, entries: Iterable[Entry]) -> dict[str, Content | None]:
        """Strip every content, several at once."""
        futures = {entry.content.digest: (entry, self._executor.submit(self._one, entry)) for entry in _distinct(entries)}
        return {digest: future.result() for digest, (_, future) in futures.items()}

    def _one(self, entry: Entry) -> Content | None:
        """Give the stripped content; None where the original stays."""
        return self._contents.get(entry.content.digest, lambda: self._remembered(entry))

    def _remembered(self, entry: Entry) -> Content | None:
        key = digest_of(_FORM, CODEC, strip_version(), entry.content.digest)
        known = load_pack(self._store, _KIND, key)
        if known is None:
            try:
                made = self._made(entry)
            except (BuildFailure, OSError) as error:  # another time it may go well: nothing is remembered
                reason = error.reason if isinstance(error, BuildFailure) else str(error)
                self._reporter.warn(f"{entry.path} of {entry.owner} is not stripped this time: {reason}")
                return None
            known = save_pack(self._store, _KIND, key, made)
        return known.get(_NAME)

    def _made(self, entry: Entry) -> list[tuple[str, bytes]]:
        """Strip a content; nothing where the original is to stay, whenever it is asked. Raises `BuildFailure`, ``OSError``."""
        before = entry.content.read()
        try:
            if unloaded_size(before) < _LEAST:
                return []
            with room_for(2 * len(before), self._store) as folder:
                (folder / "before").write_bytes(before)
                strip_file(folder / "before", folder / "after")
                after = (folder / "after").read_bytes()
            if len(after) + _LEAST > len(before):
                return []
            differs = difference(before, after)
        except Refused as refusal:
            differs = refusal.reason
        except ValueError as error:
            differs = str(error)
        if differs:
            self._reporter.debug(f"{entry.path} of {entry.owner} is not stripped: {differs}")
            return []
        return [(_NAME, after)]


def _distinct(entries: Iterable[Entry]) -> Iterator[Entry]:
    seen: set[str] = set()
    for entry in entries:
        if entry.content.digest not in seen:
            seen.add(entry.content.digest)
            yield entry
