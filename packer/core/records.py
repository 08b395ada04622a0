"""What was built, as lpack.json and the state of a build hold it: one struct for each object of the manifest.

The published form is schemas/manifest-1.json of `packer.manifest`. Fields stand in the order of the document, and a field that
has its default is left out of it. Sizes are bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, ValidationError

from builders.runtimes import Architecture
from packer.core.errors import UsageError
from packer.core.names import FUNCTION_NAME
from packer.core.options import FORMATS, Format, TrimLevel, VerifyLevel

Bytes = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[float, Meta(ge=0)]
# Patterns are for readers of the schema: checking them would cost more than decoding all else.
Digest = Annotated[str, Meta(extra_json_schema={"pattern": "^[0-9a-f]{64}$"})]
BlobDigest = Annotated[str, Meta(extra_json_schema={"pattern": "^sha256:[0-9a-f]{64}$"})]
FunctionName = Annotated[str, Meta(extra_json_schema={"pattern": f"^{FUNCTION_NAME}$"})]
Runtime = Annotated[str, Meta(extra_json_schema={"pattern": r"^python3\.[0-9]+$"})]
BytecodePlace = Literal["beside", "only", "off"]
"""Where bytecode lies: beside its sources, in their place, or nowhere."""
StartStep = Literal["pause-gc", "prefetch"]
"""What a handler's module does beside its own code."""
_RelativePath = Annotated[str, Meta(description="Relative to the output folder.")]
_SbomPath = Annotated[str, Meta(description="Its CycloneDX bill of materials, relative to the output folder.")]
_PLACE = re.compile(r"(?:.* required field `(?P<field>\w+)`)?.*?(?: - at `\$(?P<place>[^`]*)`)?")
"""The field and the place that msgspec's errors name, such as "Object missing required field `path` - at `$.artifact`"."""
_NOT_SO = " is missing, or not what it should be"
Record = TypeVar("Record")


class ArtifactRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function's archive (``zip_bytes``), or its image (``stored_bytes``, of the layers that are its own)."""

    path: _RelativePath
    sha256: Annotated[Digest, Meta(description="Of the archive, or of an image's manifest.")]
    zip_bytes: Bytes | None = None
    stored_bytes: (
        Annotated[Bytes, Meta(description="The layers of an image that are its own, as they are stored and uploaded.")] | None
    ) = None
    unzipped_bytes: Bytes
    files: Count

    @property
    def packed_bytes(self) -> int:
        """The bytes of the archive, or of what lpack adds to an image's base."""
        return (self.stored_bytes if self.zip_bytes is None else self.zip_bytes) or 0


class SizeRecord(Struct, frozen=True, kw_only=True):
    """What a part of an artifact takes in it."""

    files: Count
    unzipped_bytes: Bytes


class WheelBuildRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a wheel was built that no index offers."""

    builder: Annotated[str, Meta(extra_json_schema={"enum": ["host", "container", "cross"]})]
    image: Annotated[str, Meta(description="The image that it was built in, as it was named.")] = ""
    image_digest: Annotated[
        BlobDigest, Meta(description="Its digest in the registry that it came from, or else its own id.")
    ] = ""
    network: Annotated[bool, Meta(description="The build could reach the network.", extra_json_schema={"const": True})] = False
    setup: Annotated[tuple[str, ...], Meta(description="The commands that prepared the image.")] = ()
    requirements: Annotated[
        tuple[Annotated[str, Meta(extra_json_schema={"pattern": "^[^=]+==.+$"})], ...],
        Meta(description="The exact build requirements, with what these need."),
    ] = ()
    libraries: Annotated[
        tuple[str, ...],
        Meta(description="Sonames of the shared libraries that were copied from the image into the wheel."),
    ] = ()
    why: str


class DistributionRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One distribution of an artifact, and what it adds to it."""

    name: str
    version: str
    wheel: Annotated[str, Meta(description="File name of the wheel that was packed.")]
    sha256: Digest
    files: Count
    unzipped_bytes: Bytes
    layer: Annotated[str, Meta(description="The layer that it lies in; not there where it lies in the function.")] = ""
    built: (
        Annotated[
            WheelBuildRecord,
            Meta(description="How a wheel was built that no index offers; not there where it was fetched."),
        ]
        | None
    ) = None


