"""Whether two installations of lpack write the same bytes: ``python -m bench.identical REFERENCE_LPACK [--lpack NEW_LPACK]``.

Both build all of `bench.projects`, each with a cache of its own, in folders of the same path; then everything that was written
and all that was printed as JSON is compared. With ``--old-cache`` the new one goes on where the reference has ended, with its
cache and output folders: it must come to the same without an error or a warning that it does not give with an empty cache, too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict, replace

from bench.differences import Difference, compare_folders
from bench.peers import add_cache
from bench.projects import Project, all_projects
from bench.rows import RESULTS
from bench.sides import SAID, Session, Side, UnexpectedStatusError, built_wheels, copy_wheels, label

_HEAD = ("workload", "arch", "format", "form", "compared", "result", "first difference")
_ONCE = ("cold.", "lock.", "profile.")
"""What only a session that begins with nothing says."""
_VERSIONS = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
_KINDS = {".zip": "archives", ".cdx.json": "bills", ".yaml": "templates", ".tar": "docker-archives"}


class Row(Struct, frozen=True, kw_only=True):
    """What was compared of a form of a project, or of what all its forms have in common (``form`` is empty)."""

    project: Project
    form: str
    compared: str
    differences: tuple[Difference, ...] = ()

    def cells(self) -> tuple[str, ...]:
        """Return the texts for the table."""
        first = f"{self.differences[0].path}: {self.differences[0].what}" if self.differences else ""
        more = f" (and {len(self.differences) - 1} more)" if len(self.differences) > 1 else ""
        project, result = self.project, "different" if self.differences else "same"
        return (project.name, project.architecture, project.format, self.form, self.compared, result, first + more)


class Comparison:
    """One run: ``work`` has a folder of each project, in which one side after the other works, and what the reference left."""

    def __init__(self, reference: Side, new: Side, work: Path) -> None:
        self._reference = reference
        self._new = new
        self._sites = work / "sites"
        self._kept = work / "kept"
        self._failed: dict[str, str] = {}
        self._words: dict[str, dict[str, list[str]]] = {}

    def run_reference(self, projects: Iterable[Project], *, in_place: bool) -> None:
        """Have the reference work on all projects; with ``in_place`` its folders stay where they are, and copies are kept."""
        for project in projects:
            site, kept = self._sites / label(project), self._kept / label(project)
            session = self._session(self._reference, project)
            try:
                session.run_all()
            except UnexpectedStatusError as error:
                self._failed[label(project)] = str(error)
            self._words[label(project)] = session.words
            kept.parent.mkdir(parents=True, exist_ok=True)
            if in_place:
                shutil.copytree(site, kept, symlinks=True)
            else:
                site.rename(kept)

    def _session(self, side: Side, project: Project) -> Session:
        site = self._sites / label(project)
        site.mkdir(parents=True, exist_ok=True)
        return Session(side, project, site)

    def rows_of(self, project: Project) -> list[Row]:
        """Return what differs where the new lpack does all anew."""
        if label(project) in self._failed:
            return [_row_of_failure(project, self._failed[label(project)])]
        try:
            self._session(self._new, project).run_all()
        except UnexpectedStatusError as error:
            return [_row_of_failure(project, str(error))]
        return self._compared(project)

    def rows_of_old_cache(self, project: Project) -> list[Row]:
        """Return what differs where the new lpack goes on from the reference: once with its output folders, once without."""
        if label(project) in self._failed:
            return [_row_of_failure(project, self._failed[label(project)])]
        new = replace(self._new, folder=self._reference.folder)
        rows: list[Row] = []
        site, session = self._sites / label(project), self._session(new, project)
        words: dict[str, set[str]] = {}
        for state in ("old output", "no output"):
            session.forget()
            try:
                if state == "no output":
                    for out in (site / "project").glob("dist-*"):
                        shutil.rmtree(out)
                    session.lock()
                session.build_all()
            except UnexpectedStatusError as error:
                return [*rows, _row_of_failure(project, str(error))]
            for what, said in session.words.items():
                words.setdefault(what, set()).update(said)
            rows += [replace(row, form=f"{row.form} ({state})".lstrip()) for row in self._compared(project, *_ONCE)]
        return [*rows, self._row_of_words(project, words)]

    def _compared(self, project: Project, *left_out: str) -> list[Row]:
        """Return what differs in a project, but for what commands whose names begin with ``left_out`` have said."""
        reference, new = self._kept / label(project), self._sites / label(project)
        unsaid = tuple(f"{SAID}/{each}" for each in left_out)
        differences = [each for each in compare_folders(reference, new) if not each.path.startswith(unsaid)]
        return rows_of_differences(project, reference, differences)

    def _row_of_words(self, project: Project, words: Mapping[str, set[str]]) -> Row:
        """Return the errors and warnings that neither the reference gave nor the new one gives with an empty cache."""
        known = self._words[label(project)]
        unknown = {what: said.difference(known.get(what, ())) for what, said in words.items()}
        if any(unknown.values()):
            shutil.rmtree(self._sites / label(project))
            session = self._session(self._new, project)
            try:
                session.run_all()
            except UnexpectedStatusError as error:
                return _row_of_failure(project, str(error))
            unknown = {what: said.difference(session.words.get(what, ())) for what, said in unknown.items()}
        found = [Difference(path=what, what=each) for what, said in sorted(unknown.items()) for each in sorted(said)]
        return Row(project=project, form="", compared="errors and warnings", differences=tuple(found))


def rows_of_differences(project: Project, folder: Path, differences: Iterable[Difference]) -> list[Row]:
    """Return a row for the outputs of each form, for what it has said, and for all that belongs to no form alone."""
    groups: dict[tuple[str, str], list[Difference]] = {}
    counts: dict[tuple[str, str], Counter[str]] = {}
    found = sorted(differences, key=lambda each: not each.path.endswith(".zip"))  # a member says more than a digest in a bill
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    for path in paths:
        counts.setdefault(_group(path, project), Counter())[_kind(path)] += 1
    for each in found:
        groups.setdefault(_group(each.path, project), []).append(each)
    return [
        Row(
            project=project,
            form=key[0],
            compared=", ".join(f"{count} {kind}" for kind, count in sorted(counts.get(key, {}).items())),
            differences=tuple(groups.get(key, ())),
        )
        for key in sorted({*counts, *groups})
    ]


def _group(path: str, project: Project) -> tuple[str, str]:
    """Return the form that a path belongs to, and whether it is what commands have said."""
    top, _, rest = path.partition("/")
    name = rest.partition(".")[0] if top == SAID else rest.partition("/")[0].removeprefix("dist-")
    return (name if name in {form.name for form in project.forms} else "", SAID if top == SAID else "")


def _kind(path: str) -> str:
    if path.startswith(f"{SAID}/"):
        return "answers" if path.endswith(".json") else "statuses"
    if not path.startswith("project/dist-"):
        return "locks and profiles" if Path(path).name.startswith(("pylock.", "lpack-")) else "sources"
    if path.endswith("/lpack.json"):
        return "manifest"
    if "/layers/" in path and path.endswith(".zip"):
        return "layers"
    return next((kind for suffix, kind in _KINDS.items() if path.endswith(suffix)), "image files")


def _row_of_failure(project: Project, text: str) -> Row:
    return Row(project=project, form="", compared="builds", differences=(Difference(path="failed", what=text),))


def tell_versions(reference: Path, new: Path) -> None:
    """Say on stderr where what both installations depend on is of different versions: that alone may change bytes."""
    found = []
    for lpack in (reference, new):
        python = lpack.parent / "python"
        if not lpack.exists() or not python.exists():
            raise SystemExit(f"{lpack} is no lpack in a virtual environment.")
        found.append(json.loads(subprocess.run([python, "-c", _VERSIONS], capture_output=True, check=True).stdout))
    for name in sorted(found[0].keys() & found[1].keys()):
        if found[0][name] != found[1][name]:
            print(f"note: {name} {found[1][name]}, and {found[0][name]} with the reference", file=sys.stderr)


def markdown(rows: Iterable[Row]) -> str:
    """Return the table."""
    lines = [_HEAD, ("---",) * len(_HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in line)} |" for line in lines)


def run(options: argparse.Namespace, projects: list[Project], folder: Path) -> list[Row]:
    """Run both sides, the reference first, and return the table's rows."""
    sides = [
        Side(name=name, lpack=lpack.absolute(), folder=folder / name, until=options.until)
        for name, lpack in (("reference", options.reference), ("new", options.lpack))
    ]
    reference, new = sides
    for side in sides:
        side.store.mkdir(parents=True)
    downloads = options.cache.absolute() / "identical"
    copy_wheels(downloads, reference.store)
    comparison, started = Comparison(reference, new, folder), time.perf_counter()
    comparison.run_reference(projects, in_place=options.old_cache)
    between = time.perf_counter()
    copy_wheels(reference.store, downloads, built := [*built_wheels(folder / "kept")])
    copy_wheels(reference.store, new.store, built)
    rows = []
    for project in projects:
        rows += comparison.rows_of_old_cache(project) if options.old_cache else comparison.rows_of(project)
    print(f"The reference took {between - started:.0f} s, the new one {time.perf_counter() - between:.0f} s.", file=sys.stderr)
    return rows


