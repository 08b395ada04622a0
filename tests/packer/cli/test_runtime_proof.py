"""Functions are compiled, proved and measured in the file system of their runtime, which was pulled from a real registry."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders.rootfs.emulation import is_emulated
from builders.sandbox.emulator import VARIABLE
from tests.emulator import find_sams_emulator
from tests.engine import ARM_IMAGE, RUNTIME_312_IMAGE
from tests.runtimes import configuration, shared_runtime

pytestmark = [
    pytest.mark.docker,  # stand-ins are made by one; nothing else here uses it
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the stand-in is for x86_64"),
]
TARGET = 'runtime = "python3.12"\narch = "x86_64"\nglibc = "2.36"'
NO_ENGINE = "unix:///nowhere/docker.sock"


@pytest.fixture
def runtime(shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the name of a pulled runtime of python3.12, which lies in the cache of the test; there is no engine any more."""
    return _shared(shared_folder, monkeypatch, RUNTIME_312_IMAGE, TARGET)


def _shared(shared_folder: Path, monkeypatch: pytest.MonkeyPatch, image: str, more: str) -> str:
    name, cache = shared_runtime(shared_folder, image, more)
    monkeypatch.setenv("LPACK_CACHE_DIR", str(cache))
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINE)
    return name


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes a project of one function, with an event and what comes of it."""

    def make(name: str, source: str, expected: Any = None, more: str = TARGET, verify: str = "") -> Path:
        folder = tmp_path / "project"
        (folder / "events").mkdir(parents=True)
        (folder / "app.py").write_text(source)
        (folder / "events/one.json").write_text("{}")
        if expected is not None:
            (folder / "events/one.expected.json").write_text(json.dumps(expected))
        keys = f'ignore = ["events/"]\nverify = {{ events = ["events/*.json"]{verify} }}'
        (folder / "lpack.toml").write_text(configuration(name, f"{more}\n{keys}"))
        return folder

    return make


SEES = """\
import _multiprocessing, ctypes, multiprocessing, os, sys
import boto3, dateutil, urllib3

def loads(name):
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True

