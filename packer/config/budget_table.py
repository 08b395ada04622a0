"""The part of the configuration that says how large and how slow things may be: ``budget`` and ``layer-budget``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from packer.config.section import Section
from packer.core.options import Budget

BUDGET, LAYER_BUDGET = "budget", "layer-budget"
_KEYS = ("zip", "unzipped", "image", "init", "growth")
_LAYER_KEYS = ("zip", "unzipped", "growth")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")


def read_budget(sections: Sequence[Section]) -> Budget:
    """Return the budget that sections make up, the most particular one last; raises `UsageError`."""
    return _merge_budgets(sections, BUDGET, _KEYS)


def read_layers_budget(sections: Sequence[Section]) -> Budget:
    """Return the budget of each layer that has none of its own; raises `UsageError`."""
    return _merge_budgets(sections, LAYER_BUDGET, _LAYER_KEYS)


def read_layer_budget(layer: Section) -> Budget:
    """Return a named layer's own budget; raises `UsageError`."""
    return _merge_budgets((layer,), BUDGET, _LAYER_KEYS)


def _merge_budgets(sections: Sequence[Section], key: str, known: Sequence[str]) -> Budget:
    merged: dict[str, Any] = {}
    for section in (section.section(key) for section in sections):
        section.check_keys(known)
        for word in section.table:
            merged.update(_read_limit(section, word))
    return Budget(**merged)


def _read_limit(section: Section, key: str) -> dict[str, float | None]:
    if key == "init":
        return {key: section.milliseconds(key)}
    found = _PERCENT.fullmatch(section.string(key)) if key == "growth" else None
    if found:
        return {"growth": None, "growth_percent": float(found[1])}
    if key == "growth":
        return {"growth": section.size(key, "10 MB or 5 %"), "growth_percent": None}
    return {key: section.size(key)}
