"""Native code checked against the target: its machine, the versions of the runtime's libraries, and what else it links to.

What no extension module leads to is reported and let through: wheels bring plug-ins for hardware and libraries that Lambda
lacks, and run without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from pathlib import PurePosixPath

from builders.runtimes import Target
from packer.core.errors import PackageError
from packer.core.model import OWN_SOURCE, Function, Tree
from packer.formats.elf import ElfFile, symbols_of_version
from packer.formats.native_code import open_content

_VERSION = re.compile(r"(?P<family>[A-Z]+)_(?P<number>[0-9]+(\.[0-9]+)*)")
_SHOWN = 3
# Features of the loader that have a version's form: relative relocations came with glibc 2.36 (its release notes), the others
# are newer than every runtime.
_FEATURE = "GLIBC_ABI_"
_FEATURES = {"GLIBC_ABI_DT_RELR": "GLIBC_2.36"}
_NEWEST = "GLIBC_2.99"
_ORIGIN = re.compile(r"(\$ORIGIN|\$\{ORIGIN\})(/|$)")
Parts = Mapping[str, Sequence[ElfFile]]
"""Labels of wheels (their file names, or `packer.core.model.OWN_SOURCE`) with their native code."""


def check_native(label: str, files: Sequence[ElfFile], tree: Callable[[], Tree], target: Target) -> tuple[str, ...]:
    """Prove that the target can load native code, all libraries at hand; raises `PackageError` that says what it cannot.

    ``tree`` returns the entries that the files are, for when something is wrong. Returns warnings of what nothing surely loads.
    """
    warnings = dict.fromkeys(_check_machine(label, files, target))
    own = files_of_machine(files, target)
    beyond = tuple(_find_beyond(own, target))
    if not beyond:
        return _shorten_warnings(label, tuple(warnings))
    loading = _Loading({label: own}, target, {file for file, _, _ in beyond}, lambda: (tree(),))
    for file, library, version in beyond:
        what = f"{file.path} needs {_describe_symbols(tree(), file.path, version)} of {library}, and the runtime"
        system = target.runtime.operating_system if target.ceiling is None else "as configured"
        what += f" ({system}) has {_describe_newest(version, target)}"
        if loading.is_sure(file, label, tree):
            raise PackageError(
                f"{label} is refused for {target}: {what}.",
                remedy=(
                    "Use a version that needs less, a newer runtime, or a build image with the runtime's own libraries. Where "
                    f'nothing ever loads that file: provided = ["{file.path}"].'
                ),
            )
        warnings.setdefault(f"{label}: {what}. Nothing is sure to load it, and it is packed as it is.")
    return _shorten_warnings(label, tuple(warnings))


def _shorten_warnings(label: str, warnings: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first warnings, the last of which says how many more there are."""
    more = len(warnings) - _SHOWN
    return (*warnings[:_SHOWN], f"{label}: and {more} more like these.") if more > 0 else warnings


def _check_machine(label: str, files: Sequence[ElfFile], target: Target) -> tuple[str, ...]:
    """Prove that native code is for the target's machine; raises `PackageError`. Gives warnings.

    Files for other machines may lie beside it (tools for other systems do), but for extension modules.
    """
    foreign = [file for file in files if file.machine != target.machine]
    all_of_it = bool(files) and len(foreign) == len(files)
    bad = [file for file in foreign if file.module or (all_of_it and not _is_for_any(label))]
    if bad:
        raise PackageError(
            f"{label} is refused for {target}: {bad[0].path} is for {bad[0].machine}, not for {target.machine}.",
            remedy="Its tag promises something else: use another version, or build it from source.",
        )
    # What is tagged for any machine promises nothing, and loads what fits: debuggers, for example, bring a library for each.
    what = f"{label}: all of its native code is for other machines than {target.machine}"
    return (f"{what} ({foreign[0].path}: {foreign[0].machine}), and it is packed as it is.",) if all_of_it else ()


def _is_for_any(label: str) -> bool:
    return label.endswith("-any.whl")


def _find_beyond(files: Sequence[ElfFile], target: Target) -> Iterator[tuple[ElfFile, str, str]]:
    """Return (file, soname, symbol version) of what neither the target's libraries nor the files' own define."""
    own = sonames(files)
    for file in files:
        for library, version in file.versions:
            if library not in own and is_beyond(version, target):
                yield file, library, version


