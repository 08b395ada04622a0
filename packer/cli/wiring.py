"""Picks the concrete classes, and reads the project into a configuration. Imported only when there is work to do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from builders.errors import UnavailableError
from builders.files import check_length
from builders.once import Once
from builders.recipes import BuildSettings
from builders.runtimes import Target
from builders.sandbox.table import Sandboxes, SandboxKind, runs_here
from builders.sandbox.task import Sandbox
from packer.cache.deflate import Deflater
from packer.cache.derived_values import remember_fact
from packer.cache.signatures import Digests
from packer.cache.store import REMOTE_VARIABLE, Store, store_errors
from packer.cli.common import read_shape_flags
from packer.config.load import Config, Overrides
from packer.config.project import Project
from packer.config.project_reader import read_project
from packer.core.errors import VerificationError
from packer.core.events import Reporter
from packer.core.model import Archive, Tree
from packer.core.options import Policy
from packer.core.process import run
from packer.formats.native_code import NativeCode
from packer.formats.wheel import check_wheel
from packer.formats.zip_writer import WrittenArchive, write_zip
from packer.net.credentials import Credentials, index_urls
from packer.net.downloads import StoreFetcher
from packer.pipeline.functions import WorkElsewhere
from packer.pipeline.gatherer import Shaping, Sources, Tools
from packer.resolve.resolver import Resolver
from packer.source.facts import FactScanner
from packer.trim.bytecode import Compiler
from packer.trim.bytecode_placement import BytecodePlacer
from packer.trim.shape import Shaper
from packer.trim.strip import Stripper
from packer.verify.candidates import CandidateWriter
from packer.verify.proof import Prover, Repairs
from packer.verify.runner import Verifier
from packer.verify.runtime_kind import runtime_kind
from packer.wheels.provider import LazyPackageBuilder, PackageBuilder

if TYPE_CHECKING:
    from builders.host.strip import StripTool
    from builders.sandbox.root_plan import Remember
    from packer.images.builder import ImageBuilder


class BuildServices:
    """What a build works with (`packer.pipeline.build.Services`): a store, and what it opens for the flags of a command."""

    def __init__(self, store: Store, reporter: Reporter, policy: Policy, jobs: int, scheduler: str = "") -> None:
        self.store = store
        self.reporter = reporter
        self._policy = policy
        self._jobs = jobs
        self._scheduler = scheduler

    @contextmanager
    def workers(self, remote: str) -> Iterator[tuple[Executor, WorkElsewhere | None]]:
        """Open threads, and a connection to the cluster if the command line names its scheduler."""
        if not self._scheduler:
            with ThreadPoolExecutor(self._jobs, thread_name_prefix="build") as executor:
                yield executor, None
            return
        from packer.cluster.connect import open_cluster

        with (
            open_cluster(self._scheduler, remote, self._policy, self.reporter) as opened,
            ThreadPoolExecutor(max(self._jobs, opened.jobs), thread_name_prefix="build") as executor,
            opened.cluster as cluster,  # ends first, for its threads wait for that
        ):
            yield executor, cluster

    def tools(self, digests: Digests, remote: str) -> AbstractContextManager[Tools]:
        """Open what works on this machine."""
        return open_tools(self.store, digests, self.reporter, self._policy, self._jobs, remote)


@contextmanager
def open_tools(
    store: Store,
    digests: Digests,
    reporter: Reporter,
    policy: Policy,
    jobs: int = 1,
    remote: str = "",
    variables: Mapping[str, str] = os.environ,
) -> Iterator[Tools]:
    """Make the parts of the pipeline that work on this machine; ``jobs`` builds of wheels may run at once.

    ``remote`` is what the configuration names as the remote store; ``variables`` are those that builds may see of.
    """
    credentials = _read_credentials()
    with ExitStack() as closing:
        if not policy.offline and (remote or os.environ.get(REMOTE_VARIABLE)):
            from packer.cache.remote import open_remote

            store = closing.enter_context(open_remote(store, remote, reporter))
        resolver = Resolver(run, store, credentials, digests, reporter, policy)
        fetcher = StoreFetcher(store, credentials, reporter, _check_archive, offline=policy.offline)
        closing.callback(fetcher.close)

        def make_builder() -> PackageBuilder:
            from packer.cli.builder_wiring import make_builder

            builder = make_builder((store, digests, resolver, fetcher), credentials, reporter, policy, variables, jobs)
            closing.callback(builder.close)
            return builder

        opened: Once[None, ImageBuilder] = Once()

        def open_images() -> ImageBuilder:
            from packer.cli.image_wiring import open_image_builder

            return open_image_builder(store, reporter, policy, jobs, closing)

        native = NativeCode(store)
        shaper, prover, verifier = _open_shaping(store, native, reporter, policy, jobs, closing)
        builder = LazyPackageBuilder(make_builder)
        yield Tools(
            resolver=resolver,
            sources=Sources(store=store, digests=digests, locks=resolver, fetcher=fetcher, builder=builder, policy=policy),
            shaping=Shaping(native=native, shaper=shaper, prover=prover, verifier=verifier),
            imaging=partial(opened.get, None, open_images),
        )


@contextmanager
def open_appraisal_tools(
    store: Store, digests: Digests, reporter: Reporter, policy: Policy, jobs: int = 1, remote: str = ""
) -> Iterator[Tools]:
    """Make the same parts with others in the place of two: nothing is fetched whole, and nothing is built."""
    from packer.wheels.estimate import EstimatedWheels
    from packer.wheels.remote_outlines import OutlineFetcher

    with open_tools(store, digests, reporter, policy, jobs, remote) as tools, ExitStack() as closing:
        sources = tools.sources
        fetcher = OutlineFetcher(sources.fetcher, sources.store, _read_credentials(), reporter, offline=policy.offline)
        closing.callback(fetcher.close)
        kept = EstimatedWheels(sources.builder, sources.store, digests)
        yield replace(tools, sources=replace(sources, fetcher=fetcher, builder=kept))


def read_config(project: Project, flags: Mapping[str, Any]) -> Config:
    """Read a project's configuration, which the flags of a command override; raises `UsageError`."""
    overrides = Overrides(
        runtime=flags["runtime"], architecture=flags["arch"], out=flags.get("out"), shape=read_shape_flags(flags)
    )
    config, _ = read_project(project, overrides)
    return config


