"""Finds what has changed since an output folder was built: who pushes or runs it should know."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from builders.files import file_digest
from packer.cache.signatures import Signature, signature
from packer.core.model import Function
from packer.pipeline.state import FunctionState, State
from packer.source.function_source import scan_outline

_TOLD = 3
"""How many paths a warning lists."""


def find_outdated(state: State, functions: Iterable[Function], out: Path, root: Path) -> Iterator[str]:
    """Return a warning for each function whose source, or a file below ``root`` that decides it, has changed since.

    ``state`` is that of the last build into ``out``. Other files, such as the tools of this machine, do not count.
    """
    shared = {path for path, known in state.watched.items() if _is_below(path, root) and _differs(path, known, state)}
    for function in functions:
        known = state.functions.get(function.name)
        if known is None:
            continue
        found = sorted(os.path.relpath(path, root) for path in shared.union(_changed(function, known, state, out, root)))
        if found:
            listed = ", ".join(found[:_TOLD]) + (f" and {len(found) - _TOLD} more" if len(found) > _TOLD else "")
            yield f"{function.name} is as it was built before {listed} changed; `lpack build` builds it again."


def _changed(function: Function, known: FunctionState, state: State, out: Path, root: Path) -> Iterator[str]:
    source = f"{function.source}{os.sep}"
    skip = [out, *([function.requirements.path] if function.requirements else [])]
    now = {
        f"{source}{path}" for path in scan_outline(function.source, root=function.root, ignore=function.ignore, skip=skip).files
    }
    yield from now - known.watched.keys()
    for path, was in known.watched.items():
        if (path.startswith(source) or _is_below(path, root)) and _differs(path, was, state):
            yield path


def _is_below(path: str, root: Path) -> bool:
    return path.startswith(f"{root}{os.sep}")


def _differs(path: str, was: Signature, state: State) -> bool:
    """Return whether a file has other content than it had; folders never differ, their files do."""
    now = signature(path)
    if now == was or any(stat.S_ISDIR(each[0]) for each in (now, was) if each):
        return False
    return not (now and was) or file_digest(Path(path)) != _remembered(path, state.digests)


def _remembered(path: str, digests: Mapping[str, tuple[Signature, str]]) -> str:
    return digests[path][1] if path in digests else ""