def main() -> None:
    """Print the table, write bench/results/identical.json, and end with status 1 on any difference."""
    options = _options()
    projects = [
        each for each in all_projects(options.workloads) if not options.only or label(each).startswith(tuple(options.only))
    ]
    if not projects:
        raise SystemExit("No project has a name that begins so.")
    tell_versions(options.reference, options.lpack)
    options.cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="identical-", dir=options.cache.absolute()))
    try:
        rows = run(options, projects, folder)
    finally:
        if options.keep:
            print(f"All of it lies in {folder}.", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    document = [
        {**dict(zip(_HEAD, row.cells(), strict=True)), "all": [asdict(each) for each in row.differences]} for row in rows
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "identical.json").write_text(json.dumps(document, indent=2) + "\n")
    print(markdown(rows))
    raise SystemExit(any(row.differences for row in rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.identical", description=__doc__)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    new = Path(sys.executable).parent / "lpack"
    parser.add_argument("reference", type=Path, metavar="REFERENCE_LPACK", help="the lpack whose bytes are wanted")
    parser.add_argument(
        "--lpack", type=Path, default=new, metavar="NEW_LPACK", help="the lpack to compare (default: %(default)s)"
    )
    parser.add_argument(
        "--workloads", type=Path, action="append", default=[], metavar="DIR", help="a folder of further workloads"
    )
    parser.add_argument("--old-cache", action="store_true", help="give the new lpack the reference's cache and output folders")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="projects whose names (pair-x86_64-zip) begin so")
    parser.add_argument(
        "--until", default=now, metavar="TIME", help="see no package published later; '' for no limit (default: now)"
    )
    parser.add_argument("--keep", action="store_true", help="keep all that was built, and say where")
    add_cache(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
