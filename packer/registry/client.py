"""Pushing images to registries and resolving bases in them, by the OCI distribution specification 1.1, without a daemon.

A tag is written last, so that it always names a complete image. Blobs that a registry has are not sent, nor fetched before if
they are a base's; those in another repository of the same registry are mounted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from math import inf
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from builders.once import Once
from packer.cache.store import Store, store_errors
from packer.core.errors import RegistryError, StoreError
from packer.core.events import Reporter
from packer.formats.image import Base, BlobSource, Image, check_image
from packer.formats.oci import (
    INDEXES,
    LARGEST_CONFIG,
    MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    Reference,
    choose_manifest,
    digest_of_bytes,
    media_type_of,
    unusable_image,
)
from packer.net.registry_login import DockerLogins
from packer.registry.blob_locations import BlobLocations
from packer.registry.blob_transfer import download, upload, upload_bytes
from packer.registry.endpoint import Endpoint

_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))


class PushResult(Struct, frozen=True, kw_only=True):
    """The result of a push: ``reference`` has the digest; ``sent`` are the bytes of blobs and manifests.

    The other fields count blobs: uploaded, mounted from another repository, and already present.
    """

    reference: Reference
    sent: int = 0
    uploaded: int = 0
    mounted: int = 0
    present: int = 0


class _BlobOutcome(Struct, frozen=True):
    kind: str
    size: int = 0


class Registries:
    """All registries that a command uses; may be used from many threads. ``insecure`` are hosts to use without TLS.

    With ``offline`` no request is made, and everything must be in the store.
    """

    def __init__(
        self,
        store: Store,
        reporter: Reporter,
        logins: DockerLogins,
        insecure: frozenset[str] = frozenset(),
        *,
        offline: bool = False,
    ) -> None:
        self._store = store
        self._reporter = reporter
        self._logins = logins
        self._insecure = insecure
        self._offline = offline
        self._endpoints: dict[str, Endpoint] = {}
        self._lock = Lock()
        self._stopped = False
        self._here: Once[str, Path] = Once()
        self._there: Once[tuple[str, str], _BlobOutcome] = Once(
            cheap=inf
        )  # a push that was stopped is repeated for the next image
        self._homes = BlobLocations(store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def stop(self) -> None:
        """End all waits for another attempt, and begin none."""
        with self._lock:
            self._stopped = True
            endpoints = tuple(self._endpoints.values())
        for endpoint in endpoints:
            endpoint.stop()

    def close(self) -> None:
        """Close all connections, and save the locations of blobs if that is possible: they only save later pushes bytes."""
        self.stop()
        with self._lock:
            endpoints = tuple(self._endpoints.values())
        for endpoint in endpoints:
            endpoint.close()
        try:
            self._homes.keep()
        except StoreError as error:
            self._reporter.debug(f"the locations of layers in registries are not kept: {error.what}")

    def endpoint(self, host: str) -> Endpoint:
        """Return the registry of a host; raise `RegistryError` when offline."""
        if self._offline:
            what = f"The image is not in the store, and --offline forbids using the registry {host}."
            raise RegistryError(what, remedy="Run `lpack lock` and one build without --offline.")
        with self._lock:
            if host not in self._endpoints:
                self._endpoints[host] = Endpoint(host, self._logins, plain=host in self._insecure)
                if self._stopped:
                    self._endpoints[host].stop()
            return self._endpoints[host]

    def resolve(self, reference: Reference, platform: Platform) -> Base:
        """Return the image for a platform, without fetching its layers.

        Raises `RegistryError`, and `ImageError` for an image that cannot be used.
        """
        named = str(reference)
        data, found = self._manifest(reference)
        if found.media_type in INDEXES:
            chosen = choose_manifest(Index.parse(data, named).manifests, platform, named)
            data, found = self._manifest(replace(reference, tag="", digest=chosen.digest))
        if found.media_type not in MANIFESTS:
            raise unusable_image(named, f"its media type is {found.media_type[:100]!r}")
        manifest = Manifest.parse(data, named)
        if manifest.config.size > LARGEST_CONFIG:
            raise unusable_image(named, f"its configuration has {manifest.config.size:,} bytes, more than {LARGEST_CONFIG:,}")
        blobs = RegistryBlobs(self, reference)
        config = ImageConfig.parse(blobs.bring(manifest.config).read_bytes(), named)
        check_image(manifest, config, named)
        return Base(named=named, digest=found.digest, manifest=manifest, config=config, blobs=blobs, home=reference)

    def _manifest(self, reference: Reference) -> tuple[bytes, Descriptor]:
        kept = self._store.blob(reference.digest.removeprefix("sha256:")) if reference.digest else None
        if kept is not None:
            data = kept.read_bytes()
            return data, Descriptor(media_type=media_type_of(data, str(reference)), digest=reference.digest, size=len(data))
        endpoint, doing = self.endpoint(reference.registry), f"find the image {reference}"
        path = f"/v2/{reference.repository}/manifests/{reference.wanted}"
        headers = {"Accept": _ACCEPT}
        response = endpoint.ask("GET", path, _pull_scopes(reference), doing=doing, headers=headers)
        data = response.content
        digest = digest_of_bytes(data)
        told = response.headers.get("Docker-Content-Digest", digest)
        if digest != (reference.digest or told) or (told.startswith("sha256:") and told != digest):
            what = f"The registry {reference.registry} sends a manifest for {reference} with the digest {digest}."
            raise RegistryError(what, remedy="Do not use it until you know why.")
        media_type = media_type_of(data, str(reference), response.headers.get("Content-Type", ""))
        self._keep(data, digest)
        return data, Descriptor(media_type=media_type, digest=digest, size=len(data))

    def _keep(self, data: bytes, digest: str) -> None:
        """Keep a manifest in the store, where it is found by its digest the next time."""
        with self._store.temporary() as temporary:
            with store_errors(temporary, "write"):
                temporary.write_bytes(data)
            self._store.adopt_blob(temporary, digest.removeprefix("sha256:"), len(data))

    def fetch(self, reference: Reference, blob: Descriptor) -> Path:
        """Return the file of a blob, from the store or else from the registry, once; raise `RegistryError`."""

        def bring() -> Path:
            known = self._store.blob(blob.sha256)
            return known or download(self.endpoint(reference.registry), reference, blob, self._store, self._reporter)

        return self._here.get(blob.digest, bring)

    def push(self, image: Image, to: Reference, workers: int = 4) -> PushResult:
        """Push an image, under a tag if there is one, and return what was sent; raise `RegistryError`."""
        data, described = image.manifest, image.descriptor
        if self._has_manifest(to, described.digest):
            return PushResult(reference=replace(to, digest=described.digest), present=len(image.layers) + 1)
        pushed = self._blobs(image, to, workers)
        sent = self._put_manifest(to, to.tag or described.digest, data, OCI_MANIFEST)
        return replace(pushed, reference=replace(to, digest=described.digest), sent=pushed.sent + sent)

    def push_index(self, images: Sequence[Image], to: Reference, workers: int = 4) -> PushResult:
        """Push images of several platforms, and an index of them under the tag; raise `RegistryError`."""
        total = PushResult(reference=to)
        for image in images:
            one = self._blobs(image, to, workers)
            sent = self._put_manifest(to, image.descriptor.digest, image.manifest, OCI_MANIFEST)
            total = replace(
                total,
                sent=total.sent + one.sent + sent,
                uploaded=total.uploaded + one.uploaded,
                mounted=total.mounted + one.mounted,
                present=total.present + one.present,
            )
        data = Index(manifests=tuple(image.descriptor for image in images)).encode()
        sent = self._put_manifest(to, to.tag or digest_of_bytes(data), data, OCI_INDEX)
        return replace(total, reference=replace(to, digest=digest_of_bytes(data)), sent=total.sent + sent)

    def _has_manifest(self, to: Reference, digest: str) -> bool:
        path = f"/v2/{to.repository}/manifests/{to.tag or digest}"
        doing = f"look for {to}"
        response = self.endpoint(to.registry).ask(
            "HEAD", path, _push_scopes(to), doing=doing, expected=(200, 404), headers={"Accept": _ACCEPT}
        )
        return response.status == 200 and response.headers.get("Docker-Content-Digest") == digest

    def _blobs(self, image: Image, to: Reference, workers: int) -> PushResult:
        """Ensure that a repository has all blobs of an image; raise `RegistryError`."""
        endpoint = self.endpoint(to.registry).part()
        put: list[Callable[[], _BlobOutcome]] = []
        for layer in {each.descriptor.digest: each for each in image.layers}.values():
            home = None if layer.own else image.home
            put.append(partial(self._put, endpoint, to, layer.descriptor, partial(layer.blobs.bring, layer.descriptor), home))
        config = image.config_descriptor
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="push") as executor:
            futures = [executor.submit(each) for each in put]
            try:
                outcomes = _wait_for_all(futures)
            except Exception:
                endpoint.stop()  # end the waits of the other blobs
                raise
            except BaseException:  # the user has interrupted: end everything
                self.stop()
                raise
            finally:
                for future in futures:
                    future.cancel()
        outcomes.append(self._there.get((to.name, config.digest), partial(self._sent_bytes, to, config, image.config)))
        kinds = [each.kind for each in outcomes]
        return PushResult(
            reference=to,
            sent=sum(each.size for each in outcomes),
            uploaded=kinds.count("uploaded"),
            mounted=kinds.count("mounted"),
            present=kinds.count("present"),
        )

    def _put(
        self, endpoint: Endpoint, to: Reference, blob: Descriptor, bring: Callable[[], Path], home: Reference | None
    ) -> _BlobOutcome:
        """Ensure that a repository has a blob; one that another thread has sent counts as present."""
        mine: list[_BlobOutcome] = []

        def send() -> _BlobOutcome:
            mine.append(self._sent(endpoint, to, blob, bring, home))
            return mine[0]

        self._there.get((to.name, blob.digest), send)
        return mine[0] if mine else _BlobOutcome("present")

    def _sent(
        self, endpoint: Endpoint, to: Reference, blob: Descriptor, bring: Callable[[], Path], home: Reference | None
    ) -> _BlobOutcome:
        if _has_blob(endpoint, to, blob):
            outcome = _BlobOutcome("present")
        else:
            sources = [home.repository] if home is not None and home.registry == to.registry else []
            known = self._homes.find(to.registry, blob.digest)
            sources += [known] if known else []
            source = next((each for each in sources if each != to.repository), "")
            size = upload(endpoint, to, blob, bring, _push_scopes(to, source), mount=source, reporter=self._reporter)
            outcome = _BlobOutcome("uploaded", size) if size else _BlobOutcome("mounted")
        self._homes.add(to.registry, blob.digest, to.repository)
        return outcome

    def _sent_bytes(self, to: Reference, blob: Descriptor, data: bytes) -> _BlobOutcome:
        endpoint = self.endpoint(to.registry)
        if _has_blob(endpoint, to, blob):
            return _BlobOutcome("present")
        upload_bytes(endpoint, to, blob, data, _push_scopes(to))
        return _BlobOutcome("uploaded", len(data))

    def _put_manifest(self, to: Reference, name: str, data: bytes, media_type: str) -> int:
        """Write a manifest under a tag or its digest, and return its length in bytes; raise `RegistryError`."""
        path, doing = f"/v2/{to.repository}/manifests/{name}", f"push {to.name}:{name}"
        headers = {"Content-Type": media_type}
        response = self.endpoint(to.registry).ask(
            "PUT", path, _push_scopes(to), doing=doing, expected=(200, 201, 202), headers=headers, body=lambda: data
        )
        told = response.headers.get("Docker-Content-Digest", "")
        if told.startswith("sha256:") and told != digest_of_bytes(data):
            what = f"The registry {to.registry} says that {to.name}:{name} has the digest {told}, which is not what was sent."
            raise RegistryError(what, remedy="Do not use that tag until you know why.")
        return len(data)


class RegistryBlobs(BlobSource):
    """The blobs of a repository."""

    def __init__(self, registries: Registries, reference: Reference) -> None:
        self._registries = registries
        self._reference = reference

    def bring(self, blob: Descriptor) -> Path:
        """Return a blob's file; raise `RegistryError`."""
        return self._registries.fetch(self._reference, blob)


def _wait_for_all(futures: Sequence[Future[_BlobOutcome]]) -> list[_BlobOutcome]:
    """Return all results; raise the first error at once, without waiting for the others."""
    wait(futures, return_when=FIRST_EXCEPTION)
    for future in futures:
        if future.done() and (error := future.exception()) is not None:
            raise error
    return [future.result() for future in futures]


def _has_blob(endpoint: Endpoint, to: Reference, blob: Descriptor) -> bool:
    path, doing = f"/v2/{to.repository}/blobs/{blob.digest}", f"look for a layer in {to.name}"
    return endpoint.ask("HEAD", path, _push_scopes(to), doing=doing, expected=(200, 307, 404)).status != 404


def _pull_scopes(reference: Reference) -> tuple[str, ...]:
    return (f"repository:{reference.repository}:pull",)


def _push_scopes(to: Reference, source: str = "") -> tuple[str, ...]:
    scopes = (f"repository:{to.repository}:pull,push",)
    return (*scopes, f"repository:{source}:pull") if source else scopes
