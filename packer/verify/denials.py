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
TRACED_FILES = re.compile(r'^ *File "([^"]+)", line', re.MULTILINE)
"""The files of a traceback's frames."""
_MAKERS = ("/synchronize.py", "/shared_memory.py")
"""Modules that make what processes share: of multiprocessing, and of what was made of it (billiard, loky)."""
# The function's own statement that has failed, or what that calls, says that it makes a file by its mode (Python
# documentation, `open`), or a folder.
_WRITES = re.compile(
    r"""\bopen\(.*['"](?:[bt]*[wax][bt+]*|r[bt]?\+[bt]?)['"]|\b(?:mkdir|makedirs|mkdtemp|mkstemp|touch|write_text|write_bytes)\("""
)
_LOGS = re.compile(r'File "[^"]*/logging/__init__\.py", line \d+, in _open\b')
_NO_CACHE = re.compile(r"cannot cache function .*: no locator available for file")
"""What numba says of ``cache=True`` where neither the folder of the source nor a home folder can be written."""
_STARTS_PROGRAM = re.compile(r'File "[^"]*/subprocess\.py", line \d+, in _execute_child')

# What packages say that look for a library by `ctypes.util.find_library`: of magic, pyzbar, soundfile, Wand, shapely, and more.
_LIBRARY_SOUGHT = (
    re.compile(r"\b(?:find|locate|load)(?: the| a)? (?:shared )?(?:library )?['\"]?(lib[\w.+-]{2,64}+)", re.IGNORECASE),
    re.compile(
        r"\b(?:find|locate|load)(?: the| a)? (?:shared )?library (?:called |named )?['\"]?([\w+-]{2,64}+)", re.IGNORECASE
    ),
    re.compile(r"\b(?:find|locate|load)(?: the| a)? ['\"]?([\w+-]{2,64}+)['\"]? (?:shared |C )?library\b", re.IGNORECASE),
    re.compile(r"(?<![\w+-])([\w+-]{2,64}+)['\"]? (?:shared |C )?library (?:was |is )?not found\b", re.IGNORECASE),
    re.compile(r"(?<![\w+-])(lib[\w+-]{2,64}+)['\"]? (?:was |is )?not found\b", re.IGNORECASE),
    re.compile(r"\bno library called ['\"]([\w.+-]{2,64}+)['\"] was found\b", re.IGNORECASE),
)
_NO_LIBRARY_NAMES = frozenset(
    (
        *("the", "a", "any", "this", "that", "of", "for", "in", "its", "required", "needed", "necessary", "correct", "right"),
        *("shared", "native", "dynamic", "system", "standard", "module", "library", "python", "external", "configuration"),
        *("libraries", "libs", "your", "our", "my", "their", "these", "those", "some", "all", "no", "missing", "following"),
    )
)
"""Words before or behind "library" that are no names."""


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
    if _NO_CACHE.search(message):
        return Denial(what="only /tmp can be written", remedy=name_folder("NUMBA_CACHE_DIR"), certain=False)
    last = TRACED_FILES.findall(trace)[-2:]  # the very last may be of what makes locks fail here (`builders.inside.probe`)
    in_memory = kind in {"OSError", "FileNotFoundError"} and any(file.endswith(_MAKERS) for file in last)
    if (in_memory and _NO_MEMORY.search(message)) or (absent and is_below(absent[1], _SHARED_MEMORY)):
        remedy = "Use threads, or processes with multiprocessing.Pipe, instead of locks, queues, pools and shared memory."
        return Denial(what=f"multiprocessing needs {_SHARED_MEMORY}, which Lambda does not have", remedy=remedy)
    if absent and kind == "FileNotFoundError" and "/" not in absent[1] and _STARTS_PROGRAM.search(trace):
        name = absent[1]
        remedy = f"Put {name} into bin/ of a layer, which is on PATH as {LAYERS_MOUNT}/bin, or do without it."
        certain = name in ABSENT_PROGRAMS
        return Denial(what=f"there is no program {name}", path=name, program=True, certain=certain, remedy=remedy)
    return _find_absent_file(absent[1], trace) if absent and kind == "FileNotFoundError" else None


def starts_program(trace: str) -> bool:
    """Return whether an error was raised where `subprocess` starts a program."""
    return bool(_STARTS_PROGRAM.search(trace))


def _find_absent_file(name: str, trace: str) -> Denial | None:
    """Return what says that a file is not there which nothing but a package could bring; None for any other file."""
    path = posixpath.normpath(posixpath.join(TASK_FOLDER, name))  # Lambda starts functions in that folder
    if not is_below(path, TASK_FOLDER) and not is_below(path, LAYERS_MOUNT):
        return None
    if _WRITES.search(trace[trace.rfind(f'File "{TASK_FOLDER}/') :]) or _LOGS.search(trace):
        return Denial(what="only /tmp can be written", path=path, remedy="Write below /tmp.")
    where, place = ("the function", "its source") if is_below(path, TASK_FOLDER) else ("its layers", "one of them")
    remedy = f"Put it into {place}, or look for it where it lies, and build again."
    return Denial(what=f"it is not packed with {where}", path=path, packed=True, remedy=remedy)


def sought_library(message: str) -> str:
    """Return the library that a package says in its own words it has not found; empty where it says no such thing."""
    sought = (found[1] for pattern in _LIBRARY_SOUGHT if (found := pattern.search(message)))
    return next((each for each in sought if each.lower() not in _NO_LIBRARY_NAMES), "").rstrip(".")


def name_folder(variable: str) -> str:
    """Return what to do about a folder that a variable of the function's names."""
    return f'Let the variable {variable} name a folder that can be written: environment = {{ {variable} = "/tmp" }}.'


def is_below(path: str, folder: str) -> bool:
    """Return whether a path is a folder's, or that of something in it."""
    folder = folder.rstrip("/")
    return bool(folder) and (path == folder or path.startswith(f"{folder}/"))
