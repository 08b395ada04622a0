"""How a picture of a plan looks, light and dark, and what pointing at a box does: the style sheet of
`packer.report.plan_graph`.

Colours stand in plain rules, and in others for dark displays, as not all that shows SVG knows variables. `:has` is known to
browsers since 2023; what does not know it drops these rules, and nothing is highlighted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

COLOURS = 8
"""How many colours tell the curves of layers apart."""

_STYLE = """
.lpack { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 12px; background: #ffffff }
.lpack text { fill: #1f2328 }
.lpack .muted { fill: #57606a; font-size: 10.5px }
.lpack .paper { fill: #ffffff }
.lpack .title { font-size: 18px; font-weight: 600 }
.lpack .heading { font-size: 13px; font-weight: 600 }
.lpack .end { text-anchor: end }
.lpack .function .frame { fill: #e8f1fc; stroke: #6b96cc }
.lpack .layer .frame { fill: #f6f8fa; stroke: #8c959f }
.lpack .attached .frame { fill: #fdf8ec; stroke: #a8842c; stroke-dasharray: 5 3 }
.lpack .distribution .frame { fill: #ffffff; stroke: #c5ccd3 }
.lpack .links, .lpack .sample { fill: none; stroke-width: 1.5; opacity: .75; pointer-events: none }
.lpack .many { opacity: .45 }
.lpack:has(.box:hover) .many { opacity: .75 }
.lpack .direct { stroke: #7a828b; stroke-width: 1; stroke-dasharray: 4 3 }
.lpack .other { stroke: #a8842c }
"""
_HUES = ("#2f6fc9", "#c96a12", "#1d8a5a", "#b53f86", "#7a55c7", "#a17a06", "#12838f", "#c0392f")
_DARK = """
.lpack { background: #0d1117 }
.lpack text { fill: #e6edf3 }
.lpack .muted { fill: #a3adb8 }
.lpack .paper { fill: #0d1117 }
.lpack .function .frame { fill: #14263f; stroke: #4a7ab5 }
.lpack .layer .frame { fill: #1b222b; stroke: #6e7781 }
.lpack .attached .frame { fill: #292310; stroke: #b8963e }
.lpack .distribution .frame { fill: #0d1117; stroke: #414a54 }
.lpack .direct { stroke: #8b949e }
.lpack .other { stroke: #b8963e }
"""
_DARK_HUES = ("#5b9bf0", "#e58a35", "#3fb47f", "#dd6fae", "#a288ea", "#cba52f", "#36b0bd", "#ee6c60")
_POINTING = """
.lpack:has(.box:hover) .box { opacity: .4 }
.lpack:has(.box:hover) .links path { opacity: .12 }
"""


def style_sheet(related: Mapping[str, Iterable[str]]) -> str:
    """Return the style sheet; ``related`` are the selectors of what pointing at a box highlights, by the box's id."""
    lit = "\n".join(
        f".lpack:has(#{box}:hover) :is({', '.join((f'#{box}', *selectors))}) {{ opacity: 1; stroke-width: 2 }}"
        for box, selectors in related.items()
    )
    dark = f"@media (prefers-color-scheme: dark) {{{_DARK}{_coloured(_DARK_HUES)}\n}}"
    return f"{_STYLE}{_coloured(_HUES)}\n{dark}{_POINTING}{lit}\n"


def _coloured(hues: Iterable[str]) -> str:
    return "\n".join(
        f".lpack .c{number} {{ stroke: {hue} }}\n.lpack .stripe.c{number} {{ fill: {hue}; stroke: none }}"
        for number, hue in enumerate(hues)
    )
