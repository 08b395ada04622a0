"""Builds on a real engine: what comes out runs in the runtime's image, and what misbehaves is stopped and leaves nothing."""

from __future__ import annotations

import os
import re
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.engine.client import Engine, connect
from builders.engine.container_builder import ContainerBuilder
from builders.engine.images import EngineImages
from builders.errors import BuildError, MissingRequirementsError, UnavailableError
from builders.recipes import BuildSettings, Limits, WheelRequest
from builders.runtimes import MEGABYTE, Target
from tests.engine import BUILD_IMAGE, RUNTIME_IMAGE, left_behind, need_engine, run_in_runtime
from tests.packages import write_sdist_files

pytestmark = pytest.mark.docker
TARGET = Target.of("python3.11", "x86_64")
SETTINGS = BuildSettings(image=BUILD_IMAGE, limits=Limits(memory=512 * MEGABYTE, processes=100, seconds=60))

BACKEND = """\
import os, pathlib, subprocess, sysconfig, zipfile

def get_requires_for_build_wheel(config_settings=None):
    {asks}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    {code}
    tag = "cp311-cp311-linux_x86_64"
    include = sysconfig.get_path("include")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-I", include, "answer.c", "-o", "answer.so"]
    subprocess.run(command, check=True)
    info = "answer-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, f"answer-1.0-{{tag}}.whl"), "w") as archive:
        archive.write("answer.so")
        archive.writestr(f"{{info}}/METADATA", "Metadata-Version: 2.1\\nName: answer\\nVersion: 1.0\\n")
        archive.writestr(f"{{info}}/WHEEL", f"Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: {{tag}}\\n")
        names = [*archive.namelist(), f"{{info}}/RECORD"]
        archive.writestr(f"{{info}}/RECORD", "".join(f"{{name}},,\\n" for name in names))
    return f"answer-1.0-{{tag}}.whl"
"""
SOURCE = b"""\
#include <Python.h>

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "answer", NULL, -1, NULL};

PyMODINIT_FUNC PyInit_answer(void) {
    PyObject *made = PyModule_Create(&module);
    PyModule_AddIntConstant(made, "ANSWER", 42);
    return made;
}
"""
# From metadata 2.2 on, a resolver trusts this file and runs nothing of the source on the machine that resolves.
INFO = b"Metadata-Version: 2.2\nName: answer\nVersion: 1.0\n"
PROJECT = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def sdist(folder: Path, code: str = "pass", asks: str = "return []") -> Path:
    """Write an sdist with a back end of its own, which does ``code`` before it compiles."""
    backend = BACKEND.format(code=code.replace("\n", "\n    "), asks=asks).encode()
    files = {"pyproject.toml": PROJECT, "backend.py": backend, "answer.c": SOURCE, "PKG-INFO": INFO}
    return write_sdist_files(folder, "answer-1.0", files)


def request(path: Path, settings: BuildSettings = SETTINGS, requires: tuple[str, ...] = ()) -> WheelRequest:
    return WheelRequest(name="answer 1.0", target=TARGET, path=path, settings=settings, requires=requires)


@pytest.fixture
def engine() -> Iterator[Engine]:
    need_engine(BUILD_IMAGE)
    connected = connect()
    yield connected
    connected.close()
    assert left_behind() == []


@pytest.fixture
def output() -> list[str]:
    return []


@pytest.fixture
def builder(engine: Engine, output: list[str]) -> ContainerBuilder:
    def listen(_name: str, text: str) -> None:
        output.append(text)

    return ContainerBuilder(engine, EngineImages(engine, output.append, listen, offline=True), listen)


def failure(builder: ContainerBuilder, asked: WheelRequest, into: Path) -> BuildError:
    into.mkdir(exist_ok=True)
    with pytest.raises(BuildError) as caught, builder.build(asked, into):
        pass
    assert not list(into.glob("*.whl"))
    return caught.value


def test_an_extension_is_built_and_runs_where_there_is_no_compiler(builder, output, tmp_path):
    need_engine(RUNTIME_IMAGE)
    assert "gcc" not in run_in_runtime(tmp_path, "import shutil; print(shutil.which('gcc'))")
    into, task = tmp_path / "into", tmp_path / "task"
    into.mkdir()
    with builder.build(request(sdist(tmp_path, "print('compiling')")), into) as built:
        assert "compiling" in "".join(output)
        assert built.path.name == "answer-1.0-cp311-cp311-linux_x86_64.whl"
        assert built.library("libpq.so.5", ()) is not None
        assert built.library("libnowhere.so.1", ()) is None
    assert built.path.stat().st_uid == os.getuid()
    with zipfile.ZipFile(built.path) as archive:
        archive.extractall(task)
    assert run_in_runtime(task, "import answer; print(answer.ANSWER)") == "42"


