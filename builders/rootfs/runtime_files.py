"""A runtime's own file system in a folder of this machine: what a sandbox needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from builders.rootfs.record import UnpackedImage
from builders.runtimes import Architecture, Target


class RuntimeFiles(Struct, frozen=True, kw_only=True):
    """A runtime's root file system, which nobody may change.

    ``image`` is what the user calls it, ``digest`` its manifest's. ``python`` is a path in it, ``version`` that Python's exact
    release (``3.12.7``); ``packages`` are the folders in it with the distributions that the runtime brings, and ``environment``
    are the variables that its configuration sets.
    """

    root: Path
    image: str
    digest: str
    architecture: Architecture
    python: str
    version: str
    packages: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def of(cls, unpacked: UnpackedImage, target: Target) -> RuntimeFiles | None:
        """Return what an unpacked image is to a target; None where it has no Python for that, or is for another machine."""
        record, python = unpacked.record, unpacked.python(target.runtime.minor)
        if python is None or record.architecture != target.architecture:
            return None
        return cls(
            root=unpacked.root,
            image=target.runtime_image,
            digest=record.digest,
            architecture=record.architecture,
            python=python.path,
            version=python.version,
            packages=python.packages,
            environment=record.environment,
        )

    @property
    def identity(self) -> str:
        """What decides the bytes that its Python makes: the same on every machine."""
        return f"{self.version} of {self.digest}"
