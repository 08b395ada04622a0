"""The import flame graph of a cold start, as SVG: what was imported by what, and how long each took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from zlib import crc32

from msgspec import Struct

from packer.verify.coldstart import ImportRecord

WIDTH, _ROW = 960, 18
_HUES = 8
_LEAST = 0.6
"""Pixels of what is drawn; narrower ones nobody could point at."""
_LETTER = 6.2
_DEEPEST = 40


class Frame(Struct, frozen=True, kw_only=True):
    """One import: ``own`` and ``total`` milliseconds, and what it imported itself."""

    name: str
    distribution: str
    own: float
    total: float
    below: tuple[Frame, ...]


def build_frames(imports: Sequence[ImportRecord]) -> tuple[Frame, ...]:
    """Return imports (`packer.verify.coldstart.record_start`) as trees: each comes after those that it brought about."""
    waiting: list[tuple[int, Frame]] = []
    for each in imports:
        below: list[Frame] = []
        while waiting and waiting[-1][0] > each.depth:
            below.append(waiting.pop()[1])
        frame = Frame(
            name=each.module,
            distribution=each.distribution,
            own=each.own,
            total=each.cumulative,
            below=tuple(reversed(below)),
        )
        waiting.append((each.depth, frame))
    return tuple(frame for _, frame in waiting)


def flame_graph(function: str, imports: Sequence[ImportRecord]) -> str:
    """Return the picture; each frame's title says its name, distribution and milliseconds."""
    top = build_frames(imports)
    whole = sum(each.total for each in top)
    if not whole:
        return ""
    drawn = list(_place_frames(top, 0.0, 0, WIDTH / whole))
    height = (max(row for _, row, _, _ in drawn) + 1) * _ROW if drawn else _ROW
    boxes = "".join(_box(frame, x, row, width, whole) for x, row, width, frame in drawn)
    label = escape(f"Imports of {function}: {whole:.0f} ms in all", quote=True)
    return f'<svg class="flame" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{boxes}</svg>'


def _place_frames(level: Sequence[Frame], x: float, row: int, scale: float) -> Iterator[tuple[float, int, float, Frame]]:
    for frame in level:
        width = frame.total * scale
        if width >= _LEAST and row < _DEEPEST:
            yield x, row, width, frame
            yield from _place_frames(frame.below, x, row + 1, scale)
        x += width


def _box(frame: Frame, x: float, row: int, width: float, whole: float) -> str:
    """Draw a frame: its title, and as much of its name as fits."""
    title = (
        f"{frame.name} ({frame.distribution}): {frame.total:.1f} ms, {frame.own:.1f} ms of its own, {frame.total / whole:.0%}"
    )
    room = int((width - 6) / _LETTER)
    name = frame.name if len(frame.name) <= room else f"{frame.name[: room - 1]}…" if room > 3 else ""
    y = row * _ROW
    text = f'<text x="{x + 3:.1f}" y="{y + 13}">{escape(name)}</text>' if name else ""
    hue = crc32(frame.distribution.encode()) % _HUES
    box = f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_ROW - 1}"/>'
    return f'<g class="h{hue}"><title>{escape(title)}</title>{box}{text}</g>'
