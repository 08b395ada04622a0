"""One line on a function that was built: what was removed, how it is compiled, and what was proved."""

from __future__ import annotations

from packer.core.model import Function
from packer.core.units import format_size
from packer.trim.rules import SOURCES
from packer.verify.proof import Proof

_SHOWN = 3
_PLACES = {"beside": "bytecode beside the sources", "only": "bytecode in the place of sources", "off": "no bytecode"}


def summary_line(function: Function, proof: Proof) -> str:
    """Return the line, without the function's name; empty where nothing was trimmed, compiled or verified."""
    if function.trim.level == "none" and function.bytecode.mode == "off" and proof.level == "none":
        return ""
    bytecode = proof.candidate.shaped.bytecode
    why = f" ({bytecode.why})" if function.bytecode.mode == "auto" and bytecode.mode != "beside" and bytecode.why else ""
    proved = f"verified by {proof.level}" if proof.level != "none" else "not verified"
    if proof.raised:
        proved += f" ({proof.raised} of {proof.events} raise an error, trimmed or not)"
    return f"{_removed(proof)}; {_PLACES[bytecode.mode]}{why}; {proved}"


def _removed(proof: Proof) -> str:
    """Return what was removed from the function's own package, in words."""
    sizes: dict[str, int] = {}
    for (rule, _), size in proof.candidate.shaped.gone_inside():
        if rule != SOURCES:
            sizes[rule] = sizes.get(rule, 0) + size
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:_SHOWN]
    named = ", ".join(f"{rule} {format_size(size)}" for rule, size in largest)
    return f"{format_size(sum(sizes.values()))} removed ({named})" if sizes else "nothing removed"
