"""What lies around a function where it runs, and is not packed: what the runtime has, and layers that lpack does not make."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Protocol

from builders.runtimes import RUNTIME_MODULES
from packer.core.errors import FetchError, ResolveError
from packer.core.model import OWN_SOURCE, Tree
from packer.source.facts import imported_names
from packer.source.layer_content import LayerContent
from packer.trim.material import Material
from packer.verify.runner import Outcome, Verifier

ABSENT_MODULE = re.compile(r"No module named '([^']+)'")
"""What Python says of a module that it does not find."""


class Surroundings(Protocol):
    """Provides what a function's proof needs beside its package."""

    def carried(self) -> Tree:
        """Return the packages that the function requires and leaves to the runtime or attached layers; raises `LpackError`."""
        ...

    def runtime(self, modules: Collection[str]) -> Tree:
        """Return packages of the runtime that have these modules, with all that they require; raises `LpackError`."""
        ...

    def layers(self) -> Sequence[LayerContent]:
        """Return the attached layers whose content is on this machine, in their order; raises `LpackError`."""
        ...


class Around:
    """What is laid out around a function for its runs: it grows by what the runtime has and a run turns out to need."""

    def __init__(self, surroundings: Surroundings, verifier: Verifier, material: Material) -> None:
        """Collect what is known to be needed; raises `LpackError`."""
        self._surroundings = surroundings
        self._asked: set[str] = set()
        self.late = surroundings.carried()
        self.contents = surroundings.layers()
        self.layers = verifier.archive_layers(self.contents)
        self.unfetched = ""
        """Why packages of the runtime could not be fetched; empty where they could."""
        if not verifier.has_packages(material.function):
            self.add(imported_from_runtime(material))

    def add(self, modules: Collection[str]) -> bool:
        """Fetch the runtime's packages with these modules; return whether there is anything that was not there before."""
        held = {_top_name(entry.path) for entry in self.late}
        wanted = {each for each in modules if each in RUNTIME_MODULES} - self._asked - held
        if not wanted or self.unfetched:
            return False
        self._asked |= wanted
        try:
            found = self._surroundings.runtime(wanted)
        except (ResolveError, FetchError) as error:
            self.unfetched = error.what.partition("\n")[0].rstrip(".")
            return False
        more = [entry for entry in found if _top_name(entry.path) not in held]
        self.late = Tree.of((*self.late, *more))
        return bool(more)


def imported_from_runtime(material: Material) -> frozenset[str]:
    """Return the modules of the runtime that the function's own source imports anywhere, and does not have itself."""
    packed = {_top_name(entry.path) for _, tree in material.parts for entry in tree}
    wanted = RUNTIME_MODULES.keys() - packed
    words = [name.encode() for name in wanted]
    found: set[str] = set()
    for entry in dict(material.parts)[OWN_SOURCE]:
        data = entry.content.read() if entry.path.endswith(".py") else b""
        if any(word in data for word in words):
            found |= {name.partition(".")[0] for name in imported_names(data)}
    return frozenset(found & wanted)


def lacking_modules(outcome: Outcome) -> frozenset[str]:
    """Return the top-level names of the modules that a run did not find."""
    errors = (each["error"] for each in (outcome.imported, *outcome.events) if "error" in each)
    named = (found[1] for error in errors for found in ABSENT_MODULE.finditer(f"{error['message']}\n{error['trace']}"))
    return frozenset(name.partition(".")[0] for name in named)


def _top_name(path: str) -> str:
    """Return the name of the top-level module that a path is of; of metadata, the beginning of the folder's name."""
    return path.partition("/")[0].partition(".")[0]
