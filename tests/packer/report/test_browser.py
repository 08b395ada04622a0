"""The report in a real browser: clicks zoom, search filters, keys work, nothing is fetched, and nothing complains."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builders.sandbox.emulator import VARIABLE
from tests.monorepo import Monorepo, noise
from tests.packer.report.test_plan_graph_browser import CHROMIUM, LEAST_CONTRAST, SCHEMES, luminance

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")]
SHOTS = Path(os.environ.get("LPACK_TEST_OUTPUT") or Path(__file__).resolve().parents[3] / "build" / "screenshots")
"""Where pictures of pages are kept, for people to look at."""
_WATCH = "window.troubles = []; window.addEventListener('error', event => troubles.push(String(event.message)));"
_STEPS = """
const soon = () => new Promise(done => setTimeout(done, 10));
const settled = async () => { while (!document.documentElement.dataset.ready) await soon(); };
const cells = () => [...document.querySelectorAll("#treemap > .cell")];
const name = cell => cell.getAttribute("aria-label").split(":")[0];
const pick = text => { const box = document.getElementById("unit");
  box.value = [...box.options].find(each => each.textContent === text).value; box.dispatchEvent(new Event("change")); };
(async () => {
  await settled();
  let found;
  try { found = await (async () => { STEPS })(); } catch (error) { troubles.push(String(error)); }
  const out = document.createElement("pre");
  out.id = "found"; out.textContent = JSON.stringify({found, troubles});
  document.body.append(out);
})();
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory, command_server) -> Path:
    """Give the report of a project that was built twice."""
    folder = tmp_path_factory.mktemp("report") / "project"
    (folder / "wheels").mkdir(parents=True)

    def lpack(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LPACK_CACHE_DIR", str(folder.parent / "cache"))
            patch.setenv(VARIABLE, "/nowhere/aws-lambda-rie")
            run: subprocess.CompletedProcess[str] = command_server.run(arguments, cwd, 120)
            return run

    repo = Monorepo(folder=folder, lpack=lpack)
    files = {f"common/sub/module_{n}.py": b"VALUE = 1\n" * (n + 1) for n in range(20)}
    common = repo.wheel("common", files={**files, "common/large.bin": noise("large", 400_000)})
    tested = repo.wheel("tested", files={"tested/tests/test_it.py": b"import tested\n" * 500})
    repo.function("one", common)
    repo.function("two", common, tested)
    repo.configure("one", "two", settings='layers = "auto"\nbudget = { zip = "1 MB", init = "10 s" }')
    repo.build()
    (folder / "one" / "more.py").write_text("VALUE = 1\n" * 50)
    repo.build()
    repo.run("coldstart", "one", "--rounds", "1", "--offline")
    repo.run("report")
    written: Path = folder / "dist" / "lpack-report.html"
    return written


def opened(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=120)


def browse(page: Path, steps: str, *, scheme: str = "light", shot: str = "", size: str = "1200,1400") -> Any:
    """Open the report, do something with it, and give what came of it; nothing may complain."""
    watched = page.with_name("watched.html")
    text = page.read_text(encoding="utf-8")
    text = text.replace("<script>", f"<script>{_WATCH}</script><script>", 1)
    watched.write_text(text.replace("</body>", f"<script>{_STEPS.replace('STEPS', steps)}</script></body>"), encoding="utf-8")
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'browser'}"]
    command += [
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        f"--window-size={size}",
        "--virtual-time-budget=8000",
    ]
    command += ["--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND"]
    if shot:
        SHOTS.mkdir(parents=True, exist_ok=True)
        (SHOTS / shot).unlink(missing_ok=True)
        command += [f"--screenshot={SHOTS / shot}"]
    finished = opened(*command, "--dump-dom", watched.as_uri())
    assert not shot or (SHOTS / shot).stat().st_size > 20_000
    match = re.search(r'<pre id="found">(.*?)</pre>', finished.stdout, re.DOTALL)
    assert match, finished.stderr
    answer = json.loads(html.unescape(match[1]))
    assert answer["troubles"] == []
    assert "CONSOLE" not in finished.stderr
    return answer.get("found")


def test_clicks_zoom_in_and_the_path_leads_back(page):
    steps = """
    pick("layer common");
    const first = cells().map(name);
    cells()[0].click();
    const second = cells().map(name), path = document.getElementById("path").textContent;
    cells().find(cell => name(cell).startsWith("python/common/")).click();
    const third = cells().map(name), focused = cells().includes(document.activeElement);
    document.querySelector("#path button").click();
    return {first, second, path, third, focused, back: cells().map(name), told: document.getElementById("told").textContent};
    """
    found = browse(page, steps, shot="light.png")
    assert found["first"] == ["common 1.0"] == found["back"]
    assert "python/common/" in found["second"]
    assert found["path"].startswith("common / common 1.0")
    assert {"large.bin", "sub/"} <= set(found["third"])
    assert found["focused"]
    assert found["told"].startswith("common: 0.")


