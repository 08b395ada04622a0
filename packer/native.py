"""Native code held against the target: its machine, the versions of the runtime's libraries, and what else it links to."""

from __future__ import annotations

import json
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import BinaryIO

from builders.runtimes import MEGABYTE, Target
from packer.elf import MAGIC, ElfFile, read_elf, symbols_of_version
from packer.errors import PackageError
from packer.model import OWN_SOURCE, Content, Distribution, Entry, FileContent, Function, Tree
from packer.once import Once
from packer.store import NATIVE, Store, digest_of
from packer.wheel import MemberContent, read_wheel

_FORM = "2"
"""Part of the key of what is remembered of a file; raised whenever more, or something else, is read."""
_IN_MEMORY = 8 * MEGABYTE
_SHARED_LIBRARY = re.compile(r"\.so(\.[0-9.]+)?$")
# Names of extension modules that are for one machine (PEP 3149), and for any Python from 3.2 on (PEP 384).
_EXTENSION_MODULE = re.compile(r"\.(cpython-3[0-9]+[a-z]*(-[\w-]+)?|abi3)\.so$")
_VERSION = re.compile(r"(?P<family>[A-Z]+)_(?P<number>[0-9]+(\.[0-9]+)*)")
_SHOWN = 3
# Features of the loader that have a version's form: relative relocations came with glibc 2.36 (its release notes), the others
# are newer than every runtime.
_FEATURE = "GLIBC_ABI_"
_FEATURES = {"GLIBC_ABI_DT_RELR": "GLIBC_2.36"}
_NEWEST = "GLIBC_2.99"
_ORIGIN = re.compile(r"(\$ORIGIN|\$\{ORIGIN\})(/|$)")


class NativeCode:
    """Reads what native code there is in wheels and sources, each once, and remembers it in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wheels: Once[str, tuple[ElfFile, ...]] = Once()

    def of_wheel(self, distribution: Distribution) -> tuple[ElfFile, ...]:
        """Give the native code of a wheel in the store; raises `PackageError` where it is broken."""
        return self._wheels.get(distribution.digest, lambda: self._remembered(distribution))

    def of_source(self, tree: Tree) -> tuple[ElfFile, ...]:
        """Give the shared libraries of a function's own source, by their names."""
        return tuple(native_files(entry for entry in tree if _SHARED_LIBRARY.search(entry.path)))

    def _remembered(self, distribution: Distribution) -> tuple[ElfFile, ...]:
        key = digest_of(_FORM, distribution.digest)
        record = self._store.load(NATIVE, key)
        if record is not None:
            return tuple(_from_json(item) for item in json.loads(record.payload))
        files = tuple(native_files(read_wheel(distribution.path, distribution.filename)))
        self._store.save(NATIVE, key, json.dumps([asdict(file) for file in files]).encode())
        return files


def _from_json(item: Mapping[str, object]) -> ElfFile:
    lists = {name: tuple(value) for name, value in item.items() if isinstance(value, list)}
    return ElfFile(**{**item, **lists, "versions": tuple(map(tuple, lists["versions"]))})  # type: ignore[arg-type]


def native_files(entries: Iterable[Entry]) -> Iterator[ElfFile]:
    """Give the native code among entries; raises `PackageError` for a file that begins like such and is broken."""
    for entry in entries:
        if not begins_native(entry.content):
            continue
        with opened(entry.content) as file:
            try:
                found = read_elf(file, entry.path)
            except ValueError as error:
                if not _SHARED_LIBRARY.search(entry.path):
                    continue  # test data of tools that read such files, for example: nothing loads it
                what = f"{_owner(entry)}: {error}"
                raise PackageError(what, remedy="The file is damaged: use another version, or build it again.") from None
        if found is not None:
            yield found


def _owner(entry: Entry) -> str:
    return "the function's own source" if entry.owner == OWN_SOURCE else entry.owner


def begins_native(content: Content) -> bool:
    """Say whether a content begins as ELF files do."""
    if content.size < len(MAGIC):
        return False
    if isinstance(content, MemberContent):
        return next(content.chunks(), b"")[: len(MAGIC)] == MAGIC
    if isinstance(content, FileContent):
        with content.path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    return content.read()[: len(MAGIC)] == MAGIC