def test_the_same_source_gives_the_same_bytes(builder, tmp_path):
    wheels = []
    for name in ("one", "two"):
        into = tmp_path / name
        into.mkdir()
        with builder.build(request(sdist(tmp_path)), into) as built, zipfile.ZipFile(built.path) as archive:
            wheels.append(archive.read("answer.so"))
    assert wheels[0] == wheels[1]


def test_a_project_folder_is_built_from_a_copy(builder, tmp_path):
    import tarfile

    with tarfile.open(sdist(tmp_path)) as packed:
        packed.extractall(tmp_path, filter="data")
    before = sorted(path.name for path in (tmp_path / "answer-1.0").iterdir())
    into = tmp_path / "into"
    into.mkdir()
    with builder.build(request(tmp_path / "answer-1.0"), into) as built:
        assert built.path.is_file()
    assert sorted(path.name for path in (tmp_path / "answer-1.0").iterdir()) == before


def test_a_back_end_may_ask_for_more(builder, tmp_path):
    path, into = sdist(tmp_path, asks="return ['Nothing_Yet >= 2']"), tmp_path / "into"
    into.mkdir()
    with pytest.raises(MissingRequirementsError) as caught, builder.build(request(path), into):
        pass
    assert caught.value.requires == ("Nothing_Yet >= 2",)
    again = tmp_path / "again"
    again.mkdir()
    with builder.build(request(path, requires=("nothing-yet>=2",)), again) as built:
        assert built.path.is_file()


def test_builds_run_side_by_side(builder, output, tmp_path):
    def build(number: int) -> bool:
        into = tmp_path / str(number)
        into.mkdir()
        code = "import time; print('<', flush=True); time.sleep(6); print('>', flush=True)"
        with builder.build(request(sdist(into, code)), into) as built:
            found: bool = built.path.is_file()
            return found

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(build, range(3)))
    heard = re.sub(r"[^<>]", "", "".join(output))
    assert heard == "<<<>>>", "all have begun before one ends"


REACH = """\
import socket
socket.create_connection(("1.1.1.1", 80), timeout=10)
"""


def test_a_build_has_no_network(builder, tmp_path):
    stopped = failure(builder, request(sdist(tmp_path, REACH)), tmp_path / "into")
    assert stopped.what == "its build back end failed"
    assert "Network is unreachable" in stopped.detail


LISTEN = """\
import json, os
print("devices:", sorted(os.listdir("/sys/class/net")))
"""


def test_a_build_may_have_network_where_it_is_asked_for(builder, output, tmp_path):
    for name, network in (("without", False), ("with", True)):
        output.clear()
        (tmp_path / name).mkdir()
        asked = request(sdist(tmp_path, LISTEN), replace(SETTINGS, network=network))
        with builder.build(asked, tmp_path / name):
            assert ("'eth0'" in "".join(output)) == network


@pytest.mark.parametrize(
    "place", ["/usr/lib/evil.so", "/etc/passwd", "/lpack/in/wheel.py", "/lpack/evil", "/sys/evil", "/proc/evil"]
)
def test_a_build_cannot_write_outside_its_folder(builder, tmp_path, place):
    stopped = failure(builder, request(sdist(tmp_path, f"open({place!r}, 'w').write('evil')")), tmp_path / "into")
    assert stopped.what == "its build back end failed"
    assert place in stopped.detail
    assert not Path("/usr/lib/evil.so").exists()


FORK = """\
import os, time
while True:
    try:
        if os.fork() == 0:
            continue
    except BlockingIOError:
        raise SystemExit("no more processes")
"""


def test_a_build_that_forks_without_end_is_stopped(builder, tmp_path):
    before = len(list(Path("/proc").glob("[0-9]*")))
    limits = replace(SETTINGS.limits, memory=4096 * MEGABYTE)
    stopped = failure(builder, request(sdist(tmp_path, FORK), replace(SETTINGS, limits=limits)), tmp_path / "into")
    assert stopped.what == "it started more than the 100 processes that it may have"
    assert "processes" in stopped.remedy
    assert len(list(Path("/proc").glob("[0-9]*"))) < before + 60


def test_a_build_that_eats_memory_is_stopped(builder, tmp_path):
    eat = "kept = []\nwhile True:\n    kept.append(b'x' * 10_000_000)"
    stopped = failure(builder, request(sdist(tmp_path, eat)), tmp_path / "into")
    assert stopped.what == "it needed more than the 512 MB of memory that it may have"
    assert "memory" in stopped.remedy


def test_a_build_that_prints_without_end_is_stopped(builder, tmp_path):
    stopped = failure(builder, request(sdist(tmp_path, "while True: print('x' * 1_000_000)")), tmp_path / "into")
    assert stopped.what == "it printed more than 64 MB"


