"""Tries the start of an image in its own file system, without an engine: Lambda would start it in the same way.

An image whose start asks the runtime interface for an event has imported its handler by then. What its base holds must be here:
it is a file or an engine's, it is brought anyway, or it was pulled by `lpack runtime pull`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from builders.errors import BuildError
from builders.rootfs.emulation import runs_programs
from builders.rootfs.record import DEFAULT_PATH
from builders.runtimes import (
    FUNCTION_GROUP,
    FUNCTION_USER,
    LAYERS_MOUNT,
    MEGABYTE,
    RUNTIME_API,
    STORAGE_RANGE,
    TASK_FOLDER,
)
from builders.sandbox.isolation import CommandEnd, IsolatedCommand, Isolation
from builders.sandbox.root_plan import MOUNT_FOLDERS, RootPlan
from builders.sandbox.runtime_sandbox import find_change
from builders.sandbox.task import with_folders
from packer.cache.derived_values import remember_fact
from packer.cache.store import Store
from packer.cache.unpacked_images import find_unpacked
from packer.core.errors import VerificationError
from packer.core.events import Reporter
from packer.core.model import Function
from packer.formats.image import Base, BlobSource, Image, ImageLayer
from packer.formats.oci import ImageConfig, Manifest
from packer.images.image_unpacker import unpack_image, unpack_layers
from packer.verify.runner import function_environment, visible_text

_OWN = ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ")
"""Variables that an image sets itself."""
_LONGEST_ANSWER = MEGABYTE
_SHOWN = 20
"""Lines of output that an error shows."""


class StartTrial(Struct, frozen=True, kw_only=True):
    """What came of it: whether the start has asked for an event, or why it was not tried."""

    started: bool
    why: str = ""


class ImageTrier:
    """Tries starts; may be used from many threads."""

    def __init__(self, store: Store, reporter: Reporter) -> None:
        self._store = store
        self._reporter = reporter

    def try_start(self, function: Function, base: Base, image: Image) -> StartTrial:
        """Try the start of an image upon a base; raises `VerificationError` where it does not ask for an event."""
        architecture = function.target.architecture
        if not runs_programs(architecture):
            return StartTrial(started=False, why=f"this machine runs no programs for {architecture}")
        if not self._is_here(function, base):
            return StartTrial(started=False, why=f"the base {base.named} is not here; `lpack runtime pull` brings a runtime")
        under = unpack_image(base, self._store, self._reporter)
        if find_change(under.root, base.digest, partial(remember_fact, self._store)):
            why = f"the unpacked base {base.named} has changed; `lpack cache verify` removes it"
            return StartTrial(started=False, why=why)
        with self._store.workspace() as folder:
            own = tuple(layer for layer in image.layers if layer.own)
            unpack_layers(_as_base(function, base, image, own), folder)
            run = _RunSettings.of(image.config)
            plan = RootPlan(
                base=(str(folder), str(under.root)),
                folders=(*(each for each in MOUNT_FOLDERS if each != TASK_FOLDER),),
                files=tuple(each for each in RootPlan().files if each[0] in {"/etc/hosts", "/etc/resolv.conf"}),
                user=run.user_ids,
            )
            ended = self._run(function, run, plan)
        if isinstance(ended, str):
            return StartTrial(started=False, why=f"this machine cannot isolate it ({ended})")
        _check(function, ended)
        return StartTrial(started=True)

    def _is_here(self, function: Function, base: Base) -> bool:
        """Return whether a base can be unpacked without a download that nobody has asked for."""
        return base.home is None or function.image.base_layers or find_unpacked(self._store, base.digest) is not None

    @staticmethod
    def _run(function: Function, run: _RunSettings, plan: RootPlan) -> CommandEnd | str:
        """Run the image's start; return why that is not possible, where it is not."""
        placed = with_folders(function_environment(function), TASK_FOLDER, LAYERS_MOUNT)
        lambdas = {name: value for name, value in placed.items() if name not in _OWN}
        order = IsolatedCommand(
            command=run.command,
            variables={"PATH": DEFAULT_PATH, **lambdas, **run.variables, "AWS_LAMBDA_RUNTIME_API": RUNTIME_API},
            start=run.working_dir or "/",
            shown=(),
            storage=(function.execution.storage or STORAGE_RANGE[0]) * MEGABYTE,
            memory=None,
            longest=_LONGEST_ANSWER,
            runtime=True,
        )
        isolation = Isolation(plan)
        try:
            refusal = isolation.refusal()
            return refusal or isolation.run(order, function.verify.seconds) or "its file systems cannot be put together"
        except BuildError as error:
            what = f"The image of {function.name} cannot be started: {error.what}."
            raise VerificationError(what, detail=error.detail, remedy=_REMEDY) from None
        finally:
            isolation.close()


