"""A format of lock files comes from outside: one reader and one row are all that finding, locking and `affected` need."""

from msgspec.structs import replace

from packer.cache.signatures import Digests
from packer.core.events import Reporter
from packer.core.model import Archive, LockedPackage
from packer.core.options import Policy
from packer.core.process import run
from packer.locks.formats import LOCK_FORMATS, LockFormat, LockReader
from packer.locks.pins import Pin
from packer.net.credentials import Credentials
from packer.resolve.declaration import read_declaration
from packer.resolve.resolver import Resolver
from packer.source.dependency_files import find_requirements, standard_files


class LinesReader(LockReader):
    """Reads lines that say ``NAME VERSION SHA256``."""

    def read(self, requirements, target, run=run, parse=None):
        lines = [line.split() for line in requirements.path.read_text().splitlines()]
        return tuple(self.package(*line) for line in sorted(lines))

    def package(self, name: str, version: str, sha256: str):
        filename = f"{name}-{version}-py3-none-any.whl"
        archive = Archive(filename=filename, location=f"https://files.test/{filename}", sha256=sha256)
        return LockedPackage(name=name, version=version, wheels=(archive,))


class PinsReader(LinesReader):
    is_complete = False

    def package(self, name: str, version: str, sha256: str):
        return Pin(name=name, version=version, sha256=frozenset({sha256}))


def resolver(world) -> Resolver:
    return Resolver(run, world.store, Credentials([], {}), Digests(), Reporter(), Policy(offline=True))


def test_a_format_from_outside_locks_a_function(world, tmp_path, monkeypatch):
    monkeypatch.setitem(LOCK_FORMATS, "lines", LockFormat(filename="lines.lock", reader=f"{__name__}:LinesReader"))
    (tmp_path / "lines.lock").write_text(f"beta 2.0 {'b' * 64}\nalpha 1.0 {'a' * 64}\n")
    function = replace(world.function, requirements=find_requirements(tmp_path, None, "here"))
    lock = resolver(world).lock(function)
    assert [(each.name, each.version) for each in lock.packages] == [("alpha", "1.0"), ("beta", "2.0")]
    assert lock.origin == "lines.lock"


def test_a_format_of_pins_from_outside_has_uv_locate_them(world, tmp_path, monkeypatch):
    monkeypatch.setitem(LOCK_FORMATS, "pins", LockFormat(filename="pins.lock", reader=f"{__name__}:PinsReader"))
    (tmp_path / "pins.lock").write_text(f"alpha 1.0 {'a' * 64}\n")
    declaration = read_declaration(replace(world.function, requirements=find_requirements(tmp_path, None, "here")))
    assert declaration.text == "alpha==1.0"
    assert declaration.hashes == {"alpha": {"a" * 64}}


def test_locks_are_found_before_declarations(monkeypatch):
    monkeypatch.setitem(LOCK_FORMATS, "lines", LockFormat(filename="lines.lock", reader="nowhere"))
    assert list(standard_files()) == ["pylock", "uv.lock", "poetry.lock", "Pipfile.lock", "lines", "requirements", "pyproject"]
