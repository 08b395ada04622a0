"""Compares two snapshots: what came, went and changed, by function and layer, distribution, kind and file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from msgspec.structs import replace

from packer.core.model import owner_label
from packer.core.units import format_size
from packer.inspect.contents import KINDS
from packer.inspect.snapshot import Part, Snapshot, Unit

SCHEMA_VERSION = 1
Status = Literal["added", "removed", "changed", "same"]
_ARROWS = {"added": "+", "removed": "-", "changed": "~", "same": " "}
_MOST_LISTED = 20
_TITLES = (("functions", "Function"), ("layers", "Layer"))


def compare(old: Snapshot, new: Snapshot) -> dict[str, Any]:
    """Give the document of a comparison; every pair of figures is the old one and the new one, in bytes.

    Where each side is one function or archive, these are compared, whatever they are called.
    """
    if len(old.functions) == len(new.functions) == 1 and not old.layers and not new.layers:
        old = replace(old, functions=dict.fromkeys(new.functions, *old.functions.values()))
    return {
        "schema_version": SCHEMA_VERSION,
        "old": old.named,
        "new": new.named,
        "functions": {name: _unit(*pair) for name, *pair in _pairs(old.functions, new.functions)},
        "layers": {name: _unit(*pair) for name, *pair in _pairs(old.layers, new.layers)},
    }


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    yield from ((name, old.get(name), new.get(name)) for name in sorted({*old, *new}))


def _unit(old: Unit | None, new: Unit | None) -> dict[str, Any]:
    parts = [_part(name, *pair) for name, *pair in _pairs(old.parts if old else {}, new.parts if new else {})]
    missing = any(unit is not None and unit.files is None for unit in (old, new))
    files = None if missing else _files(old, new)
    sizes = {"zip_bytes": _sizes(old, new, "zipped"), "unzipped_bytes": _sizes(old, new, "unzipped")}
    differs = any(each["status"] != "same" for each in parts) or any(a != b for a, b in sizes.values())
    differs = differs or bool(files and any(files[key] for key in ("added", "removed", "changed")))
    return {
        "status": _status(old, new, differs=differs),
        **sizes,
        "distributions": sorted(parts, key=lambda each: (-abs(each["bytes"][1] - each["bytes"][0]), each["name"])),
        **({"kinds": _kinds(old, new)} if files is not None else {}),
        **({"files": files} if files is not None else {}),
    }


def _sizes(old: Unit | None, new: Unit | None, field: str) -> list[int]:
    return [getattr(old, field) if old else 0, getattr(new, field) if new else 0]


def _status(old: object | None, new: object | None, *, differs: bool) -> Status:
    if old is None:
        return "added"
    return "removed" if new is None else "changed" if differs else "same"


def _part(name: str, old: Part | None, new: Part | None) -> dict[str, Any]:
    return {
        "name": owner_label(name),
        "status": _status(old, new, differs=_differ(old, new)),
        "versions": [old.version if old else "", new.version if new else ""],
        "bytes": [old.unzipped if old else 0, new.unzipped if new else 0],
    }


def _differ(old: Part | None, new: Part | None) -> bool:
    """Say whether a part differs; of one that is known by its size alone, as in a baseline, no version is known."""
    if old is None or new is None:
        return old is not new
    return old.unzipped != new.unzipped or (bool(old.version and new.version) and old.version != new.version)


def _kinds(old: Unit | None, new: Unit | None) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {kind: [0, 0] for kind in KINDS}
    for side, unit in enumerate((old, new)):
        for each in unit.files or () if unit else ():
            found[each.kind][side] += each.size
    return found


def _files(old: Unit | None, new: Unit | None) -> dict[str, Any]:
    """Say which files came, went and changed."""
    before, after = ({each.path: each for each in (unit.files if unit else None) or ()} for unit in (old, new))
    both = [path for path in before if path in after]
    changed = [path for path in both if (before[path].size, before[path].mark) != (after[path].size, after[path].mark)]
    return {
        "added": [{"path": path, "bytes": after[path].size} for path in sorted(after) if path not in before],
        "removed": [{"path": path, "bytes": before[path].size} for path in sorted(before) if path not in after],
        "changed": [{"path": path, "bytes": [before[path].size, after[path].size]} for path in sorted(changed)],
    }


def change_text(old: int, new: int) -> str:
    """Write how a size has changed, in bytes and per cent of what it was."""
    if old == new:
        return "no change"
    sign = "+" if new > old else "-"
    percent = f" ({(new - old) / old:+.1%})" if old else ""
    return f"{sign}{format_size(abs(new - old))}{percent}"


def diff_table(document: Mapping[str, Any], *, files: bool = False) -> str:
    """Give a comparison as text; ``files`` lists the files that came, went and changed."""
    lines: list[str] = []
    for key, title in _TITLES:
        for name, each in document[key].items():
            if each["status"] == "same":
                continue
            lines.append(f"{_ARROWS[each['status']]} {title.lower()} {name}  {_words(each)}")
            lines += [f"    {_ARROWS[part['status']]} {_part_text(part)}" for part in each["distributions"] if _counts(part)]
            if "kinds" in each:
                moved = {kind: pair for kind, pair in each["kinds"].items() if pair[0] != pair[1]}
                kinds = ", ".join(f"{kind} {change_text(*pair)}" for kind, pair in moved.items())
                lines += [f"    by kind: {kinds}"] if kinds else []
            if files:
                lines += [f"      {line}" for line in _file_lines(each.get("files") or {})]
    return "\n".join(lines or ["Nothing differs."]) + "\n"


def _words(each: Mapping[str, Any]) -> str:
    zipped, unzipped = each["zip_bytes"], each["unzipped_bytes"]
    if each["status"] in ("added", "removed"):
        side = 1 if each["status"] == "added" else 0
        return f"{each['status']}: {format_size(zipped[side])} zipped, {format_size(unzipped[side])} unzipped"
    now = f"{format_size(zipped[1])} zipped {change_text(*zipped)}"
    return f"{now}, {format_size(unzipped[1])} unzipped {change_text(*unzipped)}"


def _counts(part: Mapping[str, Any]) -> bool:
    return bool(part["status"] != "same")


def _part_text(part: Mapping[str, Any]) -> str:
    old, new = part["versions"]
    versions = f" {old} -> {new}" if old != new and old and new else f" {new or old}".rstrip()
    return f"{part['name']}{versions}  {change_text(*part['bytes'])}"


def _file_lines(files: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"+ {each['path']}  {format_size(each['bytes'])}" for each in files.get("added", ()))
    yield from (f"- {each['path']}  {format_size(each['bytes'])}" for each in files.get("removed", ()))
    yield from (f"~ {each['path']}  {change_text(*each['bytes'])}" for each in files.get("changed", ()))


def diff_markdown(document: Mapping[str, Any]) -> str:
    """Give a comparison as Markdown, for a comment on a change."""
    differing = [
        (title, name, each) for key, title in _TITLES for name, each in document[key].items() if each["status"] != "same"
    ]
    same = sum(each["status"] == "same" for key, _ in _TITLES for each in document[key].values())
    lines = [f"### Package sizes: `{document['old']}` → `{document['new']}`", ""]
    if not differing:
        return "\n".join((*lines, f"No change in {same} function{'' if same == 1 else 's'} and layers.", ""))
    lines += ["| | zipped | change | unzipped | change |", "|---|---:|---:|---:|---:|"]
    for title, name, each in differing:
        zipped, unzipped = each["zip_bytes"], each["unzipped_bytes"]
        cells = (format_size(zipped[1]), change_text(*zipped), format_size(unzipped[1]), change_text(*unzipped))
        mark = "" if each["status"] == "changed" else f" ({each['status']})"
        lines.append(f"| {title} **{_escaped(name)}**{mark} | {' | '.join(cells)} |")
    lines += ["", f"{same} more without a change.", ""] if same else [""]
    lines += ["<details><summary>By distribution</summary>", ""]
    for title, name, each in differing:
        parts = [part for part in each["distributions"] if _counts(part)]
        lines += [f"**{title} {_escaped(name)}**", ""] if parts else []
        lines += [f"- {part['status']}: {_escaped(_part_text(part))}" for part in parts[:_MOST_LISTED]]
        more = len(parts) - _MOST_LISTED
        lines += [f"- and {more} more"] if more > 0 else []
        lines += [""] if parts else []
    return "\n".join((*lines, "</details>", ""))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
