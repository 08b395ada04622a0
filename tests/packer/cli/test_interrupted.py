"""Ctrl-C, a polite kill, a closed terminal while containers run: lpack ends soon, and leaves no container and no half file."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.builders.engine.test_container_builder import sdist
from tests.engine import BUILD_IMAGE, left_behind, need_engine

pytestmark = pytest.mark.docker

# Whoever runs the tests in the background has signals ignored, and so would have everything that they start.
MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
MAIN += "signal.signal(signal.SIGHUP, signal.SIG_DFL); from packer.cli import main; main()"


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, cache, index, kind, status):
    need_engine(BUILD_IMAGE)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "app.py").write_text("def handler(event, context):\n    return event\n")
    source = sdist(tmp_path, "print('begun', flush=True)\nimport time; time.sleep(600)")
    (tmp_path / "app" / "requirements.txt").write_text(f"{source}\n")
    (tmp_path / "lpack.toml").write_text(
        f'runtime = "python3.11"\nglibc = "2.36"\nimage = "{BUILD_IMAGE}"\nbuilder = "container"\n'
        '[functions.one]\nsource = "app"\nhandler = "app.handler"\n'
    )
    log = tmp_path / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-c", MAIN, "build", "-v"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while "begun" not in log.read_text() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        assert "begun" in log.read_text()
        assert left_behind()
        process.send_signal(kind)
        assert process.wait(20) == status
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()
    assert left_behind() == []
    assert not (tmp_path / "dist" / "one.zip").exists()
    assert not list((cache / "tmp").iterdir())
