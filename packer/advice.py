"""Says what would make a function smaller, with the bytes that each way saves; nothing is tried out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from builders.runtimes import RUNTIME_DISTRIBUTIONS, UNZIPPED_LIMIT
from packer.gather import Gathered
from packer.model import OWN_SOURCE
from packer.pycache import instead
from packer.rules import RULES
from packer.shape import Shaped
from packer.trim import Known, trim
from packer.units import size_text

_WORTH = 0.01
"""Part of a function's bytes that something must save to be worth a word."""
_MOST = 5
_LAYER_AFTER = 0.15
"""Part of a function's bytes from which on a distribution is worth a layer of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to save: what to write or do, and the unzipped bytes that it is worth."""

    what: str
    saves: int

    def __str__(self) -> str:
        return f"{self.what}: -{size_text(self.saves)}" if self.saves else self.what


def ways_to_save(gathered: Gathered, shaped: Shaped, report: Mapping[str, Any], *, unzipped: bool) -> tuple[str, ...]:
    """Give what would help, the most first; ``unzipped`` says that what is too large is the unzipped size."""
    whole = report["artifact"]["unzipped_bytes"]
    ways = [*_rules(gathered, shaped), *_runtime(gathered, shaped), *_sources(shaped), *_layers(report, unzipped=unzipped)]
    ways = sorted((way for way in ways if way.saves > whole * _WORTH), key=lambda way: (-way.saves, way.what))[:_MOST]
    if unzipped and report["format"] == "zip":
        ways.append(Way(what='use an image (format = "image"): Lambda takes 10 GB', saves=0))
    return tuple(map(str, ways))


def _rules(gathered: Gathered, shaped: Shaped) -> Iterator[Way]:
    """Give what rules would take that are not in use."""
    material, options = gathered.material, gathered.function.trim
    used = {rule for (rule, _), _ in shaped.gone()}
    if options.level == "none":
        yield from _without_scans(gathered)
        return
    asked = tuple(rule.name for rule in RULES if rule.level == "asked" and rule.name != "runtime")
    everything = replace(options, without=(), rules=asked)
    known = Known(scans=material.scans, native=material.native, services=material.services)
    found: dict[str, int] = {}
    for each in trim(material.parts, everything, known).removed:
        if each.rule not in used:
            found[each.rule] = found.get(each.rule, 0) + each.size
    for rule, saves in found.items():
        how = f"drop {rule}" if rule in asked else f"drop {rule} (trim.without keeps them)"
        yield Way(what=how, saves=saves)


def _without_scans(gathered: Gathered) -> Iterator[Way]:
    """Give what the paths alone say of trimming that is switched off."""
    from packer.scan import Scan

    names = [name for name, _ in gathered.material.parts]
    known = Known(scans=dict.fromkeys(names, Scan()), native={}, services=None)
    safe = replace(gathered.function.trim, level="safe")
    removed = trim(gathered.material.parts, safe, known).removed
    tests = sum(each.size for each in removed if each.rule == "tests")
    yield Way(what="drop tests", saves=tests)
    yield Way(what='trim = "safe"', saves=sum(each.size for each in removed))


def _runtime(gathered: Gathered, shaped: Shaped) -> Iterator[Way]:
    """Give what the runtime brings itself."""
    sizes = _sizes(gathered, shaped)
    names = [name for name in RUNTIME_DISTRIBUTIONS if sizes.get(name)]
    if names:
        listed = ", ".join(f'"{name}"' for name in names)
        yield Way(what=f"exclude = [{listed}], which the runtime has", saves=sum(sizes[name] for name in names))


def _sources(shaped: Shaped) -> Iterator[Way]:
    """Give what sources take that have their bytecode beside them."""
    if shaped.bytecode.mode != "beside":
        return
    paths = {entry.path for entry in shaped.tree}
    sources = sum(
        entry.content.size for entry in shaped.tree if entry.path.endswith(".py") and instead(entry.path) not in paths
    )
    yield Way(what='bytecode = "only"', saves=sources)


def _layers(report: Mapping[str, Any], *, unzipped: bool) -> Iterator[Way]:
    """Give what could lie in a layer, which helps where the ZIP is too large, and not where all of the function is."""
    if unzipped or report["format"] != "zip":
        return
    inside = [each for each in report["distributions"] if "layer" not in each]
    whole = report["artifact"]["unzipped_bytes"]
    for each in inside:
        if each["unzipped_bytes"] > whole * _LAYER_AFTER and each["unzipped_bytes"] < UNZIPPED_LIMIT:
            yield Way(what=f"move {each['name']} to a layer", saves=each["unzipped_bytes"])


def _sizes(gathered: Gathered, shaped: Shaped) -> dict[str, int]:
    names = gathered.material.owner_names()
    found: dict[str, int] = {}
    for entry in shaped.tree:
        name = names[entry.owner]
        if name != OWN_SOURCE:
            found[name] = found.get(name, 0) + entry.content.size
    return found
