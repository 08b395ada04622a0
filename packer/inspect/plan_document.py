"""Describes a plan of layers: what is in each, who uses it, and the bytes that it saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from builders.runtimes import Architecture
from packer.core.records import Bytes
from packer.core.units import count_text, format_size, saving_text
from packer.layers.assignment import LayerShare, Need, Needed
from packer.pipeline.layer_maker import name_layer
from packer.pipeline.zip_groups import GroupPlan


class PlanDistribution(Struct, frozen=True, kw_only=True):
    """A distribution in a layer."""

    name: str
    version: str
    sha256: str
    zip_bytes: Bytes
    unzipped_bytes: Bytes


class PlanLayer(Struct, frozen=True, kw_only=True):
    """A layer to be; ``named`` says that the configuration names it."""

    name: str
    named: bool
    runtime: str
    architecture: Architecture
    functions: tuple[str, ...]
    distributions: tuple[PlanDistribution, ...]
    zip_bytes: Bytes
    unzipped_bytes: Bytes
    saved_bytes: int

    @property
    def target(self) -> str:
        """The runtime and the architecture, in words."""
        return f"{self.runtime} {self.architecture}"


class PlanInside(Struct, frozen=True, kw_only=True):
    """A distribution in a function's own package."""

    name: str
    version: str
    sha256: str


class PlanFunction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a function has; of one that takes part in no plan nothing is known, not even its target."""

    runtime: str = ""
    architecture: Architecture | None = None
    layers: tuple[str, ...]
    attached: tuple[str, ...]
    inside: tuple[PlanInside, ...]

    @property
    def target(self) -> str:
        """The runtime and the architecture, in words; empty where they are not known."""
        return f"{self.runtime} {self.architecture}" if self.runtime else ""


class PlanDocument(Struct, frozen=True, kw_only=True):
    """What `lpack plan --json` prints; sizes are bytes.

    ``separate_bytes`` are what the distributions that functions have in common take in separate ZIPs, ``stored_bytes`` what
    they take as planned: a layer that is the same for several targets counts once, for it is one archive.
    """

    schema_version: Literal[1] = 1
    layers: tuple[PlanLayer, ...]
    functions: Mapping[str, PlanFunction]
    separate_bytes: Bytes
    stored_bytes: Bytes
    saved_bytes: int


def plan_document(plans: Sequence[GroupPlan], apart: Iterable[str] = ()) -> PlanDocument:
    """Return the plan of functions of all targets; ``apart`` are functions that take part in none."""
    layers: list[PlanLayer] = []
    functions = {name: PlanFunction(layers=(), attached=(), inside=()) for name in apart}
    separate = 0
    stored = 0
    archives: dict[tuple[str, frozenset[str]], int] = {}
    for plan in plans:
        known = {digest: each for need in plan.needs.values() for digest, each in need.distributions.items()}
        names = _names(plan, known)
        for share, name in zip(plan.division.shares, names, strict=True):
            layers.append(_layer(plan, share, name, known))
            archives[share.name, frozenset(plan.wanted[digest].key for digest in share.pieces)] = layers[-1].zip_bytes
        for function, need in plan.needs.items():
            functions[function] = _function(plan, function, need, names)
            separate += sum(plan.sizes[digest].zipped for digest in need.distributions if digest in plan.sizes)
            inside = {each.sha256 for each in functions[function].inside}
            stored += sum(plan.sizes[digest].zipped for digest in inside if digest in plan.sizes)
    stored += sum(archives.values())
    return PlanDocument(
        layers=tuple(layers),
        functions={name: functions[name] for name in sorted(functions)},
        separate_bytes=separate,
        stored_bytes=stored,
        saved_bytes=separate - stored,
    )


def _names(plan: GroupPlan, known: Mapping[str, Needed]) -> list[str]:
    """Return the name of each layer as its archive is going to have it, without the digest; equal ones are numbered."""
    seen: Counter[str] = Counter()
    names: list[str] = []
    for share in plan.division.shares:
        name = share.name or name_layer(_sized(plan, share, known))
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _sized(plan: GroupPlan, share: LayerShare, known: Mapping[str, Needed]) -> list[str]:
    """Return the names of what a layer holds, the largest first."""
    held = sorted(share.pieces, key=lambda each: (-plan.sizes[each].unzipped, known[each].name))
    return [known[digest].name for digest in held]


def _layer(plan: GroupPlan, share: LayerShare, name: str, known: Mapping[str, Needed]) -> PlanLayer:
    users = [user for user in share.users if user in plan.needs]
    held = sorted(share.pieces, key=lambda digest: known[digest].name)
    return PlanLayer(
        name=name,
        named=bool(share.name),
        runtime=plan.target.runtime.name,
        architecture=plan.target.architecture,
        functions=tuple(users),
        distributions=tuple(
            PlanDistribution(
                name=known[digest].name,
                version=known[digest].version,
                sha256=digest,
                zip_bytes=plan.sizes[digest].zipped,
                unzipped_bytes=plan.sizes[digest].unzipped,
            )
            for digest in held
        ),
        zip_bytes=sum(plan.sizes[digest].zipped for digest in share.pieces),
        unzipped_bytes=sum(plan.sizes[digest].unzipped for digest in share.pieces),
        saved_bytes=sum(
            plan.sizes[digest].zipped * (sum(digest in plan.needs[user].distributions for user in users) - 1)
            for digest in share.pieces
        ),
    )


def _function(plan: GroupPlan, name: str, need: Need, names: Sequence[str]) -> PlanFunction:
    mine = plan.division.of(name)
    held = {digest for share in mine for digest in share.pieces}
    inside = sorted((each.name, each.version, digest) for digest, each in need.distributions.items() if digest not in held)
    return PlanFunction(
        runtime=plan.target.runtime.name,
        architecture=plan.target.architecture,
        layers=tuple(names[place] for place in plan.division.places(name)),
        attached=tuple(layer.arn for layer in need.options.attached),
        inside=tuple(PlanInside(name=each, version=version, sha256=digest) for each, version, digest in inside),
    )


def plan_table(document: PlanDocument) -> str:
    """Return the plan as text: a line for each layer and its contents, and one for each function."""
    lines: list[str] = []
    for layer in document.layers:
        sizes = f"{format_size(layer.zip_bytes)} zipped, {format_size(layer.unzipped_bytes)} unzipped"
        users = f"{count_text(len(layer.functions), 'function')}, {saving_text(layer.saved_bytes)}"
        lines.append(f"{layer.name}  {layer.target}  {sizes}; {users}")
        lines.append("  holds  " + ", ".join(f"{each.name} {each.version}" for each in layer.distributions))
        lines.append("  for    " + ", ".join(layer.functions))
    width = max(map(len, document.functions), default=0)
    lines += [""] if lines else []
    lines += [f"{name:<{width}}  {_contents(function)}" for name, function in document.functions.items()]
    if document.separate_bytes:
        stored, separate = format_size(document.stored_bytes), format_size(document.separate_bytes)
        lines += ["", f"What functions share takes {stored} zipped; in separate packages it took {separate}."]
    return "\n".join(lines) + "\n"


def _contents(function: PlanFunction) -> str:
    if not function.runtime:
        return "takes part in no plan"
    held, inside = [*function.attached, *function.layers], len(function.inside)
    return f"{', '.join(held) or 'no layer'}; {count_text(inside, 'distribution')} inside"