class RemovedFiles(Struct, frozen=True, kw_only=True):
    """What one rule removed from one distribution."""

    rule: Annotated[str, Meta(description="A rule's name; `strip` for what stripping of libraries saved.")]
    distribution: str
    files: Count
    bytes: Bytes


class LayerRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A layer that lpack makes."""

    path: _RelativePath
    sha256: Digest
    zip_bytes: Bytes
    unzipped_bytes: Bytes
    files: Count
    distributions: tuple[DistributionRecord, ...]
    removed_bytes: Annotated[int, Meta(description="What was taken out of its distributions.")]
    removed: tuple[RemovedFiles, ...] = ()
    sbom: _SbomPath = ""


class ManifestLayer(LayerRecord, frozen=True, kw_only=True, omit_defaults=True):
    """A layer in the manifest, with all its functions and their targets."""

    functions: Annotated[tuple[str, ...], Meta(description="Who has it.")]
    runtimes: Annotated[tuple[str, ...], Meta(description="Those of its functions (CompatibleRuntimes).")]
    architectures: tuple[Architecture, ...]


class KeptFiles(Struct, frozen=True, kw_only=True):
    """What a rule would have removed from a distribution, had the function worked without it."""

    rule: str
    distribution: str


class TrimRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What trimming removed from a function; ``removed`` is but for what its layers hold, which they say themselves."""

    level: TrimLevel
    removed_bytes: Bytes
    removed: tuple[RemovedFiles, ...]
    kept: Annotated[
        tuple[KeptFiles, ...], Meta(description="What was left alone because the function did not work without it.")
    ]
    removed_from_layers_bytes: Annotated[
        Bytes, Meta(description="What was taken out of the distributions that its layers hold.")
    ] = 0


class BytecodeRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a function is compiled; only ``mode`` where it is not."""

    mode: BytecodePlace
    why: Annotated[str, Meta(description="Why this mode.")] | None = None
    python: Annotated[str, Meta(description="The version of the Python that compiled it.")] | None = None
    files: Count | None = None
    bytes: Bytes | None = None
    not_compiled: tuple[str, ...] | None = None
    starts: (
        Annotated[
            tuple[StartStep, ...],
            Meta(description="What the handler's module does beside its own code."),
        ]
        | None
    ) = None


UnverifiedCause = Literal["deployment", "layer", "script", "interpreter", "runtime", "event"]
"""Why a function could not be verified: it needs what only its deployment has, its handler or a module may lie in a layer, its
handler is a script, no Python of the target's minor is here, or only one whose failure may not be the runtime's, what the
runtime has could not be fetched, or each of its events ends with an error."""


class UnverifiedRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a function that was to be verified could not be."""

    cause: Annotated[UnverifiedCause, Meta(description="The kind of reason.")]
    reason: Annotated[str, Meta(description="The reason, for people: it ends the sentence `not verified: …`.")]
    handler_elsewhere: Annotated[
        bool, Meta(description="Whether its handler is a script or lies in a layer, so that nothing here runs it.")
    ] = False


class ProofRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a function was proved to work."""

    level: VerifyLevel
    by: Annotated[str, Meta(description="The Python that ran it.")] = ""
    milliseconds: Annotated[Milliseconds, Meta(description="Of the import; with `rie`, of the whole init phase.")] | None = None
    events: Annotated[int, Meta(ge=1, description="How many sample events it got.")] | None = None
    raised: Annotated[Count, Meta(description="How many of these end with an error, trimmed or not.")] | None = None
    unconfined: Annotated[str, Meta(description="Why what ran was not kept from the machine; not there where it was.")] = ""
    not_verified: (
        Annotated[UnverifiedRecord, Meta(description="Why it could not be verified; not there where it was not to be.")] | None
    ) = None

    @property
    def verdict(self) -> str:
        """The verdict in words; empty where nothing was to be verified."""
        if self.not_verified is not None:
            return f"not verified: {self.not_verified.reason}"
        return "verified" if self.level != "none" else ""


class BaseImageRecord(Struct, frozen=True, kw_only=True):
    """What an image is built upon; of one that was not looked at, the name alone is known."""

    name: str
    digest: Annotated[BlobDigest, Meta(description="Of the base's manifest.")]
    bytes: Annotated[Bytes, Meta(description="Its layers, as they are stored.")]
    layers: Count


class ImageLayerRecord(Struct, frozen=True, kw_only=True):
    """One layer of an image that is its own."""

    digest: BlobDigest
    bytes: Bytes
    holds: Annotated[str, Meta(description="What is in it, for people.")]


class ImageRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An image, in whatever forms it is written."""

    digest: Annotated[BlobDigest, Meta(description="Of its manifest.")]
    platform: Annotated[str, Meta(description="Such as linux/amd64.")]
    base: BaseImageRecord
    layers: Annotated[tuple[ImageLayerRecord, ...], Meta(description="Its own layers upon the base, lowest first.")]
    started: Annotated[
        bool, Meta(description="Whether its start was tried in its own file system, and it asked for an event.")
    ] = False
    also: Annotated[tuple[str, ...], Meta(description="Where it lies in other forms, relative to the output folder.")] = ()


class FunctionFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the manifest and the state of a build have in common of a function; they differ in how they hold ``layers``."""

    runtime: Runtime
    architecture: Architecture
    handler: str
    format: Format
    artifact: ArtifactRecord
    lock: Annotated[str, Meta(description="Where the exact versions come from: a lock file's name, or `resolved`.")]
    source: SizeRecord
    distributions: tuple[DistributionRecord, ...]
    layers: Any = ()
    attached_bytes: Annotated[
        Bytes, Meta(description="What the layers take, unzipped, that lpack does not make and whose content is known.")
    ] = 0
    trim: Annotated[TrimRecord, Meta(description="What was taken out of the distributions.")]
    bytecode: BytecodeRecord
    verified: ProofRecord
    seconds: Annotated[float, Meta(ge=0, description="Wall time that this function took when it was last built.")]
    image: (
        Annotated[
            ImageRecord,
            Meta(description="An image that is written as an OCI image layout, a docker-archive or both."),
        ]
        | None
    ) = None
    sbom: _SbomPath = ""

    @property
    def target(self) -> str:
        """The runtime and the architecture, in words."""
        return f"{self.runtime} {self.architecture}"

    @property
    def inside(self) -> tuple[DistributionRecord, ...]:
        """The distributions that no layer holds."""
        return tuple(each for each in self.distributions if not each.layer)

    @property
    def packed_bytes(self) -> int:
        """The bytes of a function's archive, or of what lpack adds to an image's base; layers are not in it."""
        return self.artifact.packed_bytes


class FunctionRecord(FunctionFacts, frozen=True, kw_only=True, omit_defaults=True):
    """A function that was built, with its ``layers`` by their names, in order; ``attached`` are ARNs of the user's own."""

    layers: Mapping[str, LayerRecord] = {}
    attached: tuple[str, ...] = ()

    @property
    def packed_with_layers(self) -> int:
        """The bytes of a function's package and of all its layers, as they are stored."""
        return self.packed_bytes + sum(layer.zip_bytes for layer in self.layers.values())

    @property
    def unpacked_with_layers(self) -> int:
        """The bytes that a function takes with all its layers where it runs."""
        made = sum(layer.unzipped_bytes for layer in self.layers.values())
        return self.artifact.unzipped_bytes + self.attached_bytes + made

    @property
    def paths(self) -> Iterator[str]:
        """The paths of a function's artifacts and of its layers, relative to the output folder; bills are not among them."""
        yield self.artifact.path
        yield from self.image.also if self.image else ()
        yield from (layer.path for layer in self.layers.values())


FunctionRecords = Mapping[str, FunctionRecord]
"""Functions by their names."""


class ManifestFunction(FunctionFacts, frozen=True, kw_only=True, omit_defaults=True):
    """A function in the manifest, where ``layers`` are names."""

    layers: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Its layers, in the order in which they are to be attached: ARNs of the user's, then names of this build's."
            ),
            extra_json_schema={"maxItems": 5},
        ),
    ] = ()


