"""Remembers what locks say for a target: to parse them and to evaluate markers takes longer than the rest of a rebuild."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builders.runtimes import Target
from packer import __version__
from packer.cache.derived_values import derive
from packer.cache.store import Store, digest_of
from packer.core.fingerprint import fingerprint
from packer.core.model import Lock, LockedPackage

_KIND = "parsed-locks"
_FORM_AND_VERSION = ("3", __version__)


class LockMemory:
    """Parses the texts of locks in pylock.toml's form, each once for a store; may be used from many threads.

    What is wrong with a lock is not remembered: it is found and reported again each time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def parse(self, text: str, path: Path, target: Target, *, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Lock:
        """Return what `packer.locks.pylock.parse_pylock` does; raises what that raises."""

        def parse() -> tuple[LockedPackage, ...]:
            from packer.locks.pylock import parse_pylock

            return parse_pylock(text, path, target, extras=extras, groups=groups).packages

        asked = fingerprint(target, tuple(extras), tuple(groups))
        # Relative paths start from the lock's folder.
        key = digest_of("packages", *_FORM_AND_VERSION, text, str(path.parent.absolute()), asked)
        packages = derive(self._store, _KIND, key, tuple[LockedPackage, ...], parse)
        return Lock(target=target, packages=packages, origin=path.name)

    def tool_table(self, text: str, path: Path) -> Mapping[str, Any]:
        """Return what `packer.locks.pylock.parse_tool_table` does; raises what that raises."""

        def parse() -> dict[str, Any]:
            from packer.locks.pylock import parse_tool_table

            return dict(parse_tool_table(text, path))

        key = digest_of("tool", *_FORM_AND_VERSION, text)
        return derive(self._store, _KIND, key, dict[str, Any], parse)
