"""The builder of containers: runs a build back end in an image that matches the target, without network or privileges."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from builders.engine.client import EndedContainer, Engine
from builders.engine.file_transfer import JOB, add_bytes, copy_out, neutral_info, new_tar, pack_work
from builders.engine.images import EngineImages
from builders.engine.job import INPUTS, WORK, ContainerJob
from builders.errors import BuildError
from builders.inside import read_script
from builders.recipes import BuildSettings, BuiltWheel, Recipe, WheelRequest
from builders.runtimes import IMAGE_LIMIT, Target
from builders.script import (
    LONGEST_ANSWER,
    NAME,
    SCRIPTS,
    ScriptAnswer,
    ScriptOutcome,
    ScriptPaths,
    built_wheel_name,
    read_answer,
    request_document,
    script_digest,
)

# By way of the shell, which says by its status that there is no such program; engines differ in how they say it.
_EXEC = ("/bin/sh", "-c", 'exec "$0" "$@"')
_SONAME = re.compile(r"[\w.+-]{1,200}")


class ContainerBuilder:
    """Builds in the target's build image, or one that the settings name. ``listen`` gets (package, output) as it comes."""

    def __init__(self, engine: Engine, images: EngineImages, listen: Callable[[str, str], None]) -> None:
        self._engine = engine
        self._images = images
        self._listen = listen

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._engine.close()

    def recipe(self, target: Target, settings: BuildSettings) -> Recipe:
        """Return the recipe of a build in a container of the target's image; raises `UnavailableError`."""
        image = self._images.base(target, settings)
        parts = [image.identity, *settings.setup, str(settings.network), script_digest()]
        return Recipe(
            key=hashlib.sha256("\0".join(["container 2", *parts]).encode()).hexdigest(),
            requirements_for=target,
            image=image.reference,
            image_digest=image.digest,
        )

    @contextmanager
    def build(self, request: WheelRequest, into: Path) -> Iterator[BuiltWheel]:
        """Build, and return the wheel; raises `BuildError`, `UnavailableError` or `MissingRequirementsError`."""
        image = self._images.ready(request.target, request.settings)
        python = f"python3.{request.target.runtime.minor}"
        job = ContainerJob(
            image=image.identity,
            command=(*_EXEC, python, "-I", f"{INPUTS}/{NAME}", f"{INPUTS}/request.json"),
            limits=request.settings.limits,
            user=f"{os.getuid()}:{os.getgid()}",
            inputs=_pack_inputs(request, into),
            work=pack_work(into),
            platform=f"linux/{image.architecture}",
            network=request.settings.network,
        )
        with self._engine.run(job, lambda text: self._listen(request.name, text)) as ended:
            answer = _answer(ended)
            outcome = ScriptOutcome(status=ended.status, log=ended.log, late=ended.late, out_of_memory=ended.out_of_memory)
            name = built_wheel_name(outcome, answer, request.settings, f"{python} in the image {image.reference}")
            wheel = _wheel(ended, name, into)
            folders = answer.libraries if answer else ()
            yield BuiltWheel(
                path=wheel,
                log=ended.log,
                library=lambda name, more: _library(ended, name, (*more, *folders), into),
            )


def _pack_inputs(request: WheelRequest, into: Path) -> Path:
    """Write the tar of all that the container may read: the script, its request, the source, the build requirements."""
    place = ScriptPaths(
        source=f"{INPUTS}/source/{request.path.name}",
        work=f"{WORK}/{JOB}",
        wheels=[f"{INPUTS}/wheels/{wheel.name}" for wheel in request.wheels],
    )
    with new_tar(into / "inputs.tar") as archive:
        for name in SCRIPTS:
            add_bytes(archive, name, read_script(name))
        add_bytes(archive, "request.json", request_document(request, place))
        archive.add(request.path, f"source/{request.path.name}", filter=neutral_info)
        for wheel in request.wheels:
            archive.add(wheel, f"wheels/{wheel.name}", filter=neutral_info)
    return into / "inputs.tar"


def _answer(ended: EndedContainer) -> ScriptAnswer | None:
    with io.BytesIO() as buffer:
        there = copy_out(ended, f"{WORK}/{JOB}/answer.json", buffer, LONGEST_ANSWER)
        return read_answer(buffer.getvalue()) if there else None


def _wheel(ended: EndedContainer, name: str, into: Path) -> Path:
    partial = into / "partial"
    with partial.open("wb") as file:
        if not copy_out(ended, f"{WORK}/{JOB}/out/{name}", file, IMAGE_LIMIT):
            raise BuildError(f"the build did not leave {name} behind", detail=ended.log)
    return partial.rename(into / name)


def _library(ended: EndedContainer, name: str, folders: Sequence[str], into: Path) -> Path | None:
    """Find a shared library in the image: in the run paths of what needs it, then where the loader looks."""
    if not _SONAME.fullmatch(name):
        return None
    to = into / "libraries" / name
    to.parent.mkdir(exist_ok=True)
    for folder in folders:
        if folder.startswith("/"):
            with to.open("wb") as file:
                if copy_out(ended, posixpath.join(folder, name), file, IMAGE_LIMIT):
                    return to
    return None
