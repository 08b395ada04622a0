"""What a run writes down of a handler, and of what it returns or raises."""

from __future__ import annotations

import json
import marshal
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builders.inside import read_script
from builders.sandbox.task import FLAGS
from tests.probing import write_files

LONGEST = 100


def answer(folder: Path, code: str, seconds: float = 60, **variables: str) -> dict[str, Any]:
    """Run the handler of a module with an event, and return what was written down."""
    write_files(folder, {"task/app.py": code, "probe.py": read_script("probe.py").decode()})
    request = {
        "handler": "app.handler",
        "events": [{}],
        "seconds": seconds,
        "packages": [],
        "trace": False,
        "longest": LONGEST,
        "libraries": None,
        "private": {},
    }
    (folder / "request").write_bytes(marshal.dumps(request, 2))
    command = [sys.executable, *FLAGS, *(str(folder / name) for name in ("probe.py", "request", "answer", "task")), ""]
    subprocess.run(command, env={**os.environ, **variables}, check=True)
    found: dict[str, Any] = json.loads((folder / "answer").read_bytes())
    return found


PROXY = """\
class Proxy:
    def __call__(self): pass
    def __getattr__(self, name): raise RuntimeError("working outside of request context")
    @property
    def __class__(self): raise RuntimeError("working outside of request context")

request = Proxy()
def handle(event, context): pass
"""


def test_a_handler_that_is_missing_beside_a_proxy_for_what_is_not_there_yet_is_told(tmp_path):
    error = answer(tmp_path, PROXY)["import"]["error"]
    assert (error["type"], error["names"]) == ("Runtime.HandlerNotFound", "handle")


@pytest.mark.parametrize(("end", "kind"), [("raise OSError('no network')", "OSError"), ("return 1", "Sandbox.Timedout")])
def test_a_call_that_takes_too_long_keeps_its_error(tmp_path, end, kind):
    code = f"import time\ndef handler(event, context):\n    time.sleep(0.2)\n    {end}\n"
    assert answer(tmp_path, code, 0.1)["events"][0]["error"]["type"] == kind


@pytest.mark.parametrize(("runtime", "fits"), [("python3.11", False), ("python3.13", True), ("Image", False)])
def test_variable_of_the_runtime_decides_how_many_bytes_a_letter_takes(tmp_path, runtime, fits):
    code = f"def handler(event, context):\n    return 'ä' * {LONGEST // 3}\n"
    found = answer(tmp_path, code, AWS_EXECUTION_ENV=f"AWS_Lambda_{runtime}")["events"][0]
    assert ("result" in found) == fits
