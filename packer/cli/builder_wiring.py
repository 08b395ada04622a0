"""Picks the concrete classes that build wheels of sources. Imported only where there is one to be built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from builders.errors import BuildError
from builders.recipes import Builder
from packer.cache.signatures import Digests
from packer.cache.store import COMPILER, Store
from packer.core.events import Reporter
from packer.core.options import Policy
from packer.net.credentials import Credentials
from packer.net.downloads import StoreFetcher
from packer.resolve.resolver import Resolver
from packer.source.package_source import Origins
from packer.wheels.build_requirements import BuildRequirements
from packer.wheels.store_builder import LazyBuilder, StoreBuilder, build_with_any
from packer.wheels.wheel_builder import TaskMaker

Listen = Callable[[str, str], None]


def make_builder(
    finders: tuple[Store, Digests, Resolver, StoreFetcher],
    credentials: Credentials,
    reporter: Reporter,
    policy: Policy,
    variables: Mapping[str, str],
    jobs: int,
) -> StoreBuilder:
    """Make what builds on this machine, ``jobs`` wheels at once; ``variables`` are those that builds may see of."""
    store, digests, resolver, fetcher = finders

    def listen(name: str, text: str) -> None:
        reporter.output(name, credentials.scrub(text))

    def say(text: str) -> None:
        reporter.note(credentials.scrub(text))

    builders = {
        "host": LazyBuilder(lambda: _open_host_builder(listen)),
        "container": LazyBuilder(lambda: _open_container_builder(say, listen, policy)),
        "cross": LazyBuilder(lambda: _open_cross_builder(store, listen)),
    }
    tasks = TaskMaker(origins=Origins(store, digests, credentials.scrub), variables=variables)
    requirements = BuildRequirements(store, resolver, fetcher)
    builder = build_with_any(builders, store, tasks, requirements, reporter, credentials.scrub)
    return StoreBuilder(builder, tasks, tuple(builders.values()), jobs)


def _open_host_builder(listen: Listen) -> Builder:
    from builders.host.builder import HostBuilder

    return HostBuilder(listen)


def _open_container_builder(say: Callable[[str], None], listen: Listen, policy: Policy) -> Builder:
    """Connect to the container engine; raises `UnavailableError`."""
    from builders.engine.client import connect
    from builders.engine.container_builder import ContainerBuilder
    from builders.engine.images import EngineImages

    engine = connect()
    with suppress(BuildError):  # some let nobody see what else is there
        engine.sweep()
    return ContainerBuilder(engine, EngineImages(engine, say, listen, offline=policy.offline), listen)


def _open_cross_builder(store: Store, listen: Listen) -> Builder:
    from builders.host.cross_builder import CrossBuilder

    return CrossBuilder(listen, store.root / COMPILER)
