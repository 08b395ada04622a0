"""Which libraries of a layer move to its folder lib: each condition alone, and all together held against a loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace

from builders.runtimes import Target
from packer.core.errors import PackageError
from packer.core.function_tree import Part
from packer.core.model import EXECUTABLE_MODE, FILE_MODE, OWN_SOURCE, BytesContent, Entry, Function, Tree
from packer.formats.elf import ElfFile
from packer.layers.shared_libraries import GatheredLibraries, gather_libraries
from packer.wheels.abi_check import check_closed

TARGET = Target.of("python3.12", "x86_64")
OUTER, INNER = "libouter-01234567.so.5.0.0", "libinner-89abcdef-01234567.so.0"
FUNCTION = Function(
    name="orders",
    source=Path("src"),
    handler="app.handler",
    target=TARGET,
    requirements=None,
    lock_path=Path("pylock.orders.toml"),
)


class File(Struct, frozen=True, kw_only=True):
    """A file of a distribution; native code where ``elf`` says what it is."""

    data: bytes
    elf: ElfFile | None = None
    mode: int = FILE_MODE


def elf(path: str, *needed: str, data: bytes = b"", **facts: object) -> tuple[str, File]:
    name = path.rpartition("/")[2]
    described = ElfFile(path=path, machine="x86_64", soname=name, needed=needed, module=name.endswith(".abi3.so"))
    return path, File(data=data or path.encode(), elf=replace(described, **facts))


def text(path: str, data: bytes = b"") -> tuple[str, File]:
    return path, File(data=data)


def distribution(name: str, *more: tuple[str, File]) -> dict[str, File]:
    """Give a distribution with a module that needs OUTER, which needs INNER; more files replace its own."""
    return dict(
        (
            elf(f"{name}/_core.abi3.so", OUTER, "libc.so.6", run_paths=(f"$ORIGIN/../{name}.libs",)),
            elf(f"{name}.libs/{OUTER}", INNER, "libm.so.6", data=b"the outer library", run_paths=("$ORIGIN",)),
            elf(f"{name}.libs/{INNER}", "libc.so.6", data=b"the inner library"),
            text(f"{name}/__init__.py"),
            *more,
        )
    )


World = dict[str, dict[str, File]]


def parts_of(world: World) -> tuple[Part, ...]:
    return tuple(
        (
            name,
            Tree.of(
                Entry(path=path, mode=file.mode, content=BytesContent.of(file.data), owner=f"{name}.whl")
                for path, file in files.items()
            ),
        )
        for name, files in world.items()
    )


def native_of(world: World) -> dict[str, tuple[ElfFile, ...]]:
    return {name: tuple(file.elf for file in files.values() if file.elf) for name, files in world.items()}


def gather(world: World, others: World | None = None, built: Sequence[str] = ()) -> GatheredLibraries:
    given, beside = native_of(world), native_of(others or {})
    return gather_libraries(parts_of(world), given, others=beside, built=frozenset(built), target=TARGET)


def moved(world: World, others: World | None = None, built: Sequence[str] = ()) -> list[str]:
    """Give the names of what moves."""
    return [entry.path.removeprefix("lib/") for entry in gather(world, others, built).libraries]


def two(*more: tuple[str, File]) -> World:
    """Give two distributions with the same libraries, more files going to the second."""
    return {"one": distribution("one"), "two": distribution("two", *more)}


def paths(found: GatheredLibraries) -> dict[str, list[str]]:
    return {name: [entry.path for entry in tree] for name, tree in found.parts}


def test_what_two_hold_is_kept_once():
    world = two()
    found = gather(world)
    assert paths(found) == {name: [f"{name}/__init__.py", f"{name}/_core.abi3.so"] for name in ("one", "two")}
    assert [(entry.path, entry.content.read()) for entry in found.libraries] == [
        (f"lib/{INNER}", b"the inner library"),
        (f"lib/{OUTER}", b"the outer library"),
    ]
    assert found.saved == len(b"the inner library" + b"the outer library")
    before = sum(tree.size for _, tree in parts_of(world))
    assert sum(tree.size for _, tree in found.parts) + found.libraries.size + found.saved == before


def test_the_order_of_the_parts_is_theirs_and_changes_nothing_else():
    path = f"two.libs/{OUTER}"
    world = two((path, replace(distribution("two")[path], mode=EXECUTABLE_MODE)))
    other = dict(reversed(world.items()))
    found, turned = gather(world), gather(other)
    assert found.libraries == turned.libraries
    assert [name for name, _ in turned.parts] == ["two", "one"]
    assert {entry.owner for entry in found.libraries} == {"one.whl"}
    assert [entry.mode for entry in found.libraries] == [FILE_MODE, EXECUTABLE_MODE]


def test_what_one_alone_holds_moves_where_lpack_built_it():
    world: World = {"one": distribution("one")}
    assert moved(world) == []
    assert moved(world, built=["other"]) == []
    found = gather(world, built=["one"])
    assert [entry.path for entry in found.libraries] == [f"lib/{INNER}", f"lib/{OUTER}"]
    assert found.saved == 0


def test_nothing_changes_where_nothing_moves():
    world: World = {"one": distribution("one"), "plain": dict([text("plain.py")])}
    found = gather(world)
    assert (found.parts, len(found.libraries), found.saved) == (parts_of(world), 0, 0)


def at_two(path: str, **facts: object) -> tuple[str, File]:
    """Give a file of the second distribution with other facts."""
    file = distribution("two")[path]
    assert file.elf
    return path, replace(file, elf=replace(file.elf, **facts))


OUTER_AT, CORE_AT = f"two.libs/{OUTER}", "two/_core.abi3.so"
# What keeps OUTER where it is, whatever becomes of INNER.
STAYS: dict[str, World] = {
    "a: an extension module": two(at_two(OUTER_AT, module=True)),
    "a: another soname": two(at_two(OUTER_AT, soname="libouter.so.5")),
    "a: for another machine": two(at_two(OUTER_AT, machine="aarch64")),
    "a: nothing links to it": two(at_two(CORE_AT, needed=("libc.so.6",))),
    "a: only what it links to itself": two(at_two(CORE_AT, needed=()), at_two(OUTER_AT, needed=(OUTER,))),
    "a: linked to by its path": two(at_two(CORE_AT, needed=(f"$ORIGIN/../two.libs/{OUTER}", OUTER))),
    "a: a path leads on": two(at_two(OUTER_AT, needed=(f"$ORIGIN/{INNER}",))),
    "a: not where repair tools put it": {
        name: {
            **{path: file for path, file in distribution(name).items() if OUTER not in path},
            **dict([elf(f"{name}/lib/{OUTER}", INNER, data=b"the outer library")]),
        }
        for name in ("one", "two")
    },
    "b: loaded by its name": two(text("two/load.py", b'CDLL("libouter.so.5")')),
    "b: loaded by its whole name": two(text("two/load.py", f"CDLL(here / '{OUTER}')".encode())),
    "b: looked for by a pattern": two(text("two/load.py", b"glob('../*/libout*.so')")),
    "b: its folder is named": two(text("two/load.py", b"for path in os.listdir(site / 'two.libs'):")),
    "b: a folder is computed": two(text("two/load.py", b'path = f"{__name__}.libs"')),
    "b: a folder is computed in the old way": two(text("two/load.py", b"path = '%s.libs' % name")),
    "b: named for the start": two(text("two.pth", b"import ctypes; ctypes.CDLL('/x/libouter.so')")),
    "b: named in bytecode alone": two(text("two/load.pyc", b"\0\x09libouter-\0")),
    "c: what it needs is nobody's": two(at_two(OUTER_AT, needed=("libprovided.so.1",))),
    "c: what it needs differs": two(elf(f"two.libs/{INNER}", data=b"another inner library")),
    "c: what it needs stays": {
        name: distribution(name, elf(f"{name}.libs/{INNER}", "libprovided.so.1", data=b"the inner library"))
        for name in ("one", "two")
    },
    "c: a library of the runtime's has a rival": two(elf("two.libs/libm.so.6")),
    "d: other content": two(elf(OUTER_AT, INNER, data=b"another outer library")),
    "d: a namesake elsewhere": two(elf(f"two/plugins/{OUTER}", data=b"another library")),
    "d: no library at all has the name": two(text(f"two/data/{OUTER}", b"text")),
    "d: another with its soname": two(elf("two/plugins/libplugin.so", soname=OUTER)),
    "a program links to it": two(elf("bin/tool", OUTER)),
    "a program leads to it": two(elf("bin/tool", "libstep.so"), elf("two/libstep.so", OUTER)),
}


@pytest.mark.parametrize("world", STAYS.values(), ids=STAYS.keys())
def test_a_library_stays_where_one_condition_fails(world):
    found = gather(world)
    assert f"lib/{OUTER}" not in [entry.path for entry in found.libraries]
    assert all(any(path.endswith(OUTER) for path in held) for held in paths(found).values())
    kept = paths(gather(world, built=["one", "two"]))["two"]
    assert any(path.endswith(OUTER) for path in kept)


HARMLESS = (
    b"import two.libs2; two.libraries(); self.libs = x.libs",
    b"from two import libouter_version  # libouter is great",
    b"path = os.path.join(sys.prefix, 'lib', '/lib', \"lib64\", 'libother.so')",
    b"name = 'libouter_version'",
)


@pytest.mark.parametrize("source", HARMLESS)
def test_words_that_lead_to_no_library_keep_none(source):
    assert moved(two(text("two/load.py", source))) == [INNER, OUTER]


def test_bytecode_with_its_source_is_not_read_twice():
    assert moved(two(text("two/__pycache__/load.cpython-312.pyc", b"libouter"))) == [INNER, OUTER]


def test_the_first_may_stay_and_others_share():
    world = {**two(), "three": distribution("three", text("three/load.py", b"CDLL('libouter.so')"))}
    found = gather(world)
    assert moved(world) == [INNER, OUTER]
    assert paths(found)["three"] == [f"three.libs/{OUTER}", "three/__init__.py", "three/_core.abi3.so", "three/load.py"]
    assert found.saved == 2 * len(b"the inner library") + len(b"the outer library")


def plain(name: str) -> World:
    """Give two distributions whose library has a name that others may have, too."""
    return {
        each: dict(
            (
                elf(f"{each}/_core.abi3.so", name, run_paths=(f"$ORIGIN/../{each}.libs",)),
                elf(f"{each}.libs/{name}", data=b"a library"),
            )
        )
        for each in ("one", "two")
    }


@pytest.mark.parametrize("name", ["libstdc++.so.6", "libssl.so.3", "libgomp-0123.so.1", "liblarge-20240116"])
def test_a_name_without_a_digest_would_be_found_by_others(name):
    assert moved(plain(name)) == []
    assert moved(plain("libgomp-01234567.so.1")) == ["libgomp-01234567.so.1"]


@pytest.mark.parametrize("owner", [OWN_SOURCE, "three"])
@pytest.mark.parametrize(
    ("file", "others"),
    [
        pytest.param(elf(f"lib/{OUTER}"), [INNER], id="its name"),
        pytest.param(elf("lib/libother.so", soname=OUTER), [INNER], id="its soname"),
        pytest.param(elf("lib/libother.so", f"$ORIGIN/{OUTER}"), [INNER], id="its path"),
        pytest.param(elf("bin/tool", OUTER), [], id="a program, which leads on"),
    ],
)
def test_what_a_user_of_the_layer_has_beside_it_counts(file, others, owner):
    assert moved(two(), {owner: dict([file])}) == others
    assert moved(two(), {owner: dict([elf("lib/libother.so", OUTER)])}) == [INNER, OUTER]
    assert moved(two(), {"two": dict([file])}) == [INNER, OUTER], "the layer's own distributions are not beside it"


def test_the_own_source_never_loses_a_library():
    world = {"one": distribution("one"), OWN_SOURCE: distribution("two")}
    assert moved(world) == []


def test_libraries_that_need_each_other_move_together():
    circle = {name: distribution(name, elf(f"{name}.libs/{INNER}", OUTER, data=b"round")) for name in ("one", "two")}
    assert moved(circle) == [INNER, OUTER]


def test_what_was_stripped_is_known_by_what_it_is_now():
    """The native code is that of the wheels, and the content of one is another than the wheel's."""
    stripped = two((OUTER_AT, replace(distribution("two")[OUTER_AT], data=b"stripped")))
    assert moved(stripped) == [INNER]
    both = {name: {path: replace(file, data=file.data[:9]) for path, file in files.items()} for name, files in two().items()}
    assert [entry.content.size for entry in gather(both).libraries] == [9, 9]


