"""A store, an index and fake builders: what tests of builds have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from builders.errors import UnavailableError
from builders.recipes import BuildSettings, BuiltWheel, Recipe, WheelRequest
from builders.runtimes import Target
from packer.cache.signatures import Digests
from packer.cache.store import Store
from packer.core.events import Reporter
from packer.core.model import Archive, Function, LockedPackage
from packer.core.options import Policy
from packer.core.process import run
from packer.net.credentials import Credentials
from packer.net.downloads import FetchedArchive, StoreFetcher
from packer.resolve.resolver import Resolver
from packer.source.package_source import Origins
from packer.wheels.build_requirements import BuildRequirements
from packer.wheels.store_builder import LazyBuilder, StoreBuilder, build_with_any
from packer.wheels.wheel_builder import TaskMaker
from tests.packages import write_sdist_files
from tests.wheels import make_wheel

TARGET = Target.of("python3.12", "x86_64")
PURE = {"pyproject.toml": b"[build-system]\nrequires = []\n", "one.py": b""}
NATIVE = {**PURE, "src/one.c": b"int one;\n"}


class FakeBuilder(Struct):
    """Writes a small wheel, or does what it is told instead."""

    name: str
    tag: str = "py3-none-any"
    recipes: Callable[[], None] = lambda: None
    trouble: list[Exception] = field(default_factory=list)
    requests: list[WheelRequest] = field(default_factory=list)
    image: str = "image:1"
    closed: bool = False

    def close(self) -> None:
        self.closed = True

    def recipe(self, target: Target, _settings: BuildSettings) -> Recipe:
        self.recipes()
        return Recipe(key=f"{self.name} {self.image}", requirements_for=target)

    @contextmanager
    def build(self, request: WheelRequest, into: Path) -> Iterator[BuiltWheel]:
        self.requests.append(request)
        if self.trouble:
            raise self.trouble.pop(0)
        name = request.name.split()[0]
        path = make_wheel(into, name, "1.0", {f"{name}.py": self.name.encode()}, tag=self.tag)
        yield BuiltWheel(path=path, log="what the build said")


class Notes(Reporter):
    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def note(self, message: str) -> None:
        self._notes.append(message)


class World(Struct):
    folder: Path
    store: Store
    index: Path
    builders: dict[str, FakeBuilder]
    notes: list[str]
    function: Function
    variables: dict[str, str] = field(default_factory=dict)

    def builder(self, jobs: int = 2) -> StoreBuilder:
        credentials = Credentials([], {})
        reporter = Notes(self.notes)
        resolver = Resolver(run, self.store, credentials, Digests(), reporter, Policy())
        requirements = BuildRequirements(
            self.store, resolver, StoreFetcher(self.store, credentials, reporter, lambda _path, _archive: None)
        )
        lazy = {name: LazyBuilder(partial(self.builders.__getitem__, name)) for name in self.builders}
        tasks = TaskMaker(origins=Origins(self.store, Digests(), credentials.scrub), variables=self.variables)
        builder = build_with_any(lazy, self.store, tasks, requirements, reporter, credentials.scrub)
        return StoreBuilder(builder, tasks, tuple(lazy.values()), jobs)

    def source(self, files: dict[str, bytes], name: str = "one") -> tuple[LockedPackage, FetchedArchive]:
        path = write_sdist_files(self.folder, f"{name}-1.0", files)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        source = Archive(filename=path.name, location=str(path), sha256=digest)
        return LockedPackage(name=name, version="1.0", source=source), FetchedArchive(path=path, sha256=digest)

    def build(self, files: dict[str, bytes], **settings: object):
        function = replace(self.function, building=BuildSettings(**settings))  # type: ignore[arg-type]
        [made] = self.builder().build_all(function, [self.source(files)])
        return made


def away(reason: str) -> Callable[[], None]:
    def refuse() -> None:
        raise UnavailableError(reason, remedy=f"Mend: {reason}.")

    return refuse
