"""One installation of lpack at work on a project of `bench.projects`: what it runs, and where it keeps what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from bench.peers import Place
from bench.projects import Form, Project

SAID = "said"
"""The folder beside a project's that has the JSON and the status of each command."""
_GOOD = {"check": ("0", "3")}
"""The statuses that a command may end with, where 0 is not the only one: 3 says that a function is over a limit."""
_WORDS = ("error:", "warning:", "Traceback")


class UnexpectedStatusError(Exception):
    """A command of a project ended with a status that it must not end with, so that there is nothing to compare."""


class Side(Struct, frozen=True, kw_only=True):
    """One installation, with caches in ``folder``; resolving sees nothing published after ``until``, if that is set."""

    name: str
    lpack: Path
    folder: Path
    until: str

    @property
    def store(self) -> Path:
        return self.folder / "lpack"

    def environment(self) -> dict[str, str]:
        """Return lpack's variables."""
        place = Place(cache=self.folder, work=self.folder, peers=self.folder, lpack=self.lpack)
        return place.lpack_environment() | ({"UV_EXCLUDE_NEWER": self.until} if self.until else {})


class Session:
    """A side at work on one project in ``root``, which holds the project's folder and what commands have said."""

    def __init__(self, side: Side, project: Project, root: Path) -> None:
        self._side = side
        self._project = project
        self._at = root / "project"
        self._said = root / SAID
        self.words: dict[str, list[str]] = {}
        """The errors and warnings of each command."""

    def forget(self) -> None:
        """Remove what commands have said before."""
        shutil.rmtree(self._said)
        self.words = {}

    def run_all(self) -> None:
        """Copy the project, lock it and run every command. Raises `UnexpectedStatusError`."""
        self._project.copy_to(self._at)
        self.lock()
        if self._project.cold:
            with tempfile.TemporaryDirectory(dir=self._side.folder) as empty:
                variables = {"LPACK_CACHE_DIR": empty}
                self._lpack("cold.check", "check", "--json", *self._project.functions, variables=variables)
        self.build_all()

    def lock(self) -> None:
        """Write locks, and profiles where a form needs them."""
        self._lpack("lock", "lock", *self._project.functions)
        if any(form.profiled for form in self._project.forms):
            self._lpack("profile", "profile", *self._project.functions)

    def build_all(self) -> None:
        """Build every form, and ask all that is told as JSON."""
        for form in self._project.forms:
            self._form(form)
        self._lpack("tree", "tree", "--json", *self._project.functions)
        first, *others = (f"dist-{form.name}" for form in self._project.forms)
        for function, package in self._packages(first):
            self._lpack(f"why-{function}", "why", "--json", function, package)
        for other in (*others, "now"):
            self._lpack(f"diff-{other}", "diff", "--format", "json", "--files", first, other)

    def _form(self, form: Form) -> None:
        names, out = self._project.functions, ("--out", f"dist-{form.name}")
        made = ("--format", self._project.format)
        more = (*form.more, *(() if "--verify" in form.more else self._project.proof))
        self._lpack(f"{form.name}.build", "build", "--json", *out, *made, *form.shape, *more, *names)
        self._lpack(f"{form.name}.check", "check", "--json", *out, *form.shape, *names)
        self._lpack(f"{form.name}.plan", "plan", "--json", *form.shape)

    def _packages(self, out: str) -> Iterator[tuple[str, str]]:
        """Return a package of each of the first two functions that have any: the last one by name."""
        functions = json.loads((self._at / out / "lpack.json").read_bytes())["functions"]
        named = {
            name: max(each["name"] for each in found["distributions"])
            for name, found in functions.items()
            if found["distributions"]
        }
        yield from sorted(named.items())[:2]

    def _lpack(self, what: str, *command: str, variables: Mapping[str, str] | None = None) -> None:
        environment = {**self._side.environment(), **(variables or {})}
        arguments = [str(self._side.lpack), command[0], *self._project.common, *command[1:]]
        started = time.perf_counter()
        done = subprocess.run(arguments, cwd=self._at, env=environment, capture_output=True, check=False)
        errors = done.stderr.decode(errors="replace")
        told = f"{self._side.name}: {label(self._project)}: {what} ({time.perf_counter() - started:.1f} s)"
        print(told, file=sys.stderr, flush=True)
        self._said.mkdir(exist_ok=True)
        (self._said / f"{what}.json").write_bytes(done.stdout)
        (self._said / f"{what}.status").write_text(str(done.returncode))
        self.words[what] = [line for line in errors.splitlines() if line.startswith(_WORDS)]
        if str(done.returncode) not in _GOOD.get(command[0], ("0",)):
            shown = " ".join(arguments[1:])
            raise UnexpectedStatusError(
                f"{self._side.name}: `lpack {shown}` ended with status {done.returncode}: {errors.strip()}"
            )


def label(project: Project) -> str:
    """Return a name for a project's folder."""
    return f"{project.name}-{project.architecture}-{project.format}"


def copy_wheels(source: Path, to: Path, leave_out: Iterable[str] = ()) -> None:
    """Copy what was downloaded from one cache to another, but for digests of wheels that were built."""
    built = frozenset(leave_out)
    for path in source.glob("wheels/[0-9]*/*/*"):
        copy = to / path.relative_to(source)
        if path.name not in built and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


def built_wheels(folder: Path) -> Iterator[str]:
    """Return the digests of all wheels that were built for what lies below a folder, as its manifests tell."""
    for manifest in folder.rglob("dist-*/lpack.json"):
        for function in json.loads(manifest.read_bytes())["functions"].values():
            yield from (each["sha256"] for each in function["distributions"] if "built" in each)
