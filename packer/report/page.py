"""Writes the report's page: tables that every browser reads out and prints, and a treemap that a small script draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files

from msgspec import Struct, field

from packer import __version__
from packer.core.records import BuildManifest, RemovedFiles
from packer.core.units import format_size
from packer.inspect.snapshot import Snapshot
from packer.manifest.budget import MILLISECONDS, Measure
from packer.manifest.history import PastBuild
from packer.manifest.start_history import PastStart
from packer.report.flame import flame_graph
from packer.report.treemap import encode_data, make_treemap

_MOST_SHARED = 30
_MOST_MODULES = 12
# The page loads nothing, and cannot.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


class ReportContent(Struct, frozen=True, kw_only=True):
    """What a report shows.

    ``manifest`` is lpack.json, ``snapshot`` the same with files, ``measures`` what limits say, ``starts`` are by functions, and
    ``history`` the last builds, the oldest first.
    """

    title: str
    manifest: BuildManifest
    snapshot: Snapshot
    measures: Sequence[Measure] = ()
    starts: Mapping[str, PastStart] = field(default_factory=dict)
    history: Sequence[PastBuild] = ()


def render_page(report: ReportContent) -> str:
    """Return the whole page as HTML."""
    sections = (
        ("sizes", "Functions and layers", _sizes(report)),
        ("map", "Where the bytes are", _map()),
        ("limits", "Budgets and limits", _limits(report.measures)),
        ("starts", "Cold starts", _starts(report.starts)),
        ("shared", "What functions share", _shared(report.manifest)),
        ("removed", "What trimming removed", _removed(report.manifest)),
        ("history", "The last builds", _history(report.history)),
    )
    shown = [(anchor, title, body) for anchor, title, body in sections if body]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in shown)
    bodies = "".join(f'<section id="{anchor}"><h2>{title}</h2>{body}</section>' for anchor, title, body in shown)
    name = escape(report.title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{name}: package sizes</title><style>{_asset('report.css')}</style></head><body>"
        f'<a class="skip" href="#sizes">Skip to the figures</a><header><h1>{name}</h1>'
        f'<p class="muted">Packages for AWS Lambda, by lpack {escape(__version__)}. 1 MB is 1,048,576 bytes.</p>'
        f'<nav aria-label="Sections">{links}</nav></header><main>{bodies}</main>'
        f'<script type="text/plain" id="data">{encode_data(make_treemap(report.snapshot))}</script>'
        f"<script>{_asset('report.js')}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return files("packer.report").joinpath(name).read_text(encoding="utf-8")


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table; cells are HTML, the first of a row names it, and ``numbers`` are columns of figures."""

    def cell(number: int, text: str) -> str:
        kind = ' class="number"' if number in numbers else ""
        return f'<th scope="row">{text}</th>' if number == 0 else f"<td{kind}>{text}</td>"

    body = "".join(f"<tr>{''.join(cell(*each) for each in enumerate(row))}</tr>" for row in rows)
    head = "".join(
        f'<th scope="col"{" class=number" if number in numbers else ""}>{text}</th>' for number, text in enumerate(heads)
    )
    caption = f"<caption>{caption}</caption>"
    return f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _sizes(report: ReportContent) -> str:
    manifest = report.manifest
    rows = []
    for name, each in manifest.records().items():
        sizes = (each.packed_bytes, each.artifact.unzipped_bytes, each.unpacked_with_layers)
        held = manifest.functions[name].layers
        words = (
            name,
            each.target,
            each.format,
            *map(format_size, sizes),
            str(len(each.distributions)),
            ", ".join(held) or "none",
        )
        rows.append(tuple(map(escape, words)))
    heads = ("Function", "Target", "Form", "Packed", "Unpacked", "With layers", "Distributions", "Layers")
    found = _table("Functions, as they were built", heads, rows, (3, 4, 5, 6))
    if not manifest.layers:
        return found
    more = [
        (escape(name), format_size(each.zip_bytes), format_size(each.unzipped_bytes), escape(", ".join(each.functions)))
        for name, each in manifest.layers.items()
    ]
    return found + _table("Layers", ("Layer", "Packed", "Unpacked", "For"), more, (1, 2))


def _map() -> str:
    """Return the elements of the treemap, with a note for browsers without scripts."""
    return (
        '<div class="bar" id="controls" hidden><label>Show <select id="unit"></select></label>'
        '<label>by <select id="measure"><option value="2">unpacked bytes</option><option value="3">packed bytes</option>'
        "</select></label><label>Find "
        '<input id="find" type="search" autocomplete="off" placeholder="part of a path"></label></div>'
        '<p id="path" class="path" role="navigation" aria-label="Where the map is"></p>'
        '<div id="treemap" class="treemap" role="group" aria-label="Treemap"></div>'
        '<p class="legend" id="legend"></p><p id="told" class="muted" role="status" aria-live="polite"></p>'
        '<div id="list"></div><noscript><p>The map is drawn by a script, which this browser does not run.</p></noscript>'
    )


def _limits(measures: Sequence[Measure]) -> str:
    rows = []
    for each in measures:
        part = each.size / each.limit if each.limit else 1.0
        kind = "over" if each.over else "near" if part > 0.9 else "within"
        width = min(100.0, part * 100)
        bar = f'<span class="track"><span class="fill {kind}" style="width:{width:.1f}%"></span></span>'
        used = "over" if each.over else f"{part:.0%}"
        what = f"{each.what} for the start" if each.unit == MILLISECONDS else each.what
        rows.append((escape(each.of), escape(what), each.text(each.size), each.text(each.limit), f"{bar} {used}"))
    heads = ("Of", "Limit", "Takes", "Allowed", "Used")
    return _table("What is used of budgets and of Lambda's limits", heads, rows, (2, 3)) if rows else ""


