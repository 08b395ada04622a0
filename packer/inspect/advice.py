"""What would make a function smaller, with the bytes that each change saves; nothing is tried out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from builders.runtimes import RUNTIME_DISTRIBUTIONS, UNZIPPED_LIMIT
from packer.core.bytecode_paths import sourceless_path
from packer.core.model import OWN_SOURCE, RUNTIME_WORD, Content
from packer.core.options import TrimOptions
from packer.core.records import FunctionRecord
from packer.core.units import format_size
from packer.pipeline.gatherer import GatheredFunction
from packer.trim.engine import TrimContext, trim
from packer.trim.rules import RULES
from packer.trim.shape import ShapedFunction

_WORTH = 0.01
"""The least share of a function's bytes that a suggestion must save."""
_MOST = 5
_LAYER_AFTER = 0.15
"""The least share of a function's bytes for which a distribution is worth a layer of its own."""


class Saving(Struct, frozen=True, kw_only=True):
    """One suggestion: what to write or do, and the bytes that it saves of the size that is too large."""

    what: str
    saves: int

    def __str__(self) -> str:
        return f"{self.what}: -{format_size(self.saves)}" if self.saves else self.what


class _Scales(Struct, frozen=True, kw_only=True):
    """Measures files as the size that is too large counts them: ``unzipped``, or compressed."""

    unzipped: bool

    def weigh(self, content: Content) -> int:
        """Return the bytes of a file; one without compressed bytes counts unpacked."""
        span = None if self.unzipped else content.span()
        return span.length if span else content.size

    def sum(self, contents: Iterable[Content]) -> int:
        """Return the bytes of several files."""
        return sum(map(self.weigh, contents))


def ways_to_save(
    gathered: GatheredFunction, shaped: ShapedFunction, report: FunctionRecord, *, over: Collection[str]
) -> tuple[str, ...]:
    """Return what would help, the largest saving first; ``over`` are keys of `packer.manifest.budget.Measure`."""
    unzipped, form = any(key != "zip" for key in over), report.format
    scales = _Scales(unzipped=unzipped)
    whole = scales.sum(entry.content for entry in shaped.tree)
    sizes = _sizes(gathered, shaped, scales)
    ways = [*_rules(gathered, shaped, scales), *_runtime(gathered, sizes), *_sources(shaped, scales)]
    ways += [] if unzipped or form != "zip" else _layers(report, sizes, whole)
    ways = sorted((way for way in ways if way.saves > whole * _WORTH), key=lambda way: (-way.saves, way.what))[:_MOST]
    base = report.image.base if report.image else None
    if base and base.bytes and any(key.endswith("image") for key in over):  # no other limit counts the base
        ways.append(Saving(what=f"name a smaller base (oci.base): {base.name} takes {format_size(base.bytes)} packed", saves=0))
    if unzipped and form == "zip":
        ways.append(Saving(what='use an image (format = "image"): Lambda takes 10 GB', saves=0))
    return tuple(map(str, ways))


def _rules(gathered: GatheredFunction, shaped: ShapedFunction, scales: _Scales) -> Iterator[Saving]:
    """Return what rules would remove that are not in use."""
    material, options = gathered.material, gathered.function.trim
    used = {rule for (rule, _), _ in shaped.gone()}
    if options.level == "none":
        yield from _without_scans(gathered, scales)
        return
    asked = tuple(rule.name for rule in RULES if rule.level == "asked")
    everything = replace(options, without=(), rules=asked)
    known = TrimContext(scans=material.scans, native=material.native, services=material.services)
    found: dict[str, int] = {}
    for rule, size in _taken(gathered, everything, known, scales):
        if rule not in used:
            found[rule] = found.get(rule, 0) + size
    for rule, saves in found.items():
        how = f"drop {rule}" if rule in asked else f"drop {rule} (trim.without keeps them)"
        yield Saving(what=how, saves=saves)


def _without_scans(gathered: GatheredFunction, scales: _Scales) -> Iterator[Saving]:
    """Return what trimming, which is off, would remove, judged by paths alone."""
    from packer.source.facts import FactScan

    names = [name for name, _ in gathered.material.parts]
    known = TrimContext(scans=dict.fromkeys(names, FactScan()), native={}, services=None)
    taken = list(_taken(gathered, replace(gathered.function.trim, level="safe"), known, scales))
    yield Saving(what="drop tests", saves=sum(size for rule, size in taken if rule == "tests"))
    yield Saving(what='trim = "safe"', saves=sum(size for _, size in taken))


def _taken(gathered: GatheredFunction, options: TrimOptions, known: TrimContext, scales: _Scales) -> Iterator[tuple[str, int]]:
    """Return the rules that would remove files, with the bytes of each file."""
    contents = {(name, entry.path): entry.content for name, tree in gathered.material.parts for entry in tree}
    for each in trim(gathered.material.parts, options, known).removed:
        yield each.rule, scales.weigh(contents[each.owner, each.path])


def _runtime(gathered: GatheredFunction, sizes: Mapping[str, int]) -> Iterator[Saving]:
    """Return what the runtime has itself; nothing is known of what the user's own base has."""
    names = [name for name in RUNTIME_DISTRIBUTIONS if sizes.get(name)]
    if names and not (gathered.function.image.wanted and gathered.function.image.base):
        what = f'exclude = ["{RUNTIME_WORD}"]: the runtime has {", ".join(names)}'
        yield Saving(what=what, saves=sum(sizes[name] for name in names))


def _sources(shaped: ShapedFunction, scales: _Scales) -> Iterator[Saving]:
    """Return the bytes of sources that have their bytecode beside them."""
    if shaped.bytecode.mode != "beside":
        return
    paths = {entry.path for entry in shaped.tree}
    sources = (entry for entry in shaped.tree if entry.path.endswith(".py") and sourceless_path(entry.path) not in paths)
    yield Saving(what='bytecode = "only"', saves=scales.sum(entry.content for entry in sources))


def _layers(report: FunctionRecord, sizes: Mapping[str, int], whole: int) -> Iterator[Saving]:
    """Return what could move to a layer, which helps against a large ZIP, but not against the unzipped limit."""
    for each in report.inside:
        saves = sizes.get(each.name, 0)
        if saves > whole * _LAYER_AFTER and each.unzipped_bytes < UNZIPPED_LIMIT:
            yield Saving(what=f"move {each.name} to a layer", saves=saves)


def _sizes(gathered: GatheredFunction, shaped: ShapedFunction, scales: _Scales) -> dict[str, int]:
    names = gathered.material.owner_names()
    found: dict[str, int] = {}
    for entry in shaped.tree:
        name = names[entry.owner]
        if name != OWN_SOURCE:
            found[name] = found.get(name, 0) + scales.weigh(entry.content)
    return found
