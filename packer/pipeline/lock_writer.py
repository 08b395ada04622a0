"""Writes locks: resolves functions side by side, and replaces a lock file only by a complete one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from builders.errors import LpackError
from packer.cache.store import replace_file, store_errors
from packer.core.errors import UsageError
from packer.core.events import Reporter
from packer.core.futures import collect_results
from packer.core.model import Function
from packer.core.names import ENGINE_FORM, LOCAL_FORMS
from packer.formats.oci import Platform
from packer.images.builder import ImageBuilder
from packer.locks.base_pins import PINS_FILE, pins_text, read_pins
from packer.locks.formats import find_lock_reader
from packer.resolve.declaration import has_own_lock
from packer.resolve.joint_declaration import can_share_versions
from packer.resolve.resolver import Resolver

# A resolver mostly waits for the index.
_PARALLEL = 4


def lock_all(functions: Sequence[Function], resolver: Resolver, reporter: Reporter) -> dict[Path, bool]:
    """Write the functions' locks, and return whether each changed; nothing is written where one cannot be resolved.

    Functions whose dependencies are locked already (uv.lock, pylock.toml), or that have none, are passed over with a note.
    The locks of those that share versions with the functions are renewed with theirs, where they have one. Raises the one
    error, or `ManyErrors`.
    """
    wanted = [function for function in functions if _needs_lock(function, reporter)]
    wanted += _find_partners(wanted)
    with ThreadPoolExecutor(_PARALLEL) as executor:
        texts = collect_results({function.lock_path: executor.submit(resolver.lock_text, function) for function in wanted})
    return {path: _write_if_changed(path, text) for path, text in texts.items()}


def lock_bases(functions: Sequence[Function], imaging: Callable[[], ImageBuilder]) -> dict[Path, bool]:
    """Write the locks of the bases of all functions that become images; return whether each changed.

    Run-time images that are locked (`lpack runtime pull`) stay so. Entries that no function uses are removed. A file without
    any use is left: another configuration of the folder, such as a template, may use it. Raises `LpackError`.
    """
    found: dict[Path, dict[tuple[str, str], str]] = {function.image.root: {} for function in functions}
    for function in functions:
        found[function.image.root].update(runtime_pin(function))
    for function in functions:
        if function.image.wanted:
            found[function.image.root].update(imaging().pin(function))
            if function.base_name.startswith(LOCAL_FORMS):  # whose layers are here anyway
                imaging().check(function)
    return {root / PINS_FILE: _write_if_changed(root / PINS_FILE, pins_text(pins)) for root, pins in found.items() if pins}


def runtime_pin(function: Function) -> dict[tuple[str, str], str]:
    """Return what the lock of bases has of a function's run-time image; nothing where it is not locked."""
    target = function.target
    named = (target.runtime_image, str(Platform.of(target.architecture)))
    return {named: target.image.digest} if target.image.digest else {}


def lock_runtimes(functions: Sequence[Function], digests: Mapping[tuple[str, str], str]) -> dict[Path, bool]:
    """Write the digests of run-time images to the locks of bases of the functions that use them; return whether each changed.

    ``digests`` are by the names of images and the platform. All other entries stay. Raises `LpackError`.
    """
    outcomes = {}
    for root in dict.fromkeys(function.image.root for function in functions):
        targets = [function.target for function in functions if function.image.root == root]
        names = {(target.runtime_image, str(Platform.of(target.architecture))) for target in targets}
        mine = {named: digest for named, digest in digests.items() if named in names and "@" not in named[0]}
        if mine:
            outcomes[root / PINS_FILE] = _write_if_changed(root / PINS_FILE, pins_text({**read_pins(root), **mine}))
    return outcomes


def check_locks(
    functions: Sequence[Function], resolver: Resolver, imaging: Callable[[], ImageBuilder]
) -> tuple[list[Path], list[LpackError]]:
    """Return the locks that fit what is required, and the errors of all others.

    ``resolver`` must be one that resolves nothing, and ``imaging`` one that takes no base that is not locked. Decided without a
    network. Functions without dependencies have nothing that could be stale but their base.
    """
    fresh: list[Path] = []
    wrong: list[LpackError] = []
    for function in functions:
        checks = (partial(_check_lock, function, resolver), partial(_check_base_lock, function, imaging))
        for check in checks:
            try:
                fresh += check()
            except LpackError as error:
                wrong.append(error)
    return list(dict.fromkeys(fresh)), wrong


def _check_lock(function: Function, resolver: Resolver) -> list[Path]:
    """Return the lock that a function's requirements have; raises `LpackError` for one that does not fit."""
    if function.requirements is None:
        return []
    reader = find_lock_reader(function.requirements)
    if reader is not None and not reader.is_complete and not has_own_lock(function):
        from packer.resolve.closure import check_pins

        check_pins(function)
    else:
        resolver.lock(function)
    return [function.lock_path if has_own_lock(function) else function.requirements.path]


def _check_base_lock(function: Function, imaging: Callable[[], ImageBuilder]) -> list[Path]:
    """Return the lock of an image's base, checked against local files; raises `LpackError`."""
    named, root = function.base_name, function.image.root
    if not function.image.wanted or ("@" in named and not named.startswith(LOCAL_FORMS)):
        return []
    if (named, str(Platform.of(function.target.architecture))) not in read_pins(root):
        what = f"{function.name} is built upon {named}, which {PINS_FILE} does not have."
        raise UsageError(what, remedy="Run `lpack lock`.")
    if named.startswith(LOCAL_FORMS) and not named.startswith(ENGINE_FORM):
        imaging().base(function)
    return [root / PINS_FILE]


def _needs_lock(function: Function, reporter: Reporter) -> bool:
    requirements = function.requirements
    if requirements is None:
        reporter.note(f"{function.name} has no dependencies to lock")
        return False
    reader = find_lock_reader(requirements)
    if reader and reader.is_complete:
        reporter.note(f"{function.name} is locked by {requirements.path.name} already")
        return False
    return True


def _find_partners(functions: Sequence[Function]) -> list[Function]:
    """Return the other functions with a lock that would no longer agree with theirs if a version moved."""
    known = {function.name for function in functions}
    found = {
        peer.name: replace(peer, sharing=function.sharing)
        for function in functions
        for peer in function.sharing
        if peer.name not in known and peer.target == function.target and peer.lock_path.is_file() and can_share_versions(peer)
    }
    return [found[name] for name in sorted(found)]


def _write_if_changed(path: Path, text: str) -> bool:
    data = text.encode()
    with store_errors(path, "read"):
        if path.is_file() and path.read_bytes() == data:
            return False
    replace_file(path, data)
    return True
