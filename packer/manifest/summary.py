"""One line on a function that was built: what was removed, how it is compiled, and what was proved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from packer.core.model import Function
from packer.core.records import FunctionRecord
from packer.core.units import format_size
from packer.trim.rules import SOURCES
from packer.verify.proof import Proof

if TYPE_CHECKING:
    from packer.layers.assignment import MadeLayer

_SHOWN = 3
_PLACES = {"beside": "bytecode beside the sources", "only": "bytecode in the place of sources", "off": "no bytecode"}


def summary_line(function: Function, proof: Proof, layers: Sequence[MadeLayer] = ()) -> str:
    """Return the line, without the function's name; empty where nothing was trimmed, compiled or verified.

    ``layers`` are those of the function.
    """
    if function.trim.level == "none" and function.bytecode.mode == "off" and proof.level == "none":
        return ""
    bytecode = proof.candidate.shaped.bytecode
    why = f" ({bytecode.why})" if function.bytecode.mode == "auto" and bytecode.mode != "beside" and bytecode.why else ""
    proved = f"verified by {proof.level}" if proof.level != "none" and proof.unverified is None else "not verified"
    if proof.raised:
        proved += f" ({proof.raised} of {proof.events} raise an error, trimmed or not)"
    return f"{_removed(proof, layers)}; {_PLACES[bytecode.mode]}{why}; {proved}"


def list_removed(report: FunctionRecord) -> Iterator[str]:
    """Return what every rule took out of a function, and of each of its layers, a line for each of these; none for nothing."""
    for where, removed in (
        ("removed", report.trim.removed),
        *((f"removed from {name}", layer.removed) for name, layer in report.layers.items()),
    ):
        files: dict[str, int] = {}
        for each in removed:
            files[each.rule] = files.get(each.rule, 0) + each.files
        if files:
            sizes = _by_size((each.rule, each.bytes) for each in removed)
            yield f"{where}: {', '.join(f'{rule} {format_size(size)} in {files[rule]:,} files' for rule, size in sizes)}"


def _removed(proof: Proof, layers: Sequence[MadeLayer]) -> str:
    """Return what was removed from the function's own package, and from its layers, in words."""
    own = _sizes_text((rule, size) for (rule, _), size in proof.candidate.shaped.gone_inside())
    shared = _sizes_text((each.rule, each.bytes) for layer in layers for each in layer.report.removed)
    if not shared:
        return own.format("removed") if own else "nothing removed"
    return f"{own.format('removed') if own else 'nothing removed from its own package'}, {shared.format('from its layers')}"


def _sizes_text(removed: Iterable[tuple[str, int]]) -> str:
    """Return the bytes of the largest rules, with a place for what became of them; empty where nothing is gone."""
    sizes = _by_size((rule, size) for rule, size in removed if rule != SOURCES)
    named = ", ".join(f"{rule} {format_size(size)}" for rule, size in sizes[:_SHOWN])
    return f"{format_size(sum(size for _, size in sizes))} {{}} ({named})" if sizes else ""


def _by_size(removed: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    sizes: dict[str, int] = {}
    for rule, size in removed:
        sizes[rule] = sizes.get(rule, 0) + size
    return sorted(sizes.items(), key=lambda item: -item[1])
