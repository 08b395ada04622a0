"""A function's own source as a tree: what git would keep, less what .lpackignore and the configuration leave out.

Which rule decides, first to last: the configuration's ``ignore``, .lpackignore files, lpack's defaults, git's index, .gitignore
files (deeper ones first). A .gitignore never leaves out a shared library or what git tracks (gitignore(5)), and everything else
it leaves out is reported.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterable, Mapping
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from msgspec import Struct
from msgspec.structs import replace

from packer.cache.signatures import Digests
from packer.core.errors import UsageError
from packer.core.model import EXECUTABLE_MODE, FILE_MODE, OWN_SOURCE, Entry, FileContent, Tree
from packer.core.names import MANIFEST_FILE
from packer.source.ignore_patterns import IgnorePatterns, compile_patterns
from packer.source.links import check_link, function_boundary, project_boundary

if TYPE_CHECKING:
    from packer.source.git import TrackedFiles

DEFAULT_IGNORE = (
    # version control
    ".git", ".hg", ".svn", ".bzr", ".gitignore", ".gitattributes", ".gitmodules", ".lpackignore",
    # what tools leave behind
    "__pycache__/", "*.py[co]", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".hypothesis/", ".tox/", ".nox/", ".coverage",
    "*.egg-info/", ".ipynb_checkpoints/", ".DS_Store", "Thumbs.db", ".idea/", ".vscode/", "*.swp", "*~", ".#*", "\\#*#",
    # virtual environments and other package managers' folders
    ".venv/", ".pixi/", ".direnv/", "node_modules/",
    # what deployment tools build and download
    ".aws-sam/", ".serverless/", "cdk.out/", ".terraform/", ".terragrunt-cache/",
    # locks and configuration that lpack itself reads
    "/lpack.toml", "pylock.*.toml", "/pylock.toml", "/uv.lock", "/poetry.lock", "/Pipfile", "/Pipfile.lock",
    "lpack-profile.*.toml", "/lpack-bases.toml", "/lpack-baseline.json",
)  # fmt: skip
_SHARED_LIBRARY = re.compile(r".*\.so(\.[0-9.]+)?")


class LinkedCopies(Struct, frozen=True, kw_only=True):
    """The paths at which one file is packed, and the bytes of all but one of these copies."""

    paths: tuple[str, ...]
    bytes: int


class SourceScan(Struct, frozen=True, kw_only=True):
    """A scanned folder: its tree, every path whose change could change it, and what .gitignore left out.

    ``copies`` are paths of one file that links lead to, each of which is packed.
    """

    tree: Tree
    watched: tuple[str, ...]
    left_out: tuple[str, ...]
    copies: tuple[LinkedCopies, ...] = ()

    def below(self, prefix: str) -> SourceScan:
        """Return the scan with all files in the folder ``prefix``, which ends in a slash; an empty one changes nothing."""
        if not prefix:
            return self
        return replace(self, tree=Tree.of(replace(entry, path=prefix + entry.path) for entry in self.tree))


class _Rules(Struct, frozen=True, kw_only=True):
    """Patterns of one folder, which lies below the source folder (at ``base``) or above it (by ``above``).

    Both are empty, or end in a slash.
    """

    patterns: IgnorePatterns
    base: str = ""
    above: str = ""

    def verdict(self, path: str) -> bool | None:
        """Return whether the path is left out (True), kept (False), or not spoken of (None)."""
        return self.patterns.verdict(self.above + path[len(self.base) :])


class _Verdict(IntEnum):
    """What the rules say of a path; all but the first leave it out."""

    KEPT = 0
    BY_US = 1
    BY_GIT = 2


def scan_source(
    folder: Path,
    digests: Digests,
    *,
    root: Path | None = None,
    ignore: Iterable[str] = (),
    skip: Iterable[Path] = (),
    git: bool = True,
) -> SourceScan:
    """Scan a folder; ``skip`` names paths below it that are no source, such as the output folder.

    A file among them is source where .lpackignore or the configuration say so.

    ``root`` is the folder of the configuration that names it, if it is a function's. Without ``git``, .gitignore files have no
    say. Raises `UsageError` for what cannot be packed.
    """
    boundary = function_boundary(folder, root) if root else project_boundary(folder)
    return _Scanner(folder, digests, boundary, tuple(ignore), frozenset(map(os.path.realpath, skip)), git).scan()


def scan_outline(
    folder: Path,
    *,
    root: Path | None = None,
    ignore: Iterable[str] = (),
    skip: Iterable[Path] = (),
    git: bool = True,
    replaced: Mapping[str, bytes | None] | None = None,
) -> Outline:
    """Return the outline of a folder; the arguments are those of `scan_source`.

    ``replaced`` gives some files of rules another content, None where there shall be none. Raises `UsageError`.
    """
    boundary = function_boundary(folder, root) if root else project_boundary(folder)
    skipped = frozenset(map(os.path.realpath, skip))
    outline = Outline(folder, Digests(), boundary, tuple(ignore), skipped, git, replaced or {})
    outline.scan()
    return outline


class _Scanner:
    def __init__(
        self, folder: Path, digests: Digests, boundary: str, ignore: tuple[str, ...], skip: frozenset[str], git: bool
    ) -> None:
        self._folder = str(folder)
        self._boundary = boundary
        self._digests = digests
        self._skip = skip
        self._skip_names = {os.path.basename(path) for path in skip}
        self._git = git
        self._top: Path | None = None
        self._below = ""  # the way from the repository down to the source
        self._tracked_whole: set[str] = set()
        self._configured = _Rules(patterns=compile_patterns(ignore))
        self._defaults = _Rules(patterns=compile_patterns(DEFAULT_IGNORE))
        self._entries: list[Entry] = []
        self._watched: list[str] = []
        self._left_out: list[str] = []
        self._linked: list[str] = []  # folders have a slash behind

    def scan(self) -> SourceScan:
        self._walk("", (), self._rules_above() if self._git else (), (os.path.realpath(self._folder),))
        return SourceScan(
            tree=Tree.of(self._entries),
            watched=tuple(dict.fromkeys(self._watched)),
            left_out=tuple(sorted(self._left_out)),
            copies=self._find_copies() if self._linked else (),
        )

    def _find_copies(self) -> tuple[LinkedCopies, ...]:
        """Return what links lead to that is packed more than once, the largest first."""
        linked = tuple(self._linked)
        files = set(linked)
        places: dict[str, list[Entry]] = {}
        for entry in self._entries:
            if entry.path in files or entry.path.startswith(tuple(path for path in linked if path.endswith("/"))):
                places.setdefault(os.path.realpath(os.path.join(self._folder, entry.path)), []).append(entry)
        above = os.path.realpath(self._folder) + os.sep
        for entry in self._entries:
            others = places.get(above + entry.path, [])
            if others and entry not in others:
                others.append(entry)
        found = (
            LinkedCopies(paths=tuple(entry.path for entry in entries), bytes=(len(entries) - 1) * entries[0].content.size)
            for entries in places.values()
            if len(entries) > 1
        )
        return tuple(sorted(found, key=lambda copies: (-copies.bytes, copies.paths)))

    def _rules_above(self) -> tuple[_Rules, ...]:
        """Return the .gitignore rules of the folders above, up to the repository's root, deepest first."""
        found: list[_Rules] = []
        below = ""  # the way from the rules' folder down to the source
        folder = Path(self._folder)
        while not (folder / ".git").exists():
            if folder.parent == folder:
                return ()
            below = f"{folder.name}/{below}"
            folder = folder.parent
            patterns = self._read_patterns(str(folder / ".gitignore"))
            if patterns is not None:
                found.append(_Rules(patterns=patterns, above=below))
        self._top, self._below = folder, below
        return tuple(found)

    @cached_property
    def _tracked(self) -> TrackedFiles | None:
        """What git tracks in the source's repository; None where there is none, or git cannot say it."""
        if self._top is None:
            return None
        from packer.source.git import index_path, list_tracked

        self._watched.append(str(index_path(self._top)))
        return list_tracked(self._top)

    def _is_tracked(self, path: str) -> bool:
        if self._tracked is None or not self._tracked.hold(self._below + path):
            return False
        if path.endswith("/") and self._below + path[:-1] in self._tracked.paths:
            self._tracked_whole.add(path[:-1])
        return True

    def _read_patterns(self, path: str) -> IgnorePatterns | None:
        self._watched.append(path)
        try:
            with self._open(path) as file:
                return compile_patterns(tuple(file))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except UsageError as error:
            raise UsageError(f"{path}: {error.what}", remedy=error.remedy) from error
        except OSError as error:
            what = f"Cannot read the ignore rules of {path}: {error.strerror}."
            raise UsageError(what, remedy="Fix the file, or remove it.") from error

    def _open(self, path: str) -> TextIO:
        return open(path, encoding="utf-8-sig", errors="surrogateescape")

    def _walk(self, prefix: str, own: tuple[_Rules, ...], git: tuple[_Rules, ...], above: tuple[str, ...]) -> None:
        folder = os.path.join(self._folder, prefix)
        self._watched.append(folder)
        own = self._with_file(own, folder, ".lpackignore", prefix)
        if self._git:
            git = self._with_file(git, folder, ".gitignore", prefix)
        for item in self._listed(folder):
            path = prefix + item.name
            status = self._looked_at(item, path, own, git)
            if status is None:
                continue
            self._check_name(path)
            if stat.S_ISDIR(status.st_mode):
                self._enter(item, path, own, git, above)
            elif stat.S_ISREG(status.st_mode):
                self._check_link(item)
                self._note_link(item, path)
                self._add(item.path, path, status)

    def _looked_at(
        self, item: os.DirEntry[str], path: str, own: tuple[_Rules, ...], git: tuple[_Rules, ...]
    ) -> os.stat_result | None:
        """Return what something is, following links; None for what is left out, which is looked at only where rules need that.

        Rules may speak of folders alone: of what a link leads to nothing is known before, and what leads nowhere is left out
        if it would be as either.
        """
        is_link = item.is_symlink()
        forms = (path, f"{path}/") if is_link else (path + "/" * item.is_dir(follow_symlinks=False),)
        verdicts = {form: self._verdict(form, own, git) for form in forms}
        if all(verdicts.values()):
            self._note(forms[0], verdicts[forms[0]])
            return None
        if self._is_skipped(item) and not self._is_brought_back(path, own):
            return None
        try:
            status = item.stat()
        except OSError as error:
            if any(verdicts.values()):
                return None
            self._check_link(item)
            leads = f" (a link to {os.readlink(item.path)})" if is_link else ""
            raise UsageError(f"Cannot read {item.path}{leads}: {error.strerror}.", remedy=_IGNORE_REMEDY) from error
        form = forms[-1] if stat.S_ISDIR(status.st_mode) else forms[0]
        self._note(form, verdicts[form])
        return None if verdicts[form] else status

    def _note(self, path: str, verdict: _Verdict) -> None:
        if verdict is _Verdict.BY_GIT:
            self._left_out.append(path)

    def _note_link(self, item: os.DirEntry[str], path: str) -> None:
        if item.is_symlink():
            self._linked.append(path)

    def _check_link(self, item: os.DirEntry[str]) -> None:
        if item.is_symlink():
            check_link(item.path, self._boundary)

    def _is_skipped(self, item: os.DirEntry[str]) -> bool:
        # By name first: the true path of each of thousands of files would cost a system call.
        return (item.name in self._skip_names or item.is_symlink()) and os.path.realpath(item.path) in self._skip

    def _is_brought_back(self, path: str, own: tuple[_Rules, ...]) -> bool:
        """Return whether rules of the user's own keep a path, whatever else is said of it."""
        verdicts = (rules.verdict(path) for rules in (self._configured, *own))
        return next((verdict for verdict in verdicts if verdict is not None), True) is False

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as items:
                return sorted(items, key=lambda item: item.name)
        except OSError as error:
            raise UsageError(f"Cannot read the folder {folder}: {error.strerror}.", remedy=_IGNORE_REMEDY) from error

    def _with_file(self, rules: tuple[_Rules, ...], folder: str, name: str, prefix: str) -> tuple[_Rules, ...]:
        patterns = self._read_patterns(os.path.join(folder, name))
        return rules if patterns is None else (_Rules(patterns=patterns, base=prefix), *rules)

    def _check_name(self, path: str) -> None:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{path!r} in {self._folder} is no valid UTF-8 name.", remedy="Rename the file.") from None
        if "\\" in path:
            raise UsageError(f"{path!r} in {self._folder} has a backslash in its name.", remedy="Rename the file.")

    def _verdict(self, path: str, own: tuple[_Rules, ...], git: tuple[_Rules, ...]) -> _Verdict:
        for rules in (self._configured, *own, self._defaults):
            verdict = rules.verdict(path)
            if verdict is not None:
                return _Verdict.BY_US if verdict else _Verdict.KEPT
        for rules in git:
            verdict = rules.verdict(path)
            if verdict is not None:
                if not verdict or _SHARED_LIBRARY.fullmatch(path) or self._is_tracked(path):
                    return _Verdict.KEPT
                return _Verdict.BY_GIT
        return _Verdict.KEPT

    def _enter(
        self, item: os.DirEntry[str], path: str, own: tuple[_Rules, ...], git: tuple[_Rules, ...], above: tuple[str, ...]
    ) -> None:
        if self._is_closed(item.path):
            return
        self._check_link(item)
        real = os.path.realpath(item.path)
        if real in above:
            raise UsageError(f"The link {item.path} leads back to a folder that holds it.", remedy=_IGNORE_REMEDY)
        self._note_link(item, path + "/")
        if path in self._tracked_whole:
            git = ()  # where a link or a submodule leads, rules on its path say nothing
        self._walk(path + "/", own, git, (*above, real))

    def _is_closed(self, place: str) -> bool:
        """Return whether a folder is never source, whatever the rules say: skipped, lpack's output, a virtual environment."""
        if os.path.realpath(place) in self._skip or _is_output(place):
            return True
        return os.path.exists(os.path.join(place, "pyvenv.cfg"))

    def _add(self, place: str, path: str, status: os.stat_result) -> None:
        self._watched.append(place)
        try:
            digest = self._digests.digest(place, status)
        except OSError as error:
            raise UsageError(f"Cannot read {place}: {error.strerror}.", remedy=_IGNORE_REMEDY) from error
        # Only the owner's bit counts: the others depend on the umask of whoever checked the file out.
        mode = EXECUTABLE_MODE if status.st_mode & stat.S_IXUSR else FILE_MODE
        content = FileContent(path=Path(place), digest=digest, size=status.st_size)
        self._entries.append(Entry(path=path, mode=mode, content=content, owner=OWN_SOURCE))


