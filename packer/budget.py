"""Holds an artifact against Lambda's limits and the user's budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builders.runtimes import DIRECT_UPLOAD_LIMIT, IMAGE_LIMIT, UNZIPPED_LIMIT
from packer.errors import LimitError
from packer.model import Artifact, Function, Share
from packer.units import size_text

_LARGEST = 5
_UPLOAD = "above {} it must be uploaded through S3"


def check_limits(
    function: Function, artifact: Artifact, parts: Sequence[Share], layers: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """Give warnings about the artifact; raises `LimitError` with the largest contributors where it is over a limit.

    ``layers`` has the unzipped bytes of each of the function's layers, which count too.
    """
    held = layers or {}
    unzipped = artifact.unzipped + sum(held.values())
    own = [(_called(part), part.unzipped) for part in parts]
    both = [*own, *((f"layer {layer}", taken) for layer, taken in held.items())]
    _hold(function.name, "Lambda's limit for unzipped packages", unzipped, UNZIPPED_LIMIT, both)
    _hold(function.name, "its budget for the unzipped size", unzipped, function.budget.unzipped, both)
    _hold(function.name, "its budget for the ZIP", artifact.zipped, function.budget.zip, own)
    return upload_warning(function.name, artifact.zipped)


def check_image(function: Function, artifact: Artifact, parts: Sequence[Share], base: int) -> None:
    """Hold an image against Lambda's limit and the budgets; raises `LimitError` with the largest contributors.

    ``base`` are the bytes of the base's layers as they are stored: unpacked they are more, which only fetching them would tell.
    """
    own = [(_called(part), part.unzipped) for part in parts]
    _hold(function.name, "Lambda's limit for images", artifact.unzipped + base, IMAGE_LIMIT, [*own, ("the base, packed", base)])
    _hold(function.name, "its budget for the unzipped size", artifact.unzipped, function.budget.unzipped, own)
    _hold(function.name, "its budget for the ZIP, or what is stored of an image", artifact.zipped, function.budget.zip, own)


def _hold(name: str, what: str, size: int, limit: int | None, sizes: Sequence[tuple[str, int]]) -> None:
    if limit is not None and size > limit:
        largest = sorted(sizes, key=lambda item: -item[1])[:_LARGEST]
        raise LimitError(
            f"{name} takes {size_text(size)} ({size:,} bytes), over {what} of {size_text(limit)}.",
            detail="Largest, unzipped: " + ", ".join(f"{each} {size_text(taken)}" for each, taken in largest),
            remedy="Remove what it does not need, leave out what the runtime has (exclude), or split the function.",
        )


def check_layer(name: str, zipped: int, unzipped: int, parts: Mapping[str, int]) -> tuple[str, ...]:
    """Give warnings about a layer; raises `LimitError` where it is over Lambda's limit. ``parts`` are unzipped bytes."""
    if unzipped > UNZIPPED_LIMIT:
        largest = sorted(parts.items(), key=lambda item: -item[1])[:_LARGEST]
        limit = size_text(UNZIPPED_LIMIT)
        raise LimitError(
            f"The layer {name} takes {size_text(unzipped)} ({unzipped:,} bytes), over Lambda's limit of {limit} for a function "
            "and all of its layers.",
            detail="Largest, unzipped: " + ", ".join(f"{each} {size_text(taken)}" for each, taken in largest),
            remedy="Put less into it, or divide it between several layers.",
        )
    return upload_warning(f"The layer {name}", zipped)


def upload_warning(what: str, zipped: int) -> tuple[str, ...]:
    """Say of what is too large for a direct upload how it must go up."""
    if zipped <= DIRECT_UPLOAD_LIMIT:
        return ()
    return (f"{what} is {size_text(zipped)} zipped: {_UPLOAD.format(size_text(DIRECT_UPLOAD_LIMIT))}.",)


def _called(part: Share) -> str:
    return f"{part.name} {part.version}".rstrip()
