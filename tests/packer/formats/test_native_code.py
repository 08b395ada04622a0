"""Native code held against a target: machine, symbol versions, and the closed set of libraries."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.errors import BuildError
from builders.runtimes import Target
from packer.cache.local import LocalStore
from packer.cache.prune import verify_store
from packer.cache.store import NATIVE
from packer.core.errors import PackageError
from packer.core.model import FILE_MODE, OWN_SOURCE, BytesContent, Distribution, Entry, FileContent, Function, Tree
from packer.formats.elf import ElfFile
from packer.formats.native_code import NativeCode, has_elf_magic, open_content, read_native_files
from packer.formats.wheel import read_wheel
from packer.wheels import abi_check as loadable
from packer.wheels.abi_check import check_native, is_beyond, missing_libraries, needed_glibc, without_provided
from tests.native import EMPTY, NEW_SYMBOL, compile_library
from tests.wheels import make_wheel

OLD, NEW, ARM = (Target.of(*names) for names in (("python3.11", "x86_64"), ("python3.13", "x86_64"), ("python3.13", "arm64")))


def tree_of(*paths: tuple[str, bytes]) -> Tree:
    return Tree.of(Entry(path=path, mode=FILE_MODE, content=BytesContent.of(data), owner="one") for path, data in paths)


def check_closed(function: Function, parts: loadable.Parts, code: bytes = b"") -> tuple[str, ...]:
    return loadable.check_closed(function, parts, lambda _label: tree_of(("one/__init__.py", code)))


def check(tree: Tree, target: Target) -> None:
    check_native("one-1.0.whl", tuple(read_native_files(tree)), lambda: tree, target)


@pytest.fixture(scope="module")
def new_symbol(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("native")
    return compile_library(folder / "lib.so", NEW_SYMBOL, target="x86_64-linux-gnu.2.36").read_bytes()


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> bytes:
    return compile_library(tmp_path_factory.mktemp("native") / "lib.so").read_bytes()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("native")
    return compile_library(folder / "lib.so", EMPTY, target="aarch64-linux-gnu.2.17").read_bytes()


def test_a_symbol_beyond_the_ceiling_is_named(new_symbol):
    tree = tree_of(("one/_core.so", new_symbol))
    for target, glibc in ((OLD, "2.26"), (NEW, "2.34")):
        with pytest.raises(PackageError) as caught:
            check(tree, target)
        text = str(caught.value)
        assert "one-1.0.whl is refused" in text
        assert "one/_core.so needs arc4random" in text
        assert "@GLIBC_2.36 of libc.so.6" in text
        assert f"glibc {glibc}" in text
    check(tree, replace(OLD, ceiling=36))


def test_native_code_of_the_right_machine_only(plain, foreign):
    check(tree_of(("one/_core.so", plain)), OLD)
    with pytest.raises(PackageError, match=r"one/_core\.so is for x86_64, not for aarch64"):
        check(tree_of(("one/_core.so", plain)), ARM)
    # A payload for another machine may lie beside; an extension module may not.
    check(tree_of(("one/_core.so", plain), ("one/agents/arm.so", foreign)), OLD)
    with pytest.raises(PackageError, match="aarch64"):
        check(tree_of(("one/_core.so", plain), ("one/_more.cpython-311-x86_64-linux-gnu.so", foreign)), OLD)


def test_a_damaged_library_is_refused_and_test_data_is_not():
    broken = b"\x7fELF" + b"\x02" * 40
    with pytest.raises(PackageError, match=r"one/_core\.so"):
        list(read_native_files(tree_of(("one/_core.so", broken))))
    assert list(read_native_files(tree_of(("one/tests/sample.elf", broken)))) == []


@pytest.mark.parametrize(
    ("library", "version", "fits_old", "fits_new"),
    [
        ("libc.so.6", "GLIBC_2.2.5", True, True),
        ("libc.so.6", "GLIBC_2.26", True, True),
        ("libc.so.6", "GLIBC_2.27", False, True),
        ("libc.so.6", "GLIBC_2.34", False, True),
        ("libc.so.6", "GLIBC_2.35", False, False),
        ("libc.so.6", "GLIBC_ABI_DT_RELR", False, False),
        ("libstdc++.so.6", "GLIBCXX_3.4.24", True, True),
        ("libstdc++.so.6", "GLIBCXX_3.4.29", False, True),
        ("libstdc++.so.6", "GLIBCXX_3.4.30", False, False),
        ("libstdc++.so.6", "CXXABI_1.3.13", False, True),
        ("libc.so.6", "GLIBC_ABI_GNU2_TLS", False, False),
        ("libgcc_s.so.1", "GCC_7.0.0", True, True),
        ("libgcc_s.so.1", "GCC_14.0.0", False, False),
        ("libz.so.1", "ZLIB_1.2.5.2", True, True),
        ("libz.so.1", "ZLIB_1.2.9", False, True),
        ("libz.so.1", "ZLIB_1.2.12", False, False),
        ("libcrypt.so.1", "XCRYPT_2.0", False, True),
        ("libown.so.1", "OWN_9.9", True, True),
    ],
)
def test_symbol_versions(library, version, fits_old, fits_new):
    file = ElfFile(path="one/_core.so", machine="x86_64", needed=(library,), versions=((library, version),))
    for target, fits in ((OLD, fits_old), (NEW, fits_new)):
        assert is_beyond(version, target) == (not fits)
        if fits:
            check_native("one.whl", (file,), tree_of, target)


def test_the_family_that_is_too_new_is_named():
    versions = (("libz.so.1", "ZLIB_1.2.9"),)
    file = ElfFile(path="one/_core.so", machine="x86_64", needed=("libz.so.1",), versions=versions)
    with pytest.raises(PackageError, match=r"needs ZLIB_1\.2\.9 of libz\.so\.1, .* has ZLIB_1\.2\.5\.2 at most"):
        check_native("one.whl", (file,), lambda: tree_of(("one/_core.so", b"\x7fELF")), OLD)


def test_what_is_tagged_for_any_machine_may_bring_a_library_for_another(plain, foreign):
    files = tuple(read_native_files(tree_of(("one/attach_amd64.so", plain))))
    assert "for other machines" in check_native("one-1.0-py3-none-any.whl", files, tree_of, ARM)[0]
    files = tuple(read_native_files(tree_of(("one/_core.abi3.so", plain))))
    with pytest.raises(PackageError, match="x86_64"):
        check_native("one-1.0-py3-none-any.whl", files, tree_of, ARM)


def test_only_libraries_of_the_machine_count():
    other = replace(needing(path="two/libown.so.1", soname="libown.so.1"), machine="aarch64")
    with pytest.raises(PackageError, match=r"libown\.so\.1"):
        check_closed(function(), {"one.whl": (needing("libown.so.1"),), "two.whl": (other,)})
    too_new = replace(needing("libstdc++.so.6"), versions=(("libstdc++.so.6", "GLIBCXX_3.4.32"),))
    theirs = replace(needing(path="one/libstdc++.so.6"), machine="aarch64")
    with pytest.raises(PackageError, match="GLIBCXX"):
        check_native("one.whl", (too_new, theirs), lambda: tree_of(("one/_core.so", b"\x7fELF")), OLD)


def test_a_library_may_be_named_by_a_path():
    for name in ("$ORIGIN/../lib/libown.so.1", "${ORIGIN}/libown.so.1"):
        check_closed(function(), {"one.whl": (needing(name), needing(path="lib/libown.so.1"))})
    # The loader takes such a path as it is.
    with pytest.raises(PackageError, match=r"/usr/local/lib/libz\.so\.1"):
        check_closed(function(), {"one.whl": (needing("/usr/local/lib/libz.so.1"),)})


def test_a_library_of_the_wheels_own_counts_for_itself():
    files = (
        ElfFile(path="one/_core.so", machine="x86_64", versions=(("libstdc++.so.6", "GLIBCXX_3.4.32"),)),
        ElfFile(path="one.libs/libstdc++.so.6", machine="x86_64", soname="libstdc++.so.6"),
    )
    check_native("one.whl", files, tree_of, OLD)


def function(**values: object) -> Function:
    named = {"name": "orders", "source": Path("/nowhere"), "handler": "app.handler", "target": OLD, "requirements": None}
    return Function(**{**named, "lock_path": Path("/nowhere/pylock.toml"), **values})  # type: ignore[arg-type]


def needing(*names: str, path: str = "one/_core.so", soname: str = "") -> ElfFile:
    return ElfFile(path=path, machine="x86_64", needed=names, soname=soname)


def test_the_set_of_libraries_is_closed():
    known = needing("libc.so.6", "libm.so.6", "libstdc++.so.6", "libz.so.1", "ld-linux-x86-64.so.2", "libpython3.11.so.1.0")
    check_closed(function(), {"one.whl": (known,)})
    with pytest.raises(PackageError) as caught:
        check_closed(function(), {"one.whl": (needing("libpq.so.5", "libgomp.so.1"),)})
    text = str(caught.value)
    assert "orders: one.whl needs the library libpq.so.5 (and libgomp.so.1)" in text
    assert "one/_core.so" in text
    assert 'provided = ["libpq.so.5", "libgomp.so.1"]' in text
    check_closed(function(provided=("libpq.so.5", "libgomp.so.1")), {"one.whl": (needing("libpq.so.5", "libgomp.so.1"),)})


def test_another_distribution_or_the_source_may_bring_a_library():
    user = needing("libcore.so.2", "libown.so")
    brings = needing(path="two/lib/libcore-renamed.so", soname="libcore.so.2")
    own = needing(path="lib/libown.so")
    check_closed(function(), {"one.whl": (user,), "two.whl": (brings,), OWN_SOURCE: (own,)})
    with pytest.raises(PackageError, match=r"libown\.so"):
        check_closed(function(), {"one.whl": (user,), "two.whl": (brings,)})


def test_libraries_differ_between_the_systems():
    assert missing_libraries((needing("libcrypt.so.1"),), OLD, frozenset()) == {}
    assert list(missing_libraries((needing("libcrypt.so.1"),), NEW, frozenset())) == ["libcrypt.so.1"]
    assert list(missing_libraries((needing("libcrypt.so.2"),), OLD, frozenset())) == ["libcrypt.so.2"]
    assert missing_libraries((replace(needing("libpq.so.5"), machine="aarch64"),), OLD, frozenset()) == {}


def test_the_glibc_that_is_needed():
    versions = (("libc.so.6", "GLIBC_2.2.5"), ("libm.so.6", "GLIBC_2.29"), ("libx.so", "OTHER_9.99"))
    assert needed_glibc((ElfFile(path="a", machine="x86_64", versions=versions),)) == 29
    assert needed_glibc((ElfFile(path="a", machine="x86_64"),)) == 0


def test_what_a_wheel_holds_is_remembered_with_the_wheels(tmp_path, plain):
    files = {"one/__init__.py": b"", "one/_core.so": plain}
    wheel = make_wheel(tmp_path, "one", "1.0", files, tag="cp311-cp311-manylinux_2_17_x86_64")
    store = LocalStore(tmp_path / "store")
    distribution = Distribution(name="one", version="1.0", filename=wheel.name, digest="d" * 64, path=wheel)
    found = NativeCode(store).of_wheel(distribution)
    assert [file.path for file in found] == ["one/_core.so"]
    wheel.unlink()
    assert NativeCode(store).of_wheel(distribution) == found
    assert verify_store(store) == (1, [])
    [record] = [path for path in (store.root / "wheels" / NATIVE).rglob("*") if path.is_file()]
    record.write_bytes(b"broken")
    assert verify_store(store) == (1, [record])


def module(*needed: str, path: str = "one/_core.so") -> ElfFile:
    return replace(needing(*needed, path=path), module=True)


def test_a_plug_in_that_no_module_leads_to_is_told_and_let_through():
    plugin, core = needing("libOpenCL.so.1", path="one/lib/plugin.so"), module("libinner.so")
    [warning] = check_closed(function(), {"one.whl": (core, needing(path="one/lib/libinner.so"), plugin)})
    assert "one/lib/plugin.so of one.whl cannot be loaded on Lambda, which has no libOpenCL.so.1" in warning
    with pytest.raises(PackageError, match=r"libOpenCL\.so\.1.*: one/lib/libinner\.so links to it"):
        check_closed(function(), {"one.whl": (core, needing("libOpenCL.so.1", path="one/lib/libinner.so"))})
    with pytest.raises(PackageError, match=r"libOpenCL\.so\.1"):
        check_closed(function(), {"one.whl": (plugin,)})  # without any module, Python code loads it by itself


def test_a_library_that_python_code_loads_by_its_name_is_sure_to_be_loaded(new_symbol, plain):
    code = b"ctypes.CDLL(os.path.join(here, 'libfast.so'))"
    parts = {"one.whl": (module(), needing("libx.so", path="one/libfast.so"))}
    assert check_closed(function(), parts)
    with pytest.raises(PackageError, match=r"libx\.so"):
        check_closed(function(), parts, code)
    tree = tree_of(("one/_core.abi3.so", plain), ("one/libfast.so", new_symbol), ("one/__init__.py", code))
    with pytest.raises(PackageError, match=r"libfast\.so needs arc4random"):
        check(tree, OLD)


def test_a_namesake_of_a_library_that_the_runtime_has_is_not_what_others_load():
    parts = {"one.whl": (module("libz.so.1"),), "two.whl": (module(path="two/m.so"), needing("libx.so", path="two/libz.so.1"))}
    assert check_closed(function(), parts)
    with pytest.raises(PackageError, match=r"libx\.so"):
        check_closed(function(), {"one.whl": (module("libz.so.1"), needing("libx.so", path="one/libz.so.1"))})


def test_a_module_that_its_package_does_without_is_told_and_let_through(new_symbol, plain):
    """As numba's pools of threads do."""
    parts = {"one.whl": (module(path="one/_core.so"), module("libtbb.so.12", path="one/pool.so"))}
    code = b"def choose():\n    try:\n        from one import pool\n    except ImportError:\n        pass\n"
    [warning] = check_closed(function(), parts, code)
    assert "one/pool.so of one.whl cannot be loaded on Lambda, which has no libtbb.so.12. What imports it goes on" in warning
    with pytest.raises(PackageError, match=r"libtbb\.so\.12.*: one/pool\.so links to it"):
        check_closed(function(), parts, code + b"from one import pool\n")
    beside: dict[str, tuple[ElfFile, ...]] = {
        "one.whl": (module("libinner.so", path="one/pool.so"), needing("libx.so", path="one/libinner.so"))
    }
    assert "one/libinner.so of one.whl cannot be loaded" in check_closed(function(), beside, code)[0]
    beside["one.whl"] += (module("libinner.so", path="one/_core.so"),)
    with pytest.raises(PackageError, match=r"libx\.so.*: one/libinner\.so links to it"):
        check_closed(function(), beside, code)
    tree = tree_of(("one/_core.abi3.so", plain), ("one/pool.abi3.so", new_symbol), ("one/__init__.py", code))
    [warning] = check_native("one-1.0.whl", tuple(read_native_files(tree)), lambda: tree, OLD)
    assert "Nothing is sure to load it" in warning


