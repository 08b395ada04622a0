"""Reads what a picture of a plan has to show: boxes in three columns, and who is linked to what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from packer.core.units import count_text, format_size, saving_text
from packer.inspect.plan_document import (
    PlanDistribution,
    PlanDocument,
    PlanFunction,
    PlanInside,
    PlanLayer,
)

FUNCTION, LAYER, ATTACHED, DISTRIBUTION, LANE = "function", "layer", "attached", "distribution", "lane"
"""Kinds of boxes. A lane is invisible: on it the curves of all functions that hold a distribution inside pass the layers."""

_SHOWN = 60
"""With more distributions than this, those that only one function has are summed up in its box."""


class Box(Struct, frozen=True, kw_only=True):
    """What is drawn as one box; ``title`` is all that is known of it, in lines."""

    key: str
    kind: str
    name: str = ""
    figures: str = ""
    title: str = ""


class Picture(Struct, frozen=True, kw_only=True):
    """Boxes by column, each sorted by its key, and links from keys to keys of the next column, sorted."""

    columns: tuple[tuple[Box, ...], ...]
    links: tuple[tuple[str, str], ...]
    distributions: int
    targets: tuple[str, ...]


class _Held(Struct, kw_only=True):
    """A distribution while the plan is read: layers and functions by their keys, with a line for each."""

    name: str
    version: str
    sha256: str
    layers: dict[str, str] = field(default_factory=dict)
    inside: dict[str, str] = field(default_factory=dict)
    zipped: int = 0

    @property
    def text(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def alone(self) -> bool:
        """Return whether one function has it and no layer."""
        return not self.layers and len(self.inside) == 1


def read_plan(document: PlanDocument) -> Picture:
    """Return what a picture of a plan shows."""
    functions = dict(sorted(document.functions.items()))
    layers = {f"{LAYER} {number:05}": layer for number, layer in enumerate(sorted(document.layers, key=_rank))}
    known = {*(layer.target for layer in layers.values()), *(function.target for function in functions.values())}
    targets = tuple(sorted(known - {""}))
    held = _holdings(layers, functions)
    summed = {key for key, each in held.items() if each.alone} if len(held) > _SHOWN else set()
    arns = sorted({arn for function in functions.values() for arn in function.attached})
    shown = {key: each for key, each in held.items() if key not in summed}
    middle = [
        *(_attached_box(arn, functions) for arn in arns),
        *(Box(key=f"{LANE} {key}", kind=LANE) for key, each in shown.items() if each.inside),
        *(_layer_box(key, layer, len(targets) > 1) for key, layer in layers.items()),
    ]
    mine: dict[str, list[str]] = {}
    for key in summed:
        mine.setdefault(next(iter(held[key].inside)), []).append(held[key].text)
    left = [_function_box(name, function, layers, mine.get(name, ())) for name, function in functions.items()]
    return Picture(
        columns=(tuple(left), tuple(middle), tuple(_distribution_box(key, each) for key, each in shown.items())),
        links=tuple(sorted({*_links(functions, layers), *_links_of_held(shown)})),
        distributions=len(held),
        targets=targets,
    )


def _rank(layer: PlanLayer) -> tuple[Any, ...]:
    """Sort layers: those of several targets may be called alike."""
    return (
        layer.name,
        layer.runtime,
        layer.architecture,
        sorted(layer.functions),
        sorted(each.sha256 for each in layer.distributions),
    )


def _holdings(layers: Mapping[str, PlanLayer], functions: Mapping[str, PlanFunction]) -> dict[str, _Held]:
    """Return every distribution of the plan, sorted by key; the same version from another wheel counts as another one."""
    held: dict[str, _Held] = {}

    def find(each: PlanDistribution | PlanInside) -> _Held:
        key = f"{DISTRIBUTION} {each.name} {each.version} {each.sha256}"
        return held.setdefault(key, _Held(name=each.name, version=each.version, sha256=each.sha256))

    for key, layer in layers.items():
        for each in layer.distributions:
            found = find(each)
            found.zipped = max(found.zipped, each.zip_bytes)
            sizes = f"{format_size(each.zip_bytes)} zipped, {format_size(each.unzipped_bytes)} unzipped"
            found.layers[key] = f"in layer {layer.name} ({layer.target}): {sizes}"
    for name, function in functions.items():
        for own in function.inside:
            find(own).inside[name] = name
    return dict(sorted(held.items()))


def _links(functions: Mapping[str, PlanFunction], layers: Mapping[str, PlanLayer]) -> Iterable[tuple[str, str]]:
    for key, layer in layers.items():
        yield from ((f"{FUNCTION} {name}", key) for name in layer.functions)
    for name, function in functions.items():
        yield from ((f"{FUNCTION} {name}", f"{ATTACHED} {arn}") for arn in function.attached)


def _links_of_held(held: Mapping[str, _Held]) -> Iterable[tuple[str, str]]:
    for key, each in held.items():
        yield from ((layer, key) for layer in each.layers)
        if each.inside:
            yield f"{LANE} {key}", key
            yield from ((f"{FUNCTION} {name}", f"{LANE} {key}") for name in each.inside)


def _function_box(name: str, function: PlanFunction, layers: Mapping[str, PlanLayer], summed: Sequence[str]) -> Box:
    if not function.target:
        alone = _lines([name, "takes part in no plan of layers, so what is inside it was not looked at"])
        return Box(key=f"{FUNCTION} {name}", kind=FUNCTION, name=name, figures="takes part in no plan", title=alone)
    mine = [layer for layer in layers.values() if name in layer.functions]
    count = len(mine) + len(function.attached)
    size = format_size(sum(layer.zip_bytes for layer in mine))
    inside = sorted(f"{each.name} {each.version}" for each in function.inside)
    has = f"{count_text(count, 'layer')}{f', {size}' if mine else ''}" if count else "no layer"
    more = f"+ {len(summed)} more inside" if summed else f"{len(inside)} inside"
    title = [
        name,
        function.target,
        f"{has}: {', '.join(sorted((*(layer.name for layer in mine), *function.attached)))}" if count else has,
        f"{count_text(len(inside), 'distribution')} inside{': ' if inside else ''}{', '.join(inside)}",
        f"in no curve, as no other function has them: {', '.join(sorted(summed))}" if summed else "",
    ]
    return Box(key=f"{FUNCTION} {name}", kind=FUNCTION, name=name, figures=f"{has}; {more}", title=_lines(title))


def _layer_box(key: str, layer: PlanLayer, several_targets: bool) -> Box:
    zipped, saved = format_size(layer.zip_bytes), saving_text(layer.saved_bytes)
    users = count_text(len(layer.functions), "function")
    holds = ", ".join(sorted(f"{each.name} {each.version}" for each in layer.distributions))
    title = [
        layer.name,
        f"{layer.target}{', named in the configuration' if layer.named else ''}",
        f"{zipped} zipped, {format_size(layer.unzipped_bytes)} unzipped; {saved}",
        f"holds {holds}",
        f"{users}: {', '.join(sorted(layer.functions))}",
    ]
    figures = f"{zipped}; {users}; {layer.target if several_targets else saved}"
    return Box(key=key, kind=LAYER, name=layer.name, figures=figures, title=_lines(title))


def _attached_box(arn: str, functions: Mapping[str, PlanFunction]) -> Box:
    users = sorted(name for name, function in functions.items() if arn in function.attached)
    # arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION
    name = arn.partition(":layer:")[2] or arn
    number = count_text(len(users), "function")
    title = _lines([arn, "attached as it is, and not made here", f"{number}: {', '.join(users)}"])
    return Box(key=f"{ATTACHED} {arn}", kind=ATTACHED, name=name, figures=f"attached; {number}", title=title)


def _distribution_box(key: str, each: _Held) -> Box:
    inside = f"inside {count_text(len(each.inside), 'function')}: {', '.join(sorted(each.inside))}" if each.inside else ""
    title = _lines([each.text, f"wheel {each.sha256}", *sorted(each.layers.values()), inside])
    figures = format_size(each.zipped) if each.layers else ""
    return Box(key=key, kind=DISTRIBUTION, name=each.text, figures=figures, title=title)


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(line for line in lines if line)
