"""Holds an artifact against Lambda's limits and the user's budgets."""

from __future__ import annotations

from collections.abc import Sequence

from builders.runtimes import DIRECT_UPLOAD_LIMIT, UNZIPPED_LIMIT
from packer.errors import LimitError
from packer.model import Artifact, Function, Share
from packer.units import size_text

_LARGEST = 5


def check_limits(function: Function, artifact: Artifact, parts: Sequence[Share]) -> tuple[str, ...]:
    """Give warnings about the artifact; raises `LimitError` with the largest contributors where it is over a limit."""
    limits = (
        ("Lambda's limit for unzipped packages", artifact.unzipped, UNZIPPED_LIMIT),
        ("its budget for the unzipped size", artifact.unzipped, function.budget.unzipped),
        ("its budget for the ZIP", artifact.zipped, function.budget.zip),
    )
    for name, size, limit in limits:
        if limit is not None and size > limit:
            raise LimitError(
                f"{function.name} takes {size_text(size)} ({size:,} bytes), over {name} of {size_text(limit)}.",
                detail="Largest, unzipped: "
                + ", ".join(f"{_called(part)} {size_text(part.unzipped)}" for part in parts[:_LARGEST]),
                remedy="Remove what it does not need, leave out what the runtime has (exclude), or split the function.",
            )
    if artifact.zipped > DIRECT_UPLOAD_LIMIT:
        taken, most = size_text(artifact.zipped), size_text(DIRECT_UPLOAD_LIMIT)
        return (f"{function.name} is {taken} zipped: above {most} it must be uploaded through S3.",)
    return ()


def _called(part: Share) -> str:
    return f"{part.name} {part.version}".rstrip()
