"""What a function does not need at run time: one table of named rules, each with its reason. `packer.trim.engine` applies them.

Rules look at the distributions of a function, never at its own source, and at their trees as they install. METADATA, entry
points and licence texts stay whatever the rules say. What a rule needs to know of the sources, `packer.source.facts` has read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal

from msgspec import Struct

from packer.core.model import Entry, Tree
from packer.formats.elf import EXTENSION_MODULE, ElfFile
from packer.source.facts import BUILD_FILES, BUILT_WITH, HEADERS, LINKED, NATIVE_SOURCES, FactScan
from packer.source.test_suites import TEST_FOLDERS, find_test_suites, suites_above

STRIP, SOURCES, PROFILE = "strip", "sources", "profile"
"""What is no rule of the table, and can be to blame as well: `packer.trim.strip`, bytecode without its sources, a profile."""
Unit = tuple[str, str]
"""A rule, and the distribution that it is applied to."""


class RuleContext(Struct, frozen=True, kw_only=True):
    """What rules may look at: one distribution, and what is known of the whole function.

    ``tests_needed`` and ``test_data`` are those of every `FactScan`. ``local`` says that it is a project of the user's own;
    ``own`` is what the function's own source says of its files.
    """

    name: str
    tree: Tree
    scan: FactScan
    native: Mapping[str, ElfFile]
    tests_needed: frozenset[str]
    test_data: frozenset[str]
    services: frozenset[str] | None
    needed: frozenset[str]
    local: bool = False
    own: FactScan = FactScan()

    def names(self, path: str, *, by_ending: bool = True) -> bool:
        """Return whether the sources of the distribution, or the function's own, name a file or its ending, and may read it.

        An ending says nothing of headers in a folder named include: code hands that to compilers. The distribution's own may
        do so where it names the folder.
        """
        name = path.rpartition("/")[2]
        if BUILT_WITH.search(path) and any(path.startswith(f"{folder}/") for folder in self.scan.folders):
            return True
        if name in self.scan.named or name in self.own.named:
            return True
        endings = (*self.scan.suffixes, *self.own.suffixes) if by_ending else ()
        return name.endswith(endings) and not (_INCLUDED.search(path) and _HEADER.search(name))

    def has_modules(self) -> bool:
        """Return whether there are extension modules in the distribution, so that it was compiled."""
        return any(file.module or EXTENSION_MODULE.search(path) for path, file in self.native.items())


class Rule(Struct, frozen=True, kw_only=True):
    """``select`` gives the paths of a scene that go. ``level`` is ``asked`` for what is only used where it is named.

    ``spares_named`` says that what the sources name stays, and so do templates of projects, which code copies;
    ``spares_endings`` that what they name by its ending does too.
    """

    name: str
    level: Literal["safe", "asked"]
    reason: str
    select: Callable[[RuleContext], Iterator[str]]
    spares_named: bool = True
    spares_endings: bool = True


_HEADER = re.compile(rf"(?:{HEADERS})$")
_INCLUDED = re.compile(r"(?:^|/)include/")
_SOURCE = re.compile(rf"(?:{NATIVE_SOURCES})$")
_KERNELS = re.compile(r"\.(?:cl|ptx|metal|hip)$")
_LINKED = re.compile(rf"{LINKED}$")
# How archives, object files of Linux, Windows and macOS, libtool's scripts, and lists of exports begin.
_OBJECT = re.compile(
    rb"!<(?:arch|thin)>\n|\x7fELF|\x64[\x86\xaa]|\x4c\x01|\xcf\xfa\xed\xfe|# lib\S+ - a libtool library file"
    rb"|(?:\s|;[^\n]*\n)*(?:LIBRARY|EXPORTS|NAME)\b"
)
_DOCUMENTS = frozenset(
    (
        *("doc", "docs", "documentation", "example", "examples", "sample", "samples", "benchmark", "benchmarks"),
        *("demo", "demos", "tutorial", "tutorials"),
    )
)
_MANUAL = re.compile(r"share/(doc|man|info)/")
_BUILD_FILE = re.compile(rf"(?:{BUILD_FILES})$")
_INSTALLED_FOR_BUILDS = re.compile(r"(?:^|/)(?:lib(?:64)?|share)/(?:[^/]+/)*(?:cmake|pkgconfig)/|(?:^|/)cmake/")
_LOCK = re.compile(
    r"(?:^|/)(?:Pipfile\.lock|poetry\.lock|uv\.lock|pdm\.lock|pylock(?:\.[^/]+)?\.toml|package-lock\.json|yarn\.lock"
    r"|pnpm-lock\.yaml|npm-shrinkwrap\.json|Cargo\.lock|Gemfile\.lock|composer\.lock|go\.sum"
    r"|[^/]*requirements[^/]*\.(?:txt|in)|requirements/[^/]+\.(?:txt|in))$"
)
_COMPILED = re.compile(r"(?:^|/)(__pycache__/)([^/.]+)\.[^/]+\.pyc$")


def _paths(*patterns: str) -> Callable[[RuleContext], Iterator[str]]:
    found = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))

    def select(scene: RuleContext) -> Iterator[str]:
        return (entry.path for entry in scene.tree if found.search(entry.path))

    return select


def _compiled(pattern: str) -> Callable[[RuleContext], Iterator[str]]:
    """Select what extension modules were compiled from: without any, such files are data, as those of code generators are."""
    every = _paths(pattern)

    def select(scene: RuleContext) -> Iterator[str]:
        return every(scene) if scene.has_modules() else iter(())

    return select


def _headers(scene: RuleContext) -> Iterator[str]:
    """Select headers, unless what is compiled at run time lies in their folder, and may include them."""
    late = {
        entry.path.rpartition("/")[0]
        for entry in scene.tree
        if _KERNELS.search(entry.path) or (_SOURCE.search(entry.path) and scene.names(entry.path))
    }
    for path in _compiled(rf"(?:{HEADERS})$")(scene):
        if path.rpartition("/")[0] not in late:
            yield path


def _for_linkers(scene: RuleContext) -> Iterator[str]:
    """Select what linkers read: some of its extensions are those of other data as well (meshes of Wavefront's are .obj)."""
    for entry in scene.tree:
        if _LINKED.search(entry.path) and _OBJECT.match(entry.content.read()):
            yield entry.path


def _build_files(scene: RuleContext) -> Iterator[str]:
    """Select what build tools read: where they look for it, or beside sources that were compiled."""
    compiled = {path.rpartition("/")[0] for path in _compiled(rf"(?:{HEADERS}|{NATIVE_SOURCES})$")(scene)}
    for entry in scene.tree:
        if _BUILD_FILE.search(entry.path):
            folder = entry.path.rpartition("/")[0]
            if folder in compiled or _INSTALLED_FOR_BUILDS.search(entry.path):
                yield entry.path


def _tests(scene: RuleContext) -> Iterator[str]:
    """Select folders named for tests that hold test modules, and their conftest.py above them."""
    packages = {entry.path.partition("/")[0] for entry in scene.tree if entry.path.endswith((".py", ".so"))}
    suites = find_test_suites(scene.tree)
    for entry in scene.tree:
        folder, _, name = entry.path.rpartition("/")
        found = tuple(suites_above(entry.path, suites))
        if found and packages <= {found[0]}:
            continue  # a distribution whose only package has that name
        if found:
            is_data = not name.endswith(".py") and _is_among(found[-1], scene.test_data)
            is_needed = is_data or name in scene.scan.named or _is_among(found[-1], scene.tests_needed)
            if not is_needed and _is_package_path(found[0].rpartition("/")[0]):
                yield entry.path
        elif name == "conftest.py" and folder and entry.path not in scene.tests_needed and b"pytest" in entry.content.read():
            yield entry.path


def _is_among(folder: str, folders: Collection[str]) -> bool:
    """Return whether a folder, or one above it, is among others."""
    parts = folder.split("/")
    return any("/".join(parts[:number]) in folders for number in range(1, len(parts) + 1))


def _is_package_path(folder: str) -> bool:
    """Return whether modules in a folder could be imported by their names; in others they are data."""
    return not folder or all(map(str.isidentifier, folder.split("/")))


def _stubs(scene: RuleContext) -> Iterator[str]:
    if not scene.scan.reads_stubs and not scene.own.reads_stubs:
        yield from _paths(r"\.pyi$", r"(^|/)py\.typed$")(scene)


def _documents(scene: RuleContext) -> Iterator[str]:
    """Select trees of documentation beside packages, unless there is a module anywhere in them."""
    tops = {entry.path.partition("/")[0] for entry in scene.tree if "/" in entry.path}
    code = {entry.path.partition("/")[0] for entry in scene.tree if entry.path.endswith((".py", ".so"))}
    named = {*scene.scan.named, *scene.own.named}
    documents = (tops & _DOCUMENTS) - code - named if code else frozenset[str]()
    for entry in scene.tree:
        found = _MANUAL.match(entry.path)
        if (found and found[1] not in named) or ("/" in entry.path and entry.path.partition("/")[0] in documents):
            yield entry.path


def _foreign(scene: RuleContext) -> Iterator[str]:
    """Select native code of other systems, but for what the function's own source names."""
    endings = tuple(scene.own.suffixes)
    for path in scene.scan.foreign:
        name = path.rpartition("/")[2]
        if name not in scene.own.named and not name.endswith(endings):
            yield path


def _locks(scene: RuleContext) -> Iterator[str]:
    """Select locks and lists of requirements beside packages and in folders of tests."""
    packages = {entry.path.partition("/")[0] for entry in scene.tree if entry.path.endswith((".py", ".so"))}
    for entry in scene.tree:
        folders = entry.path.split("/")[:-1]
        beside = not folders or (folders[0] not in packages and not folders[0].endswith((".dist-info", ".data")))
        if _LOCK.search(entry.path) and (beside or not TEST_FOLDERS.isdisjoint(folders)):
            yield entry.path


def _bytecode(scene: RuleContext) -> Iterator[str]:
    """Select bytecode whose source is there: nothing but that would be compiled again."""
    paths = {entry.path for entry in scene.tree}
    for entry in scene.tree:
        found = _COMPILED.search(entry.path)
        if found and f"{entry.path[: found.start(1)]}{found[2]}.py" in paths:
            yield entry.path


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


RULES: tuple[Rule, ...] = (
    Rule(
        name="tests",
        level="safe",
        reason="folders of test modules, with what belongs to them, that nothing else in the function imports or names",
        select=_tests,
        spares_endings=False,  # data of any kind lies beside test modules, whose folder nothing else names
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
        select=_headers,
    ),
    Rule(
        name="native-sources",
        level="safe",
        reason="sources of C, C++, Cython and Fortran, compiled already, which the distribution's own code does not name",
        select=_compiled(rf"(?:{NATIVE_SOURCES})$"),
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
        select=_build_files,
    ),
    Rule(
        name="documents",
        level="safe",
        reason="documentation and examples beside packages that hold no module",
        select=_documents,
    ),
    Rule(
        name="foreign",
        level="safe",
        reason="programs and libraries of Windows and macOS, by their content, which no code names",
        select=_foreign,
        spares_named=False,
    ),
    Rule(
        name="foreign-locks",
        level="safe",
        reason="a dependency's own locks and lists of requirements, which say nothing of what is installed here",
        select=_locks,
    ),
    Rule(
        name="install-records",
        level="safe",
        reason="what installers write for themselves (INSTALLER, REQUESTED, direct_url.json, signatures of RECORD)",
        select=_paths(r"^[^/]+\.dist-info/(RECORD\.(jws|p7s)|INSTALLER|REQUESTED|direct_url\.json)$"),
    ),
    Rule(
        name="old-bytecode",
        level="safe",
        reason="bytecode that came with the wheel: its sources' times are not those it was made for",
        select=_bytecode,
        spares_named=False,
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
        spares_named=False,
    ),
    Rule(
        name="locales",
        level="asked",
        reason="translations into other languages than English",
        select=_paths(r"/locales?/(?!en)[^/]+/LC_MESSAGES/", r"^babel/locale-data/(?!en|root)[^/]+\.dat$"),
        spares_named=False,
    ),
    Rule(
        name="timezones",
        level="asked",
        reason="copies of the time-zone database, which the runtime's operating system has",
        select=_paths(r"^tzdata/zoneinfo/.", r"^dateutil/zoneinfo/[^/]+\.tar\.gz$"),
        spares_named=False,
    ),
)
BY_NAME = {rule.name: rule for rule in RULES}
ASKED = tuple(rule.name for rule in RULES if rule.level == "asked")
DROP = "drop"
"""What stands as the rule of files that the user's own patterns drop."""
_MADE_OF = re.compile(r"\.(?:pyi|pyx|pxd|c|h)$")


def goes_of_local(scene: RuleContext, rule: Rule, path: str) -> bool:
    """Return whether a rule may take a file out of a project of the user's own: a name says nothing of what is in it.

    That is bytecode, and what lies beside an extension module and has its name: sources that it is made of, and its stub.
    """
    if rule.name == "old-bytecode":
        return True
    folder, slash, name = path.rpartition("/")
    module = f"{folder}{slash}{name.partition('.')[0]}."
    return bool(_MADE_OF.search(name)) and any(
        path.startswith(module) and "/" not in path[len(module) :] for path, file in scene.native.items() if file.module
    )


STAYS = re.compile(
    r"^[^/]+\.dist-info/(METADATA|RECORD|entry_points\.txt|top_level\.txt|licen[cs]es?/.*)$"
    r"|(^|/)(licen[cs]e|copying|notice|copyright|authors)([-_.][^/]*)?$",
    re.IGNORECASE,
)
