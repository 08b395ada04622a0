"""Builds on this machine, for real: isolated, within a time limit, and gone when they end."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builders.errors import BuildError, MissingRequirementsError, NativeCodeError, UnavailableError
from builders.host.builder import HostBuilder
from builders.recipes import BuildSettings, Limits, WheelRequest
from builders.runtimes import Target
from builders.script import read_answer
from tests.packages import write_sdist_files
from tests.wheels import make_wheel

TARGET = Target.of("python3.13", "x86_64")
BACKEND = """\
import os, pathlib, shutil, subprocess, sys, zipfile

def get_requires_for_build_wheel(config_settings=None):
    return {asks}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    version, tag = "1.0", "py3-none-any"
    {code}
    info = f"one-{{version}}.dist-info"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, f"one-{{version}}-{{tag}}.whl"), "w") as archive:
        archive.writestr("one.py", "")
        archive.writestr(f"{{info}}/METADATA", f"Metadata-Version: 2.1\\nName: one\\nVersion: {{version}}\\n")
        archive.writestr(f"{{info}}/WHEEL", f"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {{tag}}\\n")
        names = [*archive.namelist(), f"{{info}}/RECORD"]
        archive.writestr(f"{{info}}/RECORD", "".join(f"{{name}},,\\n" for name in names))
    return f"one-{{version}}-{{tag}}.whl"
"""
PROJECT = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def request(folder: Path, code: str = "pass", asks: str = "[]", seconds: float = 60, **values: object) -> WheelRequest:
    backend = BACKEND.format(code=code.replace("\n", "\n    "), asks=asks).encode()
    path = write_sdist_files(folder, "one-1.0", {"pyproject.toml": PROJECT, "backend.py": backend})
    settings = BuildSettings(limits=Limits(seconds=seconds))
    return WheelRequest(name="one 1.0", target=TARGET, path=path, settings=settings, **values)  # type: ignore[arg-type]


@pytest.fixture
def output() -> list[str]:
    return []


@pytest.fixture
def builder(output: list[str]) -> Iterator[HostBuilder]:
    made = HostBuilder(lambda _name, text: output.append(text))
    yield made
    made.close()


def build(builder: HostBuilder, asked: WheelRequest, into: Path) -> Path:
    into.mkdir(exist_ok=True)
    with builder.build(asked, into) as built:
        return built.path


def failure(builder: HostBuilder, asked: WheelRequest, into: Path) -> BuildError:
    with pytest.raises(BuildError) as caught:
        build(builder, asked, into)
    return caught.value


def test_pure_python_is_built(builder, output, tmp_path):
    path = build(builder, request(tmp_path, "print('building')"), tmp_path / "into")
    assert path.name == "one-1.0-py3-none-any.whl"
    assert zipfile.ZipFile(path).namelist()[0] == "one.py"
    assert "building\n" in output


def test_native_code_is_refused(builder, tmp_path):
    with pytest.raises(NativeCodeError, match="it has native code"):
        build(builder, request(tmp_path, "tag = 'cp313-cp313-linux_x86_64'"), tmp_path / "into")


def test_a_back_end_may_ask_for_more(builder, tmp_path):
    with pytest.raises(MissingRequirementsError) as caught:
        build(builder, request(tmp_path, asks="['helper']"), tmp_path / "into")
    assert caught.value.requires == ("helper",)


def test_programs_among_the_requirements_can_be_run(builder, output, tmp_path):
    inside = make_wheel(tmp_path, "tool", "1.0", {"tool/bin/run": b"#!/bin/sh\necho ran\n"})
    with zipfile.ZipFile(inside) as archive, zipfile.ZipFile(tmp_path / "tool-1.1-py3-none-any.whl", "w") as executable:
        for info in archive.infolist():
            data = archive.read(info)
            if info.filename == "tool/bin/run":
                info.external_attr = 0o100755 << 16
            executable.writestr(info, data)
    wheels = (tmp_path / "tool-1.1-py3-none-any.whl",)
    code = "import tool; subprocess.run([next(iter(tool.__path__)) + '/bin/run'], check=True)"
    build(builder, request(tmp_path, code, wheels=wheels), tmp_path / "into")
    assert "ran\n" in output


def test_a_build_gets_no_variable_but_what_is_asked_for(builder, tmp_path, monkeypatch):
    monkeypatch.setenv("LPACK_TEST_VERSION", "2.0")
    code = "version = os.environ.get('LPACK_TEST_VERSION', '1.0')"
    assert "one-1.0" in build(builder, request(tmp_path, code), tmp_path).name
    (tmp_path / "again").mkdir()
    asked = request(tmp_path / "again", code, variables={"LPACK_TEST_VERSION": "3.0"})
    assert "one-3.0" in build(builder, asked, tmp_path / "again").name


def test_native_code_in_a_wheel_that_claims_to_be_for_all_is_refused(builder, tmp_path):
    code = "pathlib.Path('lib.so').write_bytes(b'\\x7fELF' + bytes(60)); " + "_write = zipfile.ZipFile.writestr; "
    code += "zipfile.ZipFile.writestr = lambda self, name, data: _write(self, name, data if name != 'one.py' else b'\\x7fELF')"
    with pytest.raises(NativeCodeError, match=r"with one\.py"):
        build(builder, request(tmp_path, code), tmp_path / "into")


@pytest.mark.parametrize(
    "make", ["path.mkdir()", "os.mkfifo(path)", "path.symlink_to('/nowhere')", "os.truncate(path, 1 << 40)"]
)
def test_what_is_no_file_is_not_taken_for_a_wheel(builder, tmp_path, make):
    touch = "path.touch(); " if "truncate" in make else ""
    code = f"path = pathlib.Path(wheel_directory, 'one-1.0-py3-none-any.whl'); {touch}{make}; os._exit(0)"
    stopped = failure(builder, request(tmp_path, code), tmp_path / "into")
    assert stopped.what == "the build did not leave one-1.0-py3-none-any.whl behind"


def test_missing_interpreter_is_an_error(builder, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", str(tmp_path / "nowhere"))
    with pytest.raises(UnavailableError, match="cannot be started"):
        build(builder, request(tmp_path), tmp_path / "into")


def test_a_build_that_hangs_is_stopped_with_what_it_started(builder, output, tmp_path):
    code = "child = subprocess.Popen(['sleep', '600']); print('child', child.pid, flush=True); child.wait()"
    stopped = failure(builder, request(tmp_path, code, seconds=5), tmp_path / "into")
    assert stopped.what == "it was stopped after 5 s"
    [line] = [text for text in output if text.startswith("child")]
    deadline = time.monotonic() + 10
    while is_running(int(line.split()[1])):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(number: int) -> bool:
    """Say whether a process is there, and more than a dead one that nobody has collected."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_build_that_prints_without_end_is_stopped(builder, tmp_path):
    stopped = failure(builder, request(tmp_path, "while True: print('x' * 1_000_000)"), tmp_path / "into")
    assert stopped.what == "it printed more than 64 MB"