def test_what_was_trimmed_is_not_there():
    world = two()
    parts = tuple((name, Tree(tuple(entry for entry in tree if "_core" not in entry.path))) for name, tree in parts_of(world))
    found = gather_libraries(parts, native_of(world), others={}, built=frozenset(), target=TARGET)
    assert [entry.path for entry in found.libraries] == [f"lib/{INNER}"]


def closed(world: World, change: Callable[[World], Mapping[str, Sequence[ElfFile]]]) -> tuple[str, ...]:
    return check_closed(FUNCTION, change(world), lambda _label: Tree(()))


def after(world: World) -> dict[str, list[ElfFile]]:
    """Give the native code of what lies in a layer once libraries have moved."""
    found = gather(world)
    by_path = {file.path: file for files in native_of(world).values() for file in files}
    by_name = {path.rpartition("/")[2]: file for path, file in by_path.items()}
    left = {name: [by_path[entry.path] for entry in tree if entry.path in by_path] for name, tree in found.parts}
    libraries = [replace(by_name[entry.path.removeprefix("lib/")], path=entry.path) for entry in found.libraries]
    return {**left, "the layer": libraries}


def test_the_proof_that_nothing_is_missing_holds_after_the_move():
    world = two()
    assert closed(world, native_of) == closed(world, after) == ()
    with pytest.raises(PackageError, match=f"needs the library {OUTER}"):
        closed(world, lambda world: {**after(world), "the layer": []})