def open_project_tools(
    config: Config, flags: Mapping[str, Any], store: Store, reporter: Reporter, digests: Digests | None = None, *, build: bool
) -> AbstractContextManager[Tools]:
    """Open what works on a project with the flags of a command: `open_tools`, or without ``build``, `open_appraisal_tools`.

    ``digests`` are those that are known of files.
    """
    policy = Policy(**{name: flags.get(name, False) for name in ("offline", "upgrade", "strict", "allow_incomplete")})
    opened = open_tools if build else open_appraisal_tools
    return opened(store, digests or Digests(), reporter, policy, os.cpu_count() or 1, config.remote)


def _read_credentials() -> Credentials:
    """Return what is known of logins to indexes."""
    credentials = Credentials([url for _, url in index_urls(os.environ)], os.environ)
    for name, url in index_urls(os.environ):
        credentials.learn(url, name)
    return credentials


def _open_shaping(
    store: Store, native: NativeCode, reporter: Reporter, policy: Policy, jobs: int, closing: ExitStack
) -> tuple[Shaper, Prover, Verifier]:
    """Make the parts that trim, compile and prove."""
    deflater = Deflater(store)

    def write(tree: Tree, path: Path) -> WrittenArchive:
        with store_errors(path, "write"):
            with path.open("wb") as file:
                written = write_zip(tree, file, deflater.span)
            check_length(path, written.length)
        return written

    executor = closing.enter_context(ThreadPoolExecutor(jobs, thread_name_prefix="shape"))
    # A missing image is only worth pulling, and an engine worth more than a glance, where a container is asked for.
    container = SandboxKind(
        name="container",
        open=lambda target, asked: _open_container_sandbox(
            target, reporter, pull=asked and not policy.offline, glance=not asked
        ),
    )
    remember = partial(remember_fact, store)
    host = SandboxKind(name="host", open=lambda target, _asked: _open_host_sandbox(target, remember), runs=runs_here)
    kinds = (
        runtime_kind(store, remember, None if policy.offline else partial(_pull_runtime, store, reporter)),
        container,
        host,
    )
    notice = UnconfinedNotice(reporter, strict=policy.strict)
    sandboxes = Sandboxes(kinds, notice, partial(_tell_of_substitute, reporter))
    closing.callback(sandboxes.close)
    strips = partial(_open_host_strip, remember, notice), partial(_open_container_strip, reporter)
    stripper = Stripper(store, reporter, executor, *strips)
    compiler = Compiler(store, jobs, executor)
    closing.callback(executor.shutdown, wait=False, cancel_futures=True)  # first of all: what waits need not begin
    shaper = Shaper(FactScanner(store), native, stripper, BytecodePlacer(compiler, sandboxes, deflater.span))
    verifier = Verifier(store, sandboxes, executor, write)
    closing.callback(verifier.close)
    prover = Prover(Repairs(store), CandidateWriter(shaper, write), verifier, reporter, strict=policy.strict)
    return shaper, prover, verifier


