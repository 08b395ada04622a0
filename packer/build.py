"""Turns what a lock offers no wheel for into wheels in the store, once: a caching, normalising wrapper around a builder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from packaging.utils import parse_wheel_filename

from builders.recipes import BuildFailure, BuildRequest
from builders.runtimes import Target
from packer.choose import choose_wheel, existing_tags
from packer.compress import Deflater
from packer.errors import BuildError
from packer.fetch import Fetched
from packer.model import Archive, BytesContent, Distribution, Entry, LockedPackage, Repository, SourceFolder, Tree
from packer.outputs.zip import write_zip
from packer.ports import Builder, Reporter
from packer.source import scan_source
from packer.store import Store, digest_of, explained
from packer.watch import Digests
from packer.wheel import accept, read_members_as_tree

# What a project folder leaves out when it is copied to be built: what earlier builds left there, and version control.
_PROJECT_IGNORE = ("!.gitignore", "/build/", "/dist/")


class StoreBuilder:
    """Builds through a builder, and keeps each wheel in the store under everything that can change it.

    The wheel's ZIP is written anew, so that its bytes do not depend on the zlib of the machine that built it.
    """

    def __init__(
        self, store: Store, builder: Builder, digests: Digests, reporter: Reporter, scrub: Callable[[str], str]
    ) -> None:
        self._store = store
        self._builder = builder
        self._digests = digests
        self._reporter = reporter
        self._scrub = scrub
        self._deflater = Deflater(store)
        # One build at a time: each already uses what the machine has, and two functions may ask for the same one.
        self._lock = Lock()

    def build(self, package: LockedPackage, target: Target, sdist: Fetched | None) -> Distribution:
        """Give the package's wheel; ``sdist`` is its archive in the store where the source is one.

        Raises `BuildError` with the build's own output, or `packer.errors.PackageError` for a wheel that is not good.
        """
        with self._lock:
            folder = package.source.path if isinstance(package.source, SourceFolder) else None
            tree = project_tree(folder, self._digests)[0] if folder else None
            key = digest_of(
                "built", package.name, package.version, str(target), self._builder.recipe, *_source_key(package, sdist, tree)
            )
            known = self._known(key)
            if known is None:
                self._reporter.note(f"building {package} on this machine")
                known = self._make(package, target, sdist, tree, key)
        filename, digest, path = known
        name, version = filename.split("-")[:2]
        return Distribution(name=package.name or name, version=version, filename=filename, digest=digest, path=path)

    def _known(self, key: str) -> tuple[str, str, Path] | None:
        record = self._store.load("built", key)
        if record is None:
            return None
        fields = json.loads(record.payload)
        path = self._store.wheel(fields["sha256"])
        return (fields["filename"], fields["sha256"], path) if path else None

    def _make(
        self, package: LockedPackage, target: Target, sdist: Fetched | None, tree: Tree | None, key: str
    ) -> tuple[str, str, Path]:
        with self._store.workspace() as folder:
            request = _request(package, target, sdist, tree, folder)
            (folder / "out").mkdir()
            try:
                built = self._builder.build(request, folder / "out")
            except BuildFailure as failure:
                raise BuildError(
                    f"Cannot build {package} for {target}: {failure.reason}.",
                    detail="\n".join(filter(None, (self._scrub(failure.log).rstrip(), _offered(package)))),
                    remedy=_remedy(package),
                ) from None
            _check_built(package, target, built.name)
            accept(built, built.name)
            digest, path = self._normalise(built)
        self._store.save("built", key, json.dumps({"filename": built.name, "sha256": digest}).encode())
        return built.name, digest, path

    def _normalise(self, built: Path) -> tuple[str, Path]:
        entries = (
            Entry(path=entry.path, mode=entry.mode, content=BytesContent.of(entry.content.read()), owner=entry.owner)
            for entry in read_members_as_tree(built, built.name)
        )
        with self._store.temporary() as temporary:
            with explained(temporary, "write"), temporary.open("wb") as file:
                written = write_zip(Tree.of(entries), file, self._deflater.span)
            return written.sha256, self._store.adopt(temporary, written.sha256)


def _source_key(package: LockedPackage, sdist: Fetched | None, tree: Tree | None) -> tuple[str, ...]:
    if tree is not None:
        return (_tree_digest(tree),)
    if isinstance(package.source, Repository):
        return (package.source.url, package.source.subdirectory)
    return (sdist.sha256 if sdist else "",)


def _request(package: LockedPackage, target: Target, sdist: Fetched | None, tree: Tree | None, folder: Path) -> BuildRequest:
    source = package.source
    if isinstance(source, Repository):
        suffix = f"#subdirectory={source.subdirectory}" if source.subdirectory else ""
        return BuildRequest(name=str(package), target=target, url=source.url + suffix)
    if tree is not None:
        path = folder / "project"
        _write_tree(tree, path)
    elif isinstance(source, Archive) and sdist is not None:
        path = folder / source.filename
        with explained(path, "write"):
            _link_or_copy(sdist.path, path)
    else:
        raise BuildError(f"{package} has neither a wheel nor a source.", remedy="Lock again.")
    return BuildRequest(name=str(package), target=target, path=path)


def _check_built(package: LockedPackage, target: Target, filename: str) -> None:
    """Hold a built wheel's name against what was asked for and its tags against the target; raises `BuildError`."""
    name, version, _, _ = parse_wheel_filename(filename)
    if package.name not in ("", name) or package.version not in ("", str(version)):
        raise BuildError(f"The source of {package} gave {filename}.", remedy="Lock again, or mend the source.")
    made = LockedPackage(name=name, wheels=(Archive(filename=filename, location=filename, sha256=""),))
    if choose_wheel(made, target) is None:
        raise BuildError(f"The source of {package} gave {filename}, which does not fit {target}.", remedy=_remedy(package))


def _offered(package: LockedPackage) -> str:
    """Say which wheels there are of what an index offers; a project folder or a repository has none."""
    return existing_tags(package) if isinstance(package.source, Archive) else ""


def _remedy(package: LockedPackage) -> str:
    if isinstance(package.source, SourceFolder):
        return "Mend the project; its own build tool gives the same error."
    return (
        "Choose a version that has a wheel for this target, or offer a wheel on an index of your own: "
        "this version of lpack builds pure Python only."
    )


def project_tree(folder: Path, digests: Digests) -> tuple[Tree, tuple[str, ...]]:
    """Give the files of a local project that its build may see, and the paths whose change could change them."""
    scan = scan_source(folder, digests, ignore=_PROJECT_IGNORE, git=False)
    return scan.tree, scan.watched


def project_digest(folder: Path, digests: Digests) -> str:
    """Give the digest of everything in a local project that its build may see."""
    return _tree_digest(project_tree(folder, digests)[0])


def _tree_digest(tree: Tree) -> str:
    return digest_of(*(part for entry in tree for part in (entry.path, str(entry.mode), entry.content.digest)))


def _write_tree(tree: Tree, to: Path) -> None:
    """Write a copy of a project, so that no build tool writes into the user's own folder.

    Each content is proved as it is read: what was built is what its key says, even if somebody edits meanwhile.
    """
    with explained(to, "write"):
        to.mkdir(parents=True)
        for entry in tree:
            path = to / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(entry.content.read())
            path.chmod(entry.mode)


def _link_or_copy(source: Path, to: Path) -> None:
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)
