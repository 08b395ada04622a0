"""Builds without an engine: real sources compiled by zig for both machines, and run where this one can."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.errors import BuildError, MissingRequirementsError, UnavailableError
from builders.host import cross_builder, script_run, zig
from builders.host.cross_builder import CrossBuilder
from builders.inside import read_script
from builders.interpreters import find_interpreter
from builders.recipes import BuildSettings, Limits, WheelRequest
from builders.runtimes import Target
from builders.script import SCRIPTS
from packer.cache.local import store_folder
from packer.cache.store import COMPILER
from packer.formats.elf import ElfFile, read_elf
from packer.wheels.abi_check import missing_libraries, needed_glibc, sonames
from tests.native import ZIG_CACHE
from tests.packages import FIXTURES, write_sdist_files

THIS = f"python3.{sys.version_info[1]}"
PROJECT = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = """\
import os, pathlib, platform, shlex, subprocess, sys, sysconfig, zipfile

def get_requires_for_build_wheel(config_settings=None):
    {asks}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    python = "cp" + sysconfig.get_config_var("py_version_nodot")
    tag = f"{{python}}-{{python}}-" + sysconfig.get_platform().replace("-", "_")
    source = os.path.abspath("answer.cpp" if os.path.exists("answer.cpp") else "answer.c")
    linker, extra = sysconfig.get_config_var("LDCXXSHARED" if source.endswith("pp") else "LDSHARED"), []
    {code}
    command = shlex.split(linker) + shlex.split(sysconfig.get_config_var("CFLAGS")) + extra
    subprocess.run([*command, "-I", sysconfig.get_path("include"), source, "-o", "answer" + suffix], check=True)
    info = "answer-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, f"answer-1.0-{{tag}}.whl"), "w") as archive:
        archive.write("answer" + suffix)
        archive.writestr(f"{{info}}/METADATA", "Metadata-Version: 2.1\\nName: answer\\nVersion: 1.0\\n")
        archive.writestr(f"{{info}}/WHEEL", f"Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: {{tag}}\\n")
        archive.writestr(f"{{info}}/RECORD", "")
    return f"answer-1.0-{{tag}}.whl"
"""
C = b"""\
#include <Python.h>

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "answer", NULL, -1, NULL};

PyMODINIT_FUNC PyInit_answer(void) {
    PyObject *made = PyModule_Create(&module);
    PyModule_AddIntConstant(made, "ANSWER", 42);
    PyModule_AddStringConstant(made, "FILE", __FILE__);
    return made;
}
"""
CPLUSPLUS = b"""\
#include <Python.h>
#include <stdexcept>
#include <string>
#include <vector>

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "answer", NULL, -1, NULL};

static int answer() {
    std::vector<std::string> words{"forty", "two"};
    try {
        words.at(7);
    } catch (const std::out_of_range &) {
        return 42;
    }
    return 0;
}

