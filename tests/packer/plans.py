"""Plans of layers (`packer.inspect.plan_document`), made for pictures; and pictures read back."""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

from msgspec import Struct

from builders.runtimes import Architecture
from packer.inspect.plan_document import PlanDistribution, PlanDocument, PlanFunction, PlanInside, PlanLayer

TARGET: tuple[str, Architecture] = ("python3.12", "x86_64")
SVG = "{http://www.w3.org/2000/svg}"
_NUMBERS = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def distribution(name: str, version: str = "1.0") -> PlanInside:
    return PlanInside(name=name, version=version, sha256=_digest(name, version))


def _digest(name: str, version: str) -> str:
    return hashlib.sha256(f"{name} {version}".encode()).hexdigest()


def _held(name: str, size: int) -> PlanDistribution:
    digest = _digest(name, "1.0")
    return PlanDistribution(name=name, version="1.0", sha256=digest, zip_bytes=size, unzipped_bytes=3 * size)


def layer(
    name: str,
    holds: Sequence[str],
    users: Sequence[str],
    target: tuple[str, Architecture] = TARGET,
    size: int = 3_000_000,
) -> PlanLayer:
    """Return a layer of distributions of this size each."""
    zipped = size * len(holds)
    return PlanLayer(
        name=name,
        named=False,
        runtime=target[0],
        architecture=target[1],
        functions=tuple(users),
        distributions=tuple(_held(each, size) for each in holds),
        zip_bytes=zipped,
        unzipped_bytes=3 * zipped,
        saved_bytes=zipped * (len(users) - 1),
    )


def plan(
    inside: Mapping[str, Sequence[str]],
    layers: Sequence[PlanLayer] = (),
    attached: Mapping[str, Sequence[str]] | None = None,
) -> PlanDocument:
    """Return a plan of functions with what is inside each."""
    functions = {
        name: PlanFunction(
            runtime=TARGET[0],
            architecture=TARGET[1],
            layers=tuple(each.name for each in layers if name in each.functions),
            attached=tuple((attached or {}).get(name, ())),
            inside=tuple(map(distribution, held)),
        )
        for name, held in inside.items()
    }
    saved = sum(each.saved_bytes for each in layers)
    stored = sum(each.zip_bytes for each in layers)
    return PlanDocument(
        layers=tuple(layers),
        functions=functions,
        separate_bytes=stored + saved,
        stored_bytes=stored,
        saved_bytes=saved,
    )


def monorepo(functions: int = 12, layers: int = 10, apiece: int = 2) -> PlanDocument:
    """Return a plan in which each layer has some users, each function distributions of its own, and all one inside."""
    names = [f"Function{number:03}" for number in range(functions)]
    shared = [
        layer(f"layer-{number}", [f"shared-{number}-{each}" for each in "abc"], names[number % 5 :: number % 4 + 2])
        for number in range(layers)
    ]
    own = {name: ["everywhere", *(f"own-{name}-{number}" for number in range(apiece))] for name in names}
    return plan(own, shared, {name: [f"arn:aws:lambda:eu-west-1:123456789012:layer:{name[-1]}:7"] for name in names[::4]})


class Shown(Struct, frozen=True, kw_only=True):
    """A box of a picture."""

    id: str
    kind: str
    told: str
    texts: tuple[str, ...]
    left: float
    top: float
    right: float
    bottom: float

    @property
    def name(self) -> str:
        return self.told.split("\n")[0]


class Drawing(Struct, frozen=True, kw_only=True):
    """A picture read back; curves are from the id of a box, or lane, to another one's, each with its first and last point."""

    root: ET.Element
    boxes: dict[str, Shown]
    curves: dict[tuple[str, str], tuple[tuple[float, float], tuple[float, float]]]

    def named(self, name: str, kind: str) -> Shown:
        """Return the one box of that name."""
        (found,) = (box for box in self.boxes.values() if (box.name, box.kind) == (name, kind))
        return found

    def ways(self) -> set[tuple[str, str]]:
        """Return who has what, by the names of boxes, through lanes as if they were none."""
        onward: dict[str, str] = {start: end for start, end in self.curves if start not in self.boxes}
        return {
            (self.boxes[start].name, self.boxes[onward.get(end, end)].name) for start, end in self.curves if start in self.boxes
        }


def read_drawing(svg: str) -> Drawing:
    """Read a picture as any XML parser does."""
    root = ET.fromstring(svg)
    boxes = {}
    for group in root.iter(f"{SVG}g"):
        if group.get("class", "").startswith("box "):
            shown = _shown(group)
            boxes[shown.id] = shown
    curves = {}
    for path in root.findall(f"{SVG}g[@class='links']//{SVG}path") + root.findall(f"{SVG}g[@class='links many']//{SVG}path"):
        start, end = path.get("class", "").split()
        numbers = [float(each) for each in _NUMBERS.findall(path.get("d", ""))]
        link = (start.removeprefix("of-"), end.removeprefix("to-"))
        assert link not in curves
        curves[link] = ((numbers[0], numbers[1]), (numbers[-2], numbers[-1]))
    return Drawing(root=root, boxes=boxes, curves=curves)


def _shown(group: ET.Element) -> Shown:
    (frame,) = (each for each in group.findall(f"{SVG}rect") if each.get("class") == "frame")
    left, top, wide, high = (float(frame.get(key, "")) for key in ("x", "y", "width", "height"))
    return Shown(
        id=group.get("id", ""),
        kind=group.get("class", "").split()[1],
        told=group.findtext(f"{SVG}title", ""),
        texts=tuple(each.text or "" for each in group.findall(f"{SVG}text")),
        left=left,
        top=top,
        right=left + wide,
        bottom=top + high,
    )
