"""What a function declares that it requires: the files, their digest, and the question to uv."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from builders.documents import read_toml
from builders.files import file_digest
from packer.cache.signatures import Digests
from packer.cache.store import digest_of
from packer.core.errors import ResolveError, UsageError
from packer.core.model import Archive, Function, LockedPackage, Repository, Requirements, SourceFolder
from packer.core.names import PYPROJECT_FILE
from packer.formats.requirements_txt import (
    ARCHIVE_SUFFIXES,
    RequirementsFile,
    allowed_hashes,
    local_path,
    read_requirements,
)
from packer.locks.formats import PYLOCK, LockReader, find_lock_reader
from packer.locks.pins import Pin
from packer.net.credentials import without_login
from packer.source.dependency_files import REQUIREMENTS, get_strings, get_table
from packer.source.package_source import project_digest


class Declaration(Struct, frozen=True, kw_only=True):
    """What to ask uv for, from the folder that relative paths start from.

    ``digest`` changes when the dependencies may; ``files`` are all that were read for it. ``text`` is what to write to a
    file for uv where the declaration's own ``path`` will not do. ``hashes`` maps names to the allowed SHA-256 digests, and
    is empty where any will do. ``index_urls`` are all addresses that may carry a login, ``option_lines`` are options as in a
    requirements file; ``links`` are the folders of archives on this machine that they name, and the archives in them.
    ``variables`` are the environment variables that were read. ``constraints`` are lines that bind versions without asking for
    them, and no part of what is declared; ``own_constraints`` are such lines that are part of it, where ``text`` stands for
    files. ``anchored`` says that paths in it may lead to other projects from another folder, though its digest be the same.
    ``config_settings`` are the settings for build back ends by normalized names, or by paths of local projects without one;
    ``warnings`` say what has no effect.
    """

    folder: Path
    path: Path
    digest: str
    files: tuple[Path, ...]
    arguments: tuple[str, ...] = ()
    text: str | None = None
    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    index_urls: tuple[str, ...] = ()
    option_lines: tuple[str, ...] = ()
    links: tuple[Path, ...] = ()
    variables: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    own_constraints: tuple[str, ...] = ()
    anchored: bool = False
    config_settings: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @contextmanager
    def input_file(self, folder: Path) -> Iterator[Path]:
        """Return the file to hand to uv; ``folder`` is where a new one may be written."""
        if self.text is None:
            yield self.path
            return
        path = folder / "requirements.txt"
        path.write_text(self.text + "\n", encoding="utf-8")
        yield path

    def constraint_words(self, folder: Path) -> tuple[str, ...]:
        """Return uv's option for the constraints, which are written to a new file in ``folder``."""
        lines = (*self.own_constraints, *self.constraints)
        if not lines:
            return ()
        path = folder / "constraints.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return ("--constraints", str(path))


def read_declaration(function: Function) -> Declaration:
    """Read what the function declares; raises `UsageError` or `ResolveError` where it cannot be read."""
    requirements = function.requirements
    if requirements is None:
        return Declaration(folder=function.source, path=function.source, digest=digest_of(), files=())
    reader = find_lock_reader(requirements)
    if reader is None:
        return _declare_requirements(requirements) if requirements.kind == REQUIREMENTS else _declare_project(requirements)
    if reader.is_complete:
        return _declare_lock(function.source, requirements, reader)
    return _declare_pins(requirements, reader.read(requirements, function.target), reader)


def has_own_lock(function: Function) -> bool:
    """Return whether a function's dependencies are locked by lpack; a pylock.toml that the user named is no such lock."""
    return function.lock_path.is_file() and (function.requirements is None or function.requirements.kind != PYLOCK)


def list_declaring_files(function: Function) -> tuple[Path, ...]:
    """Return the files in which a function declares what its lock must have, beside those of its declaration."""
    reader = find_lock_reader(function.requirements)
    return reader.declaring_files(function.requirements) if function.requirements is not None and reader else ()


def is_locked(function: Function) -> bool:
    """Return whether a lock decides a function's packages: lpack's own, or one of another tool."""
    return has_own_lock(function) or find_lock_reader(function.requirements) is not None


def _declare_lock(source: Path, requirements: Requirements, reader: LockReader) -> Declaration:
    """Return what a complete lock declares; the projects beside it only decide whether it is stale."""
    projects = (path / PYPROJECT_FILE for path in dict.fromkeys((requirements.path.parent, source)))
    files = (requirements.path, *(path for path in projects if reader.follows_project and path.is_file()))
    return Declaration(folder=requirements.path.parent, path=requirements.path, digest=_files_digest(files), files=files)


