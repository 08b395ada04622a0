"""Makes the images of functions: finds what each is built upon, says how it starts, and writes it in the forms asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from builders.once import Once
from builders.sandbox.emulator import CLIENT, find_emulator
from builders.sandbox.emulator import REMEDY as EMULATOR_REMEDY
from packer.cache.store import store_errors
from packer.core.errors import ToolError, UsageError
from packer.core.model import EXECUTABLE_MODE, BytesContent, Entry, FileContent, Function, Tree
from packer.core.names import LOCAL_FORMS
from packer.formats.image import Base, Image
from packer.formats.oci import Platform, Reference
from packer.images.base import BaseReader
from packer.images.base_check import CheckedLayers
from packer.images.base_sources import files_of_base
from packer.images.entrypoint import check_start
from packer.images.layer_store import LayerBlobs
from packer.images.layout_writer import LayerStep, RunSettings, assemble_image
from packer.locks.base_pins import PINS_FILE, Pins, read_pins

TASK = "var/task"
_SCRIPT, _EMULATOR = "lambda-entrypoint.sh", "usr/local/bin/aws-lambda-rie"
_BOOTSTRAP = "var/runtime/bootstrap"
_PYTHONS = ("var/lang/bin", "usr/local/bin", "usr/bin")
_ENTRY = """#!/bin/sh
# Runs the function by Lambda's runtime interface client; outside of Lambda, in the Runtime Interface Emulator.
export _HANDLER="$1"
if [ -z "$AWS_LAMBDA_RUNTIME_API" ]; then
    exec /{emulator} {command} "$@"
fi
exec {command} "$@"
"""
_FILE_TIME = 0
"""The time of all files in layers: another one would change each of them (what `created` says does not)."""
_DIGEST = "@sha256:"
NOTHING = Tree(())


class ImageStart(Struct, frozen=True, kw_only=True):
    """How an image starts: its entrypoint, empty for the base's own, and whether the function must bring ``client``.

    ``files`` come on top of the base.
    """

    entrypoint: tuple[str, ...] = ()
    client: bool = False
    files: Tree = NOTHING


class ImageBuilder:
    """Makes images; may be used from many threads, but from none of ``makers``, in which layers are made side by side.

    ``frozen`` refuses bases that are not locked; ``refresh`` ignores the lock.
    """

    def __init__(
        self, reader: BaseReader, layers: LayerBlobs, makers: Executor, *, frozen: bool = False, refresh: bool = False
    ) -> None:
        self._reader = reader
        self._layers = layers
        self._makers = makers
        self._frozen = frozen
        self._refresh = refresh
        self._bases: Once[tuple[str, Platform, Path], Base] = Once()
        self._pins: Once[Path, Pins] = Once()

    def base(self, function: Function) -> Base:
        """Find a function's base, the locked one if it is locked; raises `LpackError`."""
        named, platform, root = function.base_name, Platform.of(function.target.architecture), function.image.root
        return self._bases.get((named, platform, root), lambda: self._find_base(named, platform, root))

    def pin(self, function: Function) -> Pins:
        """Return what the lock should hold of a function's base: its locked digest, or for files and engines the present one.

        Nothing for a base whose name has a digest itself. Raises `LpackError`.
        """
        named, platform, root = function.base_name, Platform.of(function.target.architecture), function.image.root
        if _DIGEST in named and not named.startswith(LOCAL_FORMS):
            return {}
        pinned = "" if named.startswith(LOCAL_FORMS) else self._pinned_digest(named, platform, root)
        return {(named, str(platform)): pinned or self._reader.read(named, platform, root).digest}

    def check(self, function: Function) -> None:
        """Prove that a function's base, as it is now, can run it; raises `LpackError`."""
        named, platform, root = function.base_name, Platform.of(function.target.architecture), function.image.root
        self.start(function, self._reader.read(named, platform, root))

    def _pinned_digest(self, named: str, platform: Platform, root: Path) -> str:
        pins = {} if self._refresh else self._pins.get(root, lambda: read_pins(root))
        return pins.get((named, str(platform)), "")

    def _find_base(self, named: str, platform: Platform, root: Path) -> Base:
        pinned = self._pinned_digest(named, platform, root)
        if self._frozen and not pinned and _DIGEST not in named:
            what = f"The base {named} for {platform} is not locked."
            raise UsageError(what, remedy=f"`lpack lock` writes its digest to {PINS_FILE}.")
        if pinned and not named.startswith(LOCAL_FORMS):
            return self._reader.read(str(replace(Reference.parse(named), tag="", digest=pinned)), platform, root)
        base = self._reader.read(named, platform, root)
        if pinned and base.digest != pinned:
            what = f"The base {named} is not the locked one any more: it is {base.digest}, and {PINS_FILE} has {pinned}."
            raise UsageError(what, remedy="If it changed on purpose, run `lpack lock` again.")
        return base

    def start(self, function: Function, base: Base) -> ImageStart:
        """Return how an image upon a base starts; raises `UsageError` where nothing there can run the function."""
        options = function.image
        if not options.base and not options.entrypoint:
            return ImageStart()  # AWS's own has all that it needs, and is not looked into
        if options.entrypoint and not any(CLIENT in word for word in options.entrypoint):
            return ImageStart(entrypoint=options.entrypoint)
        marks = _base_marks(base)
        has_client = any(each.endswith(f"-packages/{CLIENT}/__init__.py") for each in marks)
        if options.entrypoint:
            return ImageStart(entrypoint=options.entrypoint, client=not has_client)
        python = _find_python(marks, function, base)
        if _SCRIPT in marks:
            return ImageStart(entrypoint=(f"/{_SCRIPT}",))
        if _BOOTSTRAP in marks:
            command: tuple[str, ...] = ("/bin/sh", "-c", f'_HANDLER="$0" exec /{_BOOTSTRAP}')
            return self._with_emulator(function, marks, ImageStart(entrypoint=command), f"/{_BOOTSTRAP}")
        if not python:
            what = f"The base {base.named} has no Python 3.{function.target.runtime.minor}, which {function.name} runs on."
            raise UsageError(what, remedy="Name another base (oci.base), or say what starts it (oci.entrypoint).")
        start = ImageStart(entrypoint=(python, "-m", CLIENT), client=not has_client)
        return self._with_emulator(function, marks, start, f"{python} -m {CLIENT}")

    @staticmethod
    def _with_emulator(function: Function, marks: frozenset[str], start: ImageStart, command: str) -> ImageStart:
        if not function.image.emulator:
            return start
        entries = [_entry(_SCRIPT, _ENTRY.format(emulator=_EMULATOR, command=command).encode())]
        if _EMULATOR not in marks:
            found = find_emulator(function.target.architecture)
            if found is None:
                what = f"The image of {function.name} is to have the Runtime Interface Emulator, and there is none here for it."
                raise ToolError(what, remedy=EMULATOR_REMEDY)
            with store_errors(found, "read"):
                data = found.read_bytes()
            content = FileContent(path=found, digest=hashlib.sha256(data).hexdigest(), size=len(data))
            entries.append(Entry(path=_EMULATOR, mode=EXECUTABLE_MODE, content=content, owner="emulator"))
        return replace(start, entrypoint=(f"/{_SCRIPT}",), files=Tree.of(entries))

    def image(
        self, function: Function, base: Base, start: ImageStart, parts: Sequence[tuple[str, Tree]]
    ) -> tuple[Image, list[LayerStep]]:
        """Put a function's image together; ``parts`` are its layers, lowest first, with what history says of each.

        Gives the image, and lpack's own layers of it.
        """
        options = function.image
        trees = [("the runtime interface emulator", "", start.files)] if start.files else []
        trees += [(history, TASK, tree) for history, tree in parts]
        check_start(function, base, [(folder, tree) for _, folder, tree in trees])
        make, how = self._layers.layer, (options.compression, _FILE_TIME)
        largest = sorted(range(len(trees)), key=lambda number: -trees[number][2].size)  # which all would wait for at the end
        making = {number: self._makers.submit(make, [trees[number][1:]], *how) for number in largest}
        steps = [LayerStep(layer=making[number].result(), history=history) for number, (history, _, _) in enumerate(trees)]
        running = RunSettings(
            command=(function.handler,),
            entrypoint=start.entrypoint,
            environment=dict(options.environment),
            working_dir=options.working_dir or _working_dir(base, start),
            user=options.user,
            labels={"org.opencontainers.image.title": function.name, **dict(options.labels)},
        )
        return assemble_image(base, steps, running, options.epoch), steps


