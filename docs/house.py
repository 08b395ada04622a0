"""Draws the packages of lpack, by floor, with what imports what: `python -m docs.house` writes docs/house.svg.

The rows are the floors of `tests.floors`, the arrows are the real imports, and the words are the packages' own docstrings.
Needs nothing but the standard library.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import count
from pathlib import Path
from typing import NamedTuple

from tests.floors import FLOORS, MODULES, imported_neighbors, package_of, parsed

PICTURE = Path(__file__).resolve().parent / "house.svg"

# All lengths are pixels.
WIDTH, MARGIN, SPACE = 760, 12, 14
"""The width of the picture, what stays free around it, and what stays free between the boxes of a row."""
BOX_WIDTHS = {1: 400, 2: 290, 3: 196}
"""The width of a box, by the number of boxes in its row."""
NAME, LINE, PADDING, LETTER = 24, 15, 10, 6.6
"""The height of a package's name and of a line below it, what stays free around text, and the width of an average letter."""
LANE, TURN, POINT = 11, 8, 12
"""The distance of lines that run side by side, where they turn below a box, and how long they go straight into one."""
UNDRAWN = frozenset({"packer"})
"""The package that holds the version and no modules of its own."""

STYLE = """
  .page { fill: #ffffff; } .packer { fill: #eef1fb; stroke: #5c6bc0; } .builders { fill: #e8f5ec; stroke: #43a067; }
  .name { fill: #1a237e; font-weight: 600; font-size: 14px; } .text { fill: #37474f; font-size: 12px; }
  .line { fill: none; stroke: #78849b; stroke-width: 1.4; } .head { fill: #78849b; }
  text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; text-anchor: middle; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #1e2129; } .packer { fill: #2a3050; stroke: #7986cb; } .builders { fill: #1f3a2b; stroke: #66bb8a; }
    .name { fill: #e8eaf6; } .text { fill: #cfd4e4; } .line { stroke: #96a1ba; } .head { fill: #96a1ba; }
  }
"""
HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="head" d="M0 0 8 4 0 8z"/></marker>'
)
TITLE = "The packages of lpack by floor, the highest on top; each imports what its arrows lead to"

Imports = Mapping[str, frozenset[str]]
"""The packages that each package imports."""


class Box(NamedTuple):
    """A package's box: its row from the top, its left edge and width, and its wrapped text."""

    name: str
    row: int
    left: float
    width: float
    lines: tuple[str, ...]

    @property
    def middle(self) -> float:
        """Half-way between the left and the right edge."""
        return self.left + self.width / 2

    @property
    def height(self) -> float:
        """The height that the text takes."""
        return NAME + LINE * len(self.lines) + PADDING


def imports_of_packages() -> Imports:
    """Return what packages import of each other."""
    found: dict[str, set[str]] = {}
    for name in MODULES:
        own = package_of(name)
        found.setdefault(own, set()).update(package_of(each) for each in imported_neighbors(name))
    return {name: frozenset(others - {name} - UNDRAWN) for name, others in found.items() if name not in UNDRAWN}


def needed_arrows(imports: Imports) -> Imports:
    """Return the imports that no chain of other imports implies (the transitive reduction)."""

    def reachable(start: Iterable[str]) -> set[str]:
        seen: set[str] = set()
        waiting = list(start)
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += imports[name]
        return seen

    return {
        name: frozenset(each for each in others if each not in reachable(others - {each})) for name, others in imports.items()
    }


def boxes() -> dict[str, Box]:
    """Return the box of each package, the highest floor on top."""
    rows = [[name for name in floor if name not in UNDRAWN] for floor in reversed(FLOORS)]
    found = {}
    for row, names in enumerate(filter(None, rows)):
        width = BOX_WIDTHS[len(names)]
        left = (WIDTH - width * len(names) - SPACE * (len(names) - 1)) / 2
        for place, name in enumerate(names):
            words = (ast.get_docstring(parsed(MODULES[name])) or "").partition("\n")[0].replace("`", "")
            lines = tuple(textwrap.wrap(words, int((width - 2 * PADDING) / LETTER)))
            found[name] = Box(name, row, left + place * (width + SPACE), width, lines)
    return found


class Arrow(NamedTuple):
    """An import to draw, with where it leaves the upper box and meets the lower one; ``lane`` where it passes rows between."""

    start: float
    end: float
    upper: int
    lower: int
    lane: float | None


def spread(box: Box, ends: Iterable[tuple[float, str]], margin: float) -> dict[str, float]:
    """Return where lines meet an edge of a box, in the order of where they come from or go.

    ``margin`` is what stays free left and right of them, in parts of what lies between two.
    """
    names = [name for _, name in sorted(ends)]
    step = box.width / max(1, len(names) - 1 + 2 * margin)
    return {name: box.left + step * (margin + place) for place, name in enumerate(names)}