class _Loading:
    """What is loaded once all is imported, where some of it cannot be (``lacking``).

    Extension modules are imported, and lead to libraries. Of a wheel without any all counts (libraries that Python code loads
    by itself), but where its tag is for any machine. A library that the runtime has is looked for in the same part alone:
    others may hold a namesake. ``trees`` returns what may import modules: those of which it says that they are optional do not
    count, and ``spared`` is what only they lead to.
    """

    def __init__(self, parts: Parts, target: Target, lacking: Collection[ElfFile], trees: Callable[[], Iterable[Tree]]) -> None:
        self._target = target
        self._everywhere = _group_by_name(parts.values())
        self._beside = {label: _group_by_name([files]) for label, files in parts.items()}
        self._owners = {file: label for label, files in parts.items() for file in files}
        modules = [file for files in parts.values() for file in files if file.module]
        leading = [module for module in modules if not self._reach([module]).isdisjoint(lacking)]
        optional = _find_optional(leading, trees) if leading else frozenset()
        roots = [module for module in modules if module not in optional]
        for label, files in parts.items():
            if not _is_for_any(label) and not any(file.module for file in files):
                roots += files
        self.loaded = self._reach(roots)
        self.spared = self._reach(optional) - self.loaded

    def is_sure(self, file: ElfFile, label: str, tree: Callable[[], Tree]) -> bool:
        """Return whether a file is sure to be loaded: by what links to it, or by Python code beside it that has its name."""
        return file in self.loaded or (file not in self.spared and _is_mentioned(file, label, tree))

    def _reach(self, roots: Iterable[ElfFile]) -> frozenset[ElfFile]:
        """Return these files, and all that they link to."""
        waiting, found = [*roots], set[ElfFile]()
        while waiting:
            file = waiting.pop()
            if file not in found:
                found.add(file)
                beside = self._beside[self._owners[file]]
                for name in map(library_name, file.needed):
                    waiting += (beside if name in self._target.libraries else self._everywhere).get(name, ())
        return frozenset(found)


def _find_optional(modules: Iterable[ElfFile], trees: Callable[[], Iterable[Tree]]) -> frozenset[ElfFile]:
    from packer.wheels.optional_modules import is_optional

    return frozenset(module for module in modules if is_optional(module.path, trees()))


def _group_by_name(parts: Iterable[Iterable[ElfFile]]) -> dict[str, list[ElfFile]]:
    found: dict[str, list[ElfFile]] = {}
    for files in parts:
        for file in files:
            for name in _names(file):
                found.setdefault(name, []).append(file)
    return found


def _is_mentioned(file: ElfFile, label: str, tree: Callable[[], Tree]) -> bool:
    """Return whether the Python code beside a library has its name: then that is what loads it, by ctypes or cffi."""
    if _is_for_any(label):
        return False
    name = PurePosixPath(file.path).name.partition(".so")[0].encode()
    return any(name in entry.content.read() for entry in tree() if entry.path.endswith(".py"))


def _parse_version(version: str) -> tuple[str, tuple[int, ...]] | None:
    """Return the family and number of a version of symbols; None where it has no number."""
    if version.startswith(_FEATURE):
        version = _FEATURES.get(version, _NEWEST)
    found = _VERSION.fullmatch(version)
    return (found["family"], tuple(map(int, found["number"].split(".")))) if found else None


def is_beyond(version: str, target: Target) -> bool:
    """Return whether a version of symbols is newer than the target's libraries define."""
    parsed = _parse_version(version)
    ceiling = target.symbol_ceilings.get(parsed[0]) if parsed else None
    return parsed is not None and ceiling is not None and parsed[1] > ceiling


def _describe_newest(version: str, target: Target) -> str:
    """Return what the target has of a version's family, in words."""
    parsed = _parse_version(version)
    family = parsed[0] if parsed else ""
    if family == "GLIBC":
        return f"glibc 2.{target.glibc}"
    return f"{family}_{'.'.join(map(str, target.symbol_ceilings[family]))} at most"


def _describe_symbols(tree: Tree, path: str, version: str) -> str:
    entry = next(entry for entry in tree if entry.path == path)
    names: tuple[str, ...] = ()
    with open_content(entry.content) as file, suppress(ValueError):  # damaged, but only where nothing else looks
        names = symbols_of_version(file, path, version)
    shown = [f"{name}@{version}" for name in names[:_SHOWN]] or [version]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more of that version" if more > 0 else "")


def files_of_machine(files: Iterable[ElfFile], target: Target) -> list[ElfFile]:
    """Return the files that are for the target's machine."""
    return [file for file in files if file.machine == target.machine]


