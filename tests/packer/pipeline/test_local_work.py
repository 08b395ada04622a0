"""The work on functions that share layers: what they have beside a layer is found in one pass."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from packer.core.model import OWN_SOURCE
from packer.pipeline.local_work import Workshop
from tests.counting import Row


class PreparedShop(Workshop):
    """A workshop whose functions need distributions a to e, and have nothing else."""

    def _prepare(self, version) -> Any:
        distributions = [SimpleNamespace(name=name, digest=f"digest of {name}") for name in "abcde"]
        return SimpleNamespace(
            gathered=SimpleNamespace(name=version.name, material=SimpleNamespace(distributions=distributions))
        )

    def _native(self, gathered) -> Any:
        return {OWN_SOURCE: (), **{each.name: (each.name,) for each in gathered.material.distributions}}


def test_native_code_beside_a_layer_is_found_without_searching_what_it_holds():
    nothing: Any = SimpleNamespace()
    shop = PreparedShop([], (nothing, nothing), Path(), lambda _: nothing)
    without = Row(("digest of a", "digest of b"))
    before = Row.gone_through
    found = shop.libraries(("one", "two"), without)
    assert sorted(found) == [f"{OWN_SOURCE} one", f"{OWN_SOURCE} two", "digest of c", "digest of d", "digest of e"]
    assert Row.gone_through - before == 1
