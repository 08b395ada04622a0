"""Tells a function that can start nowhere from one that only lacks something here, and says what to do about either."""

from __future__ import annotations

import re

from packer.verify.denials import find_denial
from packer.verify.runner import INIT_LIMIT, MACHINE_LIBRARY, Outcome

_SYNTAX = frozenset(("SyntaxError", "IndentationError", "TabError", "Runtime.UserCodeSyntaxError"))
HANDLER_NOT_FOUND = "Runtime.HandlerNotFound"
"""The type of error of a module that has no handler of the name."""
IMPORTS = frozenset(("ImportError", "ModuleNotFoundError", "Runtime.ImportModuleError"))
"""The types of errors that say what cannot be imported."""
_ENTRYPOINT = "Runtime.InvalidEntrypoint"
_OF_LAMBDA = ("Runtime.", "Emulator")
"""How errors are called that are no exceptions of the handler's module."""
_NETWORK = re.compile(r"Connect|Connection|Endpoint|Timeout|TimedOut|gaierror|NameResolution|URLError")
"""Types of errors that a network or a service would prevent: of Python, urllib3, requests, httpx and botocore."""
# ENETUNREACH, ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH (errno(3)), EAI_NONAME and EAI_AGAIN (getaddrinfo(3)).
_UNREACHABLE = re.compile(r"\[Errno (?:101|110|111|113|-2|-3)\]")
NO_NETWORK = "No network is here: connect when the handler is called, or pass addresses of a stand-in as variables."
"""What to do about a function that connects while it is imported."""
_NO_FILE = "(<"
"""Stands in the message of a syntax error in a text that is no file's, which may come from a variable."""


_MEASURED = frozenset(("memory", "timeout"))
"""Settings whose use depends on the processor."""


def is_broken(outcome: Outcome) -> bool:
    """Return whether a handler's module cannot be imported for what is written there, whatever variables it has."""
    kind, message = _error(outcome)
    beyond = bool(outcome.limit) and not (outcome.emulated and outcome.limit in _MEASURED)
    return beyond or kind in {HANDLER_NOT_FOUND, MACHINE_LIBRARY} or (kind in _SYNTAX and _NO_FILE not in message)


def is_network(kind: str, message: str) -> bool:
    """Return whether an error is one that a network or a service would prevent."""
    return bool(_NETWORK.search(kind) or _UNREACHABLE.search(message))


_REMEDIES = {  # by kinds of errors, by settings that are too small, and by what takes too long
    HANDLER_NOT_FOUND: "Define it in that module, or name another one: handler.",
    MACHINE_LIBRARY: "Add the library to the folder lib/ of the function, or of a layer, or a distribution that brings it.",
    _ENTRYPOINT: "Name a program of the image, or leave it to the base: oci.entrypoint.",
    "emulated": "An emulated processor is slower, and takes more memory: for a proof, build on a machine of its architecture.",
    "late": f"See what it waits for: no network is here, and on Lambda an import may take {INIT_LIMIT} s.",
    "memory": 'Let it hold less, or give it more: memory = "…" (MemorySize in a template).',
    "result": "Return less: put what is large into S3, and return where it is.",
    "timeout": 'Let it do less, or give it longer: timeout = "…" (Timeout in a template).',
    **dict.fromkeys(IMPORTS, "Add what it imports to its requirements or its source, and build again."),
}


def remedy_for(outcome: Outcome) -> str:
    """Return what to do about a handler that cannot be imported."""
    kind, message = _error(outcome)
    known = "emulated" if outcome.emulated else "late" if outcome.late else outcome.limit or kind
    if known in _REMEDIES:
        return _REMEDIES[known]
    denial = find_denial(kind, message, outcome.trace())
    if denial is not None:
        return denial.remedy
    if is_broken(outcome):
        return "Fix the source at that line, and build again."
    if kind.startswith(_OF_LAMBDA):
        return "See what it printed, fix that, and build again."
    return NO_NETWORK if is_network(kind, message) else 'Variables that it needs can be given: environment = { NAME = "…" }.'


def _error(outcome: Outcome) -> tuple[str, str]:
    error = outcome.imported.get("error")
    return (str(error["type"]), str(error["message"])) if error else ("", "")
