"""Why modules cannot be imported, by what Python itself says of them: which would fail on Lambda too."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.sandbox.task import TaskResult
from packer.core.model import OWN_SOURCE, BytesContent, Entry, Tree
from packer.core.options import AttachedLayer, ExecutionSettings, LayerOptions, VerifyOptions
from packer.source.layer_content import LayerContent
from packer.trim.material import Material
from packer.verify.diagnosis import is_broken, remedy_for
from packer.verify.failed_import import Diagnosis, diagnose
from packer.verify.runner import Outcome, read_result
from tests.packer.verify.test_proof import make_material
from tests.packer.verify.test_runner import function
from tests.wheels import write_members

IMPORT = """\
import json, sys, traceback
sys.path[:0] = sys.argv[1:]
try:
    import app
except BaseException as error:
    print("\\0" + json.dumps({"type": type(error).__name__, "message": str(error), "trace": traceback.format_exc()}))
"""
UNKNOWN = AttachedLayer(arn="arn:aws:lambda:eu-west-1:111122223333:layer:Mine:3")


def material(files: Mapping[str, str], folder: Path, *, unknown: bool = False) -> Material:
    tree = Tree.of(
        Entry(path=path, mode=0o644, content=BytesContent.of(text.encode()), owner=OWN_SOURCE) for path, text in files.items()
    )
    layers = LayerOptions(attached=(UNKNOWN,) if unknown else ())
    own = replace(function("import"), source=folder, layers=layers)
    return Material(
        function=own, parts=((OWN_SOURCE, tree),), distributions=(), scans={}, native={}, profile=None, services=None
    )


def diagnosed(
    folder: Path, files: Mapping[str, str], layer: Mapping[str, str] | None = None, *, unknown: bool = False
) -> Diagnosis:
    """Import the module ``app`` of these files, with those of a layer, and return why that fails."""
    task, opt = folder / "task", folder / "opt"
    for place, path, text in [(task, *each) for each in files.items()] + [(opt, *each) for each in (layer or {}).items()]:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    paths = [str(task), str(opt / "python")]
    done = subprocess.run([sys.executable, "-c", IMPORT, *paths], cwd=task, capture_output=True, text=True, check=True)
    said = done.stdout.partition("\0")[2].replace(str(task), "/var/task").replace(str(opt), "/opt")
    contents = []
    if layer is not None:
        write_members(folder / "layer.zip", {path: text.encode() for path, text in layer.items()})
        contents = [
            LayerContent(label="l", archive=folder / "layer.zip", paths=tuple(layer), size=1, digest="0" * 64, watched=())
        ]
    outcome = Outcome(imported={"error": json.loads(said)})
    return diagnose(outcome, material(files, folder / "source", unknown=unknown), "", contents, exact=True)


CERTAIN: dict[str, dict[str, str]] = {
    "an exit": {"app.py": "import sys\nsys.exit(3)\n"},
    "an exit beside variables": {"app.py": "import os, sys\nSTAGE = os.environ.get('STAGE')\nsys.exit(3)\n"},
    "an exit in a function": {"app.py": "import tool\ntool.quit()\n", "tool.py": "def quit():\n    raise SystemExit\n"},
    "an exit for an absent file": {
        "app.py": "import sys\ntry:\n    open('a.csv')\nexcept OSError:\n    sys.exit('no a.csv')\n"
    },
    "a name": {"app.py": "import os\nSTAGE = os.environ.get('STAGE')\nTABLE = prefix + 'orders'\n"},
    "a name that is only added to": {"app.py": "COUNT = 0\ndef count():\n    COUNT += 1\ncount()\n"},
    "a file": {"app.py": "open('cities.csv')\n"},
    "metadata": {"app.py": "from importlib.metadata import version\nversion('acme')\n"},
    "an absent module for another": {"app.py": "try:\n    import acme_a\nexcept ImportError:\n    import acme_b\n"},
}


@pytest.mark.parametrize("files", CERTAIN.values(), ids=CERTAIN)
def test_what_nothing_on_lambda_can_change_is_broken(tmp_path, files):
    assert diagnosed(tmp_path, files).broken


CONNECT = "import socket, sys\ntry:\n    socket.create_connection(('127.0.0.1', 1), 1)\nexcept OSError"
OPEN: dict[str, dict[str, str]] = {
    "an exit without a network": {"app.py": f"{CONNECT}:\n    sys.exit('no config')\n"},
    "an exit that hides the network": {"app.py": f"{CONNECT}:\n    raise SystemExit(1) from None\n"},
    "a name where there is no network": {"app.py": f"{CONNECT} as error:\n    log(error)\n"},
    "a module where a variable is not set": {
        "app.py": "import os\ntry:\n    os.environ['A_']\nexcept KeyError:\n    import acme\n"
    },
    "a module that a variable asks for": {
        "app.py": "import os\nif os.environ.get('DEBUG', '1') == '1':\n    import acme_debug\n"
    },
    "an exit after another error": {"app.py": "import sys\ntry:\n    int('x')\nexcept ValueError:\n    sys.exit('no x')\n"},
    "an exit by another module's variable": {
        "app.py": "import sys, settings\nif not settings.TABLE:\n    sys.exit('no TABLE')\n",
        "settings.py": "import os\nTABLE = os.environ.get('TABLE')\n",
    },
    "a suppressed binding": {
        "app.py": "from contextlib import suppress\nwith suppress(ValueError):\n    name = int('x')\nname\n"
    },
    "a walrus": {"app.py": "False and (name := 1)\nname\n"},
    "a star": {
        "app.py": "try:\n    int('x')\n    from tool import *\nexcept ValueError:\n    pass\nname\n",
        "tool.py": "name = 1\n",
    },
    "globals": {"app.py": "import sys\nif len(sys.argv) > 9:\n    globals()['name'] = 1\nname\n"},
    "a deletion": {"app.py": "name = 1\nif len([1]) == 1:\n    del name\nname\n"},
    "a global": {"app.py": "def bind():\n    global name\n    name = 1\nif len([]):\n    bind()\nname\n"},
    "a loop's error": {"app.py": "for _ in []:\n    name = 1\nname\n"},
    "a text": {"app.py": "import os\neval(os.environ.get('DEBUG_', 'true'))\n"},
    "a text of no variable": {"app.py": "import json\neval(json.loads('\"true\"'))\n"},
    "a builtin": {"app.py": "_('a')\n", "main.py": "import gettext\ngettext.install('one')\n"},
    "a name by a variable": {"app.py": "import os\nif os.environ.get('STAGE_') is None:\n    mock_everything()\n"},
    "a file that another module names": {
        "app.py": "import settings\nopen(settings.CITIES)\n",
        "settings.py": "import os\nCITIES = os.environ.get('CITIES_', 'cities.csv')\n",
    },
    "a packed script": {
        "app.py": "import subprocess, os\nos.chmod('/'.join(__file__.split('/')[:-1] + ['run']), 0o755)\n"
        "subprocess.run([__file__[:-6] + 'run'])\n",
        "run": "#!/nowhere/bin/perl\n",
    },
}


@pytest.mark.parametrize("files", OPEN.values(), ids=OPEN)
def test_what_a_deployment_may_change_is_not_broken(tmp_path, files):
    found = diagnosed(tmp_path, files)
    assert (found.broken, found.cause) == (False, "deployment")


def test_what_an_unknown_layer_may_change_is_not_broken(tmp_path):
    for number, source in enumerate(
        ("import sys\nsys.exit(1)\n", "try:\n    int('x')\n    name = 1\nexcept ValueError:\n    name\n")
    ):
        found = diagnosed(tmp_path / str(number), {"app.py": source}, unknown=True)
        assert (found.broken, found.cause) == (False, "layer")


@pytest.mark.parametrize(
    ("app", "tool"),
    [
        ("import tool\nopen(tool.CITIES)\n", "import os\nCITIES = os.environ.get('CITIES_', 'cities.csv')\n"),
        ("import tool\n", "import os, sys\nif not os.environ.get('TABLE_'):\n    sys.exit('no TABLE')\n"),
        ("import tool\n", "if len([]):\n    name = 1\nname\n"),
    ],
)
def test_a_known_layer_may_read_variables_too(tmp_path, app, tool):
    assert not diagnosed(tmp_path, {"app.py": app}, {"python/tool.py": tool}).broken


def test_a_file_that_is_left_out_may_be_named_by_a_variable(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.csv").write_text("")
    assert diagnosed(tmp_path, {"app.py": "open('a.csv')\n"}).broken
    found = diagnosed(tmp_path, {"app.py": "import os\nopen(os.environ.get('A_', 'a.csv'))\n"})
    assert not found.broken
    assert "a line !a.csv in .lpackignore" in found.remedy


@pytest.mark.parametrize(
    "source",
    [
        "import logging\nlogging.FileHandler('logs/app.log')\n",
        "open('logs/app.log', 'a')\n",
        "open('logs/app.log', mode='wb')\n",
        "import pathlib\npathlib.Path('logs/a').write_text('')\n",
        "import os\nos.mkdir('logs/a')\n",
    ],
)
def test_what_is_to_be_written_in_no_folder_belongs_below_tmp(tmp_path, source):
    (tmp_path / "source" / "logs").mkdir(parents=True)
    (tmp_path / "source" / "logs" / "app.log").write_text("")
    found = diagnosed(tmp_path, {"app.py": source})
    assert (found.broken, found.remedy) == (True, "Write below /tmp.")


ENDS = {
    "at the top": ("import os\nos._exit(0)\n", True),
    "in a module of its own": ("import tool\n", True),
    "after an error": ("import os\ntry:\n    int('x')\nexcept ValueError:\n    os._exit(1)\n", False),
    "beside variables": ("import os\nSTAGE = os.environ.get('STAGE')\nos._exit(1)\n", False),
    "in a library": ("import json\n", False),
}


@pytest.mark.parametrize(("source", "broken"), ENDS.values(), ids=ENDS)
def test_an_exit_at_once_is_broken_where_nothing_decides_it(tmp_path, source, broken):
    files = {"app.py": source, "tool.py": "from os import _exit\n_exit(3)\n"}
    outcome = Outcome(failure="the interpreter ended with status 1", status=1)
    assert diagnose(outcome, material(files, tmp_path), exact=True).broken == broken
    found = diagnose(outcome, material(files, tmp_path, unknown=True), exact=True)
    assert (found.broken, found.cause) == (False, "layer")


@pytest.mark.parametrize(("number", "name", "broken"), [(11, "SIGSEGV", True), (6, "SIGABRT", False), (4, "SIGILL", False)])
def test_a_fault_of_native_code_is_broken_and_a_check_that_fails_is_not(tmp_path, number, name, broken):
    outcome = Outcome(failure=f"the interpreter ended with signal {number}", status=-number)
    found = diagnose(outcome, material({"app.py": ""}, tmp_path), exact=True)
    assert (found.broken, found.reason) == (broken, f"the interpreter ended with signal {number} ({name})")


@pytest.mark.parametrize(("seconds", "limit"), [(3, ""), (120, "timeout")])
def test_being_stopped_earlier_than_the_timeout_allows_is_no_fault(seconds, limit):
    slow = replace(function(), execution=ExecutionSettings(timeout=30), verify=VerifyOptions(seconds=seconds))
    found, _ = read_result(TaskResult(status=-9, log="", answer=b'{"reached": 0}', late=True), slow, 1)
    assert (found.limit, found.late) == (limit, not limit)


@pytest.mark.parametrize("done", [{"memory": 1 << 30}, {"late": True, "answer": b'{"reached": 0}'}])
def test_time_and_memory_of_an_emulated_processor_are_no_faults(tmp_path, monkeypatch, done):
    machine = "x86_64" if function().target.architecture == "arm64" else "aarch64"
    monkeypatch.setattr("platform.machine", lambda: machine)
    one = replace(function(), execution=ExecutionSettings(timeout=3, memory=128))
    found, _ = read_result(TaskResult(**{"status": -9, "log": "", "answer": None, **done}), one, 1)
    assert (found.emulated, is_broken(found)) == (True, False)
    assert "build on a machine of its architecture" in remedy_for(found)
    judged = diagnose(found, material({"app.py": ""}, tmp_path))
    assert (judged.broken, judged.cause) == (False, "interpreter")


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
