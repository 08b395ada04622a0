"""Folders of a process's own: they go with the process, and those of killed ones with the next that makes one beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builders.leftovers import OwnFolder, _sweep

SCRIPT = """\
import sys
from pathlib import Path
from builders.leftovers import OwnFolder
made = OwnFolder(Path(sys.argv[1]))
print(made.path, flush=True)
input()
"""


@contextmanager
def folder_of_another(parent: Path) -> Iterator[Path]:
    """Give the folder of another process, which is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield Path(process.stdout.readline().strip())
        process.kill()


def test_what_killed_processes_have_left_is_removed_and_nothing_else(tmp_path: Path):
    with folder_of_another(tmp_path) as left:
        (left / "file").touch()
    with folder_of_another(tmp_path) as used:
        others = [tmp_path / "lpack-project", tmp_path / ".lpack-run-project", tmp_path / "other"]
        for each in others:
            each.mkdir()
        for each in (left, used, *others):
            os.utime(each, (1, 1))
        young = tmp_path / ".lpack-run-00000000"
        young.mkdir()
        _sweep.cache_clear()
        own = OwnFolder(tmp_path)
        assert set(tmp_path.iterdir()) == {used, *others, young, own.path}
        own.close()
        own.close()
        assert not own.path.exists()