def test_a_wheel_of_any_size_is_not_taken_out(builder, tmp_path, monkeypatch):
    monkeypatch.setattr("builders.engine.container_builder.IMAGE_LIMIT", 20 * MEGABYTE)
    code = "path = pathlib.Path(wheel_directory, 'answer-1.0-py3-none-any.whl'); path.touch(); os.truncate(path, 1 << 40)"
    stopped = failure(builder, request(sdist(tmp_path, f"{code}; os._exit(0)")), tmp_path / "into")
    assert re.search(r"with 1099511627776 bytes; at most 20971520 are accepted", stopped.what)


@pytest.mark.parametrize("make", ["path.mkdir()", "os.mkfifo(path)", "path.symlink_to('/nowhere')", "path.symlink_to(path)"])
def test_what_is_no_file_is_not_taken_for_a_wheel(builder, tmp_path, make):
    code = f"path = pathlib.Path(wheel_directory, 'answer-1.0-py3-none-any.whl'); {make}; os._exit(0)"
    stopped = failure(builder, request(sdist(tmp_path, code)), tmp_path / "into")
    # The engine itself gives up on a link that leads to itself.
    assert stopped.what in (
        "the build did not leave answer-1.0-py3-none-any.whl behind",
        "the container engine could not look into a container",
    )


def test_limit_above_the_processors_of_the_machine_is_accepted(builder, tmp_path):
    (tmp_path / "into").mkdir()
    limits = replace(SETTINGS.limits, cpus=4096)
    with builder.build(request(sdist(tmp_path), replace(SETTINGS, limits=limits)), tmp_path / "into") as built:
        assert built.path.is_file()


def test_a_build_that_hangs_is_stopped(builder, tmp_path):
    limits = Limits(seconds=5)
    asked = request(sdist(tmp_path, "import time; time.sleep(1000)"), replace(SETTINGS, limits=limits))
    stopped = failure(builder, asked, tmp_path / "into")
    assert stopped.what == "it was stopped after 5 s"
    assert "time" in stopped.remedy


def test_a_build_has_no_privileges(builder, output, tmp_path):
    look = 'print(open("/proc/self/status").read())'
    into = tmp_path / "into"
    into.mkdir()
    with builder.build(request(sdist(tmp_path, look)), into):
        said = "".join(output)
    assert re.search(r"CapEff:\s+0{16}\s", said)
    assert re.search(r"NoNewPrivs:\s+1\s", said)


def test_a_build_without_a_wheel_says_so(builder, tmp_path):
    stopped = failure(builder, request(sdist(tmp_path, "os._exit(0)")), tmp_path / "into")
    assert stopped.what == "the build gave 0 wheels, not one"


def test_an_image_without_the_python_is_named(builder, tmp_path):
    asked = replace(request(sdist(tmp_path)), target=Target.of("python3.13", "x86_64"))
    stopped = failure(builder, asked, tmp_path / "into")
    assert "python3.13" in stopped.what
    assert BUILD_IMAGE in stopped.what


def test_a_missing_image_is_named(builder):
    with pytest.raises(UnavailableError, match="nobody/nothing:1") as caught:
        builder.recipe(TARGET, BuildSettings(image="nobody/nothing:1"))
    assert "`docker pull nobody/nothing:1` brings it" in caught.value.remedy


def test_a_missing_image_that_cannot_be_pulled_is_named(engine):
    images = EngineImages(engine, lambda _text: None, lambda _name, _text: None, offline=False)
    with pytest.raises(UnavailableError, match=r"is not in the engine, and cannot be pulled for x86_64"):
        images.base(TARGET, BuildSettings(image="127.0.0.1:9/nobody/nothing:1"))


def test_an_image_of_another_machine_is_not_taken(builder):
    with pytest.raises(UnavailableError, match="arm64"):
        builder.recipe(Target.of("python3.11", "arm64"), BuildSettings(image=BUILD_IMAGE))


def test_setup_commands_make_an_image_once(builder, output, tmp_path):
    setup = (f"echo '#define NOW {time.time_ns()}' > /usr/local/include/setup.h", "test -w /usr/local/include")
    settings = replace(SETTINGS, setup=setup)
    look = 'print("header:", open("/usr/local/include/setup.h").read())'
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with builder.build(request(sdist(tmp_path, look), settings), tmp_path / name):
            pass
    said = "".join(output)
    assert said.count("preparing") == 1
    assert said.count("header: #define NOW") == 2
    assert builder.recipe(TARGET, settings).key != builder.recipe(TARGET, SETTINGS).key


def test_a_setup_command_that_fails_is_shown(builder, tmp_path):
    settings = replace(SETTINGS, setup=("echo before", "no-such-command"))
    stopped = failure(builder, request(sdist(tmp_path), settings), tmp_path / "into")
    assert stopped.what.startswith("the setup commands ended with status 127")
    assert "no-such-command" in stopped.detail
    assert "setup" in stopped.remedy
