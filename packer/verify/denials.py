"""What Lambda denies every function: to write outside /tmp, shared memory, and files and programs that are not there."""

from __future__ import annotations

import posixpath
import re

from msgspec import Struct

from builders.runtimes import ABSENT_PROGRAMS, FUNCTION_USER_NAME, LAYERS_MOUNT, TASK_FOLDER

_HOME = f"/home/{FUNCTION_USER_NAME}"
"""The home folder of who runs functions, which does not exist: HOME is not set."""
_READ_ONLY = re.compile(r"\[Errno 30\] [^:]*: b?['\"]([^'\"]+)")
_ABSENT = re.compile(r"\[Errno 2\] [^:]*: b?['\"]([^'\"]+)")
_NO_MEMORY = re.compile(r"\[Errno (?:2|38)\]")
"""No such file, or no such function: what C libraries say of shared memory where there is no /dev/shm."""
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 it is only looked for
_FILES = re.compile(r'^ *File "([^"]+)", line', re.MULTILINE)
_MAKERS = ("/synchronize.py", "/shared_memory.py")
"""Modules that make what processes share: of multiprocessing, and of what was made of it (billiard, loky)."""
_STARTS_PROGRAM = re.compile(r'File "[^"]*/subprocess\.py", line \d+, in _execute_child')


class Denial(Struct, frozen=True, kw_only=True):
    """What Lambda denies a function that asks for it. ``what`` is a clause; ``certain``: it denies that to all functions.

    ``path`` is what could not be written, read or started, by its absolute path or its name; ``program``: it is a program, and
    ``packed``: it is a file that could only be there if it was packed, with the function or with a layer.
    """

    what: str
    remedy: str
    path: str = ""
    program: bool = False
    packed: bool = False
    certain: bool = True


def find_denial(kind: str, message: str, trace: str) -> Denial | None:
    """Return what an error says that Lambda denies; None where it says no such thing."""
    absent = _ABSENT.search(message)
    found = _READ_ONLY.search(message)
    if found:
        path = posixpath.normpath(posixpath.join(TASK_FOLDER, found[1]))
        at_home = is_below(path, _HOME)
        remedy = "Write below /tmp, or pack what is written there with the function."
        return Denial(
            what="only /tmp can be written",
            path=path,
            certain=not at_home,
            remedy=name_folder("HOME") if at_home else remedy,
        )
    last = _FILES.findall(trace)[-2:]  # the very last may be of what makes locks fail here (`builders.inside.probe`)
    in_memory = kind in {"OSError", "FileNotFoundError"} and any(file.endswith(_MAKERS) for file in last)
    if (in_memory and _NO_MEMORY.search(message)) or (absent and is_below(absent[1], _SHARED_MEMORY)):
        remedy = "Use threads, or processes with multiprocessing.Pipe, instead of locks, queues, pools and shared memory."
        return Denial(what=f"multiprocessing needs {_SHARED_MEMORY}, which Lambda does not have", remedy=remedy)
    if absent and kind == "FileNotFoundError" and "/" not in absent[1] and _STARTS_PROGRAM.search(trace):
        name = absent[1]
        remedy = f"Put {name} into bin/ of a layer, which is on PATH as {LAYERS_MOUNT}/bin, or do without it."
        certain = name in ABSENT_PROGRAMS
        return Denial(what=f"there is no program {name}", path=name, program=True, certain=certain, remedy=remedy)
    return _find_absent_file(absent[1]) if absent and kind == "FileNotFoundError" else None


def _find_absent_file(name: str) -> Denial | None:
    """Return what says that a file is not there which nothing but a package could bring; None for any other file."""
    path = posixpath.normpath(posixpath.join(TASK_FOLDER, name))  # Lambda starts functions in that folder
    if not is_below(path, TASK_FOLDER) and not is_below(path, LAYERS_MOUNT):
        return None
    where, place = ("the function", "its source") if is_below(path, TASK_FOLDER) else ("its layers", "one of them")
    remedy = f"Put it into {place}, or look for it where it lies, and build again."
    return Denial(what=f"it is not packed with {where}", path=path, packed=True, remedy=remedy)


def name_folder(variable: str) -> str:
    """Return what to do about a folder that a variable of the function's names."""
    return f'Let the variable {variable} name a folder that can be written: environment = {{ {variable} = "/tmp" }}.'


def is_below(path: str, folder: str) -> bool:
    """Return whether a path is a folder's, or that of something in it."""
    folder = folder.rstrip("/")
    return bool(folder) and (path == folder or path.startswith(f"{folder}/"))
