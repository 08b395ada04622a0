"""Says what `lpack build` has built: the manifest, or a table that fits the terminal."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from packer.core.names import TEMPLATE_FILE
from packer.core.records import BuildManifest, FunctionRecord
from packer.core.units import count_text, format_size
from packer.manifest.document import make_manifest, manifest_text
from packer.pipeline.state import FunctionState, State

_GAP = "  "
_KILOBYTE = 1024
# What goes first where a terminal is narrow, one after the other: the rest still says what was built, and how large it is.
_DISPENSABLE = ("path", "layers", "seconds", "target", "unzipped")
_LONGEST_VERDICT = 100
"""Letters of a verdict; the manifest, and a warning, have all of them."""
_GREEN, _RED, _DIM, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


class Changes(Struct, frozen=True, kw_only=True):
    """What a build has changed: the functions that it wrote, and the bytes that artifacts had before, by functions."""

    written: tuple[str, ...] = ()
    before: Mapping[str, int] = field(default_factory=dict)


def format_results(state: State, chosen: Mapping[str, FunctionState], changes: Changes, *, as_json: bool) -> str:
    """Return what is printed of the chosen functions and their layers."""
    template = TEMPLATE_FILE if any(path.endswith(os.sep + TEMPLATE_FILE) for path in state.outputs) else ""
    manifest = _make_manifest(chosen, template)
    if as_json:
        return manifest_text(manifest)
    out = Path(next(iter(state.outputs))).parent
    shown = os.path.relpath(out)
    place = out if shown.startswith("..") else Path(shown)
    rows = [_make_row(name, each.report, changes, place) for name, each in chosen.items()]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    lines = format_table(rows, width, colour=colour)
    everything = manifest if chosen.keys() == state.functions.keys() else _make_manifest(state.functions)
    for name, layer in manifest.layers.items():
        users = ", ".join(everything.layers[name].functions)
        sizes = f"{format_size(layer.zip_bytes):>9} zipped  {format_size(layer.unzipped_bytes):>9} unzipped"
        line = f"{sizes}{_GAP}layer of {users}{_GAP}{place / layer.path}"
        narrow = f"{name}{_GAP}{format_size(layer.zip_bytes)}"
        lines.append(line if width is None or len(line) <= width else _cut_line(narrow, width))
    return "".join(f"{line}\n" for line in lines)


def format_deployment(state: State) -> str:
    """Return the line with the command that deploys what was built by AWS SAM CLI; nothing where there is none."""
    if not state.deployment:
        return ""
    option, template, *more = state.deployment
    path = os.path.relpath(Path(next(iter(state.outputs))).parent / template)
    return f"deploy it with: {shlex.join(('sam', 'deploy', option, path, *more))}\n"


def _make_manifest(functions: Mapping[str, FunctionState], template: str = "") -> BuildManifest:
    return make_manifest({name: each.report for name, each in functions.items()}, template)


def _make_row(name: str, report: FunctionRecord, changes: Changes, place: Path) -> dict[str, str]:
    """Return the cells of a function's line."""
    held = len(report.layers) + len(report.attached)
    whole = format_size(report.unpacked_with_layers)
    written = name in changes.written
    zipped, word = report.packed_bytes, "stored" if report.format == "image" else "zipped"
    before = changes.before.get(name)
    change = "" if not written or before in (None, zipped) else _format_change(before or 0, zipped)
    return {
        "name": name,
        "target": f"{report.runtime} {report.architecture:<6}",
        "zipped": f"{format_size(zipped):>9} {word}",
        "unzipped": f"{format_size(report.artifact.unzipped_bytes):>9} unzipped",
        "done": "built" if written else "unchanged",
        "verdict": _cut_line(report.verified.verdict, _LONGEST_VERDICT),
        "change": change,
        "seconds": f"{report.seconds:.1f} s" if written else "",
        "path": str(place / report.artifact.path),
        "layers": f"with {count_text(held, 'layer')}: {whole} unzipped" if held else "",
    }


def format_table(rows: Sequence[Mapping[str, str]], width: int | None, *, colour: bool = False) -> list[str]:
    """Return the rows as lines, in columns, of ``width`` letters at most where there is one."""
    columns = [key for key in (rows[0] if rows else ()) if any(row[key] for row in rows)]
    for key in ("", *_DISPENSABLE):
        columns = [each for each in columns if each != key]
        widths = {each: max(len(row[each]) for row in rows) for each in columns}
        if width is None or sum(widths.values()) + len(_GAP) * (len(columns) - 1) <= width:
            break
    lines = []
    for row in rows:
        cells = [row[each].ljust(widths[each]) for each in columns]
        line = _GAP.join(cells).rstrip()
        if width is not None and len(line) > width:
            line = _cut_line(line, width)
        elif colour:
            line = _GAP.join(_paint_cell(each, cell) for each, cell in zip(columns, cells, strict=True)).rstrip()
        lines.append(line)
    return lines


def _paint_cell(column: str, cell: str) -> str:
    shade = ""
    if column == "done":
        shade = _GREEN if cell.startswith("built") else _DIM
    elif column == "verdict":
        shade = _RED if cell.startswith("not") else _GREEN
    elif column == "change":
        shade = _RED if cell.startswith("+") else _GREEN
    elif column in ("seconds", "path"):
        shade = _DIM
    words = cell.rstrip()
    return f"{shade}{words}{_PLAIN}{' ' * (len(cell) - len(words))}" if shade and words else cell


def _cut_line(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


def _format_change(before: int, now: int) -> str:
    size = abs(now - before)
    return f"{'+' if now > before else '-'}{format_size(size) if size >= _KILOBYTE else f'{size} B'}"
