"""Compares two snapshots: what came, went and changed, by function and layer, distribution, kind and file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from packer.core.model import owner_label
from packer.core.records import Bytes
from packer.core.units import count_text, format_size
from packer.inspect.contents import KINDS
from packer.inspect.snapshot import Part, Snapshot, Unit

Status = Literal["added", "removed", "changed", "same"]
_ARROWS = {"added": "+", "removed": "-", "changed": "~", "same": " "}
_MOST_LISTED = 20
BytesPair = Annotated[tuple[Bytes, Bytes], Meta(description="Bytes, old and new.")]
Side = TypeVar("Side")


class FileSize(Struct, frozen=True, kw_only=True):
    """A file that one side alone has."""

    path: str
    bytes: Bytes


class FileChange(Struct, frozen=True, kw_only=True):
    """A file that both sides have, with other content."""

    path: str
    bytes: BytesPair


class FilesDiff(Struct, frozen=True, kw_only=True):
    """Which files came, went and changed, by their paths."""

    added: tuple[FileSize, ...]
    removed: tuple[FileSize, ...]
    changed: tuple[FileChange, ...]

    def __bool__(self) -> bool:
        """Return whether any did."""
        return bool(self.added or self.removed or self.changed)


class PartDiff(Struct, frozen=True, kw_only=True):
    """A distribution on both sides."""

    name: str
    status: Status
    versions: tuple[str, str]
    bytes: BytesPair

    @property
    def differs(self) -> bool:
        """Whether the sides differ."""
        return self.status != "same"


class UnitDiff(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function or a layer on both sides; ``kinds`` and ``files`` are only known where both sides have their files."""

    status: Status
    zip_bytes: BytesPair
    unzipped_bytes: BytesPair
    distributions: tuple[PartDiff, ...]
    kinds: Mapping[str, BytesPair] | None = None
    files: FilesDiff | None = None


class DiffDocument(Struct, frozen=True, kw_only=True):
    """What `lpack diff --format json` prints."""

    schema_version: Literal[1] = 1
    old: str
    new: str
    functions: Mapping[str, UnitDiff]
    layers: Mapping[str, UnitDiff]

    def units(self) -> Iterator[tuple[str, str, UnitDiff]]:
        """Return each function and layer, with what it is and its name."""
        yield from (("Function", name, each) for name, each in self.functions.items())
        yield from (("Layer", name, each) for name, each in self.layers.items())


def compare_snapshots(old: Snapshot, new: Snapshot) -> DiffDocument:
    """Return the document of a comparison; every pair of figures is the old one and the new one, in bytes.

    Where each side is one function or archive, these are compared, whatever they are called.
    """
    if len(old.functions) == len(new.functions) == 1 and not old.layers and not new.layers:
        old = replace(old, functions=dict.fromkeys(new.functions, *old.functions.values()))
    return DiffDocument(
        old=old.named,
        new=new.named,
        functions={name: _unit(*pair) for name, *pair in _pairs(old.functions, new.functions)},
        layers={name: _unit(*pair) for name, *pair in _pairs(old.layers, new.layers)},
    )


def _pairs(old: Mapping[str, Side], new: Mapping[str, Side]) -> Iterator[tuple[str, Side | None, Side | None]]:
    yield from ((name, old.get(name), new.get(name)) for name in sorted({*old, *new}))


def _unit(old: Unit | None, new: Unit | None) -> UnitDiff:
    parts = [_part(name, *pair) for name, *pair in _pairs(old.parts if old else {}, new.parts if new else {})]
    missing = any(unit is not None and unit.files is None for unit in (old, new))
    files = None if missing else _files(old, new)
    zipped = (old.zipped if old else 0, new.zipped if new else 0)
    unzipped = (old.unzipped if old else 0, new.unzipped if new else 0)
    differs = any(each.differs for each in parts) or zipped[0] != zipped[1] or unzipped[0] != unzipped[1] or bool(files)
    return UnitDiff(
        status=_status(old, new, differs=differs),
        zip_bytes=zipped,
        unzipped_bytes=unzipped,
        distributions=tuple(sorted(parts, key=lambda each: (-abs(each.bytes[1] - each.bytes[0]), each.name))),
        kinds=None if files is None else _kinds(old, new),
        files=files,
    )


def _status(old: object | None, new: object | None, *, differs: bool) -> Status:
    if old is None:
        return "added"
    return "removed" if new is None else "changed" if differs else "same"


def _part(name: str, old: Part | None, new: Part | None) -> PartDiff:
    return PartDiff(
        name=owner_label(name),
        status=_status(old, new, differs=_differ(old, new)),
        versions=(old.version if old else "", new.version if new else ""),
        bytes=(old.unzipped if old else 0, new.unzipped if new else 0),
    )


def _differ(old: Part | None, new: Part | None) -> bool:
    """Return whether a part differs; of one that is known by its size alone, as in a baseline, no version is known."""
    if old is None or new is None:
        return old is not new
    return old.unzipped != new.unzipped or (bool(old.version and new.version) and old.version != new.version)


