"""The part of the configuration that says what a function gets where it runs: memory, time, /tmp and variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from builders.runtimes import ENVIRONMENT_LIMIT, MEGABYTE, MEMORY_RANGE, RESERVED_VARIABLES, STORAGE_RANGE, TIMEOUT_RANGE
from packer.config.section import Section
from packer.core.errors import UsageError
from packer.core.options import ExecutionSettings

EXECUTION_KEYS = ("memory", "timeout", "storage", "environment")
# Key to (least and most, unit, how it is written).
_NUMBERS = {
    "memory": (MEMORY_RANGE, "MB", "1024 MB"),
    "timeout": (TIMEOUT_RANGE, "s", "30 s"),
    "storage": (STORAGE_RANGE, "MB", "2 GB"),
}
_VARIABLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]+")
"""What a variable may be called (AWS "Using Lambda environment variables")."""


def read_execution_settings(sections: Sequence[Section]) -> ExecutionSettings:
    """Return the settings that sections make up, the most particular one last; raises `UsageError`."""
    numbers: dict[str, Any] = {}
    environment: dict[str, str] = {}
    for section in sections:
        numbers |= {key: _read_number(section, key) for key in _NUMBERS if key in section.table}
        variables = section.section("environment")
        check_names(variables.table, f"{variables.file}: {variables.prefix}.")
        environment |= {name: _read_value(variables, name) for name in variables.table}
        if variables.table:
            check_size(environment, section.where("environment"))
    return ExecutionSettings(**numbers, environment=tuple(sorted(environment.items())))


def check_names(names: Iterable[str], where: str) -> None:
    """Raise `UsageError` for the name of a variable that Lambda refuses; ``where`` is put before the name."""
    for name in names:
        if name in RESERVED_VARIABLES:
            what = "Lambda sets this variable itself, and no function may set it"
            raise UsageError(f"{where}{name}: {what}.", remedy="Remove it, or give it a name of your own.")
        if not _VARIABLE.fullmatch(name):
            what = "Lambda takes a letter here, followed by at least one more letter, digit or underscore"
            raise UsageError(f"{where}{name}: {what}.", remedy="Give the variable another name.")


def check_size(variables: Mapping[str, str], where: str) -> None:
    """Raise `UsageError` for variables that are too long for Lambda, all together."""
    size = len(json.dumps(variables, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace"))
    if size > ENVIRONMENT_LIMIT:
        what = f"the variables take {size:,} bytes together, and Lambda takes at most {ENVIRONMENT_LIMIT:,}"
        remedy = "Pack what is long as a file of the source, or read it from Parameter Store or S3."
        raise UsageError(f"{where}: {what}.", remedy=remedy)


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
