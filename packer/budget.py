"""Holds an artifact against Lambda's limits and the user's budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builders.runtimes import DIRECT_UPLOAD_LIMIT, UNZIPPED_LIMIT
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
    limits = (
        ("Lambda's limit for unzipped packages", unzipped, UNZIPPED_LIMIT),
        ("its budget for the unzipped size", unzipped, function.budget.unzipped),
        ("its budget for the ZIP", artifact.zipped, function.budget.zip),
    )
    for name, size, limit in limits:
        if limit is not None and size > limit:
            sizes = [(_called(part), part.unzipped) for part in parts]
            sizes += [(f"layer {layer}", taken) for layer, taken in held.items()] if size == unzipped else []
            largest = sorted(sizes, key=lambda item: -item[1])[:_LARGEST]
            raise LimitError(
                f"{function.name} takes {size_text(size)} ({size:,} bytes), over {name} of {size_text(limit)}.",
                detail="Largest, unzipped: " + ", ".join(f"{each} {size_text(taken)}" for each, taken in largest),
                remedy="Remove what it does not need, leave out what the runtime has (exclude), or split the function.",
            )
    return upload_warning(function.name, artifact.zipped)


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
