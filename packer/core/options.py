"""Options from the configuration: how a function is trimmed, compiled, verified, layered and made an image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, get_args

from msgspec import Struct


class Budget(Struct, frozen=True, kw_only=True):
    """The user's own limits: bytes, and milliseconds for ``init``; None where there is none.

    ``image`` is for an image with its base. ``growth`` (bytes) and ``growth_percent`` are against a baseline. Only ``zip`` and
    ``unzipped`` decide what is built.
    """

    zip: int | None = None
    unzipped: int | None = None
    init: float | None = None
    image: int | None = None
    growth: int | None = None
    growth_percent: float | None = None

    unkeyed: ClassVar = ("init", "image", "growth", "growth_percent")


TrimLevel = Literal["none", "safe", "max"]
TRIM_LEVELS: tuple[TrimLevel, ...] = get_args(TrimLevel)
AUTO = "auto"
TRIM_CHOICES = (*TRIM_LEVELS, AUTO)
"""Accepted values: a level, or ``auto`` to keep whatever verification finds to be needed."""
BytecodeMode = Literal["auto", "beside", "only", "off"]
BYTECODE_MODES: tuple[BytecodeMode, ...] = get_args(BytecodeMode)
VerifyLevel = Literal["none", "import", "events", "rie"]
VERIFY_LEVELS: tuple[VerifyLevel, ...] = get_args(VerifyLevel)
LayerMode = Literal["auto", "none"]
LAYER_MODES: tuple[LayerMode, ...] = get_args(LayerMode)
Format = Literal["zip", "image"]
FORMATS: tuple[Format, ...] = get_args(Format)
ImageCompression = Literal["gzip", "gzip-whole", "zstd"]
IMAGE_COMPRESSIONS: tuple[ImageCompression, ...] = get_args(ImageCompression)
ImageForm = Literal["oci", "docker-archive"]
IMAGE_FORMS: tuple[ImageForm, ...] = get_args(ImageForm)
VerifyPlace = Literal["auto", "runtime", "container", "host"]
VERIFY_PLACES: tuple[VerifyPlace, ...] = get_args(VerifyPlace)


_LAYER_LABEL = re.compile(r':layer:([^:]+:[0-9]+)$|^(?:\{"Ref": )?"?([A-Za-z0-9]+)"?\}?$')


class TrimOptions(Struct, frozen=True, kw_only=True):
    """What may be removed.

    ``repair`` keeps what verification finds to be needed, instead of failing. ``rules`` are those asked for by name on top of
    the level, ``without`` those that are not to be used. ``keep`` and ``drop`` are patterns of paths in the artifact, as
    (normalized name of a distribution, pattern); an empty name stands for all. ``services`` are those of AWS that the
    function calls; None where they are to be found in its code. ``profile`` is the absolute path of the function's profile.
    """

    level: TrimLevel = "none"
    repair: bool = False
    rules: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    keep: tuple[tuple[str, str], ...] = ()
    drop: tuple[tuple[str, str], ...] = ()
    services: tuple[str, ...] | None = None
    profile: Path | None = None


class BytecodeOptions(Struct, frozen=True, kw_only=True):
    """Whether sources are compiled, and at which optimization level (0, 1 without assertions, 2 without docstrings too).

    ``pause`` has the garbage collector wait until the handler has been imported, ``prefetch`` the kernel read ahead what a
    profile says will be opened (`packer.trim.handler_prelude`).
    """

    mode: BytecodeMode = "off"
    optimize: int = 0
    pause: bool = True
    prefetch: bool = True


EXPECTED = ".expected.json"
"""The suffix of the file with the expected result, beside an event's file."""


class ExecutionSettings(Struct, frozen=True, kw_only=True):
    """What a function gets where it runs; None stands for what nobody has set.

    ``memory`` and ``storage`` (of /tmp) are in MB, ``timeout`` of one call is in seconds; ``environment`` are its variables.
    """

    memory: int | None = None
    timeout: int | None = None
    storage: int | None = None
    environment: tuple[tuple[str, str], ...] = ()