PyMODINIT_FUNC PyInit_answer(void) {
    PyObject *made = PyModule_Create(&module);
    PyModule_AddIntConstant(made, "ANSWER", answer());
    return made;
}
"""


def sdist(folder: Path, code: str = "pass", asks: str = "return []", *, name: str = "answer.c") -> Path:
    backend = BACKEND.format(code=code, asks=asks).encode()
    source = CPLUSPLUS if name.endswith("pp") else C
    return write_sdist_files(folder, "answer-1.0", {"pyproject.toml": PROJECT, "backend.py": backend, name: source})


@pytest.fixture
def builder():
    found = find_interpreter(sys.version_info[1])
    if found is None or found.include is None:
        pytest.skip("needs the C headers of this Python")
    made = CrossBuilder(lambda _name, _text: None, ZIG_CACHE)
    yield made
    made.close()


def request(path: Path, target: Target, settings: BuildSettings | None = None) -> WheelRequest:
    return WheelRequest(name="answer 1.0", target=target, path=path, settings=settings or BuildSettings())


def built(builder: CrossBuilder, asked: WheelRequest, into: Path) -> tuple[str, tuple[ElfFile, ...]]:
    """Build, unpack the wheel, and give its name with the native code in it."""
    into.mkdir()
    found = []
    with builder.build(asked, into) as made, zipfile.ZipFile(made.path) as archive:
        archive.extractall(into / "site")
        for name in archive.namelist():
            with (into / "site" / name).open("rb") as file:
                found.append(read_elf(file, name))
        wheel = made.path.name
    return wheel, tuple(file for file in found if file is not None)


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_c_is_compiled_for_both_machines(builder, tmp_path, architecture):
    target = Target.of(THIS, architecture)
    name, files = built(builder, request(sdist(tmp_path), target), tmp_path / "into")
    assert name.endswith(f"linux_{target.machine}.whl")
    assert [file.machine for file in files] == [target.machine]
    assert files[0].path.endswith(f"-{target.machine}-linux-gnu.so")
    assert needed_glibc(files) <= target.glibc
    assert missing_libraries(files, target, sonames(files)) == {}
    if target.machine == os.uname().machine:
        code = "import answer, json; print(json.dumps([answer.ANSWER, answer.FILE]))"
        ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "into" / "site", capture_output=True, check=True)
        assert json.loads(ran.stdout) == [42, "/lpack/work/source/answer-1.0/answer.c"]


def test_cplusplus_runs_with_no_library_of_its_own_beside_it(builder, tmp_path):
    target = Target.of(THIS, "x86_64" if os.uname().machine == "x86_64" else "arm64")
    _, files = built(builder, request(sdist(tmp_path, name="answer.cpp"), target), tmp_path / "into")
    assert missing_libraries(files, target, sonames(files)) == {}
    command = [sys.executable, "-c", "import answer; print(answer.ANSWER)"]
    ran = subprocess.run(command, cwd=tmp_path / "into" / "site", capture_output=True, check=True)
    assert ran.stdout == b"42\n"


@pytest.mark.parametrize("extra", ["[]", '["-g"]'])
def test_two_folders_give_the_same_bytes(builder, tmp_path, extra):
    target = Target.of(THIS, "arm64")
    contents = []
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for name in ("one", "link/another-with-a-longer-name"):
        _, files = built(builder, request(sdist(tmp_path, f"extra = {extra}"), target), tmp_path / name)
        contents.append((tmp_path / name / "site" / files[0].path).read_bytes())
    assert contents[0] == contents[1]


def second_zig_cache(target: Target) -> Path:
    """Return a cache that is empty until this very toolchain compiles zig's libraries into it, in a build of its own.

    Compiling them takes more than a minute of processor time, and depends on nothing but what the name is a digest of.
    """
    digest = hashlib.sha256(CrossBuilder(lambda _name, _text: None, ZIG_CACHE).recipe(target, BuildSettings()).key.encode())
    for module in (cross_builder, script_run, zig):
        digest.update(inspect.getsource(module).encode())
    return ZIG_CACHE.with_name(f"{ZIG_CACHE.name}-{digest.hexdigest()[:16]}")


@pytest.mark.slow
def test_what_zig_has_compiled_before_changes_no_byte(tmp_path):
    """zig's own library of C++ is compiled with the first build that needs it, and must not keep what that one was."""
    target = Target.of(THIS, "x86_64")
    contents = []
    for name, cache in {"one": ZIG_CACHE, "another": second_zig_cache(target)}.items():
        builder = CrossBuilder(lambda _name, _text: None, cache)
        _, files = built(builder, request(sdist(tmp_path, name="answer.cpp"), target), tmp_path / name)
        contents.append((tmp_path / name / "site" / files[0].path).read_bytes())
    assert contents[0] == contents[1]
    assert b"ziglang" not in contents[0]


@pytest.mark.parametrize(
    ("architecture", "code"),
    [
        ("arm64", 'linker = "gcc -shared"'),
        ("arm64", 'linker = "clang -shared"'),
        ("arm64", 'extra = ["-march=armv8-a+crc", "-Wl,-Bsymbolic-functions", "-Wl,--exclude-libs,ALL"]'),
        ("x86_64", 'extra = ["-march=x86-64-v2"]'),
        ("arm64", "assert platform.machine() == os.uname().machine == 'aarch64'"),
        (
            "arm64",
            "subprocess.run([sys.executable, '-I', '-c', 'import sysconfig; sysconfig.get_config_vars()'], check=True)",
        ),
        ("arm64", "assert not {'PIP_CONFIG_FILE', 'CCC_OVERRIDE_OPTIONS', 'SETUPTOOLS_EXT_SUFFIX'} & {*os.environ}"),
    ],
    ids=["gcc", "clang", "options for Arm", "options for Intel", "machine", "isolated", "environment"],
)
def test_what_builds_expect_of_a_machine_holds(builder, tmp_path, monkeypatch, architecture, code):
    for name in ("CCC_OVERRIDE_OPTIONS", "SETUPTOOLS_EXT_SUFFIX"):
        monkeypatch.setenv(name, "+-no-such-option")
    target = Target.of(THIS, architecture)
    _, files = built(builder, request(sdist(tmp_path, code), target), tmp_path / "into")
    assert [file.machine for file in files] == [target.machine]


