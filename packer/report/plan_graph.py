"""Draws a plan of layers: functions, layers and distributions in columns, with curves for who has what, as one SVG file."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping

from msgspec import Struct

from packer.core.units import count_text, format_size, saving_text
from packer.inspect.plan_document import PlanDocument
from packer.report.graph_layout import arrange_columns, place_boxes
from packer.report.graph_parts import (
    ATTACHED,
    DISTRIBUTION,
    FUNCTION,
    LANE,
    LAYER,
    Box,
    Picture,
    read_plan,
)
from packer.report.graph_style import COLOURS, style_sheet
from packer.report.graph_text import clean_text, cut_text, text_width

_MARGIN, _TOP, _PAD = 24.0, 138.0, 9.0
_NAME_SIZE, _FIGURES_SIZE = 12.0, 10.5
_TALL, _LOW, _TALL_SPACE, _LOW_SPACE, _LANE_ROOM = 38.0, 20.0, 10.0, 5.0, 9.0
_HEADINGS = ("Functions", "Layers", "Distributions")
_WIDTHS = (250.0, 280.0, 285.0)
_MANY_FUNCTIONS, _WIDTH_OF_MANY = 40, 400.0
_LEAST_GAP, _MOST_GAP = 150.0, 240.0
_MANY_LINKS = 400
_INITIALS = {FUNCTION: "f", LAYER: "l", ATTACHED: "a", DISTRIBUTION: "d", LANE: "n"}
_LEGEND = (
    (LAYER, LAYER, "layer"),
    (LAYER, "c0", "in a layer"),
    (ATTACHED, ATTACHED, "layer attached by its ARN"),
    (LANE, "direct", "inside the function's own package"),
)
_LEGEND_MIDDLE, _SAMPLE = 86.0, 28.0
_HINT = "Point at a box: its curves alone, and all about it."


class _Drawn(Struct, frozen=True, kw_only=True):
    """A box at its place; ``id`` names it in the file, and ``low`` ones are of one line."""

    box: Box
    id: str
    column: int
    left: float
    top: float
    width: float
    height: float
    low: bool

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


class _Plan(Struct, frozen=True, kw_only=True):
    """All that is drawn; ``colours`` are the numbers of layers' colours, by key."""

    picture: Picture
    drawn: Mapping[str, _Drawn]
    colours: Mapping[str, int]
    lefts: tuple[float, ...]
    widths: tuple[float, ...]
    width: float
    height: float


def draw_plan(document: PlanDocument) -> str:
    """Return a picture of a plan: an SVG document; the same plan gives the same text."""
    plan = _lay_out(read_plan(document))
    title, totals = _title(plan.picture, document), _totals(document)
    wide, high = _number(plan.width), _number(plan.height)
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "lpack", "width": wide, "height": high})
    root.attrib |= {"viewBox": f"0 0 {wide} {high}", "role": "img", "aria-label": clean_text(f"{title}. {totals}")}
    _add(root, "title", f"lpack: {title}")
    _add(root, "style", style_sheet(_find_related(plan)))
    _add(root, "rect", **{"class": "paper"}, width=wide, height=high)
    _add(root, "text", title, **{"class": "title"}, x=_MARGIN, y=38)
    _add(
        root,
        "text",
        cut_text(" · ".join((totals, *plan.picture.targets)), plan.width - 2 * _MARGIN, _NAME_SIZE),
        x=_MARGIN,
        y=61,
    )
    _draw_legend(root, plan)
    _draw_headings(root, plan)
    _draw_curves(root, plan)
    for each in plan.drawn.values():
        if each.box.kind != LANE:
            _draw_box(root, plan, each)
    ET.indent(root, " ")
    return ET.tostring(root, encoding="unicode") + "\n"


def _title(picture: Picture, document: PlanDocument) -> str:
    layers, functions = len(document.layers), len(document.functions)
    attached = sum(box.kind == ATTACHED for column in picture.columns for box in column)
    counts = [count_text(functions, "function"), count_text(layers, "layer"), f"{attached} attached" if attached else ""]
    return ", ".join([*filter(None, counts), count_text(picture.distributions, "distribution")])


def _totals(document: PlanDocument) -> str:
    separate, stored, saved = document.separate_bytes, document.stored_bytes, document.saved_bytes
    if not separate:
        return "Functions share nothing."
    change = f"{saving_text(saved)} ({abs(saved) / separate:.0%})"
    return f"What functions share: {format_size(stored)} stored, {format_size(separate)} in separate packages; {change}"


