"""Whether this process may make namespaces: what decides it, as a key under which the answer is remembered."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from builders.errors import BuildError
from builders.inside import read_script

if TYPE_CHECKING:
    from builders.sandbox.root_plan import Remember

_CONFINEMENT = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")
"""How lines of /proc/self/status begin that say what a process may not do (proc_pid_status(5))."""
_SETTINGS = (
    *("/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone"),
    *("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "/proc/self/attr/current"),
)
"""Settings that forbid namespaces: of the kernel, Debian, Ubuntu, and what confines this process."""


def surroundings() -> str:
    """Return all that decides whether this process may make namespaces: the machine, its settings, and its own confinement."""
    found = [str(os.getuid()), platform.release(), *(read_script(name).decode() for name in ("isolate.py", "mounts.py"))]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/status", *_SETTINGS):
        try:
            lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            continue
        found += [line for line in lines if path != "/proc/self/status" or line.startswith(_CONFINEMENT)]
    found += [str(Path("/proc/self/ns", name).readlink()) for name in ("mnt", "user", "pid")]
    return json.dumps(found)


class _Withdrawn(Struct, frozen=True, kw_only=True):
    """What is kept in the place of an answer that has turned out to be false."""

    reason: str


class _NotAllowedError(Exception):
    """The machine refuses; carries why through what remembers."""


def find_refusal(kind: str, remember: Remember, find: Callable[[], str]) -> str:
    """Return why this process may not make namespaces of a kind, as ``find`` finds out; empty where it may.

    Only that it may is remembered: a refusal may pass with its cause, such as a full disk or too many namespaces.
    """

    def find_allowed() -> str:
        refusal = find()
        if refusal:
            raise _NotAllowedError(refusal)
        return ""

    try:
        return remember(_key(kind), str, find_allowed)
    except _NotAllowedError as error:
        return str(error)


def _key(kind: str) -> str:
    return f"{kind} {surroundings()}"


def withdrawn_error(kind: str, remember: Remember, find: Callable[[], str]) -> BuildError:
    """Return the error of a run that the machine refuses although it has allowed such runs, and forget that it has.

    Whoever asks `find_refusal` next finds out anew, and takes another sandbox where this one is still refused.
    """
    reason = find() or "it does not allow what this run needs"
    # An answer of another form takes the place of the one that is known, and is not taken for one (`Remember`).
    remember(_key(kind), _Withdrawn, lambda: _Withdrawn(reason=reason))
    what = f"this machine does not allow namespaces any more ({reason})"
    return BuildError(what, remedy="Build again: lpack then uses what this machine allows.")