def test_cplusplus_is_compiled_by_the_c_compiler_too(builder, tmp_path):
    """Setuptools did so for long, and distutils always."""
    path = sdist(tmp_path, 'linker = sysconfig.get_config_var("LDSHARED")', name="answer.cpp")
    target = Target.of(THIS, "x86_64" if os.uname().machine == "x86_64" else "arm64")
    _, files = built(builder, request(path, target), tmp_path / "into")
    assert missing_libraries(files, target, sonames(files)) == {}


@pytest.mark.parametrize(("runtime", "newest"), [("python3.11", 26), ("python3.12", 29)])
def test_the_ceiling_decides_which_symbols_are_linked_to(builder, tmp_path, monkeypatch, runtime, newest):
    """The exponential function has a new version since glibc 2.29 (its release notes), on x86_64 beside the old one."""
    own = find_interpreter(sys.version_info[1])
    monkeypatch.setattr("builders.host.cross_builder.find_interpreter", lambda _minor: own)
    source = C.replace(b"42", b"(int)exp((double)(size_t)made)").replace(b"#include", b"#include <math.h>\n#include", 1)
    files = {"pyproject.toml": PROJECT, "backend.py": BACKEND.format(code='extra = ["-lm"]', asks="return []").encode()}
    path = write_sdist_files(tmp_path, "answer-1.0", {**files, "answer.c": source})
    _, found = built(builder, request(path, Target.of(runtime, "x86_64")), tmp_path / "into")
    assert (needed_glibc(found) == newest) if newest > 26 else (0 < needed_glibc(found) <= newest)


def test_headers_of_debian_serve_for_another_machine(builder, tmp_path, monkeypatch):
    """Debian's pyconfig.h includes <MACHINE-linux-gnu/python3.N/pyconfig.h>, of which there is one: this machine's."""
    own = find_interpreter(sys.version_info[1])
    assert own is not None
    assert own.include is not None
    include = tmp_path / "usr" / own.include.name
    shutil.copytree(own.include, include)
    beside = tmp_path / "usr" / f"{os.uname().machine}-linux-gnu" / include.name
    beside.mkdir(parents=True)
    (include / "pyconfig.h").rename(beside / "pyconfig.h")
    (include / "pyconfig.h").write_text(
        "".join(
            f"#ifdef __{machine}__\n#include <{machine}-linux-gnu/{include.name}/pyconfig.h>\n#endif\n"
            for machine in ("x86_64", "aarch64")
        )
    )
    monkeypatch.setattr("builders.host.cross_builder.find_interpreter", lambda _minor: replace(own, include=include))
    code = f"sysconfig.get_path = lambda _name: {str(include)!r}"
    for architecture in ("x86_64", "arm64"):
        target = Target.of(THIS, architecture)
        _, files = built(builder, request(sdist(tmp_path, code), target), tmp_path / architecture)
        assert [file.machine for file in files] == [target.machine]


def test_what_this_machine_refused_others_is_not_the_builds_fault(builder, tmp_path, monkeypatch):
    (tmp_path / "pids.events").write_text("max 7\n")
    own = str(tmp_path / "pids.events").encode()
    changed = {name: read_script(name).replace(b"/sys/fs/cgroup/pids.events", own) for name in SCRIPTS}
    monkeypatch.setattr("builders.host.script_run.read_script", changed.__getitem__)
    built(builder, request(sdist(tmp_path), Target.of(THIS, "arm64")), tmp_path / "into")


def test_compiler_flags_of_the_user_are_ignored(builder, tmp_path, monkeypatch):
    monkeypatch.setenv("CFLAGS", "--no-such-option")
    monkeypatch.setenv("CC", "/no/such/compiler")
    built(builder, request(sdist(tmp_path), Target.of(THIS, "x86_64")), tmp_path / "into")


