"""The script that builds a wheel within the target's interpreter, as builders see it: its request, its answer, the verdict."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from builders.errors import BuildError, MissingRequirementsError
from builders.inside import read_script
from builders.inside.wheel import FAILED, NO_ENVIRONMENT
from builders.recipes import SOURCE_DATE_EPOCH, BuildSettings, WheelRequest
from builders.sources import read_build_system

LONGEST_ANSWER = 1 << 20
"""Bytes that the answer may have."""
NAME = "wheel.py"
SCRIPTS = (NAME, "hooks.py")
"""What lies beside each other where a build runs; the first one is started."""
ENVIRONMENT = {
    "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
    "PYTHONHASHSEED": "0",
    # On top of what the interpreter was compiled with: nobody debugs with symbols on Lambda, and they take time and space.
    "CFLAGS": "-g0",
    "CXXFLAGS": "-g0",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}
"""Variables that every build gets, wherever it runs."""
_WHEEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,250}\.whl")


class ScriptOutcome(Struct, frozen=True, kw_only=True):
    """How a run of the script has ended; ``late`` and ``out_of_memory`` say that it was stopped."""

    status: int
    log: str
    late: bool = False
    out_of_memory: bool = False


class ScriptAnswer(Struct, frozen=True, kw_only=True):
    """What the script says: the names of the wheels, and the folders in which the loader looks for libraries."""

    wheels: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    processes_refused: int = 0


class ScriptPaths(Struct, frozen=True, kw_only=True):
    """Paths as the script sees them; ``variables`` are for the back end alone, ``folders`` go first on its PATH."""

    source: str
    work: str
    wheels: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[str] = ()


def script_digest() -> str:
    """Return the digest of the scripts, and of the variables that they run with."""
    texts = b"".join(read_script(name) for name in SCRIPTS)
    return hashlib.sha256(texts + repr(sorted(ENVIRONMENT.items())).encode()).hexdigest()


def request_document(request: WheelRequest, place: ScriptPaths) -> bytes:
    """Return the request as the script reads it; raises `BuildError` where the source cannot be read."""
    document = {
        "source": place.source,
        "work": place.work,
        "wheels": list(place.wheels),
        "requires": list(request.requires),
        "backend": read_build_system(request.path),
        "config": _config_table(request.settings.config),
        "environment": {**ENVIRONMENT, **request.variables},
        "variables": dict(place.variables),
        "folders": list(place.folders),
    }
    return json.dumps(document).encode()


def _config_table(pairs: Sequence[tuple[str, str]]) -> dict[str, str | list[str]] | None:
    """Return settings for a build back end as pip gives them: a list for a key that comes more than once, None for none."""
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return {key: values if len(values) > 1 else values[0] for key, values in found.items()} or None


def read_answer(data: bytes) -> ScriptAnswer | None:
    """Read what the script wrote; None where it wrote nothing, or another program overwrote it."""
    try:
        found: Any = json.loads(data)
        return ScriptAnswer(
            wheels=tuple(map(str, found.get("wheels", ()))),
            libraries=tuple(map(str, found.get("libraries", ()))),
            more=tuple(map(str, found.get("more", ()))),
            processes_refused=int(found.get("processes_refused", 0)),
        )
    except (ValueError, AttributeError, TypeError, RecursionError, OverflowError):
        return None


def built_wheel_name(outcome: ScriptOutcome, answer: ScriptAnswer | None, settings: BuildSettings, python: str) -> str:
    """Return the name of the one wheel that was built; ``python`` says what runs the script, for messages.

    Raises `MissingRequirementsError`, or `BuildError` that says why there is none.
    """
    reason, remedy = _trouble(outcome, answer, settings, python)
    if reason or answer is None:
        raise BuildError(reason, detail=outcome.log, remedy=remedy)
    if answer.more:
        raise MissingRequirementsError(answer.more)
    names = [name for name in answer.wheels if name.endswith(".whl")]
    if len(names) != 1:
        raise BuildError(f"the build gave {len(names)} wheels, not one", detail=outcome.log)
    if not _WHEEL_NAME.fullmatch(names[0]):
        raise BuildError(f"the build gave a wheel with the name {names[0]!r}, which is no wheel's", detail=outcome.log)
    return names[0]


def _trouble(outcome: ScriptOutcome, answer: ScriptAnswer | None, settings: BuildSettings, python: str) -> tuple[str, str]:
    """Return what went wrong, and what to do; empty where nothing did."""
    limits, more = settings.limits, "If it really needs more, say so in the configuration: limits = {{ {} = … }}."
    verdicts = (
        (outcome.late, f"it was stopped after {limits.seconds:g} s", more.format("time")),
        (
            answer is not None and answer.processes_refused > 0,
            f"it started more than the {limits.processes} processes that it may have",
            more.format("processes"),
        ),
        (
            outcome.out_of_memory,
            f"it needed more than the {limits.memory >> 20} MB of memory that it may have",
            more.format("memory"),
        ),
        (outcome.status == FAILED, "its build back end failed", ""),
        (outcome.status == NO_ENVIRONMENT, "its build requirements cannot be installed", ""),
        (outcome.status in (126, 127), f"there is no {python}", "Name an image that has the target's Python on its PATH."),
        (outcome.status != 0 or answer is None, f"the build ended with status {outcome.status}", ""),
    )
    return next(((reason, remedy) for holds, reason, remedy in verdicts if holds), ("", ""))