@contextmanager
def opened(content: Content) -> Iterator[BinaryIO]:
    """Give a content as a file that can be read anywhere; raises `PackageError` where a wheel's member is broken."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        try:
            for chunk in content.chunks() if isinstance(content, MemberContent) else (content.read(),):
                file.write(chunk)
        except (zlib.error, ValueError) as error:
            raise PackageError(f"A file cannot be read ({error}).", remedy="Run `lpack cache verify`.") from None
        file.seek(0)
        yield file  # type: ignore[misc]


def check_native(label: str, files: Sequence[ElfFile], tree: Callable[[], Tree], target: Target) -> None:
    """Prove that the target can load native code, all libraries at hand; raises `PackageError` that says what it cannot.

    ``tree`` gives the entries that the files are, for the error's sake.
    """
    if files:
        _check_machine(label, files, target)
        _check_versions(label, _of_machine(files, target), tree, target)


def _check_machine(label: str, files: Sequence[ElfFile], target: Target) -> None:
    """Prove that native code is for the target's machine; raises `PackageError`.

    Files for other machines may lie beside it (tools for other systems do), but for extension modules.
    """
    foreign = [file for file in files if file.machine != target.machine]
    # What is tagged for any machine promises nothing, and loads what fits: debuggers, for example, bring a library for each.
    all_of_it = len(foreign) == len(files) and not label.endswith("-any.whl")
    bad = [file for file in foreign if all_of_it or _EXTENSION_MODULE.search(file.path)]
    if bad:
        raise PackageError(
            f"{label} is refused for {target}: {bad[0].path} is for {bad[0].machine}, not for {target.machine}.",
            remedy="Its tag promises something else: use another version, or build it from source.",
        )


def _check_versions(label: str, files: Sequence[ElfFile], tree: Callable[[], Tree], target: Target) -> None:
    """Prove that the target's libraries define what native code asks of them; raises `PackageError` that names symbols."""
    own = sonames(files)
    for file in files:
        for library, version in file.versions:
            if library not in own and is_beyond(version, target):
                symbols = _symbols(tree(), file.path, version)
                system = target.runtime.operating_system if target.ceiling is None else "as configured"
                raise PackageError(
                    f"{label} is refused for {target}: {file.path} needs {symbols} of {library}, and the runtime ({system}) "
                    f"has {_newest_of(version, target)}.",
                    remedy="Use a version that needs less, a newer runtime, or a build image with the runtime's own libraries.",
                )


def _parsed(version: str) -> tuple[str, tuple[int, ...]] | None:
    """Give the family and number of a version of symbols; None where it has no number."""
    if version.startswith(_FEATURE):
        version = _FEATURES.get(version, _NEWEST)
    found = _VERSION.fullmatch(version)
    return (found["family"], tuple(map(int, found["number"].split(".")))) if found else None


def is_beyond(version: str, target: Target) -> bool:
    """Say whether a version of symbols is newer than the target's libraries define."""
    parsed = _parsed(version)
    ceiling = target.symbol_ceilings.get(parsed[0]) if parsed else None
    return parsed is not None and ceiling is not None and parsed[1] > ceiling


def _newest_of(version: str, target: Target) -> str:
    """Say what the target has of a version's family."""
    parsed = _parsed(version)
    family = parsed[0] if parsed else ""
    if family == "GLIBC":
        return f"glibc 2.{target.glibc}"
    return f"{family}_{'.'.join(map(str, target.symbol_ceilings[family]))} at most"


def _symbols(tree: Tree, path: str, version: str) -> str:
    entry = next(entry for entry in tree if entry.path == path)
    names: tuple[str, ...] = ()
    with opened(entry.content) as file, suppress(ValueError):  # damaged, but only where nothing else looks
        names = symbols_of_version(file, path, version)
    shown = [f"{name}@{version}" for name in names[:_SHOWN]] or [version]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more of that version" if more > 0 else "")


def _of_machine(files: Iterable[ElfFile], target: Target) -> list[ElfFile]:
    return [file for file in files if file.machine == target.machine]


def sonames(files: Iterable[ElfFile]) -> frozenset[str]:
    """Give all names under which files, of one machine, can be linked to."""
    return frozenset(name for file in files for name in (file.soname, PurePosixPath(file.path).name) if name)


def missing_libraries(files: Iterable[ElfFile], target: Target, known: frozenset[str]) -> dict[str, list[ElfFile]]:
    """Give the libraries that are neither ``known`` nor the runtime's, each with the files of the target that need it."""
    found: dict[str, list[ElfFile]] = {}
    for file in _of_machine(files, target):
        for name in map(base_name, file.needed):
            if name not in known and name not in target.libraries:
                found.setdefault(name, []).append(file)
    return found


def base_name(needed: str) -> str:
    """Give the name by which a needed library is known; an absolute path, which the loader takes as it is, stays one."""
    return needed.rpartition("/")[2] if starts_at_origin(needed) else needed


def starts_at_origin(path: str) -> bool:
    """Say whether a path leads from the folder of the file that names it (ld.so(8), "Dynamic string tokens")."""
    return _ORIGIN.match(path) is not None


def check_closed(function: Function, parts: Mapping[str, Sequence[ElfFile]]) -> None:
    """Prove that every library that a function's parts link to is in one of them, or the runtime's.

    ``parts`` maps labels of distributions (and `packer.model.OWN_SOURCE`) to their native code. Raises `PackageError`.
    """
    own = (sonames(_of_machine(files, function.target)) for files in parts.values())
    known = frozenset(function.provided).union(*own)
    for label, files in parts.items():
        missing = missing_libraries(files, function.target, known)
        if missing:
            name, users = next(iter(missing.items()))
            more = ", ".join(each for each in missing if each != name)
            others = f" (and {more})" if more else ""
            owner = "the source" if label == OWN_SOURCE else label
            raise PackageError(
                f"{function.name}: {owner} needs the library {name}{others}, which neither the runtime nor the function has: "
                f"{users[0].path} links to it.",
                remedy=(
                    "Have the package built in an image that has it (builder, image, setup in the configuration), put it into "
                    f'the source, or, where a layer of yours brings it or nothing ever loads that file: provided = ["{name}"].'
                ),
            )


def needed_glibc(files: Iterable[ElfFile]) -> int:
    """Give the newest minor of glibc 2 that native code asks for; 0 where it asks for none."""
    parsed = (_parsed(version) for file in files for _, version in file.versions)
    return max((each[1][1] for each in parsed if each and each[0] == "GLIBC" and len(each[1]) > 1), default=0)