def lanes_of(found: Mapping[str, Box], pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return the lane, left or right of all boxes, of each box that lines from farther up lead to; they share it."""
    first: dict[str, int] = {}
    for one, other in pairs:
        if found[other].row - found[one].row > 1:
            first[other] = min(found[one].row, first.get(other, found[one].row))
    lanes: dict[str, float] = {}
    inner = min(box.left for box in found.values()) - LANE
    taken: dict[bool, list[int]] = {False: [], True: []}
    for name in sorted(first, key=lambda each: (found[each].row - first[each], each)):  # the shortest next to the boxes
        side = taken[found[name].middle > WIDTH / 2]
        free = (place for place, row in enumerate(side) if row <= first[name])
        place = next(free, len(side))
        side[place : place + 1] = [found[name].row]
        lanes[name] = WIDTH - inner + LANE * place if side is taken[True] else inner - LANE * place
    return lanes


def arrows_of(found: Mapping[str, Box], drawn: Imports) -> list[Arrow]:
    """Return the arrows from row to row."""
    pairs = [(one, other) for one in found for other in sorted(drawn[one]) if found[one].row < found[other].row]
    lanes = lanes_of(found, pairs)
    passing = {(one, other) for one, other in pairs if found[other].row - found[one].row > 1}
    starts, ends = {}, {}
    for name, box in found.items():
        out = [other for one, other in pairs if one == name]
        aims = [(lanes[other] if (name, other) in passing else found[other].middle, other) for other in out]
        starts[name] = spread(box, aims, 0.5)
        near = [(found[one].middle, one) for one, other in pairs if other == name and (one, other) not in passing]
        # A line from a lane that comes alone gets no middle: what leaves right above it may be straight.
        far = [(lanes[name], ""), *([(box.middle, "-")] if not near else [])] if name in lanes else []
        ends[name] = spread(box, [*near, *far], 1)  # another margin, so that no line leaves right above where one enters
    return [
        Arrow(
            start=starts[one][other],
            end=ends[other]["" if (one, other) in passing else one],
            upper=found[one].row,
            lower=found[other].row,
            lane=lanes[other] if (one, other) in passing else None,
        )
        for one, other in pairs
    ]


def runs_of(arrow: Arrow) -> list[tuple[int, float, float]]:
    """Return the horizontal parts of an arrow: the row that each lies below, where it begins, and where it ends."""
    if arrow.lane is None:
        return [(arrow.upper, arrow.start, arrow.end)]
    return [(arrow.upper, arrow.start, arrow.lane), (arrow.lower - 1, arrow.lane, arrow.end)]


def tracks_of(arrows: Iterable[Arrow]) -> dict[tuple[int, float, float], int]:
    """Return the track of each horizontal part: no two that overlap share one."""
    tracks: dict[tuple[int, float, float], int] = {}
    runs = sorted({run for arrow in arrows for run in runs_of(arrow)}, key=lambda run: (run[0], abs(run[1] - run[2])))
    for run in runs:
        low, high = sorted(run[1:])
        taken = {
            track
            for other, track in tracks.items()
            if other[0] == run[0] and low <= max(other[1:]) + LANE and min(other[1:]) - LANE <= high
        }
        tracks[run] = next(track for track in count() if track not in taken)
    return tracks


def house_picture() -> str:
    """Return the picture as an SVG document that brings its own background, for light and dark."""
    found = boxes()
    drawn = needed_arrows(imports_of_packages())
    arrows = arrows_of(found, drawn)
    tracks = tracks_of(arrows)
    tops: list[float] = []
    bottoms: list[float] = []
    bottom = float(MARGIN)
    for row in range(max(box.row for box in found.values()) + 1):
        gap = max([track + 1 for run, track in tracks.items() if run[0] == row - 1], default=0)
        tops.append(bottom + (TURN + gap * LANE + POINT if row else 0))
        bottom = tops[row] + max(box.height for box in found.values() if box.row == row)
        bottoms.append(bottom)
    parts = [f'<path class="line" d="{each}" marker-end="url(#head)"/>' for each in paths(arrows, tracks, tops, bottoms)]
    for name, box in found.items():
        beside = [found[other] for other in sorted(drawn[name]) if found[other].row == box.row]
        parts += [sideways_picture(box, other, (tops[box.row] + bottoms[box.row]) / 2) for other in beside]
        parts.append(box_picture(box, tops[box.row], bottoms[box.row]))
    return document(parts, bottom + MARGIN)


def paths(
    arrows: Iterable[Arrow], tracks: Mapping[tuple[int, float, float], int], tops: Sequence[float], bottoms: Sequence[float]
) -> list[str]:
    """Return the paths of arrows in SVG's notation, sorted; ``tops`` and ``bottoms`` are those of the rows."""
    found = set()
    for arrow in arrows:
        steps = [f"M{arrow.start:.1f} {bottoms[arrow.upper]:.1f}"]
        for run in runs_of(arrow):
            row, begins, ends = run
            height = bottoms[row] + TURN + LANE * tracks[run]
            steps += [f"V{height:.1f}", f"H{ends:.1f}"] if abs(begins - ends) >= 1 else []
        found.add(" ".join([*steps, f"V{tops[arrow.lower] - 1:.1f}"]))
    return sorted(found)


def sideways_picture(box: Box, other: Box, height: float) -> str:
    """Return the arrow between neighbors of a row that may import each other."""
    begins, ends = (box.left, other.left + other.width + 1) if other.left < box.left else (box.left + box.width, other.left - 1)
    return f'<path class="line" d="M{begins:.1f} {height:.1f} H{ends:.1f}" marker-end="url(#head)"/>'


def box_picture(box: Box, top: float, bottom: float) -> str:
    """Return a package's box with its name and its words."""
    kind = box.name.partition(".")[0]
    shape = f'<rect class="{kind}" x="{box.left:.1f}" y="{top:.1f}" width="{box.width}" height="{bottom - top:.1f}" rx="6"/>'
    name = f'<text class="name" x="{box.middle:.1f}" y="{top + NAME - 5:.1f}">{escape(box.name)}</text>'
    lines = [
        f'<text class="text" x="{box.middle:.1f}" y="{top + NAME + LINE * place - 4:.1f}">{escape(line)}</text>'
        for place, line in enumerate(box.lines, 1)
    ]
    return "\n".join([shape, name, *lines])


def document(parts: Iterable[str], height: float) -> str:
    """Return an SVG document of the picture's parts."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img">',
            f"<title>{TITLE}</title>",
            f"<style>{STYLE}</style>",
            f"<defs>{HEAD}</defs>",
            f'<rect class="page" width="{WIDTH}" height="{height:.0f}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(house_picture(), encoding="utf-8")
