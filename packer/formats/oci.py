"""The words of container images as values: references, descriptors, manifests, configurations. Nothing here reads or writes.

Sources: the OCI image format specification 1.1 (descriptor.md, manifest.md, config.md, image-index.md), the OCI distribution
specification 1.1, and Docker's "Image Manifest Version 2, Schema 2", whose documents have the same shape under other names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

from builders.runtimes import IMAGE_ARCHITECTURES, Architecture
from packer.core.errors import ImageError, UsageError
from packer.core.names import DOCKER_HUB

_SCHEMA = 2
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_INDEX)

Compression = Literal["", "gzip", "zstd"]
LAYER_MEDIA_TYPES: dict[str, Compression] = {
    OCI_LAYER: "",
    f"{OCI_LAYER}+gzip": "gzip",
    f"{OCI_LAYER}+zstd": "zstd",
    DOCKER_LAYER: "",
    f"{DOCKER_LAYER}.gzip": "gzip",
}
"""How the tar of a layer is compressed, by media type."""

LARGEST_MANIFEST = 4 << 20
"""Bytes of a manifest or index that registries take and clients read (distribution specification, "Pushing Manifests")."""
LARGEST_CONFIG = 4 << 20
"""Bytes of a configuration that lpack reads; real ones have a few kilobytes."""
MOST_LAYERS = 127
"""Layers of an image that Docker's storage can stack."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_OTHER_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_HOST = re.compile(r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_LONGEST_REPOSITORY = 255
_HUB_NAMES = frozenset((DOCKER_HUB, "index.docker.io", "registry-1.docker.io"))


def digest_of_bytes(data: bytes) -> str:
    """Return the digest of a blob as images write it: ``sha256:`` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def media_type_of(data: bytes, named: str, told: str = "") -> str:
    """Return the media type of a manifest or index: its own field, else ``told`` by a registry, else by its content.

    Raises `ImageError` for what is not JSON.
    """
    found = _load_json(data, named, LARGEST_MANIFEST)
    document = found if isinstance(found, Mapping) else {}
    own = document.get("mediaType")
    if isinstance(own, str):
        return own
    return told.partition(";")[0].strip() or (OCI_INDEX if "manifests" in document else OCI_MANIFEST)


def encode_document(document: Mapping[str, object]) -> bytes:
    """Return a document as canonical JSON: keys sorted, no spaces, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


_WRITE = "Write it as HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST."