class VerifyOptions(Struct, frozen=True, kw_only=True):
    """How a function is verified.

    ``events`` are absolute paths of JSON files, each with an optional one beside it that ends in `EXPECTED` and has the result;
    more events may be added in the folders ``searched``. ``environment`` are variables for the proof alone, which override
    `ExecutionSettings`. ``demanded``: the user asked for it, so that it is an error, and not a warning, where it cannot be.
    """

    level: VerifyLevel = "none"
    events: tuple[Path, ...] = ()
    searched: tuple[Path, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    seconds: float = 60.0
    place: VerifyPlace = "auto"
    demanded: bool = False


class NamedLayer(Struct, frozen=True, kw_only=True):
    """A layer that the user defines: the normalized names of its distributions; if ``closed``, with what these require.

    ``functions`` are patterns of the names of the functions that get it; without any, all that need everything in it get it.
    ``files`` are the absolute paths of the files that define it, and ``budget`` is the layer's own.
    """

    name: str
    distributions: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    closed: bool = False
    files: tuple[Path, ...] = ()
    budget: Budget = Budget()

    unkeyed: ClassVar = ("budget",)


class AttachedLayer(Struct, frozen=True, kw_only=True):
    """A layer that lpack does not make: its ARN, or what stands for one in a template.

    ``distributions`` are in it by the user's word, as (normalized name, version or empty). ``content`` is the absolute path of
    its files, a folder or a ZIP, where they are on this machine; in the layer they lie below ``prefix``, and nothing else is in
    it if it is ``complete``.
    """

    arn: str
    distributions: tuple[tuple[str, str], ...] = ()
    content: Path | None = None
    prefix: str = ""
    complete: bool = False

    @property
    def label(self) -> str:
        """Its name in messages: the end of its ARN, or its name in the template."""
        found = _LAYER_LABEL.search(self.arn)
        return found[1] or found[2] if found else self.arn


class LayerOptions(Struct, frozen=True, kw_only=True):
    """The layers that a function may have; ``mode`` is for whatever no named or attached layer holds.

    ``releases`` are how often distributions are released, by normalized name, relative to others. ``budget`` is for each layer
    without one of its own.
    """

    mode: LayerMode = "none"
    named: tuple[NamedLayer, ...] = ()
    attached: tuple[AttachedLayer, ...] = ()
    releases: tuple[tuple[str, float], ...] = ()
    budget: Budget = Budget()

    unkeyed: ClassVar = ("budget",)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The labels of attached layers that may hold anything."""
        return tuple(layer.label for layer in self.attached if not layer.complete)

    @property
    def wanted(self) -> bool:
        """Whether lpack makes any layer for the function."""
        return self.mode != "none" or bool(self.named)

    def bring(self, name: str, version: str) -> bool:
        """Return whether an attached layer holds a distribution in this version."""
        return any((name, given) in layer.distributions for layer in self.attached for given in ("", version))

    def differ(self, name: str, version: str) -> Iterator[tuple[str, str]]:
        """Yield the ARNs of attached layers that hold a distribution in another version, with that version."""
        held = ((layer.arn, *each) for layer in self.attached for each in layer.distributions)
        yield from ((arn, given) for arn, what, given in held if what == name and given not in {"", version})


class ImageOptions(Struct, frozen=True, kw_only=True):
    """Whether a function becomes a container image (``wanted``), and how that is made.

    ``base`` is the image to build upon, in the forms of `packer.images.base`, empty for AWS's runtime image; relative paths in
    it are below ``root``. ``write`` are the forms to write to the output folder; ``base_layers``: a layout includes the base's
    layers, which its registry has. ``environment``, ``working_dir``, ``entrypoint``, ``user`` and ``labels`` override those of
    the base. ``emulator`` adds the Runtime Interface Emulator to a base without it. ``epoch`` is the image's creation time in
    seconds.
    """

    wanted: bool = False
    root: Path = Path()
    base: str = ""
    compression: ImageCompression = "gzip"
    write: tuple[ImageForm, ...] = ("oci",)
    base_layers: bool = True
    environment: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    emulator: bool = False
    epoch: int = 0


class ShapeFlags(Struct, frozen=True, kw_only=True):
    """Command-line flags that hold for all functions; None where a flag was not given."""

    trim: str | None = None
    bytecode: str | None = None
    verify: str | None = None
    layers: str | None = None
    format: str | None = None


class Policy(Struct, frozen=True, kw_only=True):
    """What a build may do: ``frozen`` forbids resolving, ``upgrade`` forgets what was resolved before.

    ``strict`` forbids to pack what looks like a secret, or what could not be verified. ``allow_incomplete`` takes a lock that
    lacks what its packages require.
    """

    frozen: bool = False
    offline: bool = False
    upgrade: bool = False
    strict: bool = False
    allow_incomplete: bool = False
