"""The part of the configuration that says what a function gets where it runs: memory, time, /tmp and variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builders.runtimes import MEGABYTE, MEMORY_RANGE, STORAGE_RANGE, TIMEOUT_RANGE
from packer.config.section import Section
from packer.core.options import ExecutionSettings

EXECUTION_KEYS = ("memory", "timeout", "storage", "environment")
# Key to (least and most, unit, how it is written).
_NUMBERS = {
    "memory": (MEMORY_RANGE, "MB", "1024 MB"),
    "timeout": (TIMEOUT_RANGE, "s", "30 s"),
    "storage": (STORAGE_RANGE, "MB", "2 GB"),
}


def read_execution_settings(sections: Sequence[Section]) -> ExecutionSettings:
    """Return the settings that sections make up, the most particular one last; raises `UsageError`."""
    numbers: dict[str, Any] = {}
    environment: dict[str, str] = {}
    for section in sections:
        numbers |= {key: _read_number(section, key) for key in _NUMBERS if key in section.table}
        variables = section.section("environment")
        environment |= {name: _read_value(variables, name) for name in variables.table}
    return ExecutionSettings(**numbers, environment=tuple(sorted(environment.items())))


def _read_value(section: Section, name: str) -> str:
    value = section.table[name]
    if not isinstance(value, str):
        raise section.error(name, f"a string is expected, not {value!r}", f'Write {name} = "…".')
    return value


def _read_number(section: Section, key: str) -> int:
    """Return a number in the key's own unit, which may be left out, as Lambda's API leaves it out."""
    (least, most), unit, example = _NUMBERS[key]
    if isinstance(section.table[key], int):
        number = section.number(key, whole=True)
    elif unit == "s":
        number = section.milliseconds(key, example) / 1000
    else:
        number = section.size(key, example) / MEGABYTE
    if number != int(number) or not least <= number <= most:
        what = f"Lambda takes a whole number from {least} to {most} {unit} here, not {section.table[key]!r}"
        raise section.error(key, what, f'Write {key} = "{example}".')
    return int(number)