class Reference(Struct, frozen=True, kw_only=True):
    """The name of an image in a registry. ``registry`` is a host with its port; ``tag`` and ``digest`` may be empty."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a name as Docker does: without a host it is Docker Hub's. Raises `UsageError`."""
        rest, _, digest = text.partition("@")
        host, slash, path = rest.partition("/")
        bare = host.partition(":")[0]
        if not slash and ("." in bare or bare == "localhost"):
            raise UsageError(f"{text[:200]!r} is a registry without a repository.", remedy=_WRITE)
        if not slash or not (set(host) & set(".:") or host == "localhost"):
            host, path = DOCKER_HUB, rest
        host = DOCKER_HUB if host in _HUB_NAMES else host
        path = f"library/{path}" if host == DOCKER_HUB and "/" not in path else path
        repository, _, tag = path.partition(":")
        good = (
            _HOST.fullmatch(host)
            and REPOSITORY.fullmatch(repository)
            and len(repository) <= _LONGEST_REPOSITORY
            and (not tag or _TAG.fullmatch(tag))
            and not path.endswith(":")
            and (not digest or _DIGEST.fullmatch(digest))
            and not text.endswith("@")
        )
        if not good:
            raise UsageError(
                f"{text[:200]!r} is not the name of an image.",
                remedy=f"{_WRITE} Repositories are in lower case.",
            )
        return cls(registry=host, repository=repository, tag=tag, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """The registry and repository, without tag or digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def wanted(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag, else ``latest``."""
        return self.digest or self.tag or "latest"


class Platform(Struct, frozen=True, kw_only=True):
    """What an image runs on; ``variant`` is mostly empty (``v8`` for arm64)."""

    architecture: str
    os: str = "linux"
    variant: str = ""

    @classmethod
    def of(cls, architecture: Architecture) -> Platform:
        """Return the platform of a target's architecture."""
        return cls(architecture=IMAGE_ARCHITECTURES[architecture])

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def document(self) -> dict[str, object]:
        """Return the form that descriptors hold."""
        known = {"architecture": self.architecture, "os": self.os}
        return {**known, "variant": self.variant} if self.variant else {**known}

    def serves(self, wanted: Platform) -> bool:
        """Return whether images of this platform run on ``wanted``; arm64 has only the one variant, ``v8``."""
        return (self.os, self.architecture) == (wanted.os, wanted.architecture) and self.variant in ("", "v8", wanted.variant)


class Descriptor(Struct, frozen=True, kw_only=True):
    """Names a blob: its media type, ``sha256:`` digest and length in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Descriptor:
        """Return the descriptor of a blob's bytes."""
        return cls(media_type=media_type, digest=digest_of_bytes(data), size=len(data))

    @classmethod
    def parse(cls, document: object, where: str) -> Descriptor:
        """Parse and check one; raise `ImageError` that says what is wrong in ``where``."""
        part = _JsonObject(document, where)
        digest, size = part.text("digest"), part.document.get("size")
        if not _DIGEST.fullmatch(digest):
            known = _OTHER_DIGEST.fullmatch(digest)
            raise part.broken(f"{digest[:80]!r} is not a SHA-256 digest" + (", the only kind lpack reads" if known else ""))
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise part.broken(f"a blob's size is {size!r}")
        platform = part.document.get("platform")
        return cls(
            media_type=part.text("mediaType"),
            digest=digest,
            size=size,
            platform=None if platform is None else _platform(platform, where),
            annotations=part.texts("annotations"),
        )

    def document(self) -> dict[str, object]:
        """Return the form that manifests hold."""
        found: dict[str, object] = {"digest": self.digest, "mediaType": self.media_type, "size": self.size}
        if self.platform is not None:
            found["platform"] = self.platform.document()
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return found

    @property
    def sha256(self) -> str:
        """The digest's 64 hex digits."""
        return self.digest.removeprefix("sha256:")


class Manifest(Struct, frozen=True, kw_only=True):
    """An image of one platform: its configuration and its layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, where: str) -> Manifest:
        """Parse and check one; raise `ImageError`."""
        part = _JsonObject(_load_json(data, where, LARGEST_MANIFEST), where)
        media_type = part.media_type(MANIFESTS)
        if part.document.get("schemaVersion") != _SCHEMA:
            raise part.broken(f"its manifest's schemaVersion is not {_SCHEMA}")
        layers = part.document.get("layers")
        if not isinstance(layers, list):
            raise part.broken("it has no list of layers")
        if len(layers) > MOST_LAYERS:
            raise part.broken(f"it has {len(layers)} layers, and engines support at most {MOST_LAYERS}")
        found = tuple(Descriptor.parse(layer, where) for layer in layers)
        for layer in found:
            if layer.media_type not in LAYER_MEDIA_TYPES:
                raise part.broken(f"a layer has the media type {layer.media_type[:100]!r}")
        return cls(
            config=Descriptor.parse(part.document.get("config"), where),
            layers=found,
            media_type=media_type,
            annotations=part.texts("annotations"),
        )

    def encode(self) -> bytes:
        """Return the bytes that registries keep."""
        document: dict[str, object] = {
            "config": self.config.document(),
            "layers": [layer.document() for layer in self.layers],
            "mediaType": self.media_type,
            "schemaVersion": _SCHEMA,
        }
        return encode_document({**document, "annotations": dict(self.annotations)} if self.annotations else document)


class Index(Struct, frozen=True, kw_only=True):
    """Several manifests under one name, mostly one for each platform."""

    manifests: tuple[Descriptor, ...]
    media_type: str = OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, where: str) -> Index:
        """Parse and check one; raise `ImageError`."""
        part = _JsonObject(_load_json(data, where, LARGEST_MANIFEST), where)
        manifests = part.document.get("manifests")
        if not isinstance(manifests, list):
            raise part.broken("it has no list of manifests")
        return cls(
            manifests=tuple(Descriptor.parse(manifest, where) for manifest in manifests),
            media_type=part.media_type(INDEXES),
            annotations=part.texts("annotations"),
        )

    def encode(self) -> bytes:
        """Return the bytes that registries keep."""
        document: dict[str, object] = {
            "manifests": [manifest.document() for manifest in self.manifests],
            "mediaType": self.media_type,
            "schemaVersion": _SCHEMA,
        }
        return encode_document({**document, "annotations": dict(self.annotations)} if self.annotations else document)


class ImageConfig(Struct, frozen=True, kw_only=True):
    """An image's configuration; ``document`` keeps all fields, also those unknown to lpack."""

    document: Mapping[str, object]
    platform: Platform
    diff_ids: tuple[str, ...]
    history: tuple[Mapping[str, object], ...]
    run: Mapping[str, object]
    """What containers start with: ``Env``, ``Entrypoint``, ``Cmd``, ``WorkingDir``, ``User``, ``Labels``."""

    @classmethod
    def parse(cls, data: bytes, where: str) -> ImageConfig:
        """Parse and check one; raise `ImageError`."""
        part = _JsonObject(_load_json(data, where, LARGEST_CONFIG), where)
        root = _JsonObject(part.document.get("rootfs"), where, "the rootfs of its configuration")
        diff_ids = root.document.get("diff_ids")
        if not isinstance(diff_ids, list) or not all(isinstance(one, str) and _DIGEST.fullmatch(one) for one in diff_ids):
            raise part.broken("its rootfs has no list of SHA-256 diff ids")
        run = part.document.get("config")
        history = part.document.get("history")
        if not isinstance(history, list | None) or not all(isinstance(step, dict) for step in history or ()):
            raise part.broken("its history is not a list of steps")
        return cls(
            document=part.document,
            platform=_platform(part.document, where),
            diff_ids=tuple(diff_ids),
            history=tuple(history or ()),
            run={} if run is None else _JsonObject(run, where, "the config of its configuration").document,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that containers start with."""
        listed = self.run.get("Env")
        pairs = (one.partition("=") for one in listed or () if isinstance(one, str)) if isinstance(listed, Sequence) else ()
        return {name: value for name, _, value in pairs}


def choose_manifest(manifests: Sequence[Descriptor], platform: Platform, named: str) -> Descriptor:
    """Return the manifest of an index that is for a platform; raise `ImageError` that lists the platforms it has."""
    able = [each for each in manifests if each.platform is not None and each.platform.serves(platform)]
    if not able:
        there = ", ".join(sorted({str(each.platform) for each in manifests if each.platform})) or "no platform that it declares"
        raise unusable_image(named, f"it is for {there}, and the function for {platform}")
    return able[0]


class _JsonObject(Struct, frozen=True):
    """An object in a document that is being read, and where it is."""

    found: object
    where: str
    name: str = "one of its documents"

    @property
    def document(self) -> Mapping[str, object]:
        if not isinstance(self.found, dict):
            raise self.broken(f"{self.name} is not an object")
        return self.found

    def broken(self, what: str) -> ImageError:
        return unusable_image(self.where, what)

    def text(self, key: str) -> str:
        found = self.document.get(key)
        if not isinstance(found, str):
            raise self.broken(f"{key!r} is missing")
        return found

    def texts(self, key: str) -> Mapping[str, str]:
        found = self.document.get(key)
        if found is None:
            return {}
        if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
            raise self.broken(f"{key!r} does not hold only strings")
        return found

    def media_type(self, allowed: Sequence[str]) -> str:
        found = self.document.get("mediaType", allowed[0])
        if found not in allowed:
            raise self.broken(f"its media type is {str(found)[:100]!r}")
        return str(found)


def unusable_image(where: str, what: str, remedy: str = "") -> ImageError:
    """Return the error for a document of an image that cannot be used."""
    remedy = remedy or "Choose another image, or build it again."
    return ImageError(f"{where} is not an image that lpack can use: {what}.", remedy=remedy)


def _platform(document: object, where: str) -> Platform:
    part = _JsonObject(document, where)
    variant = part.document.get("variant") or ""
    if not isinstance(variant, str):
        raise part.broken("its variant is not a string")
    return Platform(architecture=part.text("architecture"), os=part.text("os"), variant=variant)


def _load_json(data: bytes, where: str, most: int) -> object:
    if len(data) > most:
        raise unusable_image(where, f"one of its documents has {len(data):,} bytes, more than {most:,}")
    try:
        found: object = json.loads(data)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise unusable_image(where, "one of its documents has lone surrogates") from None
    except (ValueError, RecursionError):
        raise unusable_image(where, "one of its documents is not JSON") from None
    return found
