"""Whether this machine runs programs of an architecture: its own, or one that the kernel hands to an emulator."""

from __future__ import annotations

import platform
from pathlib import Path

from builders.runtimes import ELF_MACHINES, ELF_MAGIC, Architecture, is_native

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_MACHINE_AT, _MACHINE_LENGTH = 18, 2


def runs_programs(architecture: Architecture, registered: Path = _BINFMT) -> bool:
    """Return whether programs of an architecture run here, in any root folder."""
    if platform.system() != "Linux":
        return False
    return is_native(architecture) or is_emulated(architecture, registered)


def is_emulated(architecture: Architecture, registered: Path = _BINFMT) -> bool:
    """Return whether the kernel hands an architecture's programs to an emulator wherever they run.

    Only one that is registered with the flag F: the kernel has it open already, and need not find it in another root folder
    (Linux, Documentation/admin-guide/binfmt-misc.rst).
    """
    try:
        rules = [path.read_text(encoding="ascii", errors="replace") for path in registered.iterdir() if path.name != "register"]
    except OSError:
        return False
    return any(_emulates(rule, architecture) for rule in rules)


def _emulates(rule: str, architecture: Architecture) -> bool:
    lines = rule.splitlines()
    fields = dict(line.partition(" ")[::2] for line in lines)
    try:
        magic = bytes.fromhex(fields.get("magic", ""))
    except ValueError:
        return False
    machine = int.from_bytes(magic[_MACHINE_AT : _MACHINE_AT + _MACHINE_LENGTH], "little")
    fixed = "F" in fields.get("flags:", "")
    return lines[:1] == ["enabled"] and fixed and magic.startswith(ELF_MAGIC) and machine == ELF_MACHINES[architecture]