class UnconfinedNotice:
    """Says once that what runs in a sandbox is not kept from this machine, or forbids it; may be used from many threads."""

    def __init__(self, reporter: Reporter, *, strict: bool) -> None:
        self._reporter = reporter
        self._strict = strict
        self._given: Once[str, None] = Once()

    def __call__(self, sandbox: Sandbox) -> None:
        """Warn of a sandbox; raises `VerificationError` where warnings are errors."""
        what = (
            f"Code of others runs unconfined in {sandbox.place}, and can read and change what you can ({sandbox.unconfined})."
        )
        remedy = "Allow user namespaces on this machine, or start a container engine: `lpack doctor` shows both."
        if self._strict:
            raise VerificationError(f"{what[:-1]}, which --strict forbids.", remedy=remedy)
        self._given.get(what, lambda: self._reporter.warn(f"{what} {remedy}"))


def _tell_of_substitute(reporter: Reporter, target: Target, sandbox: Sandbox, refusal: UnavailableError) -> None:
    """Say what functions are proved in, once for each target, where that is not the runtime's own file system."""
    if refusal.remedy:
        what = f"functions for {target.runtime.name} on {target.architecture} are proved in {sandbox.place}"
        reporter.note(f"{what}; the runtime's own file system would be exact: {refusal.remedy}")


def _pull_runtime(store: Store, reporter: Reporter, target: Target) -> None:
    """Pull a target's runtime into the store; raises `LpackError`."""
    from packer.cli.image_wiring import pull_runtime

    pull_runtime(store, reporter, target)


def _open_host_sandbox(target: Target, remember: Remember) -> Sandbox:
    """Find this machine's Python; raises `UnavailableError`."""
    from builders.sandbox.host_sandbox import open_host_sandbox

    return open_host_sandbox(target, remember)


def _open_host_strip(remember: Remember, notice: UnconfinedNotice) -> StripTool:
    """Find this machine's eu-strip; raises `UnavailableError`."""
    from builders.host.strip import HostStrip

    return HostStrip(remember, notice)


def _open_container_sandbox(
    target: Target, reporter: Reporter, settings: BuildSettings | None = None, *, pull: bool, glance: bool = False
) -> Sandbox:
    """Connect to the container engine, with ``glance`` only if it may have the image; raises `UnavailableError`."""
    if glance:
        from builders.engine.presence import check_presence

        check_presence(target.runtime_image, target)
    from builders.engine.client import connect
    from builders.engine.container_sandbox import ContainerSandbox
    from builders.engine.images import EngineImages

    engine = connect()
    return ContainerSandbox(engine, EngineImages(engine, reporter.note, reporter.output, offline=not pull), target, settings)


def _open_container_strip(reporter: Reporter, target: Target, settings: BuildSettings) -> StripTool:
    """Connect to the container engine; raises `UnavailableError`, also where an image is missing."""
    from builders.host.strip import SandboxStrip

    return SandboxStrip(_open_container_sandbox(target, reporter, settings, pull=False))


def _check_archive(path: Path, archive: Archive) -> None:
    # An sdist is proved by its hash alone: it is opened by its build tool, in isolation.
    if archive.filename.endswith(".whl"):
        check_wheel(path, archive.filename)
