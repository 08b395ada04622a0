"""Writes locks: resolves functions side by side, and replaces a lock file only by a complete one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packer.discover import PYLOCK, UV_LOCK
from packer.model import Function
from packer.ports import Reporter
from packer.resolve import Resolver
from packer.store import replace_file

# A resolver mostly waits for the index.
_PARALLEL = 4


def lock_all(functions: Sequence[Function], resolver: Resolver, reporter: Reporter) -> dict[Path, bool]:
    """Write the functions' locks, and say for each whether it changed; nothing is written where one cannot be resolved.

    Functions whose dependencies are locked already (uv.lock, pylock.toml), or that have none, are passed over with a note.
    """
    wanted = [function for function in functions if _needs_lock(function, reporter)]
    with ThreadPoolExecutor(_PARALLEL) as executor:
        texts = list(executor.map(resolver.lock_text, wanted))
    return {function.lock_path: _write(function.lock_path, text) for function, text in zip(wanted, texts, strict=True)}


def _needs_lock(function: Function, reporter: Reporter) -> bool:
    requirements = function.requirements
    if requirements is None:
        reporter.note(f"{function.name} has no dependencies to lock")
        return False
    if requirements.kind in (PYLOCK, UV_LOCK):
        reporter.note(f"{function.name} is locked by {requirements.path.name} already")
        return False
    return True


def _write(path: Path, text: str) -> bool:
    data = text.encode()
    if path.is_file() and path.read_bytes() == data:
        return False
    replace_file(path, data)
    return True