def test_cells_are_as_large_as_what_they_stand_for(page):
    steps = """
    pick("layer common");
    cells()[0].click();
    cells().find(cell => name(cell).startsWith("python/common/")).click();
    const map = document.getElementById("treemap"), whole = map.clientWidth * map.clientHeight;
    const part = cell => cell.offsetWidth * cell.offsetHeight / whole;
    return cells().map(cell => [name(cell), part(cell), cell.getBoundingClientRect().toJSON()]);
    """
    found = browse(page, steps)
    shares = {name: share for name, share, _ in found}
    assert shares["large.bin"] == pytest.approx(400 / 465, abs=0.06)
    boxes = [box for _, _, box in found]
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            across = min(one["right"], other["right"]) - max(one["left"], other["left"])
            down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
            assert across < 1.5 or down < 1.5, "two cells lie over each other"


def test_search_dims_and_lists(page):
    steps = """
    pick("layer common");
    cells()[0].click();
    const find = document.getElementById("find");
    find.value = "MODULE_1"; find.dispatchEvent(new Event("input"));
    const rows = [...document.querySelectorAll("#list th")].map(each => each.textContent);
    const dim = cells().map(cell => [name(cell), cell.classList.contains("dim")]);
    find.value = ""; find.dispatchEvent(new Event("input"));
    return {rows, dim, after: document.querySelectorAll(".dim").length};
    """
    found = browse(page, steps)
    assert found["rows"]
    assert all("module_1" in row for row in found["rows"])
    assert dict(found["dim"])["python/common/"] is False
    assert [each for each, dimmed in found["dim"] if dimmed] == [each for each, _ in found["dim"] if "dist-info" in each]
    assert found["after"] == 0


def test_search_looks_for_paths_as_they_are(page):
    steps = """
    pick("layer common");
    const find = document.getElementById("find");
    find.value = "python/common/sub/module_1"; find.dispatchEvent(new Event("input"));
    return [...document.querySelectorAll("#list th")].map(each => each.textContent);
    """
    found = browse(page, steps)
    assert found
    assert all(row.startswith("common 1.0 / python/common/sub/module_1") for row in found)


def test_keys_do_what_the_pointer_does(page):
    steps = """
    pick("layer common");
    cells()[0].focus(); cells()[0].click();
    const zoomed = cells().map(name);
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape", bubbles: true}));
    const back = cells().map(name);
    const everything = [...document.querySelectorAll("#treemap .cell, #path button, select, input, summary, nav a")];
    const kinds = [...new Set(cells().map(each => each.tagName))];
    return {zoomed, back, reachable: everything.every(each => each.tabIndex >= 0), kinds};
    """
    found = browse(page, steps)
    assert "python/common/" in found["zoomed"]
    assert found["back"] == ["common 1.0"]
    assert found["reachable"]
    assert found["kinds"] == ["BUTTON"]


def test_everything_has_a_name_that_can_be_read_out(page):
    steps = """
    const label = each => each.getAttribute("aria-label") || each.textContent.trim() || each.labels?.[0]?.textContent;
    const all = selector => [...document.querySelectorAll(selector)];
    const silent = all("button, select, input, svg[role=img], a").filter(each => !label(each)).length;
    const captions = all("section table").filter(each => !each.caption && !each.closest("#list")).length;
    return {silent, captions, lang: document.documentElement.lang, headings: all("h1, h2").map(each => each.tagName)};
    """
    found = browse(page, steps)
    assert found["silent"] == found["captions"] == 0
    assert found["lang"] == "en"
    assert found["headings"][0] == "H1"
    assert found["headings"].count("H1") == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_words_can_be_told_from_what_is_behind_them(page, scheme):
    steps = """
    cells()[0].click();
    const solid = each => { for (; each; each = each.parentElement) { const colour = getComputedStyle(each).backgroundColor;
      if (!colour.startsWith("rgba") || !colour.endsWith(" 0)")) return colour; } return "rgb(255, 255, 255)"; };
    const words = each => each.textContent.trim().slice(0, 30);
    return [...document.querySelectorAll("h1, h2, td, th, caption, .muted, a, .label, summary, select")]
      .filter(words).map(each => [words(each), getComputedStyle(each).color, solid(each)]);
    """
    for text, ink, paper in browse(page, steps, scheme=scheme, shot=f"{scheme}-page.png", size="1200,3000"):
        lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= LEAST_CONTRAST, (text, ink, paper)


def test_a_narrow_window_has_no_sideways_scrolling(page):
    steps = "return [document.documentElement.scrollWidth, window.innerWidth]"
    wide, window = browse(page, steps, shot="narrow.png", size="500,1400")
    assert wide <= window


def test_every_section_is_there_and_nothing_is_fetched(page):
    text = page.read_text(encoding="utf-8")
    for title in ("Functions and layers", "Budgets and limits", "Cold starts", "What functions share", "trimming removed"):
        assert title in text
    assert "The last builds" in text
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', text)
    assert "://" not in re.sub(r'<script type="text/plain".*?</script>', "", text)
    assert len(text) < 200_000
