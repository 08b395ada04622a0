"""The forms that an image is written in: the protocol of outputs, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from packer.cache.store import store_errors
from packer.core.names import IMAGES_FOLDER, image_name
from packer.formats.image import Image
from packer.images.layout_writer import write_docker_archive, write_layout

_DRAFT = "latest"


class Output(Protocol):
    """One form that an image is written in; may be used from many threads."""

    def path(self, function: str) -> str:
        """Return where the image of a function lies below the output folder."""
        ...

    def write(self, image: Image, name: str, path: Path, *, older: Path, base_layers: bool) -> None:
        """Write an image called ``name`` (``repository:tag``) to ``path``, where nothing is yet; its parent folder exists.

        ``older`` is where the last build wrote it, if it did: what is the same may be linked. Without ``base_layers``, those of
        a base that came from a registry stay there. Raises `LpackError`, or ``OSError`` of ``path``.
        """
        ...


class LayoutOutput:
    """Writes OCI image layouts, which are folders."""

    def path(self, function: str) -> str:
        """Return the layout's folder below the output folder."""
        return f"{IMAGES_FOLDER}/{function}"

    def write(self, image: Image, name: str, path: Path, *, older: Path, base_layers: bool) -> None:
        """Write a layout (`Output`)."""
        path.mkdir()
        write_layout(path, [(image, name)], base_layers=base_layers, older=older)


class ArchiveOutput:
    """Writes archives for ``docker load``, which have all layers in any case."""

    def path(self, function: str) -> str:
        """Return the archive's file below the output folder."""
        return f"{IMAGES_FOLDER}/{function}.tar"

    def write(self, image: Image, name: str, path: Path, *, older: Path, base_layers: bool) -> None:
        """Write an archive (`Output`)."""
        del older, base_layers
        with path.open("wb") as file:
            write_docker_archive(image, name, file)


OUTPUTS: Mapping[str, Output] = {"oci": LayoutOutput(), "docker-archive": ArchiveOutput()}
"""Outputs by their names in the configuration (`packer.core.options.IMAGE_FORMS`)."""


def write_image(
    function: str,
    image: Image,
    forms: Sequence[str],
    staging: Path,
    out: Path,
    *,
    base_layers: bool = True,
    outputs: Mapping[str, Output] = OUTPUTS,
) -> Path:
    """Write a function's image in several forms below ``staging``; return the folder or file of the first.

    ``out`` is the output folder, where the last build's images may lie. Raises `LpackError`.
    """
    for form in forms:
        output = outputs[form]
        relative = output.path(function)
        path = staging / relative
        with store_errors(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            output.write(image, f"{image_name(function)}:{_DRAFT}", path, older=out / relative, base_layers=base_layers)
    return staging / outputs[forms[0]].path(function)
