"""The tutorial of the documentation, step by step, on the sample project."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_TEXT = (_ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def commands(step: int) -> list[list[str]]:
    """Give the lpack commands of a step."""
    part = _TEXT.split("\n## ")[step]
    return [line.split("#")[0].split()[1:] for line in re.findall(r"^    (lpack .*)$", part, re.MULTILINE)]


@pytest.mark.network
@pytest.mark.slow
def test_every_step_does_what_the_tutorial_says(tmp_path):
    shutil.copytree(_ROOT / "fixtures" / "sample", tmp_path / "fixtures" / "sample", ignore=shutil.ignore_patterns("dist"))
    sample = tmp_path / "fixtures" / "sample"

    def run(arguments: list[str], cwd: Path, status: int = 0) -> str:
        finished = subprocess.run(
            [sys.executable, "-m", "packer.cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False
        )
        assert finished.returncode == status, (arguments, finished.stdout, finished.stderr)
        return finished.stdout + finished.stderr

    configuration = sample / "lpack.toml"
    assert "hello" in "".join(run(each, tmp_path) for each in commands(1))
    assert "unchanged" in "".join(run(each, tmp_path) for each in commands(2))
    told = [run(each, sample) for each in commands(3)]
    assert "idna" in told[1]
    assert (sample / "dist" / "lpack-report.html").is_file()
    text = configuration.read_text()
    budget = '[functions.orders]\nbudget = { zip = "2 MB" }\n'
    configuration.write_text(re.sub(r"^budget.*\n", "", text, flags=re.MULTILINE).replace("[functions.orders]\n", budget))
    assert "What would help" in "".join(run(each, sample, 3) for each in commands(4) if each == ["check"])
    configuration.write_text(configuration.read_text().replace('"2 MB"', '"5 MB"'))
    for each in commands(5):
        run(each, sample)
    assert (sample / "pylock.orders.toml").is_file()
    configuration.write_text('layers = "auto"\n' + configuration.read_text())
    more = (sample / "hello" / "requirements.txt").read_text()
    (sample / "orders" / "requirements.txt").write_text((sample / "orders" / "requirements.txt").read_text() + more)
    for each in commands(6):
        if "--template" not in each:
            run(each, sample)
    assert list((sample / "dist" / "layers").glob("*.zip"))
