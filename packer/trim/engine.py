"""Removes what a function does not need at run time, by the rules of `packer.trim.rules` and the user's own patterns."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct, field
from msgspec.structs import replace

from packer.core.bytecode_paths import is_template
from packer.core.function_tree import Part
from packer.core.model import OWN_SOURCE, Tree
from packer.core.options import TrimOptions
from packer.formats.elf import ElfFile
from packer.source.facts import FactScan
from packer.trim.rules import DROP, RULES, STAYS, Rule, RuleContext, Unit, goes_of_local


class RemovedFile(Struct, frozen=True, kw_only=True):
    """A file that a rule takes out of a distribution; ``size`` in bytes. ``path`` is that in the artifact."""

    path: str
    rule: str
    owner: str
    size: int


class TrimResult(Struct, frozen=True, kw_only=True):
    """Parts after trimming, and what is gone from them."""

    parts: tuple[Part, ...]
    removed: tuple[RemovedFile, ...] = ()


class TrimContext(Struct, frozen=True, kw_only=True):
    """What has been read of a function's distributions, by their normalized names, and of the function as a whole.

    ``local`` are those that are projects of the user's own.
    """

    scans: Mapping[str, FactScan]
    native: Mapping[str, Sequence[ElfFile]]
    services: frozenset[str] | None
    restored: frozenset[Unit] = field(default_factory=frozenset)
    local: frozenset[str] = field(default_factory=frozenset)


_NOTHING_SAID = FactScan()


class Selections:
    """Remembers what rules select of a distribution: functions that have one in common mostly ask for the same.

    May be used from many threads.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Hashable, ...], tuple[Tree, dict[str, str]]] = {}
        self._names: dict[int, tuple[Tree, frozenset[str]]] = {}

    def of(self, scene: RuleContext, rules: Sequence[Rule], restored: frozenset[Unit]) -> dict[str, str]:
        """Return the paths that go with the first rule that selects each."""
        scene = self._reduce(scene)
        used = tuple(rule for rule in rules if (rule.name, scene.name) not in restored)
        names = tuple(rule.name for rule in used)
        # What is known of a distribution by itself is known by its tree, which is held so that nothing else gets its place.
        own = (scene.local, scene.own.named, scene.own.suffixes, scene.own.reads_stubs)
        key = (id(scene.tree), names, scene.tests_needed, scene.test_data, scene.services, scene.needed, own)
        if key not in self._known:
            self._known[key] = scene.tree, _select_paths(scene, used)
        return dict(self._known[key][1])

    def _reduce(self, scene: RuleContext) -> RuleContext:
        """Return a scene with no more of what the rest of the function says than is about this distribution."""
        if id(scene.tree) not in self._names:
            self._names[id(scene.tree)] = scene.tree, frozenset(part for entry in scene.tree for part in entry.path.split("/"))
        names = self._names[id(scene.tree)][1]
        own = FactScan(
            reads_stubs=scene.own.reads_stubs,
            named=tuple(name for name in scene.own.named if name in names),
            suffixes=tuple(each for each in scene.own.suffixes if any(name.endswith(each) for name in names)),
        )
        needed, data = (
            frozenset(path for path in paths if path.partition("/")[0] in names)
            for paths in (scene.tests_needed, scene.test_data)
        )
        return replace(scene, own=own, tests_needed=needed, test_data=data)


def trim(parts: Sequence[Part], options: TrimOptions, known: TrimContext, selections: Selections | None = None) -> TrimResult:
    """Take out of each distribution what the rules select; ``known.restored`` are (rule, distribution) that are not applied.

    The user's ``keep`` goes before everything, and ``drop`` before every rule.
    """
    if options.level == "none":
        return TrimResult(parts=tuple(parts))
    needed = frozenset(name.rpartition("/")[2] for files in known.native.values() for file in files for name in file.needed)
    tests_needed = frozenset(path for scan in known.scans.values() for path in scan.tests)
    test_data = frozenset(path for scan in known.scans.values() for path in scan.test_data)
    rules = [rule for rule in RULES if _is_used(rule, options)]
    selections = selections or Selections()
    kept: list[Part] = []
    removed: list[RemovedFile] = []
    for name, tree in parts:
        gone: dict[str, str] = {}
        if name != OWN_SOURCE:
            scene = RuleContext(
                name=name,
                tree=tree,
                scan=known.scans[name],
                native={file.path: file for file in known.native.get(name, ())},
                tests_needed=tests_needed,
                test_data=test_data,
                services=known.services,
                needed=needed,
                local=name in known.local,
                own=known.scans.get(OWN_SOURCE, _NOTHING_SAID),
            )
            gone = selections.of(scene, rules, known.restored)
        _apply_patterns(name, tree, options, gone, known.restored)
        kept.append((name, Tree(tuple(entry for entry in tree if entry.path not in gone))))
        removed += [
            RemovedFile(path=entry.path, rule=gone[entry.path], owner=name, size=entry.content.size)
            for entry in tree
            if entry.path in gone
        ]
    return TrimResult(parts=tuple(kept), removed=tuple(removed))


def _is_used(rule: Rule, options: TrimOptions) -> bool:
    return rule.name not in options.without and (rule.level != "asked" or rule.name in options.rules)


def _select_paths(scene: RuleContext, rules: Sequence[Rule]) -> dict[str, str]:
    gone: dict[str, str] = {}
    for rule in rules:
        for path in rule.select(scene):
            if not _stays(scene, rule, path):
                gone.setdefault(path, rule.name)
    return gone


def _stays(scene: RuleContext, rule: Rule, path: str) -> bool:
    """Return whether a file that a rule selects stays for what else is known of it."""
    if scene.local:
        return not goes_of_local(scene, rule, path)
    is_read = rule.spares_named and not path.endswith(".py") and scene.names(path, by_ending=rule.spares_endings)
    return bool(STAYS.search(path)) or (rule.spares_named and is_template(path)) or is_read


def _apply_patterns(name: str, tree: Tree, options: TrimOptions, gone: dict[str, str], restored: frozenset[Unit]) -> None:
    """Let the user's own patterns decide over what the rules have selected."""
    drop = options.drop if (DROP, name) not in restored else ()
    if not drop and not options.keep:
        return
    for entry in tree:
        if matching_pattern(options.keep, name, entry.path):
            gone.pop(entry.path, None)
        elif matching_pattern(drop, name, entry.path):
            gone[entry.path] = DROP


def matching_pattern(patterns: Sequence[tuple[str, str]], name: str, path: str) -> str:
    """Return the first of a user's patterns (`packer.core.options.TrimOptions`) for a distribution's file; empty where none
    fits."""
    return next((each for owner, each in patterns if owner in ("", name) and fnmatchcase(path, each)), "")
