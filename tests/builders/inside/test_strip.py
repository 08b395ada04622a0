"""Stripping by a program that only stands for eu-strip: what comes of each file, whatever it does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from builders.errors import BuildError, UnavailableError
from builders.host.strip import HostStrip, SandboxStrip, StripRefusal
from builders.inside.strip import main
from builders.sandbox.task import Sandbox, Task, TaskResult
from tests.probing import refuse_namespaces

EU_STRIP = """\
#!/usr/bin/env python3
import pathlib, sys
if "--version" in sys.argv:
    print("eu-strip 1")
    sys.exit()
data = pathlib.Path(sys.argv[3]).read_bytes()
if data != b"leaves nothing":
    pathlib.Path(sys.argv[2]).write_bytes(data + b" stripped")
"""


@pytest.fixture(autouse=True)
def _eu_strip(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "eu-strip"
    program.parent.mkdir()
    program.write_text(EU_STRIP)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


class Container:
    """A place that runs the script in this process, or whose run ends in the given way."""

    identity, place, path, unconfined = "one", "the image one", None, ""
    starts_programs = has_packages = False
    libraries: frozenset[str] | None = None
    private: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, done: TaskResult | None = None) -> None:
        self._done = done

    def run(self, task: Task, work: Path) -> TaskResult:
        if self._done is not None:
            return self._done
        status = main(task.inputs, work / "answer")
        return TaskResult(status=status, log="", answer=(work / "answer").read_bytes())

    def close(self) -> None: ...


@pytest.mark.parametrize("tool", [HostStrip, lambda: SandboxStrip(Container())])
def test_file_of_which_nothing_is_left_is_not_the_one_before_it(tmp_path, tool):
    work = tmp_path / "work"
    work.mkdir()
    found = tool().strip([b"one", b"leaves nothing", b"two"], work)
    assert found == [b"one stripped", StripRefusal(reason="eu-strip wrote no file"), b"two stripped"]


LATE = TaskResult(status=-9, log="", answer=None, late=True)
KILLED = TaskResult(status=-9, log="", answer=None)
MISSING = TaskResult(status=1, log="no such file", answer=None)


@pytest.mark.parametrize(
    ("done", "kind", "said"),
    [
        (LATE, BuildError, "eu-strip did not end within 300 s in the image one"),
        (KILLED, BuildError, "eu-strip was killed by signal 9 in the image one"),
        (MISSING, UnavailableError, r"eu-strip cannot be run in the image one \(no such file\)"),
    ],
)
def test_container_that_was_stopped_is_not_one_without_the_program(tmp_path, done, kind, said):
    with pytest.raises(kind, match=said):
        SandboxStrip(Container(done)).strip([b"one"], tmp_path)


def test_where_the_machine_confines_nothing_that_is_said(tmp_path, monkeypatch):
    refuse_namespaces(monkeypatch)
    unconfined: list[Sandbox] = []
    assert HostStrip(notice=unconfined.append).strip([b"one"], tmp_path) == [b"one stripped"]
    assert [bool(each.unconfined) for each in unconfined] == [True]