def test_what_another_distributions_module_leads_to_counts():
    parts = {"one.whl": (module("libtwo.so"),), "two.whl": (module(path="two/m.so"), needing("libx.so", path="two/libtwo.so"))}
    with pytest.raises(PackageError, match=r"two\.whl needs the library libx\.so"):
        check_closed(function(), parts)


def test_a_symbol_of_a_plug_in_is_told_and_let_through(new_symbol, plain):
    tree = tree_of(("one/_core.abi3.so", plain), ("one/plugin.so", new_symbol))
    [warning] = check_native("one-1.0.whl", tuple(read_native_files(tree)), lambda: tree, OLD)
    assert "one/plugin.so needs arc4random" in warning
    assert "Nothing is sure to load it" in warning
    only = tree_of(("one/plugin.so", new_symbol))
    assert check_native("one-1.0-py3-none-any.whl", tuple(read_native_files(only)), lambda: only, OLD)


def test_warnings_that_are_not_shown_are_counted(new_symbol, plain):
    plugins = [(f"one/plugin{number}.so", new_symbol) for number in range(5)]
    tree = tree_of(("one/_core.abi3.so", plain), *plugins)
    *shown, more = check_native("one-1.0.whl", tuple(read_native_files(tree)), lambda: tree, OLD)
    assert [f"one/plugin{number}.so needs" in warning for number, warning in enumerate(shown)] == [True] * 3
    assert more == "one-1.0.whl: and 2 more like these."


