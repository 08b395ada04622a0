"""`lpack runtime`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from builders.runtimes import ARCHITECTURES, RUNTIMES
from packer.cli.common import find_flagged_project, message_options, open_reporter, open_store, place_options
from packer.core.units import format_size

if TYPE_CHECKING:
    from builders.runtimes import Target
    from packer.core.model import Function

_ARCHES = click.option(
    "--arch",
    type=click.Choice(ARCHITECTURES),
    help="Architecture (default: those of the functions, or else x86_64).",
)


@click.group()
def command() -> None:
    """Pull the runtimes' file systems, in which functions are proved.

    A function that was built is run in the file system of its runtime: with its Python, to the patch release, its shared
    libraries and its boto3, and without a container engine. That takes the runtime's image, which is unpacked into the cache.
    """


@command.command()
@click.argument("runtimes", nargs=-1, metavar="[RUNTIME…]")
@_ARCHES
@click.option("--upgrade", is_flag=True, help="Take the newest image of the name, whatever is locked.")
@click.option("--insecure", multiple=True, metavar="HOST", help="A registry to talk to without TLS (loopback needs no word).")
@place_options
@message_options
def pull(
    *,
    runtimes: tuple[str, ...],
    arch: str | None,
    upgrade: bool,
    insecure: tuple[str, ...],
    verbose: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Pull runtimes into the cache: those of the project's functions, or those that are named.

    The image is AWS's, or the configuration's (runtime-image). Which one it was is written to lpack-bases.toml, beside the
    configuration, and every later pull and build keeps to it. Neither root nor an engine is needed.
    """
    from packer.cli.image_wiring import open_registries
    from packer.formats.oci import Platform
    from packer.pipeline.lock_writer import lock_runtimes
    from packer.verify.runtime_pull import RuntimePuller, check_usable

    check_usable()
    functions, targets = _select_targets(runtimes, arch, flags)
    store = open_store()
    digests = {}
    with open_reporter(verbose, quiet) as reporter, ExitStack() as closing:
        registries = open_registries(store, reporter, closing, insecure)
        puller = RuntimePuller(store, registries.resolve, reporter, upgrade=upgrade)
        for target in targets:
            files = puller.pull(target)
            digests[target.runtime_image, str(Platform.of(target.architecture))] = files.digest
            sys.stdout.write(f"{target.runtime.name:<11} {target.architecture:<7} Python {files.version}  {files.digest}\n")
    for path, changed in lock_runtimes(functions, digests).items():
        sys.stdout.write(f"{'written' if changed else 'unchanged':<9}  {os.path.relpath(path)}\n")


@command.command("list")
def list_pulled() -> None:
    """List the runtimes that the cache holds."""
    from builders.rootfs.emulation import runs_programs
    from packer.cache.runtime_names import known_names
    from packer.cache.unpacked_images import find_unpacked

    store = open_store()
    for known in known_names(store):
        found = find_unpacked(store, known.digest)
        if found is None:
            continue
        versions = ", ".join(python.version for python in found.record.pythons)
        usable = "" if runs_programs(known.architecture) else "  cannot run on this machine"
        size = format_size(found.record.size)
        sys.stdout.write(f"{known.name}  {known.architecture}  Python {versions}  {size}  {known.digest}{usable}\n")


@command.command()
@click.argument("runtimes", nargs=-1, metavar="[RUNTIME…]")
@_ARCHES
@place_options
def remove(*, runtimes: tuple[str, ...], arch: str | None, **flags: Any) -> None:
    """Remove runtimes from the cache: those of the project's functions, or those that are named."""
    from packer.cache.runtime_names import RuntimeName, forget_name
    from packer.cache.unpacked_images import image_folder, remove_unpacked
    from packer.verify.runtime_images import image_digest

    store = open_store()
    _, targets = _select_targets(runtimes, arch, flags)
    for target in targets:
        digest = image_digest(target, store)
        if digest and (folder := image_folder(store, digest)).exists():
            remove_unpacked(store, folder)
            sys.stdout.write(f"removed  {target.runtime.name} {target.architecture} {digest}\n")
        forget_name(store, RuntimeName(name=target.runtime_image, architecture=target.architecture, digest=digest))


def _select_targets(names: Sequence[str], arch: str | None, flags: Any) -> tuple[tuple[Function, ...], list[Target]]:
    """Return the project's functions, and the targets that names choose of theirs, or that they are outside of a project.

    Raises `UsageError`.
    """
    from builders.runtimes import DEFAULT_ARCHITECTURE, DEFAULT_RUNTIME, Target
    from packer.config.section import suggest_names
    from packer.core.errors import UsageError

    for name in names:
        if name not in RUNTIMES:
            raise UsageError(f"{name!r} is not a Python runtime of Lambda.", remedy=suggest_names(name, tuple(RUNTIMES)))
    functions = _read_functions(arch, flags)
    wanted = names or tuple(dict.fromkeys(function.target.runtime.name for function in functions)) or (DEFAULT_RUNTIME,)
    targets: dict[Target, None] = {}
    for name in wanted:
        found = [function.target for function in functions if function.target.runtime.name == name]
        targets.update(dict.fromkeys(found or [Target.of(name, arch or DEFAULT_ARCHITECTURE)]))
    return functions, list(targets)


def _read_functions(arch: str | None, flags: Any) -> tuple[Function, ...]:
    """Return the functions of the project here, for an architecture if one is given; none without a project."""
    from packer.config.load import Overrides
    from packer.config.project_reader import read_project
    from packer.core.errors import UsageError

    try:
        project = find_flagged_project((), flags)
    except UsageError:
        if flags["config"] or flags["template"]:
            raise
        return ()
    return read_project(project, Overrides(architecture=arch))[0].functions
