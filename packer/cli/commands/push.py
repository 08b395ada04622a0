"""`lpack push`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import click
from msgspec import Meta, Struct
from msgspec.structs import replace

from packer.cli.common import open_reporter, open_store
from packer.cli.outcome import built_options, print_results, read_built_project, select_image_names
from packer.core.errors import UsageError
from packer.core.names import image_name
from packer.core.records import Bytes, Count

if TYPE_CHECKING:
    from packer.formats.oci import Reference
    from packer.images.reader import BuiltImage
    from packer.registry.client import PushResult, Registries

_FUNCTION = "{function}"
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


class PushRecord(Struct, frozen=True, kw_only=True):
    """What `lpack push --json` prints of an image; counts are those of its blobs."""

    reference: str
    digest: Annotated[str, Meta(description="sha256: and 64 hex digits.")]
    bytes: Annotated[Bytes, Meta(description="Sent by this command.")]
    uploaded: Count
    mounted: Count
    present: Count


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@click.option(
    "--to",
    required=True,
    metavar="REGISTRY/REPO:TAG",
    help="Where to; {function} stands for each name. Without a tag: latest.",
)
@click.option("--index", is_flag=True, help="Push the functions' images as one image of several architectures.")
@click.option("--insecure", multiple=True, metavar="HOST", help="A registry to talk to without TLS (loopback needs no word).")
@click.option("-j", "--jobs", type=click.IntRange(min=1), metavar="N", help="Blobs to send at once (default: 4).")
@click.option("--json", "as_json", is_flag=True, help="Print an object with digests and bytes, or the error.")
@built_options
def command(*, names: tuple[str, ...], to: str, index: bool, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Push built images to a registry, without a daemon.

    NAME is a function that was built as an image; without one, all are pushed. What the registry has already is not sent, and
    a tag is written last, so that it never leads to a part of an image. Logins are those of `docker login`. Prints each image
    with its digest.
    """
    built = read_built_project("push", names, flags)
    with open_reporter(verbose, quiet) as reporter, ExitStack() as closing:
        from packer.cli.image_wiring import open_registries
        from packer.images.reader import read_images
        from packer.registry.client import RegistryBlobs

        store = open_store()
        registries = open_registries(store, reporter, closing, flags["insecure"])
        images = read_images(
            built.config.out, select_image_names(names, built.functions), lambda home: RegistryBlobs(registries, home)
        )
        targets = _choose_targets(to, images, index=index)
        built.warn_of_changes(flags["out"], store, reporter, "image")
        pushes = _prepare_pushes(registries, images, targets, flags["jobs"] or 4, index=index)
        with print_results(as_json=flags["as_json"]) as results:
            for name, push in pushes:
                with results.of(name):
                    pushed = push()
                    results.add(name, _make_record(pushed), str(pushed.reference))


def _choose_targets(to: str, images: Sequence[BuiltImage], *, index: bool) -> list[Reference]:
    """Return the place of each image; raises `UsageError`."""
    from packer.formats.oci import Reference

    if not to.strip():
        raise UsageError("--to names no registry.", remedy=f"Write it as HOST/REPOSITORY:TAG; {_FUNCTION} stands for the name.")
    unknown = next((word for word in _PLACEHOLDER.findall(to) if word != _FUNCTION), "")
    if unknown:
        raise UsageError(
            f"{unknown} in --to {to} is not a known placeholder.", remedy=f"{_FUNCTION} stands for each function's name."
        )
    if len(images) > 1 and not index and _FUNCTION not in to:
        what = f"{len(images)} images cannot all be {to}."
        remedy = f"Put {_FUNCTION} into it, such as registry.example/shop/{_FUNCTION}:1, name one function, or add --index."
        raise UsageError(what, remedy=remedy)
    if index and _FUNCTION in to:
        raise UsageError(f"{to} would be several images, and --index makes one.", remedy=f"Leave {_FUNCTION} out.")
    found = [Reference.parse(to.replace(_FUNCTION, image_name(image.name))) for image in images]
    if found[0].digest:
        raise UsageError(f"{to} has a digest, which the image itself decides.", remedy="Name a tag.")
    return [replace(each, tag=each.wanted) for each in found]


def _prepare_pushes(
    registries: Registries, images: Sequence[BuiltImage], targets: Sequence[Reference], jobs: int, *, index: bool
) -> list[tuple[str, Callable[[], PushResult]]]:
    """Return what pushes each image, by its name; raises `UsageError`."""
    if not index:
        pairs = zip(images, targets, strict=True)
        return [(built.name, partial(registries.push, built.image, target, jobs)) for built, target in pairs]
    platforms = [str(built.image.platform) for built in images]
    if len(set(platforms)) < len(platforms):
        what = f"An index has one image for each architecture, and these are for {', '.join(platforms)}."
        raise UsageError(what, remedy="Name functions that were built for different architectures.")
    name = "+".join(built.name for built in images)
    return [(name, partial(registries.push_index, [built.image for built in images], targets[0], jobs))]


def _make_record(pushed: PushResult) -> PushRecord:
    return PushRecord(
        reference=str(pushed.reference),
        digest=pushed.reference.digest,
        bytes=pushed.sent,
        uploaded=pushed.uploaded,
        mounted=pushed.mounted,
        present=pushed.present,
    )