def _kinds(old: Unit | None, new: Unit | None) -> dict[str, tuple[int, int]]:
    before, after = (_sizes_by_kind(unit) for unit in (old, new))
    return {kind: (before.get(kind, 0), after.get(kind, 0)) for kind in KINDS}


def _sizes_by_kind(unit: Unit | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in (unit.files if unit else None) or ():
        found[each.kind] = found.get(each.kind, 0) + each.size
    return found


def _files(old: Unit | None, new: Unit | None) -> FilesDiff:
    before, after = ({each.path: each for each in (unit.files if unit else None) or ()} for unit in (old, new))
    both = [path for path in before if path in after]
    changed = [path for path in both if (before[path].size, before[path].mark) != (after[path].size, after[path].mark)]
    return FilesDiff(
        added=tuple(FileSize(path=path, bytes=after[path].size) for path in sorted(after) if path not in before),
        removed=tuple(FileSize(path=path, bytes=before[path].size) for path in sorted(before) if path not in after),
        changed=tuple(FileChange(path=path, bytes=(before[path].size, after[path].size)) for path in sorted(changed)),
    )


def change_text(old: int, new: int) -> str:
    """Return how a size has changed, in bytes and per cent of what it was."""
    if old == new:
        return "no change"
    sign = "+" if new > old else "-"
    percent = f" ({(new - old) / old:+.1%})" if old else ""
    return f"{sign}{format_size(abs(new - old))}{percent}"


def diff_table(document: DiffDocument, *, files: bool = False) -> str:
    """Return a comparison as text; ``files`` lists the files that came, went and changed."""
    lines: list[str] = []
    for title, name, each in document.units():
        if each.status == "same":
            continue
        lines.append(f"{_ARROWS[each.status]} {title.lower()} {name}  {_summary(each)}")
        lines += [f"    {_ARROWS[part.status]} {_part_text(part)}" for part in each.distributions if part.differs]
        moved = {kind: pair for kind, pair in (each.kinds or {}).items() if pair[0] != pair[1]}
        kinds = ", ".join(f"{kind} {change_text(*pair)}" for kind, pair in moved.items())
        lines += [f"    by kind: {kinds}"] if kinds else []
        lines += [f"      {line}" for line in _file_lines(each.files)] if files and each.files else []
    return "\n".join(lines or ["Nothing differs."]) + "\n"


def _summary(each: UnitDiff) -> str:
    zipped, unzipped = each.zip_bytes, each.unzipped_bytes
    if each.status in ("added", "removed"):
        side = 1 if each.status == "added" else 0
        return f"{each.status}: {format_size(zipped[side])} zipped, {format_size(unzipped[side])} unzipped"
    now = f"{format_size(zipped[1])} zipped {change_text(*zipped)}"
    return f"{now}, {format_size(unzipped[1])} unzipped {change_text(*unzipped)}"


def _part_text(part: PartDiff) -> str:
    old, new = part.versions
    versions = f" {old} -> {new}" if old != new and old and new else f" {new or old}".rstrip()
    return f"{part.name}{versions}  {change_text(*part.bytes)}"


def _file_lines(files: FilesDiff) -> Iterator[str]:
    yield from (f"+ {each.path}  {format_size(each.bytes)}" for each in files.added)
    yield from (f"- {each.path}  {format_size(each.bytes)}" for each in files.removed)
    yield from (f"~ {each.path}  {change_text(*each.bytes)}" for each in files.changed)


def diff_markdown(document: DiffDocument) -> str:
    """Return a comparison as Markdown, for a comment on a change."""
    differing = [(title, name, each) for title, name, each in document.units() if each.status != "same"]
    same = len(document.functions) + len(document.layers) - len(differing)
    lines = [f"### Package sizes: `{document.old}` → `{document.new}`", ""]
    if not differing:
        return "\n".join((*lines, f"No change in {count_text(same, 'function')} and layers.", ""))
    lines += ["| | zipped | change | unzipped | change |", "|---|---:|---:|---:|---:|"]
    for title, name, each in differing:
        zipped, unzipped = each.zip_bytes, each.unzipped_bytes
        cells = (format_size(zipped[1]), change_text(*zipped), format_size(unzipped[1]), change_text(*unzipped))
        mark = "" if each.status == "changed" else f" ({each.status})"
        lines.append(f"| {title} **{_escaped(name)}**{mark} | {' | '.join(cells)} |")
    lines += ["", f"{same} more without a change.", ""] if same else [""]
    lines += ["<details><summary>By distribution</summary>", ""]
    for title, name, each in differing:
        parts = [part for part in each.distributions if part.differs]
        lines += [f"**{title} {_escaped(name)}**", ""] if parts else []
        lines += [f"- {part.status}: {_escaped(_part_text(part))}" for part in parts[:_MOST_LISTED]]
        more = len(parts) - _MOST_LISTED
        lines += [f"- and {more} more"] if more > 0 else []
        lines += [""] if parts else []
    return "\n".join((*lines, "</details>", ""))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
