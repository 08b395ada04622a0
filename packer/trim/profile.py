"""A function's profile: which files of its distributions a traced run opened; all others are what level `max` removes.

It is a TOML file in the project, to be reviewed and committed. A module that is gone leaves a stub that says so when it is
imported after all: not as an ImportError, which code that tries its luck would swallow.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from builders.documents import decode_text
from builders.runtimes import Target
from packer.core.errors import UsageError
from packer.core.function_tree import Part
from packer.core.model import FILE_MODE, OWN_SOURCE, BytesContent, Entry, Tree
from packer.formats.elf import EXTENSION_MODULE
from packer.trim.engine import RemovedFile, matching_pattern
from packer.trim.rules import PROFILE, STAYS

_FORM = 1
_CERTIFICATES = re.compile(r"\.pem$")
"""What only the first real request opens: few events make one, and what fails then says nothing of a profile."""
_SHARED = 2
"""Number of owners of a path from which on a stub would be in the way of other packages."""
_HEADER = """\
# What {name} opened of its distributions when it was imported and given its sample events. `lpack build --trim max` removes
# the rest; sources that are read as text stay beside their bytecode. Made by `lpack profile {name}`: review it, add what your
# events do not reach, and commit it.
"""
_STUB = """\
raise RuntimeError(
    "lpack removed the module " + __name__ + " from this package: the profile of the function {name} does not have it. "
    "Run `lpack profile {name}` with a sample event that needs it, or keep it: "
    'trim = {{ level = "max", keep = ["{path}"] }}.'
)
"""


class Profile(Struct, frozen=True, kw_only=True):
    """Opened files, by the normalized names of distributions, with their versions at that time.

    ``read`` are sources that were opened though their bytecode was there: code reads them as text.
    """

    function: str
    runtime: str
    architecture: str
    opened: Mapping[str, frozenset[str]]
    versions: Mapping[str, str]
    read: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def fits(self, target: Target) -> bool:
        """Return whether it was made for a target: another one's native code has other names."""
        return (self.runtime, self.architecture) == (target.runtime.name, target.architecture)

    def paths(self) -> frozenset[str]:
        """Return every file that was opened."""
        return frozenset(path for paths in self.opened.values() for path in paths)

    def sources(self) -> frozenset[str]:
        """Return the sources that must stay beside their bytecode."""
        return frozenset(path for paths in self.read.values() for path in paths)


def read_profile(path: Path) -> Profile | None:
    """Read a profile; None where there is none. Raises `UsageError` for one that cannot be understood."""
    try:
        data = tomllib.loads(decode_text(path.read_bytes()))
        if data["profile"] != _FORM:
            raise ValueError(f"its form is {data['profile']}, and this lpack reads {_FORM}")  # noqa: TRY301 reported below
        tables = data.get("distributions", {})
        return Profile(
            function=data["function"],
            runtime=data["runtime"],
            architecture=data["architecture"],
            opened={name: _paths(table["opened"], name) for name, table in tables.items()},
            versions={name: table["version"] for name, table in tables.items()},
            read={name: _paths(table.get("read", []), name) for name, table in tables.items()},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{path} is no profile: {reason}.", remedy="Run `lpack profile` to write it again.") from None


def _paths(value: object, name: str) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"the files of {name} are no list of paths")
    return frozenset(value)


def profile_text(profile: Profile) -> bytes:
    """Return a profile as it stands in its file."""
    document = {
        "profile": _FORM,
        "function": profile.function,
        "runtime": profile.runtime,
        "architecture": profile.architecture,
        "distributions": {
            name: {
                "version": profile.versions[name],
                "opened": sorted(profile.opened[name]),
                **({"read": sorted(profile.read[name])} if profile.read.get(name) else {}),
            }
            for name in sorted(profile.opened)
        },
    }
    import tomli_w

    return (_HEADER.format(name=profile.function) + "\n" + tomli_w.dumps(document)).encode()


def apply_profile(
    parts: Sequence[Part],
    profile: Profile,
    versions: Mapping[str, str],
    held: Iterable[str],
    keep: Sequence[tuple[str, str]] = (),
) -> tuple[tuple[Part, ...], tuple[RemovedFile, ...]]:
    """Take out of each distribution what the profile did not see opened, and leave stubs for modules.

    Distributions that the profile does not know in this version stay whole, and so do those in ``held``; ``keep`` are the
    user's own patterns (`packer.core.options.TrimOptions`).
    """
    held = frozenset(held)
    owned = Counter(entry.path for _, tree in parts for entry in tree)
    result: list[Part] = []
    removed: list[RemovedFile] = []
    for name, tree in parts:
        if name == OWN_SOURCE or name in held or profile.versions.get(name) != versions[name]:
            result.append((name, tree))
            continue
        opened = profile.opened.get(name, frozenset())
        stays = {
            entry.path
            for entry in tree
            if entry.path in opened
            or STAYS.search(entry.path)
            or _CERTIFICATES.search(entry.path)
            or matching_pattern(keep, name, entry.path)
        }
        gone = [entry for entry in tree if entry.path not in stays]
        removed += [RemovedFile(path=entry.path, rule=PROFILE, owner=name, size=entry.content.size) for entry in gone]
        left = [entry for entry in tree if entry.path in stays]
        stubs = (stub for stub in _stubs(gone, left, profile.function) if owned[stub.path] < _SHARED)
        result.append((name, Tree.of((*left, *stubs))))
    return tuple(result), tuple(removed)


def _stubs(gone: Sequence[Entry], left: Sequence[Entry], function: str) -> list[Entry]:
    """Return a stub for each module that is gone, and one for a package of which no module is left."""
    alive = {"/".join(parts[:number]) for entry in left for parts in [entry.path.split("/")] for number in range(1, len(parts))}
    living = {_module(entry.path) for entry in left}
    packages = {entry.path.rpartition("/")[0] for entry in gone if entry.path.endswith("/__init__.py")}
    names: dict[str, Entry] = {}
    for entry in gone:
        module = _module(entry.path)
        if module is None or module in living:
            continue
        folders = module.split("/")[:-1]
        # Others may have modules in a folder without an __init__.py (PEP 420).
        above = ("/".join(folders[:number]) for number in range(1, len(folders) + 1))
        top = next((folder for folder in above if folder not in alive and folder in packages), None)
        path = module + ".py" if top is None else f"{top}/__init__.py"
        names.setdefault(path, entry)
    taken = {entry.path for entry in left}
    return [_stub(path, entry.owner, function) for path, entry in names.items() if path not in taken]


def _module(path: str) -> str | None:
    """Return the path of a module without its suffix; None for what cannot be imported."""
    stem = EXTENSION_MODULE.sub("", path) if EXTENSION_MODULE.search(path) else path.removesuffix(".py").removesuffix(".so")
    return stem if stem != path and all(map(str.isidentifier, stem.split("/"))) else None


def _stub(path: str, owner: str, function: str) -> Entry:
    text = _STUB.format(name=json.dumps(function)[1:-1], path=path)
    return Entry(path=path, mode=FILE_MODE, content=BytesContent.of(text.encode()), owner=owner)
