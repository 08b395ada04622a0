"""Scripts of `builders.inside` as files for an interpreter: as bytecode, once they run so often that it is worth making it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from builders.inside import read_script

_COMPILED_AFTER = 20
"""Runs of a script from which on it is bytecode."""


class ScriptCache:
    """Writes scripts; may be used from many threads. ``compile`` returns a script's bytecode, empty where it cannot be made."""

    def __init__(self, compile_script: Callable[[str, Path], bytes]) -> None:
        self._compile = compile_script
        self._runs: Counter[str] = Counter()
        self._bytecode: dict[str, bytes] = {}
        self._lock = Lock()

    def write(self, name: str, folder: Path) -> Path:
        """Write a script to a folder, as bytecode from the time on when that is worth a start of the interpreter; return it."""
        with self._lock:
            self._runs[name] += 1
            due = self._runs[name] == _COMPILED_AFTER
        if due:
            self._bytecode[name] = self._compile(name, folder)
        compiled = self._bytecode.get(name)
        path = folder / (f"{name}c" if compiled else name)
        path.write_bytes(compiled or read_script(name))
        return path
