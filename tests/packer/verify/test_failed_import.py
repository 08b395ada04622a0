"""Why handlers cannot be imported, as tracebacks of Python itself tell it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from packer.core.model import OWN_SOURCE, BytesContent, Entry, Tree
from packer.verify.failed_import import Diagnosis, diagnose
from packer.verify.runner import Outcome
from tests.packer.verify.test_proof import make_material

NO_UJSON = "    raise ModuleNotFoundError(\"No module named 'ujson'\")\n"
NO_LIBRARY = "    raise OSError('libzbar.so.0: cannot open shared object file: No such file or directory')\n"


def diagnosis(code: str, files: Mapping[str, bytes] | None = None) -> Diagnosis:
    """Return the diagnosis of a module that is the function's only one, but for ``files``."""
    try:
        exec(compile(code, "/var/task/app.py", "exec"), {"__name__": "app"})  # noqa: S102
    except BaseException as raised:  # noqa: BLE001 SystemExit, too
        error = {"type": type(raised).__name__, "message": str(raised), "trace": traceback.format_exc()}
    held = {"app.py": code.encode(), **(files or {})}
    tree = Tree.of(
        [Entry(path=path, mode=0o644, content=BytesContent.of(data), owner=OWN_SOURCE) for path, data in held.items()]
    )
    return diagnose(Outcome(imported={"error": error}), replace(make_material(), parts=((OWN_SOURCE, tree),)))


AFTERWARDS = """\
except Exception:
    try:
        {}['X']
    except KeyError as error:
        raise RuntimeError('set X') from error
"""
HANDLED = """\
except Exception as error:
    try:
        raise RuntimeError('no backend') from error
    except RuntimeError:
        {}['X']
"""
RAISED_FROM_IT = "except Exception as error:\n    raise RuntimeError('no backend') from error\n"


@pytest.mark.parametrize(("error", "named"), [(NO_UJSON, "the module 'ujson'"), (NO_LIBRARY, "the library libzbar.so.0")])
@pytest.mark.parametrize(("rest", "broken"), [(RAISED_FROM_IT, True), (AFTERWARDS, False), (HANDLED, False)])
def test_what_is_absent_breaks_a_module_where_its_error_was_raised_from_that(error, named, rest, broken):
    found = diagnosis(f"try:\n{error}{rest}")
    assert (found.broken, named in found.reason) == (broken, broken)


@pytest.mark.parametrize(
    ("message", "source", "broken"),
    [
        ("Unable to find zbar shared library", "from ctypes.util import find_library\n", True),
        ("sndfile library not found", "import _cffi_backend as cffi\n", True),
        ("requests library not found", "", False),
        ("Could not load your library", "import ctypes\n", False),
        ("required libraries not found", "import ctypes\n", False),
    ],
)
def test_a_library_is_missing_where_what_looks_for_libraries_says_so(message, source, broken):
    assert diagnosis(f"if False:\n    {source or 'pass'}\nraise ImportError({message!r})\n").broken == broken


@pytest.mark.parametrize(("file", "broken"), [("lib/libzbar.so.1", True), ("share/libzbar.so.0", False)])
def test_a_library_that_the_function_has_elsewhere_is_not_said_to_be_missing(file, broken):
    assert diagnosis(f"if True:\n{NO_LIBRARY}", {file: b"\x7fELF"}).broken == broken
