"""Shaping a function: what one step is told must hold for the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.runtimes import Target
from packer.cache.local import LocalStore
from packer.core.errors import PackageError
from packer.core.model import OWN_SOURCE, Distribution, Function
from packer.core.options import TrimOptions
from packer.formats.native_code import NativeCode
from packer.formats.wheel import read_wheel
from packer.source.facts import FactScanner
from packer.trim.bytecode_placement import BytecodePlacer
from packer.trim.material import Material
from packer.trim.profile import profile_text
from packer.trim.shape import Shaper
from tests.packer.trim.test_profile import profile
from tests.packer.trim.test_rules import tree_of
from tests.wheels import make_wheel


def gather(folder: Path, trim: TrimOptions, **files: dict[str, bytes]) -> tuple[Shaper, Material]:
    """Make wheels of these files, and gather a function of them."""
    function = Function(
        name="orders",
        source=folder,
        handler="app.handler",
        target=Target.of("python3.12", "x86_64"),
        requirements=None,
        lock_path=folder / "l",
        trim=trim,
    )
    wheels = {name: make_wheel(folder, name, "1.0", held) for name, held in files.items()}
    found = [
        Distribution(name=name, version="1.0", filename=path.name, digest=name * 9, path=path) for name, path in wheels.items()
    ]
    store = LocalStore(folder / "store")
    shaper = Shaper(FactScanner(store), NativeCode(store), None, BytecodePlacer(None, None, None))  # type: ignore[arg-type]
    parts = [(OWN_SOURCE, tree_of("app.py")), *((name, read_wheel(path, path.name)) for name, path in wheels.items())]
    return shaper, shaper.material(function, found, parts)


def test_keep_patterns_override_the_profile(tmp_path):
    """The stub's own remedy is keep = [...]."""
    place = tmp_path / "lpack-profile.orders.toml"
    place.write_bytes(profile_text(profile({"one": ("one/__init__.py",)})))
    trim = TrimOptions(level="max", keep=(("", "one/late.py"),), profile=place)
    shaper, material = gather(tmp_path, trim, one={"one/__init__.py": b"", "one/late.py": b"X = 1\n"})
    [entry] = [each for each in shaper.shape(material).tree if each.path == "one/late.py"]
    assert entry.content.read() == b"X = 1\n"


def test_what_collides_only_where_it_is_trimmed_is_no_error(tmp_path):
    """A bisection restores the tests of both, and so does a function that needs them: it runs with the first, untrimmed too."""
    files = {
        name: {f"{name}.py": b"", "tests/conf.py": name.encode(), "tests/test_it.py": b"def test(): pass\n"}
        for name in ("one", "two")
    }
    shaper, material = gather(tmp_path, TrimOptions(level="safe"), **files)
    assert not [each.path for each in shaper.shape(material).tree if each.path.startswith("tests/")]
    restored = frozenset({("tests", "one"), ("tests", "two")})
    for shaped in (shaper.plain(material), shaper.shape(material, restored)):
        assert [each.content.read() for each in shaped.tree if each.path == "tests/conf.py"] == [b"one"]


def test_what_collides_in_any_case_is_an_error_whatever_is_restored(tmp_path):
    files = {name: {f"{name}.py": b"", "data.json": name.encode(), "one.pyi": b""} for name in ("one", "two")}
    shaper, material = gather(tmp_path, TrimOptions(level="safe"), **files)
    for restored in (frozenset[tuple[str, str]](), frozenset({("stubs", "one")})):
        with pytest.raises(PackageError, match=r"one and two both hold data\.json"):
            shaper.shape(material, restored)