def _names(file: ElfFile) -> set[str]:
    return {name for name in (file.soname, PurePosixPath(file.path).name) if name}


def sonames(files: Iterable[ElfFile]) -> frozenset[str]:
    """Return all names under which files, of one machine, can be linked to."""
    return frozenset(name for file in files for name in _names(file))


def missing_libraries(files: Iterable[ElfFile], target: Target, known: frozenset[str]) -> dict[str, list[ElfFile]]:
    """Return the libraries that are neither ``known`` nor the runtime's, each with the files of the target that need it."""
    found: dict[str, list[ElfFile]] = {}
    for file in files_of_machine(files, target):
        for name in map(library_name, file.needed):
            if name not in known and name not in target.libraries:
                found.setdefault(name, []).append(file)
    return found


def library_name(needed: str) -> str:
    """Return the name by which a needed library is known; an absolute path, which the loader takes as it is, stays one."""
    return needed.rpartition("/")[2] if starts_at_origin(needed) else needed


def starts_at_origin(path: str) -> bool:
    """Return whether a path leads from the folder of the file that names it (ld.so(8), "Dynamic string tokens")."""
    return _ORIGIN.match(path) is not None


def without_provided(function: Function, files: Iterable[ElfFile]) -> tuple[ElfFile, ...]:
    """Leave out the files that nothing ever loads, as the function's ``provided`` says of them by patterns with a slash."""
    patterns = [pattern for pattern in function.provided if "/" in pattern]
    return tuple(file for file in files if not any(fnmatchcase(file.path, pattern) for pattern in patterns))


def check_closed(function: Function, parts: Parts, tree: Callable[[str], Tree]) -> tuple[str, ...]:
    """Prove that every library that a function's parts link to is in one of them, or the runtime's; raises `PackageError`.

    ``tree`` gives the entries of a part, for when something is wrong. Gives warnings of what nothing is sure to load.
    """
    target = function.target
    own = {label: files_of_machine(files, target) for label, files in parts.items()}
    known = frozenset(function.provided).union(*map(sonames, own.values()))
    lacks = {label: missing for label, files in own.items() if (missing := missing_libraries(files, target, known))}
    if not lacks:
        return ()
    lacking = {file for missing in lacks.values() for users in missing.values() for file in users}
    loading = _Loading(own, target, lacking, lambda: map(tree, parts))
    warnings: list[str] = []
    for label in lacks:
        files = sorted(lacking.intersection(own[label]), key=lambda file: file.path)
        sure = [file for file in files if loading.is_sure(file, label, partial(tree, label))]
        if sure:
            raise _missing_error(function, label, missing_libraries(sure, target, known))
        for is_spared, why in ((True, "What imports it goes on without it"), (False, "No extension module leads there")):
            if unloaded := [file for file in files if (file in loading.spared) is is_spared]:
                names = sorted(missing_libraries(unloaded, target, known))
                what = f"{function.name}: {_shorten_paths(unloaded)} of {_label_text(label)} cannot be loaded on Lambda"
                warnings.append(f"{what}, which has no {', '.join(names)}. {why}, and it is packed as it is.")
    return tuple(warnings)


def _shorten_paths(files: Sequence[ElfFile]) -> str:
    paths = [file.path for file in files]
    return ", ".join(paths[:_SHOWN]) + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")


def _label_text(label: str) -> str:
    return "the source" if label == OWN_SOURCE else label


def _missing_error(function: Function, label: str, missing: Mapping[str, Sequence[ElfFile]]) -> PackageError:
    name, users = next(iter(missing.items()))
    others = ", ".join(each for each in missing if each != name)
    all_of_them = ", ".join(f'"{each}"' for each in missing)
    user = next((file for file in users if file.module), users[0])
    return PackageError(
        f"{function.name}: {_label_text(label)} needs the library {name}{f' (and {others})' if others else ''}, which neither "
        f"the runtime nor the function has: {user.path} links to it.",
        remedy=(
            "Have the package built in an image that has it (builder, image, setup in the configuration), put it into "
            f"the source, or, where a layer of yours brings it or nothing ever loads that file: provided = [{all_of_them}]."
        ),
    )


def needed_glibc(files: Iterable[ElfFile]) -> int:
    """Return the newest minor of glibc 2 that native code asks for; 0 where it asks for none."""
    parsed = (_parse_version(version) for file in files for _, version in file.versions)
    return max((each[1][1] for each in parsed if each and each[0] == "GLIBC" and len(each[1]) > 1), default=0)
