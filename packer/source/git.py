"""What git knows of a working tree: its files, the commit where a branch began, what has changed since, and what was then."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from builders.commands import git_environment
from packer.cache.signatures import Signature, signature
from packer.core.errors import UsageError
from packer.core.model import folders_above

_EXPRESSION = re.compile(r"[~^:@{}*?\[\\\s]")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_DEEPEN = "Run `git fetch --unshallow` (with actions/checkout: fetch-depth: 0)."


class TrackedFiles(Struct, frozen=True, kw_only=True):
    """What git tracks below a folder, those of submodules too: paths relative to it, and all folders that these lie in.

    A submodule that is not checked out, and a link, is one path, whatever it leads to.
    """

    paths: frozenset[str]
    folders: frozenset[str]

    def hold(self, path: str) -> bool:
        """Return whether git tracks a path; of a folder, which has a slash behind, whether it tracks anything in it."""
        return path.removesuffix("/") in self.paths or (path.endswith("/") and path[:-1] in self.folders)


def index_path(top: Path) -> Path:
    """Return the index of the repository whose working tree is ``top`` (gitrepository-layout(5)), whether it exists or not."""
    place = top / ".git"
    if place.is_file():  # of a linked working tree, or a submodule
        with suppress(OSError):
            place = top / place.read_text(errors="surrogateescape").removeprefix("gitdir:").strip()
    return place / "index"


def list_tracked(top: Path) -> TrackedFiles | None:
    """Return what git tracks in the working tree ``top``; None where git cannot say that, or is not installed."""
    return _list_tracked(top, signature(str(index_path(top))))


@lru_cache(maxsize=16)
def _list_tracked(top: Path, _index: Signature) -> TrackedFiles | None:
    """Return what git tracks, once for an index: many functions lie in one repository."""
    # What is only listed may belong to anyone, as in a container; and what its configuration would run is not run.
    words = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false", "ls-files", "-z", "--cached")
    variables = {"GIT_CEILING_DIRECTORIES": str(top.parent)}  # no repository above answers for one that is broken
    try:
        status, found, _ = _git(top, *words, "--recurse-submodules", variables=variables)
        if status:
            status, found, _ = _git(top, *words, variables=variables)
    except UsageError:
        return None
    if status:
        return None
    paths = frozenset(os.fsdecode(name) for name in found.split(b"\0") if name)
    return TrackedFiles(paths=paths, folders=frozenset(folders_above(paths)))


class WorkingTree(Struct, frozen=True, kw_only=True):
    """A repository that is checked out; ``top`` is its own folder, absolute and without links."""

    top: Path

    def base(self, ref: str) -> str:
        """Return the commit (hex) where HEAD and a ref part, as ``git diff REF...HEAD`` finds it.

        Raises `UsageError` where there is no such ref, or no such commit in this clone.
        """
        if self._commit("HEAD") is None:
            raise UsageError(f"{self.top} has no commit yet.", remedy="Commit first.")
        self.commit(ref)
        status, found, _ = self._run("merge-base", ref, "HEAD")
        if not status:
            return found.decode().strip()
        if self._is_shallow():
            what = f"{self.top} is a shallow clone, and the commit where HEAD and {ref} part is not in it."
            raise UsageError(what, remedy=_DEEPEN)
        raise UsageError(f"{self.top}: HEAD and {ref} have no commit in common.", remedy="Name a ref of the same history.")

    def changed(self, base: str) -> tuple[str, ...]:
        """Return the absolute paths that differ between a commit and the working tree, untracked files too, sorted.

        A file that was renamed is listed under both names. A path may be a folder: a submodule, or a repository of its own.
        """
        differing = ("diff", "--name-only", "-z", "--no-renames", "--no-relative", "--ignore-submodules=none", base, "--")
        untracked = ("ls-files", "--others", "--exclude-standard", "-z")
        names = {name for words in (differing, untracked) for name in self._asked(*words).split(b"\0") if name}
        return tuple(sorted(str(self.top / os.fsdecode(name)) for name in names))

    def content(self, commit: str, path: str) -> bytes | None:
        """Return the content that an absolute path had in a commit; None where the commit has no file there.

        Raises `UsageError` where git cannot read the commit or the file.
        """
        name = os.path.relpath(path, self.top)
        status, found, messages = self._run("cat-file", "blob", f"{commit}:{name}")
        if not status:
            return found
        is_below = Path(name).parts[:1] not in ((), (os.pardir,))
        if is_below and self._holds_file(commit, name):
            what = f"git cannot read {name} of {commit[:12]} in {self.top}."
            raise UsageError(what, detail=messages, remedy="Fix what git reports.")
        return None

    def _holds_file(self, commit: str, name: str) -> bool:
        """Return whether a commit lists a file at a path below the top; raise `UsageError` where git cannot read the commit."""
        rows = self._asked("--literal-pathspecs", "ls-tree", "-z", commit, "--", name).split(b"\0")
        heads = (head.split() for head, _, path in (row.partition(b"\t") for row in rows) if os.fsdecode(path) == name)
        return any(head[1] == b"blob" for head in heads)

    def commit(self, ref: str) -> str:
        """Return the commit (hex) that a ref means; raises `UsageError` where there is no such ref in this clone."""
        found = None if not ref or ref.startswith("-") else self._commit(ref)
        if found is None:
            raise UsageError(f"{self.top}: git knows no commit {ref!r}.", remedy=self._how_to_get(ref))
        return found

    def export(self, commit: str, folder: Path) -> None:
        """Write all files of a commit to a folder, as a checkout has them, and make that a repository that tracks them.

        The repository's own index is left alone. Raises `UsageError` where git cannot.
        """
        index = {"GIT_INDEX_FILE": str(folder / ".git" / "index")}
        form = self._asked("rev-parse", "--show-object-format").decode().strip()
        self._asked("init", "--quiet", "--template=", f"--object-format={form}", str(folder))
        for words in (("read-tree", commit), ("checkout-index", "--all", f"--prefix={folder}{os.sep}")):
            status, _, messages = _git(self.top, *words, variables=index)
            if status:
                what = f"git cannot give the files of {commit[:12]} in {self.top}."
                raise UsageError(what, detail=messages, remedy="Fix what git reports.")

    def _commit(self, ref: str) -> str | None:
        status, found, _ = self._run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        return None if status else found.decode().strip()

    def _is_shallow(self) -> bool:
        return self._asked("rev-parse", "--is-shallow-repository").strip() == b"true"

    def _how_to_get(self, ref: str) -> str:
        remotes = self._asked("remote").decode().split()
        listed = "Name one that is there: `git branch --all` lists the branches."
        if _EXPRESSION.search(ref) or ref.startswith("-") or not ref:
            return _DEEPEN if ref and self._is_shallow() else listed
        if not remotes:
            return listed
        remote, _, name = ref.partition("/")
        if name and remote in remotes:
            return f"Run `git fetch {remote} {name}:refs/remotes/{ref}`."
        where = "origin" if "origin" in remotes else remotes[0]
        return f"Run `git fetch {where} {ref if _COMMIT.fullmatch(ref) else f'{ref}:{ref}'}`."

    def _asked(self, *words: str) -> bytes:
        status, found, messages = self._run(*words)
        if status:
            what = f"git cannot say what has changed in {self.top}."
            raise UsageError(what, detail=messages, remedy="Fix what git reports.")
        return found

    def _run(self, *words: str) -> tuple[int, bytes, str]:
        return _git(self.top, *words)


def find_working_tree(folder: Path) -> WorkingTree | None:
    """Find the repository whose working tree a folder lies in; None where it lies in none.

    Raises `UsageError` where git is not installed, or does not want to read the repository that is there.
    """
    status, found, messages = _git(folder, "rev-parse", "--show-toplevel")
    if not status:
        return WorkingTree(top=Path(os.fsdecode(found.removesuffix(b"\n"))))
    if any(_marks(folder)):
        raise UsageError(f"git cannot read the repository of {folder}.", detail=messages, remedy="Fix what git reports.")
    return None


def _marks(folder: Path) -> Iterator[bool]:
    return (os.path.lexists(parent / ".git") for parent in (folder, *folder.parents))


def _git(folder: Path, *words: str, variables: Mapping[str, str] | None = None) -> tuple[int, bytes, str]:
    """Run git, and give its exit status, its output as it is, and its error output; ``variables`` are more for it."""
    # Read only: without locks, this never gets in the way of a git command that runs meanwhile.
    environment = git_environment() | {"GIT_OPTIONAL_LOCKS": "0"} | dict(variables or {})
    try:
        finished = subprocess.run(
            ["git", *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        if not isinstance(error, FileNotFoundError) or not folder.is_dir():
            what = f"git cannot be run in {folder}: {error.strerror}."
            raise UsageError(what, remedy="Check that it is a folder that can be entered.") from error
        what = "git is not installed, and only git can say what has changed."
        raise UsageError(what, remedy="Install git, or leave out what names a commit (git:REF, --changed-since).") from None
    return finished.returncode, finished.stdout, finished.stderr.decode(errors="replace").strip()
