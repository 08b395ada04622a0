"""What a function does not need at run time: one table of named rules, each with its reason. `packer.trim.engine` applies them.

Rules look at the distributions of a function, never at its own source, and at their trees as they install. METADATA, entry
points and licence texts stay whatever the rules say. What a rule needs to know of the sources, `packer.source.facts` has read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from msgspec import Struct

from builders.runtimes import RUNTIME_DISTRIBUTIONS
from packer.core.model import Entry, Tree
from packer.formats.elf import ElfFile
from packer.source.facts import HEADERS, NATIVE_SOURCES, TEST_FOLDERS, FactScan

STRIP, SOURCES, PROFILE = "strip", "sources", "profile"
"""What is no rule of the table, and can be to blame as well: `packer.trim.strip`, bytecode without its sources, a profile."""
Unit = tuple[str, str]
"""A rule, and the distribution that it is applied to."""


class RuleContext(Struct, frozen=True, kw_only=True):
    """What rules may look at: one distribution, and what is known of the whole function."""

    name: str
    tree: Tree
    scan: FactScan
    native: Mapping[str, ElfFile]
    tests_needed: frozenset[str]
    services: frozenset[str] | None
    needed: frozenset[str]


class Rule(Struct, frozen=True, kw_only=True):
    """``select`` gives the paths of a scene that go. ``level`` is ``asked`` for what is only used where it is named."""

    name: str
    level: Literal["safe", "asked"]
    reason: str
    select: Callable[[RuleContext], Iterator[str]]


_LINKED = re.compile(r"\.(a|la|lib|o|obj|def|exp)$")
_ONLY_LINKED = ("a", "la")
# How archives, object files of Linux, Windows and macOS, and lists of exports begin.
_OBJECT = re.compile(rb"!<arch>\n|\x7fELF|\x64[\x86\xaa]|\x4c\x01|\xcf\xfa\xed\xfe|(?:\s|;[^\n]*\n)*(?:LIBRARY|EXPORTS|NAME)\b")
_DOCUMENTS = re.compile(r"(?:^|/)(docs?|documentation|examples?|samples?|benchmarks?|demos?|tutorials?)(?=/)")


def _paths(*patterns: str) -> Callable[[RuleContext], Iterator[str]]:
    found = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))

    def select(scene: RuleContext) -> Iterator[str]:
        return (entry.path for entry in scene.tree if found.search(entry.path))

    return select


def _unread(pattern: str) -> Callable[[RuleContext], Iterator[str]]:
    """Select files whose names stand in no string of the sources: thinc reads its CUDA sources when it is imported."""
    every = _paths(pattern)

    def select(scene: RuleContext) -> Iterator[str]:
        return (path for path in every(scene) if path.rpartition("/")[2] not in scene.scan.named)

    return select


def _for_linkers(scene: RuleContext) -> Iterator[str]:
    """Select what linkers read: some of its extensions are those of other data as well (meshes of Wavefront's are .obj)."""
    for entry in scene.tree:
        found = _LINKED.search(entry.path)
        if found and (found[1] in _ONLY_LINKED or _OBJECT.match(entry.content.read())):
            yield entry.path


def _tests(scene: RuleContext) -> Iterator[str]:
    packages = {entry.path.partition("/")[0] for entry in scene.tree if entry.path.endswith((".py", ".so"))}
    for entry in scene.tree:
        *folders, name = entry.path.split("/")
        places = [number for number, folder in enumerate(folders) if folder in TEST_FOLDERS]
        if places and packages <= {folders[0]} and places[0] == 0:
            continue  # a distribution whose only package has that name
        if places:
            prefixes = {"/".join(folders[: number + 1]) for number in places}
            if not prefixes & scene.tests_needed:
                yield entry.path
        elif name == "conftest.py" and folders:
            yield entry.path


def _stubs(scene: RuleContext) -> Iterator[str]:
    if not scene.scan.reads_stubs:
        yield from _paths(r"\.pyi$", r"(^|/)py\.typed$")(scene)


def _documents(scene: RuleContext) -> Iterator[str]:
    """Folders of documentation, unless there is a module anywhere in them: boto3.docs is code."""

    def folders(path: str) -> set[str]:
        return {path[: found.end(1)] for found in _DOCUMENTS.finditer(path)}

    code = {folder for entry in scene.tree if entry.path.endswith((".py", ".so")) for folder in folders(entry.path)}
    for entry in scene.tree:
        found = folders(entry.path)
        if found and not code & found:
            yield entry.path
    yield from _paths(r"^share/(doc|man|info)/", r"^botocore/data/.*/examples-\d+\.json(\.gz)?$", r"\.(js|css)\.map$")(scene)


def _bytecode(scene: RuleContext) -> Iterator[str]:
    yield from _paths(r"(^|/)__pycache__/[^/]+\.pyc$")(scene)


def _copies(scene: RuleContext) -> Iterator[str]:
    """Copies of a shared library under names that nothing links to: wheels hold links as copies.

    One that nothing links to by any name is a plug-in, and may be looked for under each: Cyrus SASL takes what ends in .so.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in scene.tree:
        if entry.path in scene.native:
            groups.setdefault((entry.path.rpartition("/")[0], entry.content.digest), []).append(entry)
    for entries in (each for each in groups.values() if len(each) > 1):
        names = {entry.path.rpartition("/")[2] for entry in entries}
        if scene.needed.isdisjoint(names):
            continue
        for entry in entries:
            name, file = entry.path.rpartition("/")[2], scene.native[entry.path]
            if file.soname in names - {name} and name not in scene.needed and not file.module:
                yield entry.path


def _models(scene: RuleContext) -> Iterator[str]:
    """Descriptions of services that the function does not call; botocore's own settings lie beside them."""
    if scene.services is None:
        return
    for entry in scene.tree:
        found = re.match(r"(?:botocore|boto3)/data/([^/]+)/", entry.path)
        if found and found[1] not in scene.services:
            yield entry.path


def _runtime(scene: RuleContext) -> Iterator[str]:
    if scene.name in RUNTIME_DISTRIBUTIONS:
        yield from (entry.path for entry in scene.tree)


RULES: tuple[Rule, ...] = (
    Rule(
        name="runtime",
        level="asked",
        reason="the runtime carries it already, in a version of AWS's choice",
        select=_runtime,
    ),
    Rule(
        name="tests", level="safe", reason="tests of a distribution, which nothing else in the function imports", select=_tests
    ),
    Rule(
        name="stubs",
        level="safe",
        reason="type stubs: type checkers read them, Python does not",
        select=_stubs,
    ),
    Rule(
        name="headers",
        level="safe",
        reason="headers: only compilers read them, unless the distribution's own code names one",
        select=_unread(rf"(?:{HEADERS})$"),
    ),
    Rule(
        name="native-sources",
        level="safe",
        reason="sources of C, C++, Cython and Fortran, compiled already, which the distribution's own code does not name",
        select=_unread(rf"(?:{NATIVE_SOURCES})$"),
    ),
    Rule(
        name="static-libraries",
        level="safe",
        reason="static libraries, object files and linkers' scripts: only linkers read them",
        select=_for_linkers,
    ),
    Rule(
        name="build-files",
        level="safe",
        reason="what build tools of other packages read: pkg-config, CMake, Meson, Make",
        select=_paths(r"\.(cmake|pc)(\.in)?$", r"(^|/)(CMakeLists\.txt|meson\.build|Makefile(\.am|\.in)?)$"),
    ),
    Rule(name="documents", level="safe", reason="documentation and examples that hold no module", select=_documents),
    Rule(
        name="foreign",
        level="safe",
        reason="programs and libraries of Windows and macOS",
        select=_paths(r"\.(exe|dll|pyd|pdb|bat|cmd|ps1|dylib)$", r"\.dSYM/", r"\.app/Contents/"),
    ),
    Rule(
        name="install-records",
        level="safe",
        reason="what installers write for uninstalling (RECORD, INSTALLER, REQUESTED)",
        select=_paths(r"^[^/]+\.dist-info/(RECORD(\.jws|\.p7s)?|INSTALLER|REQUESTED)$"),
    ),
    Rule(
        name="old-bytecode",
        level="safe",
        reason="bytecode that came with the wheel: its sources' times are not those it was made for",
        select=_bytecode,
    ),
    Rule(
        name="library-copies",
        level="safe",
        reason="copies of a shared library under names that nothing links to",
        select=_copies,
    ),
    Rule(
        name="service-models",
        level="safe",
        reason="botocore's descriptions of AWS services that the function's code does not name",
        select=_models,
    ),
    Rule(
        name="locales",
        level="asked",
        reason="translations into other languages than English",
        select=_paths(r"/locales?/(?!en)[^/]+/LC_MESSAGES/", r"^babel/locale-data/(?!en|root)[^/]+\.dat$"),
    ),
    Rule(
        name="timezones",
        level="asked",
        reason="copies of the time-zone database, which the runtime's operating system has",
        select=_paths(r"^tzdata/zoneinfo/.", r"^dateutil/zoneinfo/[^/]+\.tar\.gz$"),
    ),
)
BY_NAME = {rule.name: rule for rule in RULES}
ASKED = tuple(rule.name for rule in RULES if rule.level == "asked")
DROP = "drop"
"""What stands as the rule of files that the user's own patterns drop."""
STAYS = re.compile(
    r"^[^/]+\.dist-info/(METADATA|entry_points\.txt|top_level\.txt|licen[cs]es?/.*)$"
    r"|(^|/)(licen[cs]e|copying|notice|copyright|authors)([-_.][^/]*)?$",
    re.IGNORECASE,
)
