"""Runs small handlers in a target's Python, as verification does. Without pytest: another user's Python may run it, too."""

from __future__ import annotations

import json
import marshal
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builders.inside import read_script
from builders.inside.isolate import UNAVAILABLE
from builders.interpreters import find_interpreter
from builders.runtimes import RESPONSE_LIMIT, RUNTIMES
from builders.sandbox import isolation
from builders.sandbox.host_sandbox import HostSandbox
from builders.sandbox.task import Sandbox, Task, TaskResult

if TYPE_CHECKING:
    import pytest

HANDLER = """\
import os, socket, sys
import neighbour

def handler(event, context):
    space = dict(globals())
    exec(event, space)
    return space["result"]
"""
ERROR = "try:\n    {}\n    result = 'done'\nexcept OSError as error:\n    result = type(error).__name__"

ONE_USER_FOR_ALL = tuple(map(int, platform.release().split(".")[:2])) < (5, 14)
"""Whether the limit of processes is one for all functions that run, so that no test may reach it while others run."""


def host() -> HostSandbox:
    found = find_interpreter(sys.version_info.minor)
    assert found is not None
    return HostSandbox(found)


def refuse_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this machine allow no private namespaces."""
    refusal = f"import sys\nsys.exit({UNAVAILABLE})\n".encode()
    monkeypatch.setattr(isolation, "read_script", lambda name: refusal if name == "isolate.py" else read_script(name))


def is_running(mark: str) -> bool:
    """Say whether a process of this machine has a mark in its command line, in whatever namespace it is."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_text(errors="replace"):
                return True
        except OSError:
            continue
    return False


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for what has to come true; raises ``AssertionError`` where it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def write_files(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def probe(
    python: Sandbox,
    folder: Path,
    *codes: str,
    handler: str = HANDLER,
    files: Mapping[str, str] | None = None,
    trace: bool = False,
    **options: Any,
) -> TaskResult:
    """Run a handler with pieces of code as its events; ``files`` are what the function has beside the usual ones."""
    inputs, work = folder / "in", folder / "work"
    inputs.mkdir(parents=True)
    work.mkdir()
    tree = write_files(folder / "tree", {"app.py": handler, "neighbour.py": "VALUE = 1\n", "data.txt": "data", **(files or {})})
    request = {"handler": "app.handler", "events": codes, "seconds": 30.0, "packages": packages_of(python), "trace": trace}
    request["longest"] = RESPONSE_LIMIT
    request |= {"libraries": python.libraries and sorted(python.libraries), "private": dict(python.private)}
    (inputs / "request").write_bytes(marshal.dumps(request, 2))
    arguments = ("{in}/request", "{answer}", "{task}", "{late}", "{layers}")
    task = Task(script="probe.py", arguments=arguments, inputs=inputs, tree=tree, **options)
    done = python.run(task, work)
    assert isinstance(done, TaskResult)
    return done


def packages_of(python: Sandbox) -> tuple[str, ...]:
    """Give the folders of a layer that a Python imports from."""
    major, minor = python.identity.split()[0].split(".")[:2]
    return RUNTIMES[f"python{major}.{minor}"].layer_packages


def answer(done: TaskResult) -> dict[str, Any]:
    assert done.answer is not None, done.log
    found: dict[str, Any] = json.loads(done.answer)
    return found


def results(done: TaskResult) -> list[Any]:
    return [each.get("result", each) for each in answer(done)["events"]]
