"""What a Python of this machine needs, as the loader tells it."""

from __future__ import annotations

import _ssl
import shutil
import sys
from pathlib import Path

from builders.inside.libraries import needed, resolve


def test_modules_are_found_in_a_folder_whose_name_the_loader_would_split(tmp_path: Path):
    folder = tmp_path / "my python:3 "
    folder.mkdir()
    module = Path(shutil.copy(_ssl.__file__, folder))
    found = resolve(str(Path(sys.executable).resolve()), str(folder), [module.name], [])
    assert {name for name in needed(str(module)) if name.startswith("libssl")} <= found.keys()
