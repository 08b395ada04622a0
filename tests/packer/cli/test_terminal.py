"""Progress and messages, on a terminal and off it."""

import io
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from packer.cli.terminal import NORMAL, QUIET, VERBOSE, LineReporter
from tests.index import Fault
from tests.wheels import make_wheel


def said(verbosity: int) -> str:
    stream = io.StringIO()
    reporter = LineReporter(stream, verbosity)
    reporter.note("a note")
    reporter.warn("a warning")
    reporter.debug("a detail")
    reporter.warn("a warning")
    reporter.transfer_started("x.whl", 2_097_152)
    reporter.transfer_advanced("x.whl", 2_097_152)
    reporter.transfer_ended("x.whl")
    reporter.error("an error")
    return stream.getvalue()


def test_quiet_says_errors_alone():
    assert said(QUIET) == "error: an error\n"


def test_lines_say_each_thing_once():
    assert said(NORMAL) == "a note\nwarning: a warning\ndownloaded x.whl (2.0 MB)\nerror: an error\n"
    assert "a detail\n" in said(VERBOSE)
    assert "downloading x.whl (2.0 MB)\n" in said(VERBOSE)


def on_a_terminal(command: list[str], folder: Path, **variables: str) -> tuple[int, str]:
    """Run a command with standard error on a pseudo-terminal, and give its exit status and what it wrote there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", **variables}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=theirs, env=environment) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # Linux says so when the other side is closed
                break
            if not chunk:
                break
            written += chunk
        os.close(ours)
    return process.returncode, written.decode()


def test_downloads_are_bars_on_a_terminal(tmp_path, index, cache):
    (tmp_path / "fn").mkdir()
    (tmp_path / "fn" / "app.py").write_text("def handler(event, context): ...\n")
    (tmp_path / "fn" / "requirements.txt").write_text("slow\n")
    tag = "cp39-cp39-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_5_x86_64"
    make_wheel(index.folder, "slow", "1.0", {"slow.bin": os.urandom(300_000)}, tag=tag)
    index.fault(f"slow-1.0-{tag}.whl", Fault(drip=30_000, pause=0.25))
    command = [sys.executable, "-m", "packer.cli", "build", "--runtime", "python3.9", "fn/"]
    status, text = on_a_terminal(command, tmp_path)
    assert status == 0
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text))
    shown = [line for line in lines if re.fullmatch(r"slow 1\.0 +[━╸╺]+ +[0-9.]+/[0-9.]+ kB .+", line)]
    assert shown
    assert max(map(len, shown)) <= 80
    assert "\x1b[33mwarning: python3.9 is deprecated" in text


def test_no_color_is_honored_on_a_terminal(tmp_path, cache):
    status, text = on_a_terminal([sys.executable, "-m", "packer.cli", "build", "./nowhere"], tmp_path, NO_COLOR="1")
    assert status == 2
    assert text.startswith("error: There is no folder")
    status, text = on_a_terminal([sys.executable, "-m", "packer.cli", "build", "./nowhere"], tmp_path)
    assert text.startswith("\x1b[1;31merror")


def test_what_is_given_up_is_not_told_as_done():
    stream = io.StringIO()
    reporter = LineReporter(stream, 1)
    with suppress(ValueError), reporter.transfer("layer", 5, "upload"):
        reporter.transfer_advanced("layer", 3)
        raise ValueError
    assert "uploaded" not in stream.getvalue()
    with reporter.transfer("layer", 5, "upload"):
        reporter.transfer_advanced("layer", 5)
    assert "uploaded layer" in stream.getvalue()


def test_messages_and_output_of_others_cannot_change_what_is_shown():
    stream = io.StringIO()
    reporter = LineReporter(stream, 1)
    reporter.warn("\x1b[2J\u202ehidden")
    reporter.output("one", "\x1b[1Aabove\r\n")
    assert stream.getvalue() == "warning: \\x1b[2J\\u202ehidden\none: \\x1b[1Aabove\n"
