"""Connects what makes, sends and runs images: the registries, the local engine, and the bases they give."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from builders.engine.client import connect
from builders.recipes import BuilderUnavailable, BuildFailure
from packer.cache.deflate import Deflater
from packer.cache.store import Store
from packer.core.errors import ImageError, ToolError
from packer.core.events import Reporter
from packer.core.model import Function
from packer.images.base import BaseReader, Finders
from packer.images.builder import Imaging
from packer.images.layer_store import LayerBlobs
from packer.images.reader import BuiltImage
from packer.net.registry_login import DockerLogins
from packer.registry.client import Registries
from packer.resolve.resolver import Policy
from packer.verify.runner import Outcome


def open_imaging(store: Store, reporter: Reporter, policy: Policy, jobs: int, closing: ExitStack) -> Imaging:
    """Make the parts that make images; what they hold open is closed with ``closing``."""
    executor, makers = (_executor(jobs, name, closing) for name in ("pack", "layer"))
    registries = open_registries(store, reporter, closing, offline=policy.offline)
    finders = Finders(registry=registries.resolve, engine=LocalEngine)
    reader = BaseReader(store, executor, finders)
    layers = LayerBlobs(store, Deflater(store).span, executor)
    return Imaging(reader, layers, makers, frozen=policy.frozen, refresh=policy.upgrade)


def _executor(jobs: int, name: str, closing: ExitStack) -> Executor:
    executor = closing.enter_context(ThreadPoolExecutor(jobs, thread_name_prefix=name))
    closing.callback(executor.shutdown, wait=False, cancel_futures=True)
    return executor


def open_registries(
    store: Store, reporter: Reporter, closing: ExitStack, insecure: Iterable[str] = (), *, offline: bool = False
) -> Registries:
    """Connect to registries as Docker's own settings say; closed with ``closing``."""
    logins = DockerLogins(os.environ, Path.home())
    return closing.enter_context(Registries(store, reporter, logins, frozenset(insecure), offline=offline))


class LocalEngine:
    """The container engine, for images that it has; it is connected to when it is asked."""

    def __init__(self) -> None:
        try:
            self._engine = connect()
        except BuilderUnavailable as error:
            raise ToolError(f"There is no container engine: {error.reason}.", remedy=error.remedy) from None

    def identity(self, name: str) -> str | None:
        """Give the id of an image; None where the engine has none of that name."""
        with _engine_errors():
            found = self._engine.image(name)
        return found.identity if found else None

    def save(self, identity: str, to: BinaryIO) -> None:
        """Write an image as ``docker save`` does."""
        with _engine_errors():
            self._engine.save(identity, to)

    def load(self, built: BuiltImage, name: str, store: Store, load: Callable[..., str]) -> str:
        """Take in an image under a name; gives its id."""
        with _engine_errors():
            return load(built, name, self._engine, store)

    def verify(self, built: BuiltImage, function: Function, store: Store, run: Callable[..., Outcome]) -> Outcome:
        """Run an image."""
        with _engine_errors():
            return run(built, function, self._engine, store)


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except BuildFailure as error:
        what = f"The container engine fails: {error.reason}."
        raise ImageError(what, detail=error.log, remedy=error.remedy or "Try again.") from None
