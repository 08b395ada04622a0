"""The work on functions that share layers: what they have beside a layer is found in one pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from packer.core.model import OWN_SOURCE
from packer.pipeline.preparation import Preparation
from tests.counting import Row


class Prepared(Preparation):
    """Functions that need distributions a to e, and have nothing else."""

    def prepare(self, version) -> Any:
        distributions = [SimpleNamespace(name=name, digest=f"digest of {name}") for name in "abcde"]
        return SimpleNamespace(
            gathered=SimpleNamespace(name=version.name, material=SimpleNamespace(distributions=distributions))
        )

    def _native_code(self, gathered) -> Any:
        return {OWN_SOURCE: (), **{each.name: (each.name,) for each in gathered.material.distributions}}


def test_native_code_beside_a_layer_is_found_without_searching_what_it_holds():
    nothing: Any = SimpleNamespace()
    preparation = Prepared([], nothing, nothing, nothing, nothing)
    without = Row(("digest of a", "digest of b"))
    before = Row.gone_through
    found = preparation.libraries(("one", "two"), without)
    assert sorted(found) == [f"{OWN_SOURCE} one", f"{OWN_SOURCE} two", "digest of c", "digest of d", "digest of e"]
    assert Row.gone_through - before == 1
