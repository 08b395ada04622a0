"""Removes what a function does not need at run time, by the rules of `packer.trim.rules` and the user's own patterns."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct, field

from packer.core.function_tree import Part
from packer.core.model import OWN_SOURCE, Tree
from packer.core.options import TrimOptions
from packer.formats.elf import ElfFile
from packer.source.facts import FactScan
from packer.trim.rules import DROP, RULES, STAYS, Rule, RuleContext, Unit


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
    """What has been read of a function's distributions, by their normalized names, and of the function as a whole."""

    scans: Mapping[str, FactScan]
    native: Mapping[str, Sequence[ElfFile]]
    services: frozenset[str] | None
    restored: frozenset[Unit] = field(default_factory=frozenset)


class Selections:
    """Remembers what rules select of a distribution: functions that have one in common mostly ask for the same.

    May be used from many threads.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Hashable, ...], tuple[Tree, dict[str, str]]] = {}

    def of(self, scene: RuleContext, rules: Sequence[Rule], restored: frozenset[Unit]) -> dict[str, str]:
        """Return the paths that go with the first rule that selects each."""
        used = tuple(rule for rule in rules if (rule.name, scene.name) not in restored)
        names = tuple(rule.name for rule in used)
        # What is known of a distribution by itself is known by its tree, which is held so that nothing else gets its place.
        key = (id(scene.tree), names, scene.tests_needed, scene.services, scene.needed)
        if key not in self._known:
            self._known[key] = scene.tree, _select_paths(scene, used)
        return dict(self._known[key][1])


def trim(parts: Sequence[Part], options: TrimOptions, known: TrimContext, selections: Selections | None = None) -> TrimResult:
    """Take out of each distribution what the rules select; ``known.restored`` are (rule, distribution) that are not applied.

    The user's ``keep`` goes before everything, and ``drop`` before every rule.
    """
    if options.level == "none":
        return TrimResult(parts=tuple(parts))
    needed = frozenset(name.rpartition("/")[2] for files in known.native.values() for file in files for name in file.needed)
    tests_needed = frozenset(path for scan in known.scans.values() for path in scan.tests)
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
                services=known.services,
                needed=needed,
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
            if rule.name == "runtime" or not STAYS.search(path):
                gone.setdefault(path, rule.name)
    return gone


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