def _lay_out(picture: Picture) -> _Plan:
    boxes = {box.key: box for column in picture.columns for box in column}
    many = len(picture.columns[0]) > _MANY_FUNCTIONS
    low = {key for key, box in boxes.items() if box.kind == DISTRIBUTION or (many and box.kind == FUNCTION)}
    spaces = {key: _LOW_SPACE if key in low else 0.0 if box.kind == LANE else _TALL_SPACE for key, box in boxes.items()}
    heights = {key: _LOW if key in low else _LANE_ROOM if box.kind == LANE else _TALL for key, box in boxes.items()}
    columns = arrange_columns([[box.key for box in column] for column in picture.columns], picture.links)
    tops, height = place_boxes(columns, {key: heights[key] + spaces[key] for key in boxes}, picture.links)
    widths = (_WIDTH_OF_MANY if many else _WIDTHS[0], *_WIDTHS[1:])
    gap = min(max(height / 8, _LEAST_GAP), _MOST_GAP)
    lefts = tuple(_MARGIN + sum(widths[:column]) + gap * column for column in range(len(widths)))
    drawn = {
        key: _Drawn(
            box=boxes[key],
            id=f"{_INITIALS[boxes[key].kind]}{number}",
            column=column,
            left=lefts[column],
            top=_TOP + tops[key] + spaces[key] / 2,
            width=widths[column],
            height=heights[key],
            low=key in low,
        )
        for column, keys in enumerate(columns)
        for number, key in enumerate(keys)
    }
    made = [key for key in columns[1] if boxes[key].kind == LAYER]
    return _Plan(
        picture=picture,
        drawn=drawn,
        colours={key: number % COLOURS for number, key in enumerate(made)},
        lefts=lefts,
        widths=widths,
        width=lefts[-1] + widths[-1] + _MARGIN,
        height=_TOP + max(height, _LOW) + _MARGIN,
    )


def _find_related(plan: _Plan) -> dict[str, list[str]]:
    """Return what to highlight with each box: the boxes and curves on all paths through it.

    A curve has the class ``of-X`` of the box that it leaves, and ``to-X`` of the one that it reaches.
    """
    after: dict[str, list[str]] = {key: [] for key in plan.drawn}
    before: dict[str, list[str]] = {key: [] for key in plan.drawn}
    for start, end in plan.picture.links:
        after[start].append(end)
        before[end].append(start)

    def ways(key: str, near: Mapping[str, list[str]], word: str) -> Iterator[str]:
        if near[key]:
            yield f".{word}-{plan.drawn[key].id}"
        for other in near[key]:
            if plan.drawn[other].box.kind != LANE:
                yield f"#{plan.drawn[other].id}"
            yield from ways(other, near, word)

    return {
        each.id: list(dict.fromkeys((*ways(key, after, "of"), *ways(key, before, "to"))))
        for key, each in plan.drawn.items()
        if each.box.kind != LANE
    }