def _declare_requirements(requirements: Requirements) -> Declaration:
    file = read_requirements(requirements.path)
    files = (*file.files, *(path for path in file.local_paths if path.is_file()))
    # The text after expansion: a variable may stand in a version. A token that differs between machines changes nothing.
    lines = (without_login(line.text) if "://" in line.text else line.text for line in file.lines)
    text, constraints = _text_for_uv(file) if file.foreign else (None, ())
    config = _config_settings(file)
    settings = [f"{name}:{key}={value}" for name, pairs in config.items() if "/" not in name for key, value in pairs]
    return Declaration(
        folder=requirements.path.parent,
        path=requirements.path,
        digest=digest_of(_files_digest(files), *lines),
        files=files,
        arguments=tuple(word for each in settings for word in ("--config-settings-package", each)),
        text=text,
        own_constraints=constraints,
        hashes=allowed_hashes(file),
        index_urls=(*file.index_urls, *(line.address for line in file.lines if "://" in line.address)),
        option_lines=file.option_lines,
        links=tuple(path for folder in file.links for path in (folder, *_archives_in_folder(folder))),
        variables=file.variables,
        anchored=any(line.address and "://" not in line.address for line in file.lines),
        config_settings=config,
        warnings=file.warnings,
    )


def _text_for_uv(file: RequirementsFile) -> tuple[str, tuple[str, ...]]:
    """Return what files say that uv cannot read as pip does, as the text of one file, and the lines that only constrain."""
    wanted = (line.text for line in file.lines if not line.is_constraint)
    constraints = tuple(line.text for line in file.lines if line.is_constraint)
    return "\n".join([*file.option_lines, *wanted]), constraints


def _config_settings(file: RequirementsFile) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the settings for build back ends by name, or by the path of a local project that is named by nothing else."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for line in file.lines:
        if line.config_settings and not line.is_constraint:
            key = line.name or str(local_path(line.address, line.file.parent))
            found[key] = (*found.get(key, ()), *line.config_settings)
    return found


def settings_for_back_end(declaration: Declaration, package: LockedPackage) -> tuple[tuple[str, str], ...]:
    """Return the (key, value) that a declaration has for the build back end of a package."""
    path = str(package.source.path) if isinstance(package.source, SourceFolder) else ""
    return declaration.config_settings.get(package.name) or declaration.config_settings.get(path, ())


def _declare_project(requirements: Requirements) -> Declaration:
    document = _read_document(requirements.path)
    project = document.get("project")
    if not isinstance(project, dict):
        raise UsageError(f"{requirements.path} has no table [project].", remedy="Declare the dependencies there (PEP 621).")
    get_strings(project, requirements.path, "dependencies", "project")
    _check_names(requirements, "extras", requirements.extras, document, ("project", "optional-dependencies"))
    _check_names(requirements, "groups", requirements.groups, document, ("dependency-groups",))
    words = [word for extra in requirements.extras for word in ("--extra", extra)]
    words += [word for group in requirements.groups for word in ("--group", f"{requirements.path}:{group}")]
    return Declaration(
        folder=requirements.path.parent,
        path=requirements.path,
        digest=digest_of(_project_digest(requirements.path.parent), *requirements.extras, "", *requirements.groups),
        files=(requirements.path,),
        arguments=tuple(words),
        anchored=True,
    )


def _read_document(path: Path) -> dict[str, Any]:
    return read_toml(path, UsageError, "Fix the file at that place.")


def _check_names(
    requirements: Requirements, key: str, wanted: Iterable[str], document: Mapping[str, Any], keys: tuple[str, ...]
) -> None:
    known, table = get_table(document, requirements.path, *keys) or {}, ".".join(keys)
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"{requirements.path} has no {name!r} in [{table}], which {key} names.",
                remedy=f"Known are: {', '.join(known) or 'none'}.",
            )
        get_strings(known, requirements.path, name, table, others=key == "groups")


def _declare_pins(requirements: Requirements, packages: tuple[Pin | LockedPackage, ...], reader: LockReader) -> Declaration:
    """Ask uv only where the exact versions of a lock without URLs lie: no dependency of theirs is followed."""
    pins = [package for package in packages if isinstance(package, Pin)]
    placed = [package for package in packages if isinstance(package, LockedPackage)]
    urls = tuple(dict.fromkeys(pin.index for pin in pins if pin.index))
    hashes = {pin.name: pin.sha256 for pin in pins}
    hashes |= {
        each.name: frozenset(archive.sha256 for archive in _package_archives(each))
        for each in placed
        if _package_archives(each)
    }
    lines = [f"{pin.name}=={pin.version}" for pin in pins]
    folder = requirements.path.parent
    indexes = tuple(f"--extra-index-url {url}" for url in urls)
    projects = (folder / PYPROJECT_FILE,) if reader.follows_project else ()
    return Declaration(
        folder=folder,
        path=requirements.path,
        digest=digest_of(
            *lines,
            *(f"{package.name} @ {_reference(package, folder)}" for package in placed),
            *(digest for name in sorted(hashes) for digest in sorted(hashes[name])),
        ),
        files=(requirements.path, *projects, *_local_archives(placed)),
        # Any index may hold a pinned version: the hashes say which file is meant, so the best match over all of them is safe.
        arguments=("--no-deps", "--index-strategy", "unsafe-best-match"),
        text="\n".join([*indexes, *lines, *(f"{package.name} @ {_reference(package, None)}" for package in placed)]),
        hashes=hashes,
        index_urls=urls,
        option_lines=indexes,
        anchored=any("://" not in _reference(package, folder) for package in placed),
    )


