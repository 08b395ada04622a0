"""Describes a plan of layers: what is in each, who uses it, and the bytes that it saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packer.core.units import format_size
from packer.layers.assignment import LayerShare, Need, Needed
from packer.pipeline.layer_maker import label
from packer.pipeline.zip_groups import Planned

SCHEMA_VERSION = 1


def describe_plan(plans: Sequence[Planned], apart: Iterable[str] = ()) -> dict[str, Any]:
    """Give the plan of functions of all targets; sizes are bytes. ``apart`` are functions that take part in none.

    ``separate_bytes`` are what the distributions that functions have in common take in separate ZIPs, ``stored_bytes`` what
    they take as planned: a layer that is the same for several targets counts once, for it is one archive.
    """
    layers: list[dict[str, Any]] = []
    functions: dict[str, Any] = {name: {"layers": [], "attached": [], "inside": []} for name in apart}
    separate = 0
    stored = 0
    archives: dict[tuple[str, frozenset[str]], int] = {}
    for plan in plans:
        known = {digest: each for need in plan.needs.values() for digest, each in need.distributions.items()}
        names = _names(plan, known)
        for share, name in zip(plan.division.shares, names, strict=True):
            layers.append(_layer(plan, share, name, known))
            archives[share.name, frozenset(plan.wanted[digest].key for digest in share.pieces)] = layers[-1]["zip_bytes"]
        for function, need in plan.needs.items():
            functions[function] = _function(plan, function, need, names)
            separate += sum(plan.sizes[digest].zipped for digest in need.distributions if digest in plan.sizes)
            inside = {each["sha256"] for each in functions[function]["inside"]}
            stored += sum(plan.sizes[digest].zipped for digest in inside if digest in plan.sizes)
    stored += sum(archives.values())
    return {
        "schema_version": SCHEMA_VERSION,
        "layers": layers,
        "functions": {name: functions[name] for name in sorted(functions)},
        "separate_bytes": separate,
        "stored_bytes": stored,
        "saved_bytes": separate - stored,
    }


def _names(plan: Planned, known: Mapping[str, Needed]) -> list[str]:
    """Name each layer as its archive is going to be, but for the digest, and number those that would be called alike."""
    seen: Counter[str] = Counter()
    names: list[str] = []
    for share in plan.division.shares:
        name = share.name or label(_sized(plan, share, known))
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _sized(plan: Planned, share: LayerShare, known: Mapping[str, Needed]) -> list[str]:
    """Give the names of what a layer holds, the largest first."""
    held = sorted(share.pieces, key=lambda each: (-plan.sizes[each].unzipped, known[each].name))
    return [known[digest].name for digest in held]


def _layer(plan: Planned, share: LayerShare, name: str, known: Mapping[str, Needed]) -> dict[str, Any]:
    users = [user for user in share.users if user in plan.needs]
    size = sum(plan.sizes[digest].zipped for digest in share.pieces)
    held = sorted(share.pieces, key=lambda digest: known[digest].name)
    return {
        "name": name,
        "named": bool(share.name),
        "runtime": plan.target.runtime.name,
        "architecture": plan.target.architecture,
        "functions": users,
        "distributions": [
            {
                "name": known[digest].name,
                "version": known[digest].version,
                "sha256": digest,
                "zip_bytes": plan.sizes[digest].zipped,
                "unzipped_bytes": plan.sizes[digest].unzipped,
            }
            for digest in held
        ],
        "zip_bytes": size,
        "unzipped_bytes": sum(plan.sizes[digest].unzipped for digest in share.pieces),
        "saved_bytes": sum(
            plan.sizes[digest].zipped * (sum(digest in plan.needs[user].distributions for user in users) - 1)
            for digest in share.pieces
        ),
    }


def _function(plan: Planned, name: str, need: Need, names: Sequence[str]) -> dict[str, Any]:
    mine = plan.division.of(name)
    held = {digest for share in mine for digest in share.pieces}
    inside = sorted((each.name, each.version, digest) for digest, each in need.distributions.items() if digest not in held)
    return {
        "runtime": plan.target.runtime.name,
        "architecture": plan.target.architecture,
        "layers": [names[place] for place in plan.division.places(name)],
        "attached": [layer.arn for layer in need.options.attached],
        "inside": [{"name": each, "version": version, "sha256": digest} for each, version, digest in inside],
    }


def plan_table(document: dict[str, Any]) -> str:
    """Give the plan as text: a line for each layer and its contents, and one for each function."""
    lines: list[str] = []
    for layer in document["layers"]:
        users = layer["functions"]
        lines.append(
            f"{layer['name']}  {layer['runtime']} {layer['architecture']}  {format_size(layer['zip_bytes'])} zipped, "
            f"{format_size(layer['unzipped_bytes'])} unzipped; {len(users)} functions, "
            f"saves {format_size(layer['saved_bytes'])}"
        )
        lines.append("  holds  " + ", ".join(f"{each['name']} {each['version']}" for each in layer["distributions"]))
        lines.append("  for    " + ", ".join(users))
    width = max(map(len, document["functions"]), default=0)
    lines += [""] if lines else []
    lines += [f"{name:<{width}}  {_has(function)}" for name, function in document["functions"].items()]
    separate, stored = document["separate_bytes"], document["stored_bytes"]
    if separate:
        lines += [
            "",
            f"What functions share takes {format_size(stored)} zipped; in separate packages it took {format_size(separate)}.",
        ]
    return "\n".join(lines) + "\n"


def _has(function: dict[str, Any]) -> str:
    """Say what a function has; of one that takes part in no plan nothing is known, not even its target."""
    if "runtime" not in function:
        return "takes part in no plan"
    held, inside = [*function["attached"], *function["layers"]], len(function["inside"])
    return f"{', '.join(held) or 'no layer'}; {inside} distribution{'' if inside == 1 else 's'} inside"
