"""Where a package that has to be built comes from: a key for it, what it is built with, and a copy that a build may use."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from builders.errors import BuildError
from packer.cache.signatures import Digests
from packer.cache.store import Store, digest_of, store_errors
from packer.core.model import Archive, LockedPackage, Repository, Tree
from packer.net.downloads import FetchedArchive
from packer.source.function_source import scan_source

_RULES = "2"
"""Part of the key of what is remembered of a source; raised whenever something else is read of it."""
PROJECT_IGNORE = ("!.gitignore", "/build/", "/dist/")
"""What a project folder leaves out when it is copied to be built: what earlier builds left there, and version control."""


class Origin(Struct, frozen=True, kw_only=True):
    """A source: ``key`` changes with its bytes; ``native`` is the file that shows native code, empty where none does.

    ``requires`` are the build requirements that it lists (PEP 518).
    """

    package: LockedPackage
    key: str
    native: str
    requires: tuple[str, ...]
    archive: FetchedArchive | None = None
    tree: Tree | None = None


class Origins:
    """Looks into sources, each once, and remembers it in the store."""

    def __init__(self, store: Store, digests: Digests, scrub: Callable[[str], str]) -> None:
        self._store = store
        self._digests = digests
        self._scrub = scrub

    def of(self, package: LockedPackage, archive: FetchedArchive | None) -> Origin:
        """Return the origin of a package; ``archive`` is its sdist in the store where it has one. Raises `BuildError`."""
        source = package.source
        tree = None
        if isinstance(source, Repository):
            parts: tuple[str, ...] = ("repository", source.url, source.subdirectory)
        elif source is None or isinstance(source, Archive):
            parts = ("archive", archive.sha256 if archive else "")
        else:
            tree = read_project_tree(source.path, self._digests)[0]
            parts = ("folder", tree_digest(tree))
        key = digest_of(*parts)
        native, requires = self._inspect_source(package, key, archive, tree)
        return Origin(package=package, key=key, native=native, requires=requires, archive=archive, tree=tree)

    def _inspect_source(
        self, package: LockedPackage, key: str, archive: FetchedArchive | None, tree: Tree | None
    ) -> tuple[str, tuple[str, ...]]:
        key = digest_of(_RULES, key)
        record = self._store.load("sources", key)
        if record is None:
            with self._store.workspace() as folder:
                path = self._place_source(package, archive, tree, folder)
                try:
                    from builders.sources import find_native_file, read_build_system

                    found = {"native": find_native_file(path), "requires": read_build_system(path)["requires"]}
                except BuildError as failure:
                    raise BuildError(f"Cannot build {package}: {failure.what}.", remedy="Fix the source.") from None
            record = self._store.save("sources", key, json.dumps(found).encode())
        fields = json.loads(record.payload)
        return fields["native"], tuple(fields["requires"])

    def materialize(self, origin: Origin, folder: Path) -> Path:
        """Put the source into an empty folder as a build may use it, and return its path."""
        return self._place_source(origin.package, origin.archive, origin.tree, folder)

    def _place_source(self, package: LockedPackage, archive: FetchedArchive | None, tree: Tree | None, folder: Path) -> Path:
        source = package.source
        if isinstance(source, Repository):
            suffix = f"#subdirectory={source.subdirectory}" if source.subdirectory else ""
            try:
                from builders.sources import check_out

                return check_out(source.url + suffix, folder / "source")
            except BuildError as failure:
                what = f"Cannot fetch the source of {package}: {failure.what}."
                remedy = failure.remedy or "Check the address, the commit and git's own credentials."
                raise BuildError(what, detail=self._scrub(failure.detail).rstrip(), remedy=remedy) from None
        if tree is not None:
            path = folder / "project"
            _write_tree(tree, path)
        elif isinstance(source, Archive) and archive is not None:
            path = folder / source.filename
            with store_errors(path, "write"):
                link_or_copy(archive.path, path)
        else:
            raise BuildError(f"{package} has neither a wheel nor a source.", remedy="Lock again.")
        return path


def read_project_tree(folder: Path, digests: Digests) -> tuple[Tree, tuple[str, ...]]:
    """Return the files of a local project that its build may see, and the paths whose change could change them."""
    scan = scan_source(folder, digests, ignore=PROJECT_IGNORE, git=False)
    return scan.tree, scan.watched


def project_digest(folder: Path, digests: Digests) -> str:
    """Return the digest of everything in a local project that its build may see."""
    return tree_digest(read_project_tree(folder, digests)[0])


def tree_digest(tree: Tree) -> str:
    """Return the digest of a tree's paths, modes and contents."""
    return digest_of(*(part for entry in tree for part in (entry.path, str(entry.mode), entry.content.digest)))


def _write_tree(tree: Tree, to: Path) -> None:
    """Write a copy of a project, so that no build tool writes into the user's own folder.

    Each content is proved as it is read: what was built is what its key says, even if somebody edits meanwhile.
    """
    with store_errors(to, "write"):
        to.mkdir(parents=True)
        for entry in tree:
            path = to / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(entry.content.read())
            path.chmod(entry.mode)


def link_or_copy(source: Path, to: Path) -> None:
    """Give a file another name, without a second copy where the file system can."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)
