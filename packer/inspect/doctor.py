"""Checks everything that builds rely on: whether it is available, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

from builders.engine.client import Engine
from builders.engine.images import EngineImages
from builders.errors import BuildError, UnavailableError
from builders.host.strip import HostStrip
from builders.interpreters import Interpreter, find_interpreter
from builders.recipes import BuildSettings
from builders.rootfs.emulation import runs_programs
from builders.rootfs.runtime_files import RuntimeFiles
from builders.runtimes import MEGABYTE, Target
from builders.sandbox.emulator import REMEDY, find_emulator
from builders.sandbox.host_sandbox import HostSandbox, find_anew
from builders.sandbox.runtime_sandbox import RuntimeSandbox
from packer import __version__
from packer.cache.remote import probe_remote
from packer.cache.store import Store, store_errors
from packer.core.errors import StoreError, UsageError
from packer.core.process import run, uv_command
from packer.core.units import format_size
from packer.net.credentials import Credentials, index_urls, index_variables
from packer.verify.runtime_images import absent_error, find_runtime_files

GOOD, ABSENT, BAD = "good", "absent", "bad"
"""Verdicts: available; missing, and only some builds need it; missing, and no build works without it."""
_LEAST_SPACE = 1024 * MEGABYTE
"""Free bytes below which a build of a few large packages is likely to fail."""
_CROSS = "Only builds of native code without an engine need it:"
_PYTHONS = "It compiles and verifies what is packed, which a container can do too, and builds native code without an engine:"
_PROOFS = "functions are proved in a container or by a Python of this machine"
_EMULATORS = "The packages qemu-user-static and binfmt-support bring emulation for it."
_PROBE = "pip"
"""A package that every index has, or passes on."""


class Finding(Struct, frozen=True, kw_only=True):
    """The result of one check; ``remedy`` is what to do unless the verdict is good."""

    check: str
    verdict: str
    what: str
    remedy: str = ""


Place = tuple[Target, BuildSettings]
"""A target, and how packages for it are to be built."""


def check_environment(
    store: Store, folder: Path, places: Sequence[Place], connect: Callable[[], Engine], *, offline: bool, remote: str = ""
) -> Iterator[Finding]:
    """Check everything for these targets; ``folder`` is the project's, whose index settings count.

    ``remote`` is the remote store of the configuration.
    """
    yield Finding(check="lpack", verdict=GOOD, what=f"{__version__} on Python {sys.version.split()[0]}, uv {version('uv')}")
    yield _cache(store)
    if not offline:
        yield _index(folder)
        yield from _remote(remote)
    yield _confinement()
    yield from _runtimes(store, places)
    yield from _engine(places, connect, offline=offline)
    yield from _interpreters(places)
    yield _cross(places)
    yield _strip()
    yield _emulator()


def _cache(store: Store) -> Finding:
    try:
        with store.temporary(), store_errors(store.root, "look at"):
            remedy = "Free some space there: `lpack cache prune` removes what has not been used for long."
            return _disk("cache", store.root, BAD, remedy)
    except StoreError as error:
        return Finding(check="cache", verdict=BAD, what=error.what, remedy=error.remedy)


def _index(folder: Path) -> Finding:
    arguments = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-deps", "--refresh", "--color", "never"]
    started = time.perf_counter()
    variables = index_variables(os.environ)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "requirements.txt"
        path.write_text(_PROBE + "\n", encoding="utf-8")
        finished = run([uv_command(), *arguments, "--python", sys.executable, str(path)], folder, variables)
    seconds = time.perf_counter() - started
    if finished.status:
        scrub = Credentials([url for _, url in index_urls(os.environ)], os.environ).scrub
        said = " ".join(scrub(finished.stderr).split())
        remedy = "Check the network, the index's address (UV_DEFAULT_INDEX, PIP_INDEX_URL) and its credentials."
        return Finding(check="index", verdict=BAD, what=f"it does not answer uv: {said}", remedy=remedy)
    return Finding(check="index", verdict=GOOD, what=f"it answers, and has {finished.stdout.strip()} ({seconds:.1f} s)")


def _remote(configured: str) -> Iterator[Finding]:
    started = time.perf_counter()
    try:
        answer = probe_remote(configured)
    except UsageError as error:
        yield Finding(check="remote", verdict=BAD, what=error.what, remedy=error.remedy)
        return
    if answer is not None and answer.trouble:
        remedy = "Builds go on without it. Check the network, the address, and the cloud's credentials and rights."
        yield Finding(check="remote", verdict=ABSENT, what=f"{answer.address}: {answer.trouble}", remedy=remedy)
    elif answer is not None:
        what = f"{answer.address} can be read ({time.perf_counter() - started:.1f} s)"
        yield Finding(check="remote", verdict=GOOD, what=what)


def _confinement() -> Finding:
    """Say whether what runs on this machine is kept from it."""
    own = Interpreter(path=Path(sys.executable), version=platform.python_version())
    sandbox = HostSandbox(own)
    try:
        refusal = sandbox.unconfined
    except (UnavailableError, BuildError) as error:
        refusal = error.what
    finally:
        sandbox.close()
    if refusal:
        what = f"functions run unconfined on this machine: {refusal}"
        remedy = (
            "Allow user namespaces (user_namespaces(7)), or have functions run in containers: an engine that has their image."
        )
        return Finding(check="sandbox", verdict=ABSENT, what=what, remedy=remedy)
    return Finding(check="sandbox", verdict=GOOD, what="functions run confined, as on Lambda")


def _runtimes(store: Store, places: Sequence[Place]) -> Iterator[Finding]:
    for target in dict.fromkeys(target for target, _ in places):
        found = find_runtime_files(target, store)
        if found is None:
            error = absent_error(target)
            yield Finding(check="runtime", verdict=ABSENT, what=f"{error.what}: {_PROOFS}", remedy=error.remedy)
        elif not runs_programs(target.architecture):
            what = f"for {target}: this machine runs no programs for {target.architecture}, its own or emulated"
            yield Finding(check="runtime", verdict=ABSENT, what=what, remedy=_EMULATORS)
        else:
            yield _runtime(target, found)


def _runtime(target: Target, files: RuntimeFiles) -> Finding:
    try:
        RuntimeSandbox(files, find_anew).close()
    except (UnavailableError, BuildError) as error:
        return Finding(check="runtime", verdict=ABSENT, what=f"for {target}: {error.what}", remedy=error.remedy)
    what = f"for {target}: Python {files.version} of {files.image} ({files.digest[:19]})"
    return Finding(check="runtime", verdict=GOOD, what=what)


def _engine(places: Sequence[Place], connect: Callable[[], Engine], *, offline: bool) -> Iterator[Finding]:
    try:
        engine = connect()
        info = engine.info()
    except (UnavailableError, BuildError) as error:
        needed = any(settings.builder == "container" for _, settings in places)
        why = "only packages with native code and no wheel need one"
        if needed:
            why = 'the configuration says builder = "container"'
        yield Finding(check="engine", verdict=BAD if needed else ABSENT, what=f"{error.what}; {why}", remedy=error.remedy)
        return
    try:
        yield Finding(check="engine", verdict=GOOD, what=f"{info.name} {info.version} on {info.architecture}")
        yield from _engine_disk(info.storage)
        images = EngineImages(engine, lambda _text: None, lambda _name, _text: None, offline=True)
        for target, reference in dict.fromkeys((target, settings.image) for target, settings in places):
            settings = BuildSettings(image=reference)
            found = _image(images, target, settings, offline=offline)
            yield found
            if found.verdict == GOOD and target.image_architecture != info.architecture:
                yield _emulation(images, target, settings)
    finally:
        engine.close()


def _engine_disk(storage: str) -> Iterator[Finding]:
    """Check the disk of an engine whose data is on this machine; that of a remote one cannot be seen."""
    with suppress(OSError):
        if storage:
            remedy = "Free some space there: `docker system prune` removes what nothing uses."
            yield _disk("disk", Path(storage), ABSENT, remedy)


def _disk(check: str, folder: Path, verdict: str, remedy: str) -> Finding:
    """Return how much space is free; ``verdict`` and ``remedy`` are for too little of it. Raises ``OSError``."""
    free = shutil.disk_usage(folder).free
    what = f"{folder}, {format_size(free)} free"
    if free >= _LEAST_SPACE:
        return Finding(check=check, verdict=GOOD, what=what)
    return Finding(check=check, verdict=verdict, what=what, remedy=remedy)


def _image(images: EngineImages, target: Target, settings: BuildSettings, *, offline: bool) -> Finding:
    try:
        image = images.base(target, settings)
    except (UnavailableError, BuildError) as error:
        reference = settings.image or target.build_image
        pull = f"docker pull --platform linux/{target.image_architecture} {reference}"
        remedy = f"`{pull}` brings it" + ("." if offline else ", and lpack does when a build first needs it.")
        return Finding(check="image", verdict=ABSENT, what=f"for {target}: {error.what}", remedy=remedy)
    return Finding(check="image", verdict=GOOD, what=f"for {target}: {image.reference} ({image.digest[:19]})")


def _emulation(images: EngineImages, target: Target, settings: BuildSettings) -> Finding:
    try:
        images.prove(images.base(target, settings), target)
    except (UnavailableError, BuildError) as error:
        what = f"for {target.architecture}: {error.what}"
        return Finding(check="emulation", verdict=ABSENT, what=what, remedy=error.remedy)
    return Finding(check="emulation", verdict=GOOD, what=f"the engine runs programs for {target.architecture}")


def _interpreters(places: Sequence[Place]) -> Iterator[Finding]:
    needed = {target.runtime.minor for target, settings in places if settings.builder == "cross"}
    for minor in dict.fromkeys(target.runtime.minor for target, _ in places):
        found = find_interpreter(minor)
        name = f"CPython 3.{minor}"
        if found is None or found.include is None:
            what = f"{name} is not on this machine" if found is None else f"{found.path} has no C headers"
            remedy = f"{_PYTHONS} `uv python install 3.{minor}` or `pyenv install 3.{minor}` bring it."
            yield Finding(check="python", verdict=BAD if minor in needed else ABSENT, what=what, remedy=remedy)
        else:
            yield Finding(check="python", verdict=GOOD, what=f"CPython {found.version} at {found.path}")


def _cross(places: Sequence[Place]) -> Finding:
    try:
        found = version("ziglang")
    except PackageNotFoundError:
        remedy = f"{_CROSS} `pip install 'lambda-lpack[cross]'` brings it."
        verdict = BAD if any(settings.builder == "cross" for _, settings in places) else ABSENT
        return Finding(check="cross", verdict=verdict, what="the compiler zig is not installed", remedy=remedy)
    return Finding(check="cross", verdict=GOOD, what=f"zig {found}")


def _strip() -> Finding:
    try:
        return Finding(check="strip", verdict=GOOD, what=HostStrip().identity)
    except UnavailableError as error:
        what = f"{error.what}: shared libraries are packed with their debug sections and symbols"
        return Finding(check="strip", verdict=ABSENT, what=what, remedy=error.remedy)


def _emulator() -> Finding:
    found = find_emulator()
    if found is None:
        what = 'no Runtime Interface Emulator; only verify = "rie" and whole init times of `lpack coldstart` need it'
        return Finding(check="emulator", verdict=ABSENT, what=what, remedy=REMEDY)
    return Finding(check="emulator", verdict=GOOD, what=str(found))