_IMAGE_OR_ZIP = {
    "if": {"properties": {"format": {"const": "image"}}},
    "then": {"required": ["image"], "properties": {"artifact": {"required": ["stored_bytes"]}, "layers": False}},
    "else": {"properties": {"image": False, "artifact": {"required": ["zip_bytes"]}}},
}


class BuildManifest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All of lpack.json."""

    schema_version: Literal[1]
    lpack: Annotated[str, Meta(description="The version of lpack that built it.")]
    layers: Annotated[
        Mapping[str, ManifestLayer],
        Meta(description="The layers that functions share, by their names, which end in digits of what is in them."),
    ] = {}
    functions: Mapping[FunctionName, Annotated[ManifestFunction, Meta(extra_json_schema={"allOf": [_IMAGE_OR_ZIP]})]]
    template: Annotated[str, Meta(description="The AWS SAM template that was written, relative to the output folder.")] = ""

    def records(self) -> dict[str, FunctionRecord]:
        """Return the functions, each with its layers in it; attached ones, of which nothing is known, are left out."""
        return {name: self._record(each) for name, each in self.functions.items()}

    def _record(self, function: ManifestFunction) -> FunctionRecord:
        held = {layer: self.layers[layer] for layer in function.layers if layer in self.layers}
        facts = {field: getattr(function, field) for field in ManifestFunction.__struct_fields__}
        return FunctionRecord(**{**facts, "layers": held})


class _Outline(Struct, frozen=True):
    functions: dict[str, Raw]
    layers: dict[str, Raw] = {}


class _Format(Struct, frozen=True):
    format: str


def read_manifest(
    path: Path, trouble: str = "cannot be read", remedy: str = "Remove it, and run `lpack build`."
) -> BuildManifest:
    """Read an lpack.json; raises `UsageError` with the reason, and with ``trouble`` and ``remedy`` for one that exists."""
    try:
        return decode_manifest(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"There is no {path}.", remedy="Run `lpack build` first.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} {trouble} ({reason}).", remedy=remedy) from None


def decode_manifest(data: bytes) -> BuildManifest:
    """Return the manifest that is written in JSON; raises `ValueError`, which says where it is wrong."""
    try:
        manifest = msgspec.json.decode(data, type=BuildManifest)
    except ValidationError as error:
        _check_parts(data)
        raise ValueError(_wrong_place(error, "")) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    for name, function in manifest.functions.items():
        missing = "artifact.stored_bytes" if function.format == "image" else "artifact.zip_bytes"
        sized = function.artifact.stored_bytes if function.format == "image" else function.artifact.zip_bytes
        if sized is None or (function.format == "image" and function.image is None):
            raise ValueError(f"functions.{name}.{missing if sized is None else 'image'}{_NOT_SO}")
    return manifest


def _check_parts(data: bytes) -> None:
    """Raise `ValueError` for the first function or layer that is wrong, with its name, which msgspec does not tell."""
    outline = decode_record(data, _Outline, "")
    for name, layer in outline.layers.items():
        decode_record(layer, ManifestLayer, f"layers.{name}")
    for name, function in outline.functions.items():
        where = f"functions.{name}"
        if decode_record(function, _Format, where).format not in FORMATS:
            raise ValueError(f"{where}.format is none that is known")
        decode_record(function, ManifestFunction, where)


def decode_record(data: bytes | Raw, kind: type[Record], where: str) -> Record:
    """Return the part of a document at ``where`` that is written in JSON; raises `ValueError`, which says where it is wrong."""
    try:
        return msgspec.json.decode(data, type=kind)
    except ValidationError as error:
        raise ValueError(_wrong_place(error, where)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _wrong_place(error: ValidationError, where: str) -> str:
    found = _PLACE.fullmatch(str(error))
    if found:
        where += (found["place"] or "") + (f".{found['field']}" if found["field"] else "")
    return f"{where.strip('.') or 'the file'}{_NOT_SO}"


def json_text(document: object, *, ascii_only: bool = False) -> str:
    """Return a document as it is written and printed: JSON, indented by two spaces, with a line feed at its end."""
    # By itself json.dumps indents in Python, and msgspec writes some numbers otherwise.
    line = json.dumps(msgspec.to_builtins(document), ensure_ascii=ascii_only)
    return msgspec.json.format(line, indent=2) + "\n"