def allowed_packages(
    function: Function, declaration: Declaration, packages: tuple[LockedPackage, ...]
) -> tuple[LockedPackage, ...]:
    """Keep only the archives whose hashes the declaration lists, where it lists any; raises `ResolveError`."""
    if not declaration.hashes:
        return packages
    return tuple(_allowed_package(function, package, declaration.hashes.get(package.name)) for package in packages)


def _allowed_package(function: Function, package: LockedPackage, hashes: frozenset[str] | None) -> LockedPackage:
    place = function.requirements.path if function.requirements else function.source
    if not package.wheels and not isinstance(package.source, Archive):
        return package  # a folder of the user's own, or a commit: nothing that an index could have exchanged
    if hashes is None:
        raise ResolveError(
            f"{place} lists hashes, but none for {package}, which its requirements bring in.",
            remedy="List every package with its hash (`uv pip compile --generate-hashes` does), or none.",
        )
    wheels = tuple(wheel for wheel in package.wheels if wheel.sha256 in hashes)
    source = package.source
    if isinstance(source, Archive) and source.sha256 not in hashes:
        source = None
    if not wheels and source is None:
        raise ResolveError(
            f"Hash mismatch: none of the files that the index offers for {package} has a hash that {place} lists.",
            remedy="Do not use them before you know why. If the release changed on purpose, write its hashes anew.",
        )
    return replace(package, wheels=wheels, source=source)


def _archives_in_folder(folder: Path) -> tuple[Path, ...]:
    """Return the archives in a folder, whose time changes with its names."""
    return _list_archives(folder, folder.stat().st_mtime_ns) if folder.is_dir() else ()


@lru_cache(maxsize=64)
def _list_archives(folder: Path, _time: int) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.iterdir() if path.name.endswith(ARCHIVE_SUFFIXES) and path.is_file()))


def digest_links(declaration: Declaration, digests: Digests) -> str:
    """Return the digest of the archives that the declaration's folders offer.

    It is no part of the declaration's own digest: as with an index, what is newly offered makes no lock stale.
    """
    archives = (path for path in declaration.links if path.is_file())
    return digest_of(*(part for path in archives for part in (path.name, digests.digest(str(path)))))


def _package_archives(package: LockedPackage) -> tuple[Archive, ...]:
    return tuple(archive for archive in (*package.wheels, package.source) if isinstance(archive, Archive))


def _local_archives(packages: Iterable[LockedPackage]) -> Iterator[Path]:
    for archive in (archive for package in packages for archive in _package_archives(package)):
        if "://" not in archive.location:
            yield Path(archive.location)


def _reference(package: LockedPackage, folder: Path | None) -> str:
    """Return the address or path of a package, as a requirement writes it; paths relative to ``folder`` if given."""
    source = package.source or next(iter(package.wheels))
    if isinstance(source, Repository):
        return source.url + (f"#subdirectory={source.subdirectory}" if source.subdirectory else "")
    if isinstance(source, Archive) and "://" in source.location:
        return source.location
    path = source.path if isinstance(source, SourceFolder) else Path(source.location)
    return os.path.relpath(path, folder) if folder else path.as_uri()


def _files_digest(files: Iterable[Path]) -> str:
    """Return the digest of the files' names and contents, which does not depend on where the project lies."""
    parts: list[str] = []
    for path in files:
        parts += [path.name, file_digest(path)]
    return digest_of(*parts)


def digest_local_projects(folders: Iterable[str]) -> dict[str, str]:
    """Give, for each local project, the digest of all that decides what it needs."""
    return {folder: _project_digest(Path(folder)) for folder in folders}


def are_unchanged_projects(recorded: Mapping[str, str]) -> bool:
    """Return whether local projects still exist and have the digests that `digest_local_projects` gave them."""
    return all(map(os.path.isdir, recorded)) and digest_local_projects(recorded) == recorded


def _project_digest(folder: Path) -> str:
    """Return the digest of what decides a project's dependencies: tables of its pyproject.toml, or else every file.

    A new line in a linter's settings makes no lock stale. Dependencies that a build back end finds out may come from anywhere.
    """
    path = folder / PYPROJECT_FILE
    document = _read_document(path) if path.is_file() else {}
    project = document.get("project")
    if not isinstance(project, dict) or "dependencies" in get_strings(project, path, "dynamic", "project"):
        return project_digest(folder, Digests())
    tool = document.get("tool")
    relevant = {
        "project": project,
        "groups": document.get("dependency-groups"),
        "uv": tool.get("uv") if isinstance(tool, dict) else None,
    }
    return digest_of(json.dumps(relevant, sort_keys=True, default=str))
