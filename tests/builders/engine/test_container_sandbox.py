"""The Python of the run-time image, on a real engine: it compiles, runs functions, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.engine.client import EngineImage, connect
from builders.engine.container_sandbox import ContainerSandbox, _trusted_paths
from builders.engine.images import EngineImages
from builders.errors import BuildError, UnavailableError
from builders.interpreters import find_interpreter
from builders.runtimes import Target
from builders.sandbox.host_sandbox import HostSandbox
from builders.sandbox.task import TREE_PLACEHOLDER
from packer.core.model import BytesContent, Entry, Tree
from packer.trim.bytecode import CompiledModules
from tests.engine import RUNTIME_IMAGE, docker, left_behind, need_engine, run_in_runtime
from tests.layered import IMPORT, LIBRARY, OWN, PROGRAM, SPREAD, VARIABLES, lay_layers
from tests.probing import ERROR, answer, probe, results
from tests.shaped import compiler_of

pytestmark = pytest.mark.docker
TARGET = Target.of("python3.11", "x86_64")
SOURCES = {
    "pkg/__init__.py": "'''A package.'''\nimport json\n\ndef say(x):\n    return json.dumps({'x': x in {'a', 'b', 'c'}})\n",
    "pkg/one.py": "VALUE = frozenset('abc') | {1.5}\n",
    "pkg/two.py": "print 'no Python 3'\n",
}


@pytest.fixture
def python() -> Iterator[ContainerSandbox]:
    need_engine(RUNTIME_IMAGE)
    engine = connect()
    made = ContainerSandbox(engine, EngineImages(engine, print, lambda _name, _text: None, offline=True), TARGET)
    yield made
    made.close()
    assert left_behind() == []


def compiled(folder: Path, python: ContainerSandbox | HostSandbox) -> CompiledModules:
    entries = (
        Entry(path=path, mode=0o644, content=BytesContent.of(text.encode()), owner="pkg-1.0-py3-none-any.whl")
        for path, text in SOURCES.items()
    )
    return compiler_of(folder, 2).compile(Tree.of(entries), python, "/var/task", 0)


def raw(made: CompiledModules) -> dict[str, bytes]:
    return {path: content.read() for path, content in made.files.items()}


def image_version() -> str:
    command = ["run", "--rm", "--network", "none", "--entrypoint", "python3.11", RUNTIME_IMAGE, "-c"]
    done = docker(*command, "import platform; print(platform.python_version())")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_it_compiles_loads_in_the_runtime_without_its_source(tmp_path, python):
    made = compiled(tmp_path / "store", python)
    assert made.failed == ("pkg/two.py",)
    task = tmp_path / "task"
    for path, data in raw(made).items():
        (task / path).parent.mkdir(parents=True, exist_ok=True)
        (task / f"{path}c").write_bytes(data)
    code = "import sys; sys.path.insert(0, '/var/task'); import pkg, pkg.one; print(pkg.say('b'), pkg.say.__code__.co_filename)"
    assert run_in_runtime(task, code) == '{"x": true} /var/task/pkg/__init__.py'


def test_it_compiles_to_the_same_bytes_each_time(tmp_path, python):
    assert raw(compiled(tmp_path / "one", python)) == raw(compiled(tmp_path / "two", python))


def test_it_compiles_as_the_same_python_of_this_machine_does(tmp_path, python):
    found = find_interpreter(11)
    assert found is not None
    theirs, ours = raw(compiled(tmp_path / "container", python)), raw(compiled(tmp_path / "host", HostSandbox(found)))
    assert theirs.keys() == ours.keys()
    # The magic number, the flags and the source's hash are the minor's; the rest may change from patch to patch.
    same_patch = image_version() == found.version
    length = None if same_patch else 16
    assert {path: data[:length] for path, data in theirs.items()} == {path: data[:length] for path, data in ours.items()}


def test_the_function_is_run_where_lambda_has_it(tmp_path, python):
    codes = (
        "result = [__file__, os.getcwd(), sys.path[0], list(sys.version_info[:2])]",
        ERROR.format("open('/var/task/new', 'w')"),
        "result = [name for _, name in socket.if_nameindex() if name == 'eth0']",
        "result = sorted(os.listdir('/var/task'))",
    )
    assert results(probe(python, tmp_path, *codes)) == [
        ["/var/task/app.py", "/var/task", "/var/task", [3, 11]],
        "OSError",
        [],
        ["app.py", "data.txt", "neighbour.py"],
    ]


def test_its_variables_are_those_that_were_asked_for(tmp_path, python, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "the user's own")
    code = "result = {name: os.environ.get(name) for name in ('MINE', 'ROOT', 'AWS_PROFILE')}"
    [found] = results(probe(python, tmp_path, code, environment={"MINE": "yes", "ROOT": TREE_PLACEHOLDER}))
    assert found == {"MINE": "yes", "ROOT": "/var/task", "AWS_PROFILE": None}


def test_what_the_runtime_has_comes_after_what_the_function_has(tmp_path, python):
    late = tmp_path / "late"
    late.mkdir()
    (late / "neighbour.py").write_text("VALUE = 'late'\n")
    (late / "carried.py").write_text("VALUE = 'carried'\n")
    code = "import carried; result = [neighbour.VALUE, carried.VALUE]"
    assert results(probe(python, tmp_path / "run", code, late=late)) == [[1, "carried"]]


def test_layers_lie_where_lambda_has_them(tmp_path, python):
    layers = lay_layers(tmp_path / "layers", python)
    codes = (
        IMPORT,
        SPREAD,
        LIBRARY,
        PROGRAM,
        "import shared, twice; result = [shared.__file__, neighbour.VALUE, twice.VALUE]",
        ERROR.format("open('/opt/python/new', 'w')"),
    )
    assert results(probe(python, tmp_path / "run", *codes, files=OWN, layers=layers, environment=VARIABLES)) == [
        ["shared", "placed"],
        ["own", "theirs"],
        42,
        "hello\n",
        ["/opt/python/shared.py", 1, "of site-packages"],
        "OSError",
    ]


def test_errors_are_told_as_on_this_machine(tmp_path, python):
    [error] = answer(probe(python, tmp_path, "raise KeyError(__file__)"))["events"]
    assert (error["error"]["type"], error["error"]["message"]) == ("KeyError", "'/var/task/app.py'")
    assert 'File "/var/task/app.py", line 6, in handler' in error["error"]["trace"]


@pytest.mark.parametrize(("words", "status"), [("os._exit(97)", 97), ("import ctypes; ctypes.string_at(0)", -11)])
def test_a_function_that_ends_the_interpreter_gives_no_answer(tmp_path, python, words, status):
    done = probe(python, tmp_path, handler=f"import os\nprint('so long', flush=True)\n{words}\n")
    assert (done.status, done.answer, done.late) == (status, None, False)
    assert "so long" in done.log


def test_a_container_that_cannot_start_a_function_is_no_fault_of_the_function(tmp_path, python, monkeypatch):
    monkeypatch.setattr("builders.engine.container_sandbox.system_call_filter", lambda _machine: bytes(8))
    with pytest.raises(BuildError, match=r"nothing can be run in the container as a function is \(Invalid argument\)"):
        probe(python, tmp_path)


def test_a_function_that_never_ends_is_stopped(tmp_path, python):
    done = probe(python, tmp_path, handler="while True:\n    pass\n", seconds=3.0)
    assert (done.late, done.answer) == (True, None)


def test_a_function_that_holds_more_than_its_memory_is_stopped_and_files_in_tmp_do_not_count(tmp_path, python):
    stored = "open('/tmp/some', 'wb').write(bytes(200 << 20)); result = 'stored'"
    assert results(probe(python, tmp_path / "stored", stored, memory=128 << 20)) == ["stored"]
    for number, held in enumerate(("held = bytearray(200 << 20)", "held = bytearray(2 << 30)")):
        done = probe(python, tmp_path / str(number), f"{held}\nimport time; time.sleep(20)", memory=128 << 20)
        assert (done.late, done.memory > 128 << 20) == (False, True)
        assert answer(done)["reached"] == 0


def test_an_answer_that_is_too_long_is_not_read(tmp_path, python):
    done = probe(python, tmp_path, "os.truncate('/proc/self/fd/3', 3 << 20); os._exit(0)", longest=1 << 20)
    assert (done.answer, done.excess) == (None, 3 << 20)


def test_the_first_process_looks_for_nothing_in_what_the_function_brings():
    variables = {"PATH": "/var/lang/bin:/opt/bin", "LD_LIBRARY_PATH": "/lib64:/var/task:/var/task/lib:/opt/lib", "LANG": "C"}
    image = EngineImage(reference="one", identity="1", digest="1", architecture="amd64", environment=variables)
    assert _trusted_paths(image) == {"PATH": "/var/lang/bin", "LD_LIBRARY_PATH": "/lib64"}


def test_its_identity_is_that_of_the_image(python):
    digest = json.loads(docker("image", "inspect", RUNTIME_IMAGE).stdout)[0]
    assert python.place == f"the image {RUNTIME_IMAGE}"
    assert python.identity.startswith("3.11 of ")
    known = [digest["Id"], *(each.partition("@")[2] for each in digest["RepoDigests"] or ())]
    assert python.identity.removeprefix("3.11 of ") in known


def test_an_image_that_is_not_there_is_not_pulled():
    need_engine()
    engine = connect()
    target = Target.of("python3.12", "x86_64")
    if docker("image", "inspect", target.runtime_image).returncode == 0:
        pytest.skip("needs an engine without the image of another runtime")
    with pytest.raises(UnavailableError) as caught:
        ContainerSandbox(engine, EngineImages(engine, print, lambda _name, _text: None, offline=True), target)
    assert target.runtime_image in str(caught.value) + caught.value.remedy
    engine.close()
