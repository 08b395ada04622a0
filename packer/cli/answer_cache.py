"""Answers a command again where nothing that it looked at has changed, before anything of weight is imported.

What is remembered is all that the command printed, and the signature of every path that decided it. Anything else that could
decide it is part of the key: the arguments, the folder, the environment, whether terminals listen, and both versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from packer import __version__
from packer.cache.signatures import Signature, are_unchanged

ANSWERED = ("build", "check")
"""The commands that remember their answers."""
_FORM = "1"
_DAY = 86_400
_LETTERS = 32
"""Of a digest, in an answer's name: the first half says what was asked, the second under which circumstances."""
_MOST = 8
"""Answers to the same command in the same folder that are kept."""
# What changes from shell to shell and has no say here; PWD is what the key has as the folder.
_VOLATILE = frozenset(("_", "OLDPWD", "PWD", "SHLVL"))
# What git tells its hooks of a commit: who, when, and the file that it has what is staged in, which lpack does not read.
_OF_COMMITS = ("GIT_AUTHOR_", "GIT_COMMITTER_", "GIT_INDEX_FILE")
_CACHE_VARIABLE = "LPACK_CACHE_DIR"


def answer(arguments: Sequence[str]) -> None:
    """Print what the same command printed before and end the process, if all is as it was; return if not."""
    if not arguments or arguments[0] not in ANSWERED:
        return
    try:
        with open(_answer_path(arguments), encoding="utf-8") as file:
            digest, text = file.readline().rstrip("\n"), file.read()
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            return
        found = json.loads(text)
    except (OSError, ValueError):
        return
    if all(
        are_unchanged(((path, tuple(known)) for path, known in watched.items()), seen) for seen, watched in found["watched"]
    ):
        _print_answer(found)


def _print_answer(found: Mapping[str, str | int]) -> NoReturn:
    status = int(found["status"])
    try:
        sys.stderr.write(str(found["stderr"]))
        sys.stdout.write(str(found["stdout"]))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has enough of it; closing keeps Python from complaining again at exit
        sys.stderr.close()
        status = 1
    sys.exit(status)


def remember(
    arguments: Sequence[str], watched: Sequence[tuple[int, Mapping[str, Signature]]], out: str, told: str, status: int
) -> None:
    """Keep what a command has printed; ``watched`` are signatures with the times (in nanoseconds) that they were taken at."""
    from pathlib import Path  # a command has run, and what it took to answer no longer counts

    from builders.files import write_file

    text = json.dumps({"watched": watched, "stdout": out, "stderr": told, "status": status})
    path = _answer_path(arguments)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_file(Path(path), f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}".encode())
        _forget_others(path)
    except OSError:
        return  # it only makes the next one quick


def _answer_path(arguments: Sequence[str]) -> str:
    variables = (f"{name}={value}" for name, value in sorted(os.environ.items()) if _is_relevant(name))
    listening = f"{_terminal_width()} {sys.stderr.isatty()} {int(time.time()) // _DAY}"  # runtimes are deprecated on a day
    asked = _digest_parts((os.getcwd(), *arguments))
    here = _digest_parts((_FORM, __version__, sys.version, listening, *variables))
    return os.path.join(_find_cache_folder(), "projects", f"{asked}-{here}.json")


def _is_relevant(variable: str) -> bool:
    return variable not in _VOLATILE and not variable.startswith(_OF_COMMITS)


def _digest_parts(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:_LETTERS]


def _forget_others(path: str) -> None:
    """Remove the oldest answers of the same command in the same folder, of which other days and shells left some."""
    folder, name = os.path.split(path)
    with os.scandir(folder) as found:
        same = [each for each in found if each.name.startswith(name[: _LETTERS + 1]) and each.name.endswith(".json")]
    for each in sorted(same, key=lambda each: each.stat().st_mtime_ns)[:-_MOST]:
        os.unlink(each.path)


def _terminal_width() -> int | None:
    """Return the width of the terminal that the answer is shown on; None where it is none."""
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except OSError:
        return 0


def _find_cache_folder() -> str:
    """Return the same folder as `packer.cache.local.store_folder`, whose imports would take longer than all else here."""
    named = os.environ.get(_CACHE_VARIABLE)
    if named:
        return os.path.abspath(named)
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Caches/lpack")
    return os.path.join(os.environ.get("XDG_CACHE_HOME", "").strip() or os.path.expanduser("~/.cache"), "lpack")