def test_a_line_without_an_end_is_stopped(builder, tmp_path):
    stopped = failure(builder, request(tmp_path, "while True: print('x' * 1_000_000, end='')"), tmp_path / "into")
    assert stopped.what == "it printed more than 64 MB"


@pytest.mark.parametrize("answer", ["[" * 200_000, '{"processes_refused": Infinity}', "3"])
def test_malformed_answer_is_not_read(answer):
    assert read_answer(answer.encode()) is None


def test_closing_stops_running_builds(builder, output, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        asked = request(tmp_path, "print('begun', flush=True)\nimport time; time.sleep(600)")
        future = pool.submit(failure, builder, asked, tmp_path / "into")
        while "begun\n" not in output and not future.done():
            time.sleep(0.05)
        builder.close()
        assert future.result(20).what == "it was interrupted"
    assert failure(builder, request(tmp_path), tmp_path / "later").what == "it was interrupted"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os._exit(0)", "the build gave 0 wheels, not one"),
        ("raise SystemExit('no luck')", "its build back end failed"),
        ("open(os.fsencode(wheel_directory) + b'/\\xff.whl', 'w'); os._exit(0)", "the build gave a wheel with the name"),
    ],
)
def test_broken_wheel_is_refused(builder, tmp_path, code, reason):
    assert failure(builder, request(tmp_path, code), tmp_path / "into").what.startswith(reason)


def test_requirements_are_those_of_this_machines_python(builder):
    target = builder.recipe(TARGET, BuildSettings()).requirements_for
    assert f"python3.{os.sys.version_info.minor}" == target.runtime.name  # type: ignore[attr-defined]


def test_elsewhere_requirements_in_pure_python_serve(builder, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert builder.recipe(TARGET, BuildSettings()).requirements_for.architecture == "arm64"
