"""Explains why an artifact has a path, or what removed it."""

from __future__ import annotations

from collections.abc import Mapping

from packer.core.errors import UsageError
from packer.core.model import EXECUTABLE_MODE, Entry, owner_label
from packer.core.units import format_size
from packer.trim.engine import RemovedFile, matching_pattern
from packer.trim.material import Material
from packer.trim.rules import BY_NAME, DROP, PROFILE, SOURCES
from packer.trim.shape import ShapedFunction

_REASONS = {
    **{rule.name: rule.reason for rule in BY_NAME.values()},
    DROP: "a pattern of yours drops it",
    PROFILE: "the function's profile did not see it opened",
    SOURCES: "its bytecode stands in its place",
}


def explain(material: Material, shaped: ShapedFunction, untouched: ShapedFunction, path: str, layers: Mapping[str, str]) -> str:
    """Return one sentence on a path; raises `UsageError` where the function never had it.

    ``shaped`` is the function as it is built, but for its ``layers`` (by the names of distributions); ``untouched`` as it would
    be if no repair had left anything alone.
    """
    name = material.function.name
    entry = next((each for each in shaped.tree if each.path == path), None)
    if entry is not None:
        layer = layers.get(material.owner_names()[entry.owner])
        where = f"in the layer {layer}" if layer else "there"
        return f"{name}: {path} ({format_size(entry.content.size)}) is {where}: {_why(material, shaped, untouched, entry)}."
    gone = next((each for each in shaped.removed if each.path == path), None)
    if gone is not None:
        return f"{name}: {path} ({format_size(gone.size)}) is not there: {_removal_text(material, gone)}."
    requirements = material.function.requirements
    if requirements and requirements.path == material.function.source / path:
        return f"{name}: {path} is not there: its packages are, and a line !{path} in .lpackignore packs it too."
    known = [each.path for each in shaped.tree] + [each.path for each in shaped.removed]
    import difflib

    nearest = difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    remedy = f"Did you mean {nearest[0]}?" if nearest else "Write it as `unzip -l` shows it, such as pandas/__init__.py."
    raise UsageError(f"{name} has no file {path}, and nothing removed one.", remedy=remedy)


def _label_of(material: Material, owner: str) -> str:
    found = next((each for each in material.distributions if owner in (each.name, each.filename)), None)
    return f"{found.name} {found.version}" if found else owner_label(owner)


def _removal_text(material: Material, removed: RemovedFile) -> str:
    return f"the rule {removed.rule} removed it from {_label_of(material, removed.owner)} ({_REASONS[removed.rule]})"


def _why(material: Material, shaped: ShapedFunction, untouched: ShapedFunction, entry: Entry) -> str:
    owner = _label_of(material, entry.owner)
    if not any(each.path == entry.path for _, tree in material.parts for each in tree):
        return _why_added(shaped, entry, owner)
    if any(each.path == entry.path and each.rule == PROFILE for each in shaped.removed):
        return f"a stub in the place of what the profile removed of {owner}"
    if entry.path.endswith(".dist-info/RECORD"):
        return f"it lists what is packed of {owner}"
    stripped = next((each for each in shaped.stripped if each.path == entry.path), None)
    if stripped is not None:
        return f"it belongs to {owner}, and stripping made it {format_size(stripped.saved)} smaller"
    kept = next((each for each in untouched.removed if each.path == entry.path), None)
    if kept is not None:
        return f"it belongs to {owner}, and is kept from the rule {kept.rule}, with which the function did not work"
    pattern = matching_pattern(material.function.trim.keep, material.owner_names()[entry.owner], entry.path)
    return f"it belongs to {owner}, and {f'the pattern {pattern} keeps it' if pattern else 'no rule removes it'}"


def _why_added(shaped: ShapedFunction, entry: Entry, owner: str) -> str:
    if entry.path.endswith(".pyc"):
        return f"bytecode of {owner}, made by Python {shaped.bytecode.python} ({shaped.bytecode.why})"
    if entry.mode == EXECUTABLE_MODE:
        return f"a launcher for an entry point of {owner}, as installers make it"
    return f"it names the packages of {owner}, whose sources are gone"
