"""Connects what makes, sends and runs images: the registries, the local engine, and the bases they give."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from builders.engine.client import Engine, connect
from builders.once import Once
from builders.rootfs.runtime_files import RuntimeFiles
from builders.runtimes import Target
from packer.cache.deflate import Deflater
from packer.cache.store import Store
from packer.core.events import Reporter
from packer.core.options import Policy
from packer.images.base import BaseReader
from packer.images.base_sources import base_sources
from packer.images.builder import ImageBuilder
from packer.images.layer_store import LayerBlobs
from packer.net.registry_login import DockerLogins
from packer.registry.client import Registries
from packer.verify.runtime_pull import RuntimePuller


def open_image_builder(store: Store, reporter: Reporter, policy: Policy, jobs: int, closing: ExitStack) -> ImageBuilder:
    """Make the parts that make images; what they hold open is closed with ``closing``."""
    executor, makers = (_open_executor(jobs, name, closing) for name in ("pack", "layer"))
    registries = open_registries(store, reporter, closing, offline=policy.offline)
    reader = BaseReader(store, base_sources(store, executor, registries.resolve, engine_opener(closing)))
    layers = LayerBlobs(store, Deflater(store).span, executor)
    return ImageBuilder(reader, layers, makers, frozen=policy.frozen, refresh=policy.upgrade)


def pull_runtime(store: Store, reporter: Reporter, target: Target) -> RuntimeFiles:
    """Pull a target's runtime into the store; raises `LpackError`."""
    with ExitStack() as closing:
        return RuntimePuller(store, open_registries(store, reporter, closing).resolve, reporter).pull(target)


def engine_opener(closing: ExitStack) -> Callable[[], Engine]:
    """Return a function that connects to the container engine once; the connection is closed with ``closing``.

    It raises `UnavailableError`, and may be called from many threads.
    """
    engines: Once[None, Engine] = Once()

    def open_engine() -> Engine:
        engine = connect()
        closing.callback(engine.close)
        return engine

    return lambda: engines.get(None, open_engine)


def _open_executor(jobs: int, name: str, closing: ExitStack) -> Executor:
    executor = closing.enter_context(ThreadPoolExecutor(jobs, thread_name_prefix=name))
    closing.callback(executor.shutdown, wait=False, cancel_futures=True)
    return executor


def open_registries(
    store: Store, reporter: Reporter, closing: ExitStack, insecure: Iterable[str] = (), *, offline: bool = False
) -> Registries:
    """Connect to registries as Docker's own settings say; closed with ``closing``."""
    logins = DockerLogins(os.environ, Path.home())
    return closing.enter_context(Registries(store, reporter, logins, frozenset(insecure), offline=offline))
