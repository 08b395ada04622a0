"""The images that builds run in: found in the engine or pulled, for the right machine, with the setup commands done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from threading import Lock

from builders.engine import MACHINES, Ended, Engine, Image, Job
from builders.recipes import BuilderUnavailable, BuildFailure, BuildSettings, Limits
from builders.runtimes import Target

_DERIVED = "lpack-build"
"""Repository name of the images that setup commands made."""
_TRY = Limits(seconds=60)


class Images:
    """Gives the image for a target and a build's settings; each is pulled and derived once. May be used from many threads."""

    def __init__(
        self, engine: Engine, say: Callable[[str], None], listen: Callable[[str, str], None], *, offline: bool
    ) -> None:
        self._engine = engine
        self._say = say
        self._listen = listen
        self._offline = offline
        self._lock = Lock()
        self._bases: dict[tuple[str, Target], Image] = {}
        self._working: set[str] = set()

    def base(self, target: Target, settings: BuildSettings) -> Image:
        """Give the image that a build starts from; raises `BuilderUnavailable` where there is none for the target's machine."""
        reference = settings.image or target.build_image
        with self._lock:
            found = self._bases.get((reference, target))
            if found is None:
                found = self._bases[reference, target] = self._found(reference, target)
        return found

    def ready(self, target: Target, settings: BuildSettings) -> Image:
        """Give the image that a build runs in, with the setup commands done.

        Raises `BuilderUnavailable` or, where a setup command fails, `BuildFailure`.
        """
        base = self.base(target, settings)
        with self._lock:
            self._proved(base, target)
            if not settings.setup:
                return base
            tag = setup_tag(base, settings.setup)
            return self._engine.image(f"{_DERIVED}:{tag}") or self._derived(base, settings, tag)

    def _found(self, reference: str, target: Target) -> Image:
        found = self._engine.image(reference)
        if found is not None and found.architecture == MACHINES[target.architecture]:
            return found
        if self._offline:
            remedy = 'Build once without --offline, or name an image that is there: image = "…" in the configuration.'
            what = f"the engine does not have the image {reference} for {target.architecture}"
            raise BuilderUnavailable(f"{what}, but for {found.architecture}" if found else what, remedy=remedy)
        self._say(f"pulling {reference}")
        try:
            self._engine.pull(reference, f"linux/{MACHINES[target.architecture]}")
        except BuildFailure as failure:
            raise BuilderUnavailable(
                f"the image {reference} is neither in the engine nor can it be pulled ({failure.log.strip()})",
                remedy='Check the name and the network, or name an image that is there: image = "…" in the configuration.',
            ) from None
        found = self._engine.image(reference)
        if found is None or found.architecture != MACHINES[target.architecture]:
            made_for = found.architecture if found else "nothing"
            remedy = f'Name an image for {MACHINES[target.architecture]}: image = "…" in the configuration.'
            raise BuilderUnavailable(f"the image {reference} is for {made_for}, not for {target.architecture}", remedy=remedy)
        return found

    def prove(self, image: Image, target: Target) -> None:
        """Prove that the engine can run an image of another machine, once; raises `BuilderUnavailable`."""
        with self._lock:
            self._proved(image, target)

    def _proved(self, image: Image, target: Target) -> None:
        if image.architecture in self._working or self._engine.info().architecture == image.architecture:
            return
        job = Job(image=image.identity, command=("/bin/sh", "-c", "true"), limits=_TRY, platform=f"linux/{image.architecture}")
        try:
            with self._engine.run(job, lambda _text: None) as ended:
                works = ended.status == 0
        except BuildFailure:
            works = False
        if not works:
            raise no_emulation(target)
        self._working.add(image.architecture)

    def _derived(self, base: Image, settings: BuildSettings, tag: str) -> Image:
        self._say(f"preparing {base.reference}: {'; '.join(settings.setup)}")
        job = Job(
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
        found = self._engine.image(f"{_DERIVED}:{tag}")
        if found is None:
            raise BuildFailure(f"the engine has lost the image {_DERIVED}:{tag} that was just made", remedy="Build again.")
        return found


def _setup_failure(ended: Ended, base: Image, settings: BuildSettings) -> BuildFailure:
    limits = settings.limits
    reason = f"the setup commands ended with status {ended.status} in {base.reference}"
    remedy = "Mend `setup` in the configuration; its commands run as root in /bin/sh."
    if ended.late:
        reason = f"the setup commands were stopped after {limits.seconds:g} s in {base.reference}"
        remedy = 'If they need more time, say so in the configuration: limits = { time = "…" }.'
    elif ended.out_of_memory:
        reason = f"the setup commands needed more than {limits.memory >> 20} MB of memory in {base.reference}"
        remedy = 'If they need more, say so in the configuration: limits = { memory = "…" }.'
    return BuildFailure(reason, log=ended.log, remedy=remedy)


def setup_tag(base: Image, commands: tuple[str, ...]) -> str:
    """Name what commands make of an image: by the digest of both."""
    total = hashlib.sha256("\0".join([base.identity, *commands]).encode())
    return total.hexdigest()[:32]


def no_emulation(target: Target) -> BuilderUnavailable:
    """Say that the engine cannot run programs of the target's machine."""
    machine = target.architecture
    return BuilderUnavailable(
        f"the container engine cannot run programs for {machine}",
        remedy=(
            f"Give its machine emulation for {machine} (the packages qemu-user-static and binfmt-support do), use an engine "
            'on such a machine (DOCKER_HOST), or builder = "cross".'
        ),
    )
