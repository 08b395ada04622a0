"""Strips the shared libraries of distributions, each content once, and keeps the original where that could change a thing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from builders.errors import BuildError, UnavailableError
from builders.host.strip import StripRefusal, StripTool
from builders.once import Once
from builders.recipes import BuildSettings
from builders.runtimes import Target
from packer.cache.bundles import load_pack, load_packs, save_pack
from packer.cache.deflate import CODEC
from packer.cache.store import Store, digest_of
from packer.core.events import Reporter
from packer.core.function_tree import Part
from packer.core.model import OWN_SOURCE, Content, Entry, Function, Tree
from packer.formats.elf import ElfFile
from packer.formats.unpack import scratch_folder
from packer.trim.engine import matching_pattern
from packer.trim.strip_check import find_difference, unloaded_size

_FORM = "1"
_LEAST = 4096
"""Bytes that stripping must save: below, the wheel's own compressed bytes are worth more."""
_KIND, _NAME = "stripped", "library"


class StrippedFile(Struct, frozen=True, kw_only=True):
    """A file that became smaller; ``saved`` in bytes."""

    path: str
    owner: str
    saved: int


class Stripper:
    """Strips by way of the store; may be used from many threads. ``executor`` runs several at once."""

    def __init__(
        self,
        store: Store,
        reporter: Reporter,
        executor: Executor,
        host: Callable[[], StripTool],
        container: Callable[[Target, BuildSettings], StripTool],
    ) -> None:
        """``host`` and ``container`` give what strips here and in a container, or raise `UnavailableError`."""
        self._store = store
        self._reporter = reporter
        self._executor = executor
        self._host = host
        self._container = container
        self._tools: Once[tuple[Target, BuildSettings], StripTool] = Once()
        self._contents: Once[str, Content | None] = Once()

    def tool(self, function: Function) -> StripTool:
        """Return what strips for a function: this machine's program, or else the one of the image that builds for it.

        Raises `UnavailableError`.
        """
        key = (function.target, function.building)
        return self._tools.get(key, lambda: self._find_tool(*key))

    def _find_tool(self, target: Target, settings: BuildSettings) -> StripTool:
        try:
            return self._host()
        except UnavailableError as here:
            try:
                return self._container(target, settings)
            except (UnavailableError, BuildError) as there:
                remedy = " Or: ".join(filter(None, (here.remedy, there.remedy)))
                raise UnavailableError(f"{here.what}; {there.what}", remedy=remedy) from None

    def strip(
        self,
        parts: Sequence[Part],
        native: dict[str, Sequence[ElfFile]],
        restored: frozenset[str],
        tool: StripTool,
        keep: Sequence[tuple[str, str]] = (),
    ) -> tuple[tuple[Part, ...], tuple[StrippedFile, ...]]:
        """Return the parts with smaller libraries; ``native`` are those of each distribution, ``restored`` stay as they are.

        ``keep`` are the user's own patterns (`packer.core.options.TrimOptions`). Raises `UnavailableError`.
        """
        wanted = {
            name: frozenset(file.path for file in native.get(name, ()))
            for name, _ in parts
            if name != OWN_SOURCE and name not in restored
        }
        if keep:
            wanted = {
                name: frozenset(path for path in paths if not matching_pattern(keep, name, path))
                for name, paths in wanted.items()
            }
        # What two distributions share at one path must stay the same in both.
        held = {entry.path for name, tree in parts if name in restored for entry in tree}
        wanted = {name: paths - held for name, paths in wanted.items()}
        found = self._strip_all((entry for name, tree in parts for entry in tree if entry.path in wanted.get(name, ())), tool)
        result: list[Part] = []
        stripped: list[StrippedFile] = []
        for name, tree in parts:
            if not wanted.get(name):
                result.append((name, tree))
                continue
            entries = []
            for entry in tree:
                smaller = found.get(entry.content.digest) if entry.path in wanted[name] else None
                if smaller is not None:
                    stripped.append(StrippedFile(path=entry.path, owner=name, saved=entry.content.size - smaller.size))
                entries.append(replace(entry, content=smaller) if smaller is not None else entry)
            result.append((name, Tree(tuple(entries))))
        return tuple(result), tuple(stripped)

    def _strip_all(self, entries: Iterable[Entry], tool: StripTool) -> dict[str, Content | None]:
        """Strip every content; give None for those whose original stays."""
        wanted = {digest_of(_FORM, CODEC, tool.identity, entry.content.digest): entry for entry in _distinct(entries)}
        made = self._contents.all(wanted, lambda missing: self._load_or_strip({key: wanted[key] for key in missing}, tool))
        return {entry.content.digest: made[key] for key, entry in wanted.items()}

    def _load_or_strip(self, entries: Mapping[str, Entry], tool: StripTool) -> dict[str, Content | None]:
        """Find what is in the store, and make the rest, several at once."""
        known = zip(entries, self._executor.map(partial(load_pack, self._store, _KIND), entries), strict=True)
        packs: dict[str, Mapping[str, Content]] = {key: pack for key, pack in known if pack is not None}
        # What a distribution has is asked for at once: a store that asks another machine needs few requests then.
        owners: dict[str, list[str]] = {}
        for key, entry in entries.items():
            owners.setdefault(entry.owner, []).append(key)
        incomplete = [keys for keys in owners.values() if not packs.keys() >= set(keys)]
        for found in self._executor.map(partial(load_packs, self._store, _KIND), incomplete):
            packs.update(found)
        missing = [(key, entry) for key, entry in entries.items() if key not in packs]
        for made in self._executor.map(partial(self._strip_batch, tool=tool), _batches(missing, tool.together)):
            packs.update(made)
        return {key: packs.get(key, {}).get(_NAME) for key in entries}

    def _strip_batch(self, batch: Sequence[tuple[str, Entry]], tool: StripTool) -> dict[str, Mapping[str, Content]]:
        """Strip some contents, and save what came of each: nothing where the original is to stay, whenever it is asked."""
        before = {key: entry.content.read() for key, entry in batch}
        left = [key for key, data in before.items() if _can_shrink(data)]
        outcomes: dict[str, bytes | str] = {key: "" for key in before if key not in left}
        try:
            with scratch_folder(2 * sum(len(before[key]) for key in left), self._store) as folder:
                after = tool.strip([before[key] for key in left], folder) if left else []
        except (BuildError, OSError) as error:  # another time it may go well: nothing is remembered
            reason = error.what if isinstance(error, BuildError) else str(error)
            for key, entry in batch:
                if key in left:
                    self._reporter.warn(f"{entry.path} of {entry.owner} is not stripped this time: {reason}")
        else:
            outcomes |= {key: _accept_stripped(before[key], data) for key, data in zip(left, after, strict=True)}
        made: dict[str, Mapping[str, Content]] = {}
        for key, entry in batch:
            outcome = outcomes.get(key)
            if isinstance(outcome, str) and outcome:
                self._reporter.debug(f"{entry.path} of {entry.owner} is not stripped: {outcome}")
            if outcome is not None:
                files = [(_NAME, outcome)] if isinstance(outcome, bytes) else []
                made[key] = save_pack(self._store, _KIND, key, files)
        return made


def _can_shrink(data: bytes) -> bool:
    """Return whether stripping could be worth it; a file that is broken stays as it is."""
    try:
        return unloaded_size(data) >= _LEAST
    except ValueError:
        return False


def _accept_stripped(before: bytes, after: bytes | StripRefusal) -> bytes | str:
    """Return a stripped file that is worth it and loads as the original does, or else why not: empty if it is not worth it."""
    if isinstance(after, StripRefusal):
        return after.reason
    if len(after) + _LEAST > len(before):
        return ""
    return find_difference(before, after) or after


def _batches(missing: Sequence[tuple[str, Entry]], together: int) -> Iterator[list[tuple[str, Entry]]]:
    """Put contents together until they are so many bytes."""
    batch: list[tuple[str, Entry]] = []
    size = 0
    for each in missing:
        batch.append(each)
        size += each[1].content.size
        if size >= together:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _distinct(entries: Iterable[Entry]) -> Iterator[Entry]:
    seen: set[str] = set()
    for entry in entries:
        if entry.content.digest not in seen:
            seen.add(entry.content.digest)
            yield entry