def _draw_curves(root: ET.Element, plan: _Plan) -> None:
    """Draw the links in groups: those through each layer in its colour, the others beneath them."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for link in plan.picture.links:
        kinds = {plan.drawn[key].box.kind: key for key in link}
        style = "direct" if LANE in kinds else "other" if ATTACHED in kinds else f"c{plan.colours[kinds[LAYER]]}"
        groups.setdefault(style, []).append(link)
    heights = _heights_at_ends(plan)
    links = _add(root, "g", **{"class": "links many" if len(plan.picture.links) > _MANY_LINKS else "links"})
    for style in sorted(groups, key=lambda each: (each != "direct", each)):
        group = _add(links, "g", **{"class": style})
        for start, end in groups[style]:
            leaves, reaches = plan.drawn[start], plan.drawn[end]
            path = _path(leaves, reaches, *heights[start, end])
            _add(group, "path", **{"class": f"of-{leaves.id} to-{reaches.id}"}, d=path)


def _heights_at_ends(plan: _Plan) -> dict[tuple[str, str], tuple[float, float]]:
    """Spread the ends of links over the sides of boxes, in the order of what lies at the other ends; lanes gather them."""
    leaving, reaching = _spread(plan, 0), _spread(plan, 1)
    return {link: (leaving[link], reaching[link]) for link in plan.picture.links}


def _spread(plan: _Plan, side: int) -> dict[tuple[str, str], float]:
    links = sorted(plan.picture.links, key=lambda link: plan.drawn[link[1 - side]].middle)
    sharing = Counter(link[side] for link in links)
    met: Counter[str] = Counter()
    heights = {}
    for link in links:
        each = plan.drawn[link[side]]
        met[link[side]] += 1
        part = 0.5 if each.box.kind == LANE else met[link[side]] / (sharing[link[side]] + 1)
        heights[link] = each.top + each.height * part
    return heights


def _path(leaves: _Drawn, reaches: _Drawn, start: float, end: float) -> str:
    """Return a curve from the right side of a box to the left side of another; one that leaves a lane runs along it first."""
    left, right = leaves.left + leaves.width, reaches.left
    middle = _number((left + right) / 2)
    begin = f"M{_number(leaves.left)} {_number(start)}H" if leaves.box.kind == LANE else f"M{_number(left)} {_number(start)}"
    begin += _number(left) if leaves.box.kind == LANE else ""
    return f"{begin}C{middle} {_number(start)} {middle} {_number(end)} {_number(right)} {_number(end)}"


def _draw_box(root: ET.Element, plan: _Plan, each: _Drawn) -> None:
    box = each.box
    group = _add(root, "g", id=each.id, **{"class": f"box {box.kind}"})
    _add(group, "title", box.title)
    _frame(group, each.left, each.top, each.width, each.height)
    if box.key in plan.colours:
        _stripe(group, each.left, each.top, each.height, plan.colours[box.key])
    left, room = each.left + _PAD, each.width - 2 * _PAD
    if each.low:
        figures = cut_text(box.figures, room / 2, _FIGURES_SIZE)
        used = text_width(figures, _FIGURES_SIZE) + _PAD if figures else 0.0
        _add(group, "text", cut_text(box.name, room - used, _NAME_SIZE), x=left, y=each.middle + 4)
        if figures:
            _add(group, "text", figures, **{"class": "muted end"}, x=left + room, y=each.middle + 4)
    else:
        _add(group, "text", cut_text(box.name, room, _NAME_SIZE), x=left, y=each.top + 16)
        _add(group, "text", cut_text(box.figures, room, _FIGURES_SIZE), **{"class": "muted"}, x=left, y=each.top + 30)


def _draw_headings(root: ET.Element, plan: _Plan) -> None:
    for heading, column, left in zip(_HEADINGS, plan.picture.columns, plan.lefts, strict=True):
        none = "" if any(box.kind != LANE for box in column) else ": none"
        _add(root, "text", f"{heading}{none}", **{"class": "heading"}, x=left, y=_TOP - 14)


def _draw_legend(root: ET.Element, plan: _Plan) -> None:
    """Explain the curves and the boxes, each only where there are such."""
    kinds = {box.kind for column in plan.picture.columns for box in column}
    legend = _add(root, "g", **{"class": "legend"})
    left = _MARGIN
    for kind, style, text in _LEGEND:
        if kind in kinds:
            _draw_sample(legend, style, left)
            _add(legend, "text", text, **{"class": "muted"}, x=left + _SAMPLE + 7, y=_LEGEND_MIDDLE + 4)
            left += _SAMPLE + 7 + text_width(text, _FIGURES_SIZE) + 10
    if kinds:
        _add(legend, "text", _HINT, **{"class": "muted"}, x=left, y=_LEGEND_MIDDLE + 4)


def _draw_sample(legend: ET.Element, style: str, left: float) -> None:
    if style in (LAYER, ATTACHED):
        group = _add(legend, "g", **{"class": style})
        _frame(group, left, _LEGEND_MIDDLE - 6, _SAMPLE, 12)
        if style == LAYER:
            _stripe(group, left, _LEGEND_MIDDLE - 6, 12, 0)
        return
    sample = _add(legend, "g", **{"class": "sample"})
    line = f"M{_number(left)} {_number(_LEGEND_MIDDLE)}h{_number(_SAMPLE)}"
    _add(sample, "path", **{"class": style}, d=line)


def _frame(group: ET.Element, left: float, top: float, wide: float, high: float) -> None:
    _add(group, "rect", **{"class": "frame"}, x=left, y=top, width=wide, height=high, rx=4)


def _stripe(group: ET.Element, left: float, top: float, high: float, colour: int) -> None:
    """Mark a layer with the colour of its curves."""
    _add(group, "rect", **{"class": f"stripe c{colour}"}, x=left, y=top + 3, width=3, height=high - 6)


def _add(parent: ET.Element, tag: str, text: str = "", **attributes: str | float) -> ET.Element:
    values = {key: each if isinstance(each, str) else _number(each) for key, each in attributes.items()}
    element = ET.SubElement(parent, tag, values)
    element.text = clean_text(text) or None
    return element


def _number(value: float) -> str:
    """Write a length: a tenth of a pixel is as fine as it gets."""
    return f"{round(value, 1):g}" if abs(value) < 100000 else str(round(value))
