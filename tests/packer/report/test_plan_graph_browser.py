"""Pictures of plans in a real browser: its fonts, its style sheets, its dark mode."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from packer.inspect.plan_document import PlanDocument
from packer.report.plan_graph import draw_plan
from tests.packer.plans import layer, monorepo, plan, read_drawing

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCHEMES = {"light": 1, "dark": 0}
"""The browser's numbers of what it says of the display."""
LEAST_CONTRAST = 4.5  # WCAG 2.1, success criterion 1.4.3

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")]

MEASURE = """
const box = each => { const {x, y, width, height} = each.getBBox(); return [x, y, x + width, y + height] };
const paint = each => getComputedStyle(each).fill;
return {
    boxes: [...document.querySelectorAll(".box")].map(each => ({
        frame: box(each.querySelector(".frame")),
        fill: paint(each.querySelector(".frame")),
        texts: [...each.querySelectorAll("text")].map(text => ({box: box(text), fill: paint(text), text: text.textContent})),
    })),
    others: [...document.querySelectorAll("svg > text, .legend > *")].map(box),
    size: box(document.querySelector(".paper")),
    paper: paint(document.querySelector(".paper")),
};
"""
# What the pointer does cannot be done to a page that only opens, so a class says where the pointer would be.
POINT = """
const style = document.querySelector("style");
style.textContent = style.textContent.replaceAll(":hover", ".pointed");
document.getElementById(BOX).classList.add("pointed");
return Object.fromEntries([...document.querySelectorAll(".box, .links path")].map(
    each => [each.id || each.getAttribute("class"), Number(getComputedStyle(each).opacity)]));
"""


def run_in_browser(folder: Path, svg: str, script: str, scheme: str = "light") -> Any:
    """Open a picture in a page, and give what a script makes of it."""
    (folder / "page.html").write_text(
        f"<!doctype html><meta charset=utf-8><body>{svg}<pre id=found></pre>"
        f"<script>const found = (() => {{ {script} }})(); document.getElementById('found').textContent = JSON.stringify(found);"
        "</script>",
        encoding="utf-8",
    )
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}"]
    command += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--dump-dom", (folder / "page.html").as_uri()]
    finished = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=120)
    match = re.search(r'<pre id="found">(.*?)</pre>', finished.stdout, re.DOTALL)
    assert match, finished.stderr
    return json.loads(html.unescape(match[1]))


def widest() -> PlanDocument:
    """Give a plan whose names fill their boxes with letters of all widths."""
    letters = ["W", "m", "M", "i", "l", "1", "w@", "A", "x", "-_", "Qq", "漢", "é", "%", "&<", "жШ"]
    functions = [letter * 60 for letter in letters]
    layers = [layer(letter * 50, [f"{letter * 40}", f"{letter * 3}"], functions) for letter in letters]
    return plan({name: [name[:30]] for name in functions}, layers, {functions[0]: [f"arn:aws:x:layer:{'W' * 70}:1"]})


def luminance(colour: str) -> float:
    """Give the relative luminance of a colour as the browser writes it (WCAG 2.1)."""
    parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("document", [widest(), monorepo(), monorepo(60, 12, 4)], ids=["widest", "usual", "large"])
def test_no_text_leaves_its_box_or_covers_another(tmp_path, document):
    found = run_in_browser(tmp_path, draw_plan(document), MEASURE)
    assert len(found["boxes"]) > 30
    for each in found["boxes"]:
        frame = each["frame"]
        for text in each["texts"]:
            left, top, right, bottom = text["box"]
            assert frame[0] < left < right < frame[2], (frame, text)
            assert frame[1] < top < bottom < frame[3], (frame, text)
        for one, other in pairwise(each["texts"]):
            assert one["box"][2] < other["box"][0] or one["box"][3] <= other["box"][1] + 2, each
    for left, top, right, bottom in found["others"]:
        assert 0 < left <= right < found["size"][2]
        assert 0 < top <= bottom < found["size"][3]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_text_can_be_read_on_its_box(tmp_path, scheme):
    found = run_in_browser(tmp_path, draw_plan(monorepo()), MEASURE, scheme)
    assert (luminance(found["paper"]) > 0.5) == (scheme == "light")
    pairs = {(text["fill"], each["fill"]) for each in found["boxes"] for text in each["texts"]}
    assert len(pairs) >= 6
    assert {pair: contrast(*pair) for pair in pairs if contrast(*pair) < LEAST_CONTRAST} == {}


def test_pointing_at_a_box_leaves_what_it_has_and_dims_the_rest(tmp_path):
    svg = draw_plan(monorepo())
    found = read_drawing(svg)
    box = found.named("layer-3", "layer")
    opacity = run_in_browser(tmp_path, svg, POINT.replace("BOX", repr(box.id)))
    near = {end for start, end in found.curves if start == box.id} | {start for start, end in found.curves if end == box.id}
    lit = {box.id, *near, *(f"of-{start} to-{end}" for start, end in found.curves if box.id in (start, end))}
    assert len(near) > 3
    assert {key for key, value in opacity.items() if value == 1} == lit
    assert {value for key, value in opacity.items() if key not in lit} == {0.4, 0.12}
