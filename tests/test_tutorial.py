"""The tutorial of the documentation, followed to the letter on a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from msgspec import Struct, field

_ROOT = Path(__file__).resolve().parent.parent
_TEXT = (_ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"(?P<before>(?:(?!```)[^\n]*\n)*?)```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_OF_THE_REPOSITORY = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "__pycache__", ".*_cache", ".hypothesis", "node_modules"
)
_OVER_A_BUDGET = 3


class Reader(Struct):
    """Somebody who follows the tutorial: types commands into one shell, and edits lpack.toml as the page says."""

    folder: Path
    configuration: Path
    status: int = 0
    shown: list[str] = field(default_factory=list)

    def follow(self, step: int) -> str:
        """Do all that a step says, in its order; return what the commands have shown."""
        self.shown.clear()
        for found in _BLOCK.finditer(_TEXT.split("\n## ")[step]):
            if found["kind"] == "sh":
                self._type(found["text"])
            else:
                assert found["kind"] == "toml"
                self._edit(found["before"], found["text"])
        return "".join(self.shown)

    def _type(self, commands: str) -> None:
        """Run commands as in the shell of the commands before: in its folder, and with what it has activated."""
        where = self.folder.parent / "where"
        bin_folder = self.folder / ".venv" / "bin"
        path = os.pathsep.join((*([str(bin_folder)] if bin_folder.is_dir() else []), str(Path(sys.executable).parent)))
        script = f"set -e\ntrap 'pwd >\"{where}\"' EXIT\n{commands}"
        cwd = where.read_text().rstrip("\n") if where.is_file() else self.folder
        environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
        finished = subprocess.run(["bash", "-c", script], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        self.status = finished.returncode
        assert self.status in (0, _OVER_A_BUDGET), (commands, finished.stdout, finished.stderr)
        self.shown.append(finished.stdout + finished.stderr)

    def _edit(self, instruction: str, text: str) -> None:
        """Edit lpack.toml as the words before a block say; it must be valid TOML at every moment."""
        lines = self.configuration.read_text(encoding="utf-8").splitlines(keepends=True)
        if "Replace the last line of lpack.toml" in instruction:
            assert lines[-1].partition("=")[0] == text.partition("=")[0]
            lines[-1] = text
        else:
            assert "Add as the first line of lpack.toml" in instruction
            lines.insert(0, text)
        whole = "".join(lines)
        tomllib.loads(whole)
        self.configuration.write_text(whole, encoding="utf-8")


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    folder = tmp_path / "lpack"
    shutil.copytree(_ROOT, folder, ignore=_NOT_OF_THE_REPOSITORY)
    return Reader(folder=folder, configuration=folder / "fixtures" / "sample" / "lpack.toml")


def test_every_edit_leaves_a_valid_configuration(tmp_path):
    configuration = tmp_path / "lpack.toml"
    shutil.copy(_ROOT / "fixtures" / "sample" / "lpack.toml", configuration)
    reader = Reader(folder=tmp_path, configuration=configuration)
    budgets = []
    for found in _BLOCK.finditer(_TEXT):
        if found["kind"] == "toml":
            reader._edit(found["before"], found["text"])
            budgets.append(tomllib.loads(configuration.read_text())["functions"]["orders"]["budget"]["zip"])
    assert budgets == ["2 MB", "5 MB", "5 MB"]
    assert tomllib.loads(configuration.read_text())["layers"] == "auto"


@pytest.mark.network
@pytest.mark.slow
def test_every_step_does_what_the_tutorial_says(reader):
    sample = reader.folder / "fixtures" / "sample"
    shown = reader.follow(1)
    assert all((sample / "dist" / f"{name}.zip").is_file() and name in shown for name in ("hello", "orders"))
    reader.follow(2)
    again, changed = reader.shown
    assert again.count("unchanged") == 2
    assert re.search(r"^hello .* built ", changed, re.MULTILINE)
    assert re.search(r"^orders .* unchanged ", changed, re.MULTILINE)
    assert "idna" in reader.follow(3)
    assert (sample / "dist" / "lpack-report.html").is_file()
    assert all((sample / "dist" / name).is_file() for name in ("orders.cdx.json", "lpack.json"))
    shown = reader.follow(4)
    assert reader.status == _OVER_A_BUDGET
    assert "What would help" in shown
    reader.follow(5)
    assert reader.status == 0
    assert all((sample / f"pylock.{name}.toml").is_file() for name in ("hello", "orders"))
    reader.follow(6)
    assert reader.status == 0
    assert list((sample / "dist" / "layers").glob("*.zip"))
    for hook in ("lpack lock --check", "lpack check"):  # what the seventh step has pre-commit run
        reader._type(hook)
        assert reader.status == 0, reader.shown