def test_a_module_is_known_by_what_python_calls_in_it(tmp_path):
    source = "int PyInit_plain(void) { return 0; }\n"
    data = compile_library(tmp_path / "plain.so", source).read_bytes()
    found = {file.path: file.module for file in read_native_files(tree_of(("one/plain.so", data), ("one/other.so", data)))}
    assert found == {"one/plain.so": True, "one/other.so": False}


def test_files_that_nothing_loads_can_be_named():
    plugin = needing("libOpenCL.so.1", path="one/lib/plugin.so")
    spared = without_provided(function(provided=("one/lib/*", "libz.so.9")), (plugin, needing()))
    assert [file.path for file in spared] == ["one/_core.so"]


@pytest.mark.parametrize("data", [b"", b"text", b"\xca\xfe\xba\xbe" + b"\0" * 60])
def test_an_extension_module_must_be_native_code(data):
    for name in ("_core.cpython-313-x86_64-linux-gnu.so", "_core.abi3.so"):
        with pytest.raises(PackageError, match="is not one for Linux"):
            list(read_native_files(tree_of((f"one/{name}", data)), strict=True))
        assert list(read_native_files(tree_of((f"one/{name}", data)))) == []


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(path.read_bytes()[:40]), Path.unlink], ids=["cut", "removed"])
def test_content_that_cannot_be_read_is_named(tmp_path, change):
    path = make_wheel(tmp_path, "one", "1.0", {"one/data.bin": bytes(range(256)) * 64})
    content = next(entry.content for entry in read_wheel(path, path.name) if entry.path == "one/data.bin")
    change(path)
    with pytest.raises(PackageError, match=r"one/data\.bin cannot be read from .*one-1\.0"), open_content(content):
        pass
    with pytest.raises(PackageError, match=r"one/data\.bin cannot be read"):
        has_elf_magic(content)


def test_source_file_that_was_removed_is_named(tmp_path):
    content = FileContent(path=tmp_path / "lib.so", digest="0" * 64, size=100)
    with pytest.raises(BuildError, match=r"lib\.so can no longer be read: No such file"):
        has_elf_magic(content)
