"""Layers for tests, as they lie merged in a folder: packages in both of Python's places, a library, and a program."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from builders.sandbox.task import LAYERS_PLACEHOLDER, TREE_PLACEHOLDER, Sandbox
from tests.native import compile_library
from tests.probing import packages_of, write_files
from tests.shaped import TRIPLE

SONAME = "liblpackfour.so.4"
VARIABLES = {
    "LD_LIBRARY_PATH": f"{TREE_PLACEHOLDER}:{TREE_PLACEHOLDER}/lib:{LAYERS_PLACEHOLDER}/lib",
    "PATH": f"/usr/local/bin:/usr/bin:/bin:{LAYERS_PLACEHOLDER}/bin",
}
OWN = {"spread/own.py": "VALUE = 'own'\n"}
"""Files of a function that has its part of a namespace package."""
IMPORT = "import shared, placed; result = [shared.VALUE, placed.VALUE]"
SPREAD = "import spread.own, spread.theirs; result = [spread.own.VALUE, spread.theirs.VALUE]"
LIBRARY = f"import ctypes; result = ctypes.CDLL({SONAME!r}).lpack_test()"
PROGRAM = "import subprocess; result = subprocess.run(['lpack-test-greet'], capture_output=True, text=True).stdout"


def lay_layers(folder: Path, python: Sandbox) -> Path:
    """Write what layers have for a Python into a new folder."""
    site, top = packages_of(python)
    files = {
        f"{top}/shared.py": "VALUE = 'shared'\ndef fail():\n    raise KeyError(__file__)\n",
        f"{site}/placed.py": "VALUE = 'placed'\n",
        f"{top}/twice.py": "VALUE = 'of python/'\n",
        f"{site}/twice.py": "VALUE = 'of site-packages'\n",
        f"{top}/neighbour.py": "VALUE = 'of a layer'\n",
        f"{top}/spread/theirs.py": "VALUE = 'theirs'\n",
        "bin/lpack-test-greet": "#!/bin/sh\necho hello\n",
    }
    write_files(folder, files)
    (folder / "bin" / "lpack-test-greet").chmod(0o755)
    (folder / "lib").mkdir()
    (folder / "lib" / SONAME).write_bytes(library())
    return folder


@cache
def library() -> bytes:
    """Compile a library that has `SONAME`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "liblpackfour.so"
        return compile_library(path, target=TRIPLE, options=(f"-Wl,-soname,{SONAME}",)).read_bytes()
