"""Runs images that were built: in the local engine, by Lambda's Runtime Interface Emulator, confined as on Lambda."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex

from builders.container_image import run_image
from builders.emulator import REMEDY, find_emulator
from builders.engine import Engine
from builders.recipes import BuildFailure
from packer.builtimages import BuiltImage
from packer.errors import VerificationError
from packer.faults import remedy
from packer.model import Function
from packer.outputs.oci import write_docker_archive
from packer.prove import check_expected
from packer.store import Store, explained
from packer.verify import Outcome, read_done, read_events


def load_image(built: BuiltImage, name: str, engine: Engine, store: Store) -> str:
    """Put an image into an engine under a name (``repository:tag``); gives its id there. Raises `packer.errors.LpackError`."""
    with store.temporary() as temporary:
        with explained(temporary, "write"), temporary.open("wb") as file:
            write_docker_archive(built.image, name, file)
        with temporary.open("rb") as file:
            return engine.load(file)


def run_built(built: BuiltImage, function: Function, engine: Engine, store: Store) -> Outcome:
    """Run an image with its function's sample events, or an empty one; raises `VerificationError` where it does not work."""
    emulator = find_emulator(function.target.architecture)
    if emulator is None:
        raise VerificationError(f"{built.name} is not verified: there is no Runtime Interface Emulator.", remedy=REMEDY)
    events = read_events(function)
    with store.workspace() as work:
        try:
            outcome = _run(built, function, engine, emulator, [event.value for event in events], work, store)
        except BuildFailure as error:
            what = f"{built.name} cannot be verified in the engine: {error.reason}."
            raise VerificationError(what, detail=error.log, remedy=error.remedy or "Try again.") from None
    if not outcome.works:
        what = f"{built.name} does not work as an image: {outcome.trouble()}."
        raise VerificationError(what, detail=outcome.trace(), remedy=remedy(outcome))
    check_expected(function, events, outcome)
    return outcome


def _run(
    built: BuiltImage, function: Function, engine: Engine, emulator: Path, events: list[object], work: Path, store: Store
) -> Outcome:
    name = f"lpack-verify:{token_hex(12)}"  # another process may be running the same image
    identity = load_image(built, name, engine, store)
    try:
        done = run_image(
            engine,
            identity,
            emulator,
            work,
            python=f"python3.{function.target.runtime.minor}",
            command=built.command,
            request={"handler": function.handler, "events": events},
            environment=dict(function.verify.environment),
            seconds=function.verify.seconds,
        )
    finally:
        engine.forget(name)
    return read_done(done, function)[0]