_Both = tuple[tuple[_Rules, ...], tuple[_Rules, ...]]


class Outline(_Scanner):
    """The same files by name alone: none is read, and one that is gone can be judged as if it were there.

    ``files`` are their paths; ``links`` map those that are reached by a link to true ones (folders have a slash behind, the
    folder itself is the empty path); ``rules`` are the files of rules that were looked for. `scan_outline` makes one.
    """

    def __init__(
        self,
        folder: Path,
        digests: Digests,
        boundary: str,
        ignore: tuple[str, ...],
        skip: frozenset[str],
        git: bool,
        replaced: Mapping[str, bytes | None],
    ) -> None:
        super().__init__(folder, digests, boundary, ignore, skip, git)
        self.files: set[str] = set()
        self.links: dict[str, str] = {}
        self.rules: set[str] = set()
        self._replaced = replaced
        self._entered: dict[str, _Both | None] = {}
        self._out: set[str] = set()  # folders that .gitignore files leave out

    def scan(self) -> SourceScan:
        """Find the files, once."""
        self.links[""] = os.path.realpath(self._folder)
        return super().scan()

    def holds(self, path: str) -> bool:
        """Return whether a file at this path would be one of them."""
        folder, slash, _ = path.rpartition("/")
        rules = self._rules_in(folder + slash)
        verdict = _Verdict.BY_US if rules is None else self._verdict(path, *rules)
        if verdict is _Verdict.BY_US:
            return False
        if verdict is _Verdict.BY_GIT or folder + slash in self._out:
            # What is gone was tracked, where there is a repository: nobody asks for anything else that is.
            return self._top is not None and not os.path.lexists(os.path.join(self._folder, path))
        is_skipped = os.path.realpath(os.path.join(self._folder, path)) in self._skip
        return not is_skipped or (rules is not None and self._is_brought_back(path, rules[0]))

    def _rules_in(self, prefix: str) -> _Both | None:
        """Return the rules that hold in a folder; None where nothing of it counts."""
        if prefix not in self._entered:
            self._entered[prefix] = self._read_rules(prefix)
        return self._entered[prefix]

    def _read_rules(self, prefix: str) -> _Both | None:
        place = os.path.join(self._folder, prefix)
        if prefix:
            above, slash, _ = prefix[:-1].rpartition("/")
            rules = self._rules_in(above + slash)
            verdict = _Verdict.BY_US if rules is None else self._verdict(prefix, *rules)
            if rules is None or verdict is _Verdict.BY_US or self._is_closed(place):
                return None
            if verdict is _Verdict.BY_GIT or above + slash in self._out:
                self._out.add(prefix)
            own, git = rules
        else:
            own, git = (), self._rules_above() if self._git else ()
        own = self._with_file(own, place, ".lpackignore", prefix)
        return own, self._with_file(git, place, ".gitignore", prefix) if self._git else ()

    def _open(self, path: str) -> TextIO:
        self.rules.add(path)
        if path not in self._replaced:
            return super()._open(path)
        content = self._replaced[path]
        if content is None:
            raise FileNotFoundError(path)
        return io.StringIO(content.decode("utf-8", "surrogateescape"), newline=None)

    def _enter(
        self, item: os.DirEntry[str], path: str, own: tuple[_Rules, ...], git: tuple[_Rules, ...], above: tuple[str, ...]
    ) -> None:
        if item.is_symlink():
            self.links[path + "/"] = os.path.realpath(item.path)
        super()._enter(item, path, own, git, above)

    def _add(self, place: str, path: str, status: os.stat_result) -> None:  # noqa: ARG002 the file is not read
        self.files.add(path)
        if os.path.islink(place):
            self.links[path] = os.path.realpath(place)


def _is_output(folder: str) -> bool:
    """Return whether lpack has written its artifacts to a folder: packing them would make every archive hold the last one."""
    try:
        with open(os.path.join(folder, MANIFEST_FILE), "rb") as file:
            return b'"schema_version"' in file.read(200)
    except OSError:
        return False


_IGNORE_REMEDY = "Fix it, or leave it out with a line in .lpackignore."
