"""`lpack load`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Any

import click
from msgspec import Meta, Struct

from packer.cli.common import open_reporter, open_store
from packer.cli.outcome import built_options, print_results, read_built_project, select_image_names
from packer.core.names import image_name


class LoadRecord(Struct, frozen=True, kw_only=True):
    """What `lpack load --json` prints of an image."""

    image: Annotated[str, Meta(description="NAME:TAG in the engine.")]
    id: Annotated[str, Meta(description="The engine's own id of it.")]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@click.option("--tag", default="latest", show_default=True, metavar="TAG", help="Tag of the images in the engine.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with names and ids, or the error.")
@built_options
def command(*, names: tuple[str, ...], tag: str, as_json: bool, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Put built images into the local container engine.

    They are called FUNCTION:TAG there. Docker and Podman are found as `docker` finds them (DOCKER_HOST). Prints each name and
    its id in the engine.
    """
    project = read_built_project("load", names, flags)
    with open_reporter(verbose, quiet) as reporter, ExitStack() as closing:
        from packer.cli.image_wiring import engine_opener, open_registries
        from packer.formats.oci import Reference
        from packer.images.reader import read_images
        from packer.registry.client import RegistryBlobs
        from packer.verify.image_runner import load_image

        store = open_store()
        registries = open_registries(store, reporter, closing)
        names = select_image_names(names, project.functions)
        images = read_images(project.config.out, names, lambda home: RegistryBlobs(registries, home))
        project.warn_of_changes(flags["out"], store, reporter, "image")
        engine = engine_opener(closing)()
        with print_results(as_json=as_json) as results:
            for built in images:
                with results.of(built.name):
                    name = f"{image_name(built.name)}:{tag}"
                    Reference.parse(name)
                    identity = load_image(built, name, engine, store)
                    results.add(built.name, LoadRecord(image=name, id=identity), f"{name}  {identity}")