def writes(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.errno
    return 0

def locks(make):
    try:
        make()
    except OSError as error:
        return error.errno
    return 0

def handler(event, context):
    return {
        "locks": [locks(multiprocessing.Lock), locks(lambda: _multiprocessing.SemLock(1, 1, 1, name="/joblib", unlink=True))],
        "executable": sys.executable,
        "boto3": os.path.dirname(boto3.__file__),
        "libraries": {name: loads(name) for name in ("libz.so.1", "libexpat.so.1", "libgomp.so.1")},
        "writes": [writes("/var/lang/lib/python3.12/os.py"), writes("/var/new"), writes("/tmp/new")],
        "home": os.environ.get("HOME"),
        "system": [line for line in open("/etc/os-release") if line.startswith("ID=")],
        "programs": [name for name in ("gcc", "git", "python3.12") if os.path.exists("/usr/bin/" + name)],
    }
"""
SEEN = {
    "locks": [38, 38],
    "executable": "/var/lang/bin/python3.12",
    "boto3": "/var/lang/lib/python3.12/site-packages/boto3",
    "libraries": {"libz.so.1": True, "libexpat.so.1": False, "libgomp.so.1": False},
    "writes": [30, 30, 0],
    "home": None,
    "system": ["ID=debian\n"],
    "programs": [],
}


def read_function(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "dist/lpack.json").read_text())["functions"]["one"]
    return found


def test_function_sees_the_python_the_libraries_and_the_packages_of_the_runtime_alone(runtime, write, lpack):
    folder = write(runtime, SEES, SEEN)
    built = lpack("build", cwd=folder)
    assert built.returncode == 0, built.stderr
    function = read_function(folder)
    assert function["verified"]["by"] == f"Python 3.12.1 of {runtime}"
    assert function["bytecode"]["python"].startswith("3.12.1 of sha256:")
    assert "would be exact" not in built.stderr


def test_crash_of_native_code_in_the_runtimes_own_files_ends_the_build(runtime, write, lpack):
    folder = write(runtime, "import ctypes\nctypes.string_at(0)\n\ndef handler(event, context):\n    return 1\n")
    built = lpack("build", cwd=folder)
    assert built.returncode == 4
    assert "the interpreter ended with signal 11 (SIGSEGV)." in built.stderr
    assert "Choose another version of the distribution whose native code does that" in built.stderr


def test_profile_and_starts_are_measured_in_it(runtime, write, lpack, monkeypatch):
    monkeypatch.setenv(VARIABLE, "/nowhere")
    folder = write(runtime, "import boto3\n\ndef handler(event, context):\n    return 1\n", 1)
    profiled = lpack("profile", cwd=folder)
    assert profiled.returncode == 0, profiled.stderr
    assert 'runtime = "python3.12"' in (folder / "lpack-profile.one.toml").read_text()
    measured = lpack("coldstart", "--rounds", "1", "--json", cwd=folder)
    assert measured.returncode == 0, measured.stderr
    modules = json.loads(measured.stdout)["functions"]["one"]["imports"]
    assert "boto3" in {each["module"] for each in modules}


def test_emulator_runs_it_with_the_client_of_the_runtime(runtime, write, lpack, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(find_sams_emulator()))
    source = "import awslambdaric, os\n\ndef handler(event, context):\n    return os.path.dirname(awslambdaric.__file__)\n"
    folder = write(runtime, source, "/var/lang/lib/python3.12/site-packages/awslambdaric", verify=', level = "rie"')
    built = lpack("build", cwd=folder)
    assert built.returncode == 0, built.stderr
    assert read_function(folder)["verified"]["level"] == "rie"
    (folder / "app.py").write_text("def handler(event, context):\n    return 7_000_000 * 'x'\n")
    large = lpack("build", cwd=folder)
    assert large.returncode == 4
    assert "and Lambda takes results of at most 6,291,556 bytes." in large.stderr


def test_runtime_that_was_not_pulled_is_told_of_once_with_what_brings_it(tmp_path, write, lpack, cache, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINE)
    folder = write("127.0.0.1:9/absent/image:1", "def handler(event, context):\n    return 1\n", 1)
    text = (folder / "lpack.toml").read_text()
    (folder / "lpack.toml").write_text(text + '[functions.two]\nsource = "."\nhandler = "app.handler"\n')
    built = lpack("build", cwd=folder)
    assert built.returncode == 0, built.stderr
    [line] = [line for line in built.stderr.splitlines() if "runtime pull" in line]
    assert "are proved in Python 3.12." in line
    assert "`lpack runtime pull python3.12 --arch x86_64` brings it." in line
    (folder / "lpack.toml").write_text(text.replace("verify = {", 'verify = { where = "runtime",'))
    demanded = lpack("build", cwd=folder)
    assert demanded.returncode == 1
    assert "the file system of python3.12 on x86_64 (127.0.0.1:9/absent/image:1) was not pulled" in demanded.stderr


@pytest.mark.slow
def test_function_for_arm64_runs_under_emulation(shared_folder, write, lpack, monkeypatch):
    if not is_emulated("arm64"):
        pytest.skip("needs emulation of arm64 (binfmt_misc, with the flag F)")
    more = 'runtime = "python3.11"\narch = "arm64"\nglibc = "2.36"'
    name = _shared(shared_folder, monkeypatch, ARM_IMAGE, more)
    source = "import platform\n\ndef handler(event, context):\n    return platform.machine()\n"
    folder = write(name, source, "aarch64", more=more)
    built = lpack("build", cwd=folder)
    assert built.returncode == 0, built.stderr
    assert read_function(folder)["verified"]["by"] == f"Python 3.11.2 of {name}"