def test_a_back_end_that_fails_is_shown(builder, tmp_path):
    path = sdist(tmp_path, 'raise SystemExit("it is broken")')
    with pytest.raises(BuildError) as caught:
        built(builder, request(path, Target.of(THIS, "arm64")), tmp_path / "into")
    assert caught.value.what == "its build back end failed"
    assert "it is broken" in caught.value.detail


def test_a_back_end_may_ask_for_more(builder, tmp_path):
    path = sdist(tmp_path, asks='return ["cmake>=3"]')
    with pytest.raises(MissingRequirementsError) as caught:
        built(builder, request(path, Target.of(THIS, "arm64")), tmp_path / "into")
    assert caught.value.requires == ("cmake>=3",)


def test_a_build_that_hangs_is_stopped_with_all_that_it_started(builder, tmp_path):
    mark = f"sleep 98{os.getpid()}"
    path = sdist(tmp_path, f'subprocess.run("{mark}", shell=True)')
    limits = BuildSettings(limits=Limits(seconds=4))
    with pytest.raises(BuildError, match="it was stopped after 4 s"):
        built(builder, request(path, Target.of(THIS, "arm64"), limits), tmp_path / "into")
    time.sleep(0.2)
    assert mark not in subprocess.run(["ps", "-eo", "args,stat"], capture_output=True, text=True, check=True).stdout


def test_closing_stops_running_builds(builder, tmp_path):
    path = sdist(tmp_path, "import time; time.sleep(600)")
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(built, builder, request(path, Target.of(THIS, "arm64")), tmp_path / "into")
        time.sleep(3)
        builder.close()
        with pytest.raises(BuildError, match="interrupted"):
            future.result(20)
        with pytest.raises(BuildError, match="interrupted"):
            built(builder, request(path, Target.of(THIS, "arm64")), tmp_path / "after")


def test_without_zig_it_says_what_to_install(builder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ziglang", None)  # as if it were not installed
    with pytest.raises(UnavailableError) as caught:
        builder.recipe(Target.of(THIS, "arm64"), BuildSettings())
    assert "pip install 'lambda-lpack[cross]'" in caught.value.remedy


def test_without_the_targets_python_it_says_which(builder, monkeypatch):
    monkeypatch.setattr("builders.host.cross_builder.find_interpreter", lambda _minor: None)
    with pytest.raises(UnavailableError, match=r"no CPython 3\.14") as caught:
        builder.recipe(Target.of("python3.14", "arm64"), BuildSettings())
    assert "3.14" in caught.value.remedy


def test_the_recipe_follows_the_target(builder):
    keys = {builder.recipe(Target.of(THIS, architecture), BuildSettings()).key for architecture in ("x86_64", "arm64")}
    assert len(keys) == 2
    needs = builder.recipe(Target.of(THIS, "arm64"), BuildSettings()).requirements_for
    assert needs is not None
    assert needs.machine == os.uname().machine


@pytest.mark.network
@pytest.mark.parametrize("minor", [9, 10, 11, 12, 13])
def test_setuptools_compiles_for_arm64_on_every_python(lpack, tmp_path, monkeypatch, minor):
    if find_interpreter(minor) is None:
        pytest.skip(f"needs CPython 3.{minor} with its headers")
    with suppress(FileExistsError):  # what zig has compiled of its own for other tests serves here too
        (store_folder() / COMPILER).symlink_to(ZIG_CACHE)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "app.py").write_text("def handler(event, context):\n    return event\n")
    (tmp_path / "app" / "requirements.txt").write_text("--no-binary markupsafe\nmarkupsafe==3.0.2\n../counter\n")
    shutil.copytree(FIXTURES / "packages" / "counter", tmp_path / "counter")
    (tmp_path / "lpack.toml").write_text(
        f'runtime = "python3.{minor}"\narch = "arm64"\nbuilder = "cross"\n'
        '[functions.one]\nsource = "app"\nhandler = "app.handler"\n'
    )
    finished = lpack("build", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    manifest = json.loads((tmp_path / "dist" / "lpack.json").read_text())
    wheels = sorted(each["wheel"] for each in manifest["functions"]["one"]["distributions"])
    assert [wheel.partition("-manylinux")[0] for wheel in wheels] == [
        f"counter-0.3-cp3{minor}-cp3{minor}",
        f"markupsafe-3.0.2-cp3{minor}-cp3{minor}",
    ]
    assert all(wheel.endswith("_aarch64.whl") for wheel in wheels)
