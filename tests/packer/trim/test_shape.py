"""Shaping a function: what one step is told must hold for the others."""

from __future__ import annotations

from builders.runtimes import Target
from packer.cache.local import LocalStore
from packer.core.model import OWN_SOURCE, Distribution, Function
from packer.core.options import TrimOptions
from packer.formats.native_code import NativeCode
from packer.formats.wheel import read_wheel
from packer.source.facts import FactScanner
from packer.trim.bytecode_placement import BytecodePlacer
from packer.trim.profile import profile_text
from packer.trim.shape import Shaper
from tests.packer.trim.test_profile import profile
from tests.packer.trim.test_rules import tree_of
from tests.wheels import make_wheel


def test_keep_patterns_override_the_profile(tmp_path):
    """The stub's own remedy is keep = [...]."""
    wheel = make_wheel(tmp_path, "one", "1.0", {"one/__init__.py": b"", "one/late.py": b"X = 1\n"})
    place = tmp_path / "lpack-profile.orders.toml"
    place.write_bytes(profile_text(profile({"one": ("one/__init__.py",)})))
    trim = TrimOptions(level="max", keep=(("", "one/late.py"),), profile=place)
    function = Function(
        name="orders",
        source=tmp_path,
        handler="app.handler",
        target=Target.of("python3.12", "x86_64"),
        requirements=None,
        lock_path=tmp_path / "l",
        trim=trim,
    )
    found = Distribution(name="one", version="1.0", filename=wheel.name, digest="a" * 64, path=wheel)
    store = LocalStore(tmp_path / "store")
    shaper = Shaper(FactScanner(store), NativeCode(store), None, BytecodePlacer(None, None, None))  # type: ignore[arg-type]
    material = shaper.material(function, [found], [(OWN_SOURCE, tree_of("app.py")), ("one", read_wheel(wheel, wheel.name))])
    [entry] = [each for each in shaper.shape(material).tree if each.path == "one/late.py"]
    assert entry.content.read() == b"X = 1\n"