def _starts(starts: Mapping[str, PastStart]) -> str:
    found = []
    for name, each in starts.items():
        before, after = each.before.median, each.after.median
        slow = sorted(each.imports, key=lambda one: -one.own)[:_MOST_MODULES]
        rows = [(escape(one.module), escape(one.distribution), f"{one.own:.1f} ms", f"{one.cumulative:.1f} ms") for one in slow]
        heads = ("Module", "Distribution", "Itself", "With what it imports")
        found.append(
            f"<h3>{escape(name)}: {after:.0f} ms, and {before:.0f} ms untrimmed</h3>"
            f'<p class="muted">Median by {escape(each.clock)}.</p>'
            f'<div class="wide">{flame_graph(name, each.imports)}</div>'
            f"<details><summary>The slowest modules</summary>{_table('Slowest modules', heads, rows, (2, 3))}</details>"
        )
    return "".join(found)


def _shared(manifest: BuildManifest) -> str:
    """Return which function has which layer, and which distributions several functions carry themselves."""
    names = list(manifest.functions)
    heads = [f'<span class="tilted">{escape(name)}</span>' for name in names]
    found = ""
    if manifest.layers:
        rows = [(escape(name), *_marks(names, each.functions)) for name, each in manifest.layers.items()]
        found += _table("Which function has which layer", ("Layer", *heads), rows)
    users: dict[tuple[str, str], dict[str, int]] = {}
    for name, function in manifest.functions.items():
        for each in function.inside:
            users.setdefault((each.name, each.version), {})[name] = each.unzipped_bytes
    several = {key: sizes for key, sizes in users.items() if len(sizes) > 1}
    again = {key: sum(sizes.values()) - max(sizes.values()) for key, sizes in several.items()}
    listed = sorted(several, key=lambda key: (-again[key], key))[:_MOST_SHARED]
    if listed:
        rows = [(escape(" ".join(key)), format_size(again[key]), *_marks(names, several[key])) for key in listed if again[key]]
        found += _table("Distributions that several functions carry themselves", ("Distribution", "Again", *heads), rows, (1,))
    return found


def _marks(names: Sequence[str], users: Iterable[str]) -> Iterator[str]:
    held = set(users)
    yield from ('<span class="has">yes</span>' if name in held else '<span class="muted">·</span>' for name in names)


def _removed(manifest: BuildManifest) -> str:
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    details: dict[str, dict[str, int]] = {}
    for removed in _all_removed(manifest):
        for each in removed:
            sizes[each.rule] = sizes.get(each.rule, 0) + each.bytes
            counts[each.rule] = counts.get(each.rule, 0) + each.files
            own = details.setdefault(each.rule, {})
            own[each.distribution] = max(own.get(each.distribution, 0), each.bytes)
    if not sizes:
        return ""
    most = max(sizes.values()) or 1
    rows = []
    for rule in sorted(sizes, key=lambda each: (-sizes[each], each)):
        largest = sorted(details[rule].items(), key=lambda item: (-item[1], item[0]))[:4]
        bar = f'<span class="track"><span class="fill within" style="width:{sizes[rule] / most * 100:.1f}%"></span></span>'
        most_of_it = ", ".join(f"{escape(name)} {format_size(size)}" for name, size in largest)
        rows.append((escape(rule), f"{counts[rule]:,}", format_size(sizes[rule]), bar, most_of_it))
    heads = ("Rule", "Files", "Bytes", "", "Most of it, in one function or layer")
    return _table("What rules took out of all functions and layers together", heads, rows, (1, 2))


def _all_removed(manifest: BuildManifest) -> Iterator[Sequence[RemovedFiles]]:
    """Return what was removed from each function and each layer, every layer once."""
    yield from (function.trim.removed for function in manifest.functions.values())
    yield from (layer.removed for layer in manifest.layers.values())


def _history(history: Sequence[PastBuild]) -> str:
    if len(history) < 2:
        return ""
    names = sorted({name for each in history for name in each.functions})
    rows = []
    for name in names:
        sizes = [each.functions[name][0] for each in history if name in each.functions]
        change = f"{sizes[-1] / sizes[0] - 1:+.1%}" if sizes[0] else ""
        rows.append((escape(name), _line(name, sizes), format_size(sizes[0]), format_size(sizes[-1]), change))
    first, last = (datetime.fromtimestamp(each.at, UTC).strftime("%Y-%m-%d") for each in (history[0], history[-1]))
    caption = f"Packed bytes with layers over {len(history)} builds on this machine, {first} to {last}"
    return _table(caption, ("Function", "", "First", "Now", "Change"), rows, (2, 3, 4))


def _line(name: str, sizes: Sequence[int]) -> str:
    """Draw sizes as a line from 0 to the largest."""
    top, step = max(sizes) or 1, 200 / max(1, len(sizes) - 1)
    points = " ".join(f"{number * step:.1f},{38 - size / top * 34:.1f}" for number, size in enumerate(sizes))
    label = escape(f"{name}: {', '.join(format_size(size) for size in sizes)}", quote=True)
    return f'<svg class="line" viewBox="0 0 200 40" role="img" aria-label="{label}"><polyline points="{points}"/></svg>'
