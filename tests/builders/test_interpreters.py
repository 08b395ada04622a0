"""Finding interpreters: only what really runs, and is what its name says, is taken."""

from __future__ import annotations

import sys
from pathlib import Path

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


def write(
    path: Path, minor: int = MINOR, *, patch: int = 1, include: str = "", name: str = "cpython", threaded: bool = True
) -> Path:
    """Write a program that answers as an interpreter of this kind would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    answer = (
        f'{{"implementation": "{name}", "version": [3, {minor}, {patch}], "include": "{include}", '
        f'"threaded": {str(threaded).lower()}}}'
    )
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


def test_the_running_interpreter_is_found():
    found = find_interpreter(sys.version_info[1])
    assert found is not None
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.include is None or (found.include / "Python.h").is_file()


def test_nothing_is_found_where_nothing_is():
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


@pytest.mark.parametrize("wrong", [{"minor": 96}, {"name": "pypy"}, {"threaded": False}])
def test_another_kind_of_python_is_not_taken(tmp_path, wrong):
    write(tmp_path / "bin" / f"python3.{MINOR}", **wrong)
    assert find_interpreter(MINOR) is None
