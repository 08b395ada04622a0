"""Which functions are affected by what git has changed since a commit, and why."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from packer.change.affected import match_changes
from packer.change.definitions import find_redefined, find_redefined_in_template
from packer.change.inputs import Change, Inventory
from packer.config.load import Config, Overrides
from packer.config.project import CONFIG, TEMPLATE, Project
from packer.config.project_reader import read_project, read_project_template, select_named
from packer.core.errors import UsageError
from packer.core.events import Reporter
from packer.core.model import Function
from packer.pipeline.state import State
from packer.source.git import WorkingTree, find_working_tree


class AffectedDocument(Struct, frozen=True, kw_only=True):
    """What `lpack affected --json` prints."""

    since: str
    base: Annotated[str, Meta(description="The commit that it is compared with.")]
    affected: tuple[str, ...]
    unaffected: tuple[str, ...]
    reasons: Annotated[
        Mapping[str, tuple[str, ...]],
        Meta(description="Paths that affect a function, relative to the repository."),
    ]


class Affected(Struct, frozen=True, kw_only=True):
    """Which functions are affected, each with the paths that do it, relative to the repository; ``base`` is a commit."""

    since: str
    base: str
    reasons: Mapping[str, tuple[str, ...]]
    unaffected: tuple[str, ...]

    def document(self) -> AffectedDocument:
        """Return it as `--json` prints it."""
        return AffectedDocument(
            since=self.since,
            base=self.base,
            affected=tuple(self.reasons),
            unaffected=self.unaffected,
            reasons=self.reasons,
        )


def narrow_project(project: Project, flags: Mapping[str, Any], since: str, state: State | None, reporter: Reporter) -> Project:
    """Return the project with only the affected functions; reports a note where none is."""
    answer = find_affected(project, Overrides(**flags), since, state, reporter)
    if not answer.reasons:
        reporter.note(f"Nothing to build: no function is affected by what has changed since {since}.")
    return replace(project, names=tuple(answer.reasons), nothing_selected=not answer.reasons)


def find_affected(project: Project, overrides: Overrides, since: str, state: State | None, reporter: Reporter) -> Affected:
    """Compare a project with the commit where HEAD and a ref part; ``state`` is that of the last build.

    Raises `LpackError`.
    """
    config, _ = read_project(project, overrides)
    functions = select_named(config, project.names)
    tree = _tree_of(config, functions)
    base = tree.base(since)
    paths = tree.changed(base)
    change = Change(top=tree.top, paths=frozenset(paths), before=lambda path: tree.content(base, path))
    known = state.functions if state else {}
    inventory = Inventory(change, config.out, lambda name: known[name].folders if name in known else ())
    found = match_changes({each.name: inventory.of(each) for each in functions}, paths)
    for path, names in _find_redefined_files(project, functions, change, reporter):
        for name in sorted(names):
            found[name] = tuple(sorted({*found.get(name, ()), path}))
    _report_changes(tree.top, paths, found, reporter)
    reasons = {each.name: _relative_paths(found[each.name], tree.top) for each in functions if each.name in found}
    rest = tuple(each.name for each in functions if each.name not in reasons)
    return Affected(since=since, base=base, reasons=reasons, unaffected=rest)


def _tree_of(config: Config, functions: Sequence[Function]) -> WorkingTree:
    """Find the repository of the configuration, or else the one that holds all functions."""
    found = find_working_tree(config.root)
    if found is not None:
        return found
    trees = {tree.top: tree for tree in (find_working_tree(each.source) for each in functions) if tree is not None}
    if not trees:
        what = f"{config.root} lies in no git repository, and so nothing can be said of what has changed."
        raise UsageError(what, remedy="Run it in a clone, or build everything: `lpack build`.")
    if len(trees) > 1:
        what = f"The functions lie in several git repositories: {', '.join(str(top) for top in sorted(trees))}."
        raise UsageError(what, remedy="Name those of one of them, or give each repository a configuration of its own.")
    return next(iter(trees.values()))


def _find_redefined_files(
    project: Project, functions: Sequence[Function], change: Change, reporter: Reporter
) -> Iterator[tuple[str, Collection[str]]]:
    """Return each changed file that defines functions, and the functions whose definitions in it have changed."""
    path = project.path if project.kind == CONFIG else project.config
    template = project.path if project.kind == TEMPLATE else None
    nested = {each.path: each for each in (read_project_template(project).nested if template else ())}
    for file in (each for each in (path, template, *nested) if each is not None):
        true = os.path.realpath(file)
        if not Path(true).is_relative_to(change.top):
            reporter.warn(f"{file} lies outside of the repository {change.top}: whether it has changed is not known.")
        elif true in change.paths:
            before = change.before(true)
            if file in nested:  # which of its functions a change concerns depends on the stacks around it
                yield true, frozenset(each.name for each in nested[file].functions)
            elif file == template:
                yield true, find_redefined_in_template(functions, project, before)
            else:
                yield true, find_redefined(functions, file, before)


def _report_changes(top: Path, paths: Sequence[str], found: Mapping[str, Sequence[str]], reporter: Reporter) -> None:
    """Report submodules, which git shows only as a whole, and paths outside of the repository."""
    for path in (each for each in paths if Path(each).is_dir() and not Path(each).is_symlink()):
        reporter.note(f"{os.path.relpath(path, top)} is a repository of its own (a submodule): all of it counts as changed.")
    outside = {path for each in found.values() for path in each if not Path(path).is_relative_to(top)}
    for path in sorted(outside):
        users = ", ".join(name for name, each in found.items() if path in each)
        reporter.warn(f"{path} lies outside of the repository: what uses it counts as affected ({users}).")


def _relative_paths(paths: Sequence[str], top: Path) -> tuple[str, ...]:
    return tuple(os.path.relpath(path, top) if Path(path).is_relative_to(top) else path for path in paths)
