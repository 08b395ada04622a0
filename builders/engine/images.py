"""The images that builds run in: found in the engine or pulled, for the right machine, with the setup commands done."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping, Sequence

from builders.engine.client import EndedContainer, Engine, EngineImage
from builders.engine.file_transfer import add_bytes
from builders.engine.job import ContainerJob
from builders.engine.presence import missing_image_error
from builders.errors import BuildError, PullError, UnavailableError
from builders.once import Locks, Once
from builders.recipes import BuildSettings, Limits
from builders.runtimes import Target

_DERIVED = "lpack-build"
"""Repository name of the images that setup commands, or files, made."""
_TRY = Limits(seconds=60)
_NO_FORMAT = "exec format error"
"""What the kernel says of a program for another machine (execve(2), ENOEXEC), as engines pass it on."""


class EngineImages:
    """Gives the image for a target and a build's settings; each is pulled and derived once. May be used from many threads."""

    def __init__(
        self, engine: Engine, say: Callable[[str], None], listen: Callable[[str, str], None], *, offline: bool
    ) -> None:
        self._engine = engine
        self._say = say
        self._listen = listen
        self._offline = offline
        self._locks: Locks[str] = Locks()
        self._bases: Once[tuple[str, str], EngineImage] = Once()
        self._derivations: Once[str, EngineImage] = Once()
        self._working: set[str] = set()

    def base(self, target: Target, settings: BuildSettings) -> EngineImage:
        """Return the image that a build starts from; raises `UnavailableError` where there is none for the target's machine."""
        reference = settings.image or target.build_image

        def find() -> EngineImage:
            with self._locks.of(reference):  # an engine has a name for one machine at a time
                return self._find_or_pull(reference, target)

        return self._bases.get((reference, target.image_architecture), find)

    def ready(self, target: Target, settings: BuildSettings) -> EngineImage:
        """Return the image that a build runs in, with the setup commands done.

        Raises `UnavailableError` or, where a setup command fails, `BuildError`.
        """
        base = self.base(target, settings)
        self.prove(base, target)
        if not settings.setup:
            return base
        tag = setup_tag(base, settings.setup)
        return self._derivations.get(tag, lambda: self._engine.image(f"{_DERIVED}:{tag}") or self._derive(base, settings, tag))

    def with_files(self, base: EngineImage, files: Mapping[str, bytes]) -> EngineImage:
        """Return an image with other files at some paths; raises `BuildError`."""
        tag = setup_tag(base, [text for path, data in files.items() for text in (path, data.decode())])

        def make() -> EngineImage:
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as archive:
                for path, data in files.items():
                    add_bytes(archive, path.lstrip("/"), data)
            self._engine.add_files(base, buffer.getvalue(), (_DERIVED, tag))
            return self._derived(tag)

        return self._derivations.get(tag, lambda: self._engine.image(f"{_DERIVED}:{tag}") or make())

    def _derived(self, tag: str) -> EngineImage:
        found = self._engine.image(f"{_DERIVED}:{tag}")
        if found is None:
            raise BuildError(f"the engine has lost the image {_DERIVED}:{tag} that was just made", remedy="Build again.")
        return found

    def _find_or_pull(self, reference: str, target: Target) -> EngineImage:
        found = self._engine.image(reference)
        if found is not None and found.architecture == target.image_architecture:
            return found
        if self._offline:
            raise missing_image_error(reference, target, found.architecture if found else "")
        self._say(f"pulling {reference}")
        try:
            self._engine.pull(reference, f"linux/{target.image_architecture}")
        except PullError as failure:
            there = f"only for {found.architecture} in the engine" if found else "not in the engine"
            raise UnavailableError(
                f"the image {reference} is {there}, and cannot be pulled for {target.architecture} ({failure.detail.strip()})",
                remedy='Check the name and the network, or name an image that exists: image = "…" in the configuration.',
            ) from None
        found = self._engine.image(reference)
        if found is None or found.architecture != target.image_architecture:
            made_for = found.architecture if found else "nothing"
            remedy = f'Name an image for {target.image_architecture}: image = "…" in the configuration.'
            raise UnavailableError(f"the image {reference} is for {made_for}, not for {target.architecture}", remedy=remedy)
        return found

    def prove(self, image: EngineImage, target: Target) -> None:
        """Prove that the engine can run an image of another machine, once; raises `UnavailableError` or `BuildError`."""
        if image.architecture in self._working:
            return
        with self._locks.of(f"machine {image.architecture}"):
            if image.architecture in self._working:
                return
            if self._engine.info().architecture != image.architecture and not self._starts(image):
                raise emulation_error(target)
            self._working.add(image.architecture)

    def _starts(self, image: EngineImage) -> bool:
        """Return whether the engine can start a program of an image; raise `BuildError` where it fails for another reason."""
        platform = f"linux/{image.architecture}"
        job = ContainerJob(image=image.identity, command=("/bin/sh", "-c", "true"), limits=_TRY, platform=platform)
        try:
            with self._engine.run(job, lambda _text: None) as ended:
                return ended.status == 0
        except BuildError as failure:
            if _NO_FORMAT not in failure.detail.lower():
                raise
            return False

    def _derive(self, base: EngineImage, settings: BuildSettings, tag: str) -> EngineImage:
        self._say(f"preparing {base.reference}: {'; '.join(settings.setup)}")
        job = ContainerJob(
            image=base.identity,
            command=("/bin/sh", "-euxc", "\n".join(settings.setup)),
            limits=settings.limits,
            network=True,
            sealed=False,
            platform=f"linux/{base.architecture}",
            environment={"DEBIAN_FRONTEND": "noninteractive"},
        )
        with self._engine.run(job, lambda text: self._listen("setup", text)) as ended:
            if ended.status:
                raise _setup_failure(ended, base, settings)
            ended.commit(_DERIVED, tag)
        return self._derived(tag)


def _setup_failure(ended: EndedContainer, base: EngineImage, settings: BuildSettings) -> BuildError:
    limits = settings.limits
    reason = f"the setup commands ended with status {ended.status} in {base.reference}"
    remedy = "Fix `setup` in the configuration; its commands run as root in /bin/sh."
    if ended.late:
        reason = f"the setup commands were stopped after {limits.seconds:g} s in {base.reference}"
        remedy = 'If they need more time, say so in the configuration: limits = { time = "…" }.'
    elif ended.out_of_memory:
        reason = f"the setup commands needed more than {limits.memory >> 20} MB of memory in {base.reference}"
        remedy = 'If they need more, say so in the configuration: limits = { memory = "…" }.'
    return BuildError(reason, detail=ended.log, remedy=remedy)


def setup_tag(base: EngineImage, commands: Sequence[str]) -> str:
    """Name what commands make of an image: by the digest of both."""
    total = hashlib.sha256("\0".join([base.identity, *commands]).encode())
    return total.hexdigest()[:32]


def emulation_error(target: Target) -> UnavailableError:
    """Say that the engine cannot run programs of the target's machine."""
    machine = target.architecture
    return UnavailableError(
        f"the container engine cannot run programs for {machine}",
        remedy=(
            f"Give its machine emulation for {machine} (the packages qemu-user-static and binfmt-support do), use an engine "
            'on such a machine (DOCKER_HOST), or builder = "cross".'
        ),
    )
