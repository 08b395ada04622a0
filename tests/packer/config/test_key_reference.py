"""The table of keys has exactly the keys that the configuration knows, and the README has the table."""

from __future__ import annotations

from pathlib import Path

from packer.config.budget_table import _KEYS as _BUDGET_KEYS
from packer.config.build_table import _LIMIT_KEYS, BUILD_KEYS, PACKAGES, PATTERN_KEYS, RELEASES
from packer.config.key_reference import INNER, key_names, key_table, rule_table
from packer.config.layer_table import _ATTACHED_KEYS, _NAMED_KEYS
from packer.config.load import _FUNCTION_KEYS, _PROJECT_KEYS
from packer.config.runtime_table import _KEYS as _IMAGE_KEYS
from packer.config.shape_table import _BYTECODE_KEYS, _TRIM_KEYS, _VERIFY_KEYS
from packer.trim.rules import RULES

_TABLES = {"functions", PACKAGES}
"""Tables of tables, which have sections of their own."""


def test_every_known_key_is_in_the_table_and_no_other():
    assert key_names("project") == set(_PROJECT_KEYS) - _TABLES
    assert key_names("function") == set(_FUNCTION_KEYS) - _TABLES
    assert key_names("package") == {*BUILD_KEYS, *PATTERN_KEYS, RELEASES}


def test_inner_tables_have_their_keys():
    inner: dict[str, set[str]] = {}
    for key in INNER:
        inner.setdefault(key.where[0], set()).update(key.names)
    assert inner == {
        "trim": set(_TRIM_KEYS),
        "bytecode": set(_BYTECODE_KEYS),
        "verify": set(_VERIFY_KEYS),
        "limits": set(_LIMIT_KEYS),
        "runtime-image": set(_IMAGE_KEYS),
        "budget": set(_BUDGET_KEYS),
        "layers.NAME": set(_NAMED_KEYS),
        "attached": set(_ATTACHED_KEYS),
    }


def test_the_readme_has_the_table():
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    assert key_table() in readme, (
        "Renew the README's table of keys: it is the output of packer.config.key_reference.key_table()."
    )


def test_the_readme_names_every_rule():
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    rows = "".join(line.split("|")[1] for line in readme.splitlines() if line.startswith("| `"))
    assert [rule.name for rule in RULES if f"`{rule.name}`" not in rows] == []


def test_every_rule_is_told_with_its_reason():
    table = rule_table()
    assert all(f"| `{rule.name}` |" in table and rule.reason in table for rule in RULES)
