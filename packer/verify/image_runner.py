"""Runs images that were built: in the local engine, by Lambda's Runtime Interface Emulator, confined as on Lambda."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from secrets import token_hex

from builders.engine.client import Engine
from builders.engine.image_runner import LAMBDAS_USER, run_image
from builders.errors import BuildError
from builders.runtimes import RESPONSE_LIMIT
from builders.sandbox.emulator import REMEDY, find_emulator
from packer.cache.store import Store, store_errors
from packer.core.errors import ToolError, VerificationError
from packer.core.model import Function
from packer.images.layout_writer import write_docker_archive
from packer.images.reader import BuiltImage
from packer.verify.diagnosis import remedy_for
from packer.verify.proof import check_expected
from packer.verify.runner import Outcome, read_events, read_result

_ROOT = ("", "0", "0:0", "root", "root:root")
"""Users that an image need not be run as: what works as Lambda's works as these."""


def load_image(built: BuiltImage, name: str, engine: Engine, store: Store) -> str:
    """Put an image into an engine under a name (``repository:tag``); returns its id there. Raises `LpackError`."""
    with store.temporary() as temporary:
        with store_errors(temporary, "write"), temporary.open("wb") as file:
            write_docker_archive(built.image, name, file)
        with temporary.open("rb") as file:
            return engine.load(file)


def run_built(built: BuiltImage, function: Function, engine: Engine, store: Store) -> Outcome:
    """Run an image with its function's sample events, or an empty one, as its own user, if it has one, and as Lambda's.

    Raises `VerificationError` where it does not work, and `ToolError` where there is no emulator, or where an
    emulated processor was too slow for it.
    """
    emulator = find_emulator(function.target.architecture)
    if emulator is None:
        raise ToolError(f"{built.name} is not verified: there is no Runtime Interface Emulator.", remedy=REMEDY)
    events = read_events(function)
    name = f"lpack-verify:{token_hex(12)}"  # another process may be running the same image
    run = partial(_run, built, function, engine, load_image(built, name, engine, store), emulator)
    try:
        outcomes = []
        for user in (*(() if built.user in _ROOT else (built.user,)), LAMBDAS_USER):
            with store.workspace() as work:
                outcomes.append(run([event.value for event in events], user, work))
            _check(built, user, outcomes[-1])
            check_expected(function, events, outcomes[-1])
    finally:
        engine.forget(name)
    return outcomes[-1]


def _check(built: BuiltImage, user: str, outcome: Outcome) -> None:
    if outcome.emulated:
        what = f"{built.name} is not verified{_as(user)}: {outcome.trouble()} on an emulated processor."
        raise ToolError(what, remedy=remedy_for(outcome))
    if not outcome.works:
        what = f"{built.name} does not work as an image{_as(user)}: {outcome.trouble()}."
        raise VerificationError(what, detail=outcome.trace(), remedy=remedy_for(outcome))


def _as(user: str) -> str:
    return "" if user == LAMBDAS_USER else f" as its user {user}"


def _run(
    built: BuiltImage,
    function: Function,
    engine: Engine,
    identity: str,
    emulator: Path,
    events: list[object],
    user: str,
    work: Path,
) -> Outcome:
    try:
        done = run_image(
            engine,
            identity,
            emulator,
            work,
            python=f"python3.{function.target.runtime.minor}",
            command=built.command,
            request={"handler": function.handler, "events": events, "longest": RESPONSE_LIMIT},
            environment=function.variables,
            path=built.path,
            own_names=built.variables,
            user=user,
            seconds=function.verify.seconds,
        )
    except BuildError as error:
        what = f"{built.name} cannot be verified in the engine{_as(user)}: {error.what}."
        hint = "" if user == LAMBDAS_USER else "If that is why, name a user that the image has: oci.user. "
        raise VerificationError(what, detail=error.detail, remedy=f"{hint}{error.remedy or 'Try again.'}") from None
    return read_result(done, function, len(events))[0]
