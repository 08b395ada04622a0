"""The table at the end of a build: what stands in it, on narrow terminals, without colour, and in logs of GitHub."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.cli.results import format_table

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
KEYS = ("name", "target", "zipped", "unzipped", "done", "change", "seconds", "path", "layers")
cells = st.text("abcdef ", max_size=12).map(str.strip)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(KEYS, cells)), max_size=4), st.integers(1, 120))
def test_no_line_is_wider_than_the_terminal(rows, width):
    lines = format_table(rows, width)
    assert len(lines) == len(rows)
    assert all(len(line) <= width for line in lines)
    assert [_ESCAPE.sub("", line) for line in format_table(rows, width, colour=True)] == lines


def test_what_matters_stays_longest():
    row = dict(
        zip(KEYS, ("orders", "python3.12 arm64", "1.5 MB zipped", "4.0 MB unzipped", "built", "+2 KB", "1 s"), strict=False)
    )
    row |= {"path": "dist/orders.zip", "layers": ""}
    assert "dist/orders.zip" in format_table([row], None)[0]
    for width in range(200, 20, -1):
        [line] = format_table([row], width)
        assert line.startswith("orders")
        if width >= 42:
            assert "1.5 MB zipped" in line
            assert "+2 KB" in line


def on_terminal(repo, *arguments: str, columns: int, **variables: str) -> str:
    """Run the command line on a terminal of so many columns, and give all that it shows there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **variables}
    command = [sys.executable, "-m", "packer.cli", *arguments]
    process = subprocess.Popen(command, cwd=repo.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        ready, _, _ = select.select([ours], [], [], 60)
        try:
            data = os.read(ours, 65536) if ready else b""
        except OSError:  # the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(ours)
    assert process.wait(60) == 0, shown
    return shown.decode()


@pytest.fixture
def built(repo):
    repo.function("orders", repo.wheel("common"))
    repo.configure("orders", settings="")
    repo.build()
    return repo


def test_a_terminal_has_colours_and_a_pipe_has_none(built):
    (built.folder / "orders" / "more.py").write_text("VALUE = 1\n" * 300)
    shown = on_terminal(built, "build", columns=120)
    assert "\x1b[32mbuilt" in shown
    assert re.search(r"\+\d+(\.\d)? (B|KB)", _ESCAPE.sub("", shown))
    assert "\x1b" not in on_terminal(built, "build", columns=120, NO_COLOR="1")
    assert "\x1b" not in built.run("build").stdout


def test_a_narrow_terminal_has_one_line_a_function(built):
    shown = _ESCAPE.sub("", on_terminal(built, "build", columns=36))
    lines = [line for line in shown.replace("\r", "").splitlines() if line.startswith("orders")]
    assert len(lines) == 1
    assert len(lines[0]) <= 36
    assert "zipped" in lines[0]


def test_a_pipe_has_everything(built):
    (built.folder / "orders" / "more.py").write_text("VALUE = 1\n")
    [line] = built.run("build").stdout.splitlines()
    assert re.fullmatch(
        r"orders  python3\.\d+ \S+ +[\d.]+ KB zipped +[\d.]+ KB unzipped  built  verified  \+[\d.]+ (B|KB)  [\d.]+ s  "
        r"dist/orders\.zip",
        line,
    )
    [line] = built.run("build").stdout.splitlines()
    assert "unchanged  verified  dist/orders.zip" in line


def test_github_shows_warnings_and_errors_where_they_belong(built, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    (built.folder / "orders" / ".env").write_text("A=1\n")
    told = built.run("build").stderr
    assert "::warning title=lpack::orders packs .env" in told
    built.configure("orders", settings='budget = { zip = "1 KB" }')
    told = built.run("check", status=3).stderr
    assert re.search(r"^::error title=lpack::orders takes [^\n]*%0ALargest, unzipped: [^\n]*%0A", told, re.MULTILINE)
    assert "error: " not in told