_REMEDY = "Name a program that the base or the function has (oci.entrypoint), or another base (oci.base)."


class _RunSettings(Struct, frozen=True, kw_only=True):
    """How an image starts, as its configuration says."""

    command: tuple[str, ...]
    variables: Mapping[str, str]
    working_dir: str
    user: str

    @classmethod
    def of(cls, config: bytes) -> _RunSettings:
        """Read an image's configuration, which lpack has written."""
        found: dict[str, Any] = json.loads(config)["config"]
        return cls(
            command=(*(found.get("Entrypoint") or ()), *(found.get("Cmd") or ())),
            variables=dict(line.partition("=")[::2] for line in found.get("Env") or ()),
            working_dir=found.get("WorkingDir") or "",
            user=found.get("User") or "",
        )

    @property
    def user_ids(self) -> tuple[int, int]:
        """The user and the group that it starts as: Lambda's own, where it does not say so in numbers."""
        user, _, group = self.user.partition(":")
        if not user.isdecimal() or user == "0":
            return FUNCTION_USER, FUNCTION_GROUP
        return int(user), int(group) if group.isdecimal() else FUNCTION_GROUP


class _LayerBlobs(BlobSource):
    """Gives the blobs of an image's layers."""

    def __init__(self, layers: tuple[ImageLayer, ...]) -> None:
        self._layers = {layer.descriptor.digest: layer for layer in layers}

    def bring(self, blob: Any) -> Any:
        """Return a layer's file."""
        return self._layers[blob.digest].blobs.bring(blob)


def _as_base(function: Function, base: Base, image: Image, own: tuple[ImageLayer, ...]) -> Base:
    """Return some layers of an image as an image of their own."""
    manifest: Manifest = msgspec.structs.replace(base.manifest, layers=tuple(layer.descriptor for layer in own))
    config: ImageConfig = msgspec.structs.replace(base.config, diff_ids=tuple(layer.diff_id for layer in own), history=())
    named = f"the image of {function.name}"
    return Base(named=named, digest=image.descriptor.digest, manifest=manifest, config=config, blobs=_LayerBlobs(own))


def _check(function: Function, ended: CommandEnd) -> None:
    """Raise `VerificationError` unless a start has asked for an event."""
    name = function.name
    output = visible_text("\n".join(ended.output.decode("utf-8", "replace").splitlines()[-_SHOWN:]))
    if ended.asked and ended.answer is None:
        return
    if ended.asked and ended.answer is not None:
        what = f"The image of {name} starts, and cannot import its handler: {_error_text(ended.answer)}."
        raise VerificationError(what, detail=output, remedy="Fix what the handler imports, or the base that it runs on.")
    if ended.late:
        what = f"The image of {name} has not asked the runtime interface for an event within {function.verify.seconds:g} s."
        raise VerificationError(what, detail=output, remedy=_REMEDY)
    how = f"signal {-ended.status}" if ended.status < 0 else f"status {ended.status}"
    what = f"The image of {name} does not start: it ended with {how} before it asked the runtime interface for an event."
    raise VerificationError(what, detail=output, remedy=_REMEDY)


def _error_text(answer: bytes) -> str:
    """Return what a runtime reports of a start that failed; it may report anything."""
    try:
        found = msgspec.json.decode(answer, type=dict[str, Any])
    except (ValueError, RecursionError):
        return visible_text(answer[:200].decode("utf-8", "replace"))
    return visible_text(f"{str(found.get('errorType', 'an error'))[:100]}: {str(found.get('errorMessage', ''))[:500]}")
