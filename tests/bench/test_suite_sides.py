from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.measure import CommandFailedError
from bench.suite_runs import Surroundings
from bench.suite_sides import check_origin, copy_tests, put_back
from bench.suites import Suite

_SUITE = Suite(requirement="one[more]==1.0", modules=("one.part",), tests=("tests",), within=("one/tests", "one/conftest.py"))


def _write(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def test_tests_are_copied_with_what_configures_them(tmp_path: Path):
    source = _write(tmp_path / "one-1.0", "tests/test_a.py", "tests/data/a.txt", "pyproject.toml", "src/one/__init__.py")
    copy_tests(_SUITE, source, tmp_path / "copy")
    copied = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert copied == {"tests/test_a.py", "tests/data/a.txt", "pyproject.toml"}


def test_tests_that_the_sdist_lacks_are_an_error(tmp_path: Path):
    with pytest.raises(CommandFailedError, match=r"sdist of one==1\.0 has no tests"):
        copy_tests(_SUITE, tmp_path, tmp_path / "copy")


def test_only_missing_test_files_are_put_back(tmp_path: Path):
    source = _write(
        tmp_path / "s", "src/one/tests/test_a.py", "src/one/tests/__init__.py", "src/one/conftest.py", "src/one/b.py"
    )
    side = _write(tmp_path / "side", "one/__init__.py", "one/tests/__init__.py")
    assert put_back(_SUITE, source, side) == ("one/tests/test_a.py", "one/conftest.py")
    assert not (side / "one" / "b.py").exists()
    assert put_back(_SUITE, source, side) == ()


def test_module_from_elsewhere_is_an_error(tmp_path: Path):
    side, tools = _write(tmp_path / "side", "one/__init__.py"), _write(tmp_path / "tools", "two/__init__.py")
    where = Surroundings(python=Path(sys.executable), path=(side, tools), folder=tmp_path, home=tmp_path)
    check_origin(_SUITE, where)
    for module in ("two", "json", "nowhere"):
        with pytest.raises(CommandFailedError, match="not imported from"):
            check_origin(Suite(requirement="two==1", modules=(module,)), where)
