"""Measures how long a function takes to start: its init phase, untrimmed and as it is built, in turns and from a cold disk."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

from msgspec import Meta, Struct, field

from packer.core.model import Tree
from packer.core.records import Count, Milliseconds

_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
# What -X importtime prints (CPython documentation, "Command line and environment").
_LINE = re.compile(r"^import time:\s+(\d+) \|\s+(\d+) \| (\s*)(\S+)$", re.MULTILINE)
_RUNTIME = "python"
"""What stands for Python itself among the distributions; none can have been installed by that name."""


class ImportedModule(Struct, frozen=True, kw_only=True):
    """One module of an import tree: its own and all milliseconds, how deep it lies, and the distribution that it is of."""

    name: str
    own: float
    total: float
    depth: int
    distribution: str


class ColdStart(Struct, frozen=True, kw_only=True):
    """A function's measured starts, in milliseconds; ``modules`` in the order in which their imports ended."""

    function: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    modules: tuple[ImportedModule, ...]

    @property
    def median_before(self) -> float:
        """The median of the untrimmed function's starts."""
        return median(self.before)

    @property
    def median_after(self) -> float:
        """The median of the built function's starts."""
        return median(self.after)

    def distributions(self) -> dict[str, float]:
        """Return the milliseconds that each distribution's own modules took, the slowest first."""
        found: dict[str, float] = {}
        for module in self.modules:
            found[module.distribution] = found.get(module.distribution, 0.0) + module.own
        return dict(sorted(found.items(), key=lambda item: -item[1]))


class StartTimes(Struct, frozen=True, kw_only=True):
    """Measured starts, in milliseconds."""

    median: Milliseconds
    samples: tuple[Milliseconds, ...]


class ImportRecord(Struct, frozen=True, kw_only=True):
    """One module of an import tree: milliseconds of its own, and with what it imports."""

    module: str
    distribution: str
    depth: Count
    own: Milliseconds = field(name="self")
    cumulative: Milliseconds


class StartRecord(Struct, frozen=True, kw_only=True):
    """The measured starts of a function, untrimmed and as it is built; imports in the order in which they ended."""

    before: StartTimes
    after: StartTimes
    ratio: Annotated[float, Meta(ge=0)]
    distributions: dict[str, Milliseconds]
    imports: tuple[ImportRecord, ...]


class StartDocument(Struct, frozen=True, kw_only=True):
    """What `lpack coldstart --json` prints."""

    clock: str
    cold: Annotated[bool, Meta(description="Whether the disk's caches were emptied.")]
    functions: dict[str, StartRecord]


def can_drop_caches() -> bool:
    """Return whether this process may empty the system's caches of files (proc(5), /proc/sys/vm/drop_caches)."""
    return os.geteuid() == 0 and os.access(_DROP_CACHES, os.W_OK)


def drop_caches() -> None:
    """Empty the system's caches of files, so that the next start reads from the disk; raises ``OSError``."""
    os.sync()
    _DROP_CACHES.write_text("3\n", encoding="ascii")


def read_import_times(log: str, tree: Tree, names: Mapping[str, str]) -> tuple[ImportedModule, ...]:
    """Read what ``-X importtime`` has printed; ``names`` are distributions by the owners of entries."""
    owners = {entry.path: names[entry.owner] for entry in tree}
    return tuple(
        ImportedModule(
            name=name,
            own=int(own) / 1000,
            total=int(total) / 1000,
            depth=len(indent) // 2,
            distribution=_distribution(name, owners),
        )
        for own, total, indent, name in _LINE.findall(log)
    )


def _distribution(module: str, owners: Mapping[str, str]) -> str:
    path = module.replace(".", "/")
    for suffix in (".py", "/__init__.py", ".pyc", "/__init__.pyc"):
        if path + suffix in owners:
            return owners[path + suffix]
    start = path + "."
    return next((owner for each, owner in owners.items() if each.startswith(start) and each.endswith(".so")), _RUNTIME)


def slowest(modules: Sequence[ImportedModule], most: int) -> list[ImportedModule]:
    """Return the modules that take most time by themselves."""
    return sorted(modules, key=lambda module: -module.own)[:most]


def record_start(found: ColdStart) -> StartRecord:
    """Return all figures of a function."""
    return StartRecord(
        before=StartTimes(median=round(found.median_before, 1), samples=tuple(round(each, 1) for each in found.before)),
        after=StartTimes(median=round(found.median_after, 1), samples=tuple(round(each, 1) for each in found.after)),
        ratio=round(found.median_after / found.median_before, 3),
        distributions={name: round(own, 1) for name, own in found.distributions().items()},
        imports=tuple(
            ImportRecord(
                module=each.name,
                distribution=each.distribution,
                depth=each.depth,
                own=round(each.own, 3),
                cumulative=round(each.total, 3),
            )
            for each in found.modules
        ),
    )
