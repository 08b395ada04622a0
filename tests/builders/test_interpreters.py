"""Finding interpreters: only what really runs, and is what its name says, is taken."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from builders.interpreters import find_interpreter

MINOR = 97  # no CPython has it: whatever is found is what a test has put there


@pytest.fixture(autouse=True)
def _anew(monkeypatch, tmp_path):
    find_interpreter.cache_clear()
    for name in ("PYENV_ROOT", "XDG_DATA_HOME", "UV_PYTHON_INSTALL_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    yield
    find_interpreter.cache_clear()


def write(path: Path, minor: int = MINOR, *, patch: int = 1, include: str = "", **others: str) -> Path:
    """Write a program that answers as an interpreter of this kind would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    answer: dict[str, Any] = {
        "implementation": "cpython",
        "flags": "",
        "level": "final",
        "executable": str(path),
        "prefix": "/usr",
    }
    answer |= {"version": [3, minor, patch], "include": include, **others}
    path.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    path.chmod(0o755)
    return path


def test_the_running_interpreter_is_found():
    found = find_interpreter(sys.version_info[1])
    assert found is not None
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.include is None or (found.include / "Python.h").is_file()


def test_no_interpreter_is_found_where_none_exists():
    assert find_interpreter(MINOR) is None


def test_a_shim_that_fails_is_passed_over(tmp_path):
    shim = tmp_path / "bin" / f"python3.{MINOR}"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\necho 'pyenv: version not set' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert find_interpreter(MINOR) is None
    find_interpreter.cache_clear()
    real = write(tmp_path / "PYENV_ROOT" / "versions" / f"3.{MINOR}.4" / "bin" / f"python3.{MINOR}", patch=4)
    found = find_interpreter(MINOR)
    assert found is not None
    assert (found.path, found.version) == (real, f"3.{MINOR}.4")


def test_a_shim_is_not_run_where_pyenv_has_one_itself(tmp_path, monkeypatch):
    shim = tmp_path / "PYENV_ROOT" / "shims" / f"python3.{MINOR}"
    shim.parent.mkdir(parents=True)
    shim.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}{os.environ['PATH']}")
    headers = tmp_path / "include"
    real = write(tmp_path / "PYENV_ROOT" / "versions" / f"3.{MINOR}.4" / "bin" / f"python3.{MINOR}", include=str(headers))
    found = find_interpreter(MINOR)
    assert found is not None
    assert found.path == real
    assert not (tmp_path / "was-run").exists()


def test_the_newest_patch_release_is_taken(tmp_path):
    for patch in (2, 10, 9):
        write(tmp_path / "PYENV_ROOT" / "versions" / f"3.{MINOR}.{patch}" / "bin" / f"python3.{MINOR}", patch=patch)
    found = find_interpreter(MINOR)
    assert found is not None
    assert found.version == f"3.{MINOR}.10"


def test_one_with_headers_goes_before_one_without(tmp_path):
    write(tmp_path / "bin" / f"python3.{MINOR}")
    headers = tmp_path / "include"
    managed = tmp_path / "UV_PYTHON_INSTALL_DIR" / f"cpython-3.{MINOR}.1-linux" / "bin" / f"python3.{MINOR}"
    write(managed, include=str(headers))
    found = find_interpreter(MINOR)
    assert found is not None
    assert (found.path, found.include) == (managed, headers)


@pytest.mark.parametrize(
    "wrong", [{"minor": 96}, {"implementation": "pypy"}, {"flags": "t"}, {"flags": "d"}, {"level": "beta"}]
)
def test_another_kind_of_python_is_not_taken(tmp_path, wrong):
    write(tmp_path / "bin" / f"python3.{MINOR}", **wrong)
    assert find_interpreter(MINOR) is None


@pytest.mark.parametrize("said", ["7", "[]", "", "no such version"])
def test_what_a_shim_prints_is_not_taken_for_an_answer(tmp_path, monkeypatch, said):
    shim = tmp_path / "shims" / f"python3.{MINOR}"
    shim.parent.mkdir()
    shim.write_text(f"#!/bin/sh\necho '{said}'\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}{tmp_path / 'bin'}")
    assert find_interpreter(MINOR) is None
    find_interpreter.cache_clear()
    behind = write(tmp_path / "bin" / f"python3.{MINOR}")
    found = find_interpreter(MINOR)
    assert found is not None
    assert found.path == behind


def test_an_interpreter_is_where_it_says_it_is(tmp_path):
    real = tmp_path / "real" / "python"
    write(tmp_path / "bin" / f"python3.{MINOR}", executable=str(real))
    found = find_interpreter(MINOR)
    assert found is not None
    assert found.path == real


def test_a_user_without_a_home_has_no_interpreters_there(monkeypatch):
    for name in ("HOME", "PYENV_ROOT", "XDG_DATA_HOME", "UV_PYTHON_INSTALL_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert find_interpreter(MINOR) is None


def test_folders_on_path_that_cannot_be_looked_into_are_passed_over(monkeypatch):
    monkeypatch.setenv("PATH", f"/{'x' * 300}:{Path(sys.executable).parent}")
    assert find_interpreter(sys.version_info.minor) is not None
    assert find_interpreter(99) is None
