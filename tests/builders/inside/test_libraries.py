"""What a Python of this machine needs, as the loader tells it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from builders.inside.libraries import needed, resolve

PYTHON = str(Path(sys.executable).resolve())


def module_with_a_library() -> tuple[Path, set[str]]:
    """Return an extension module of this Python, and the libraries that it needs and the interpreter does not."""
    known = resolve(PYTHON, "", [], []).keys()
    for path in sorted(Path(os.__file__).with_name("lib-dynload").glob("*.so")):
        more = {*needed(str(path))} - known
        if more:
            return path, more
    pytest.skip("needs a Python whose extension modules do not have all libraries built in")


def test_modules_are_found_in_a_folder_whose_name_the_loader_would_split(tmp_path: Path):
    folder = tmp_path / "my python:3 "
    folder.mkdir()
    module, libraries = module_with_a_library()
    shutil.copy(module, folder)
    found = resolve(PYTHON, str(folder), [module.name], [])
    assert libraries <= found.keys()