def _working_dir(base: Base, start: ImageStart) -> str:
    """Return where an image starts; empty for where its base does.

    The runtime interface client imports a handler from where it is started (``python -m``), so that there it is the function's.
    """
    starts_client = any(mark in word for word in start.entrypoint for mark in (CLIENT, _BOOTSTRAP, f"/{_SCRIPT}"))
    return f"/{TASK}" if starts_client or not base.config.run.get("WorkingDir") else ""


def files_of_image(function: Function) -> tuple[Path, ...]:
    """Return the files beside a function's own that decide its image: the lock of bases, and a base that is a file."""
    options = function.image
    return (options.root / PINS_FILE, *files_of_base(function.base_name, options.root)) if options.wanted else ()


def _base_marks(base: Base) -> frozenset[str]:
    """Return what tells how a base runs Python; whiteouts in upper layers do not matter for these files in practice."""
    blobs = base.blobs
    if not isinstance(blobs, CheckedLayers):
        return frozenset()
    return frozenset(path for layer in base.manifest.layers for path in blobs.seen(layer).marks)


def _find_python(marks: frozenset[str], function: Function, base: Base) -> str:
    """Return the path of an interpreter of the function's minor in a base; empty where it has none of any minor."""
    minor = function.target.runtime.minor
    names = (f"python3.{minor}", "python3")
    there = [f"{folder}/{name}" for name in names for folder in _PYTHONS if f"{folder}/{name}" in marks]
    others = sorted({each.rpartition("python")[2] for each in marks if "/bin/python3." in each} - {f"3.{minor}"})
    if others and not any(each.endswith(f".{minor}") for each in there):
        what = f"The base {base.named} has Python {', '.join(others)}, and {function.name} is built for 3.{minor}."
        raise UsageError(what, remedy="Name another base (oci.base), or another runtime.")
    return f"/{there[0]}" if there else ""


def _entry(path: str, data: bytes) -> Entry:
    return Entry(path=path, mode=EXECUTABLE_MODE, content=BytesContent.of(data), owner="lpack")
