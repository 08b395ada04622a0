"""Lists what a Python of this machine needs to run in a root folder of its own: ``python libraries.py NAMES PROGRAMS``.

NAMES are sonames, PROGRAMS names or paths of programs, with colons between. Prints JSON: ``stdlib``, the folder of the standard
library, and ``platlib``, the name of the folder that it belongs into; ``needs``, the sonames that each extension module there,
each program (by its path) and the interpreter (an empty name) needs; ``libraries`` and ``programs``, the file of each soname
and of each program that is here.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig

_LINE = re.compile(r"^\s*(\S+) => (/\S+) \(0x", re.MULTILINE)
"""A line of what the loader lists: a soname, and the file that it takes for it (ld.so(8), --list)."""
_SECONDS = 30


def main(names: str, programs: str) -> int:
    """Print the list."""
    modules = os.path.join(sysconfig.get_path("platstdlib"), "lib-dynload")
    libraries: dict[str, str] = {}
    needs: dict[str, list[str]] = {"": needed(os.path.realpath(sys.executable), libraries)}
    for name in sorted(os.listdir(modules)) if os.path.isdir(modules) else ():
        needs[name] = needed(os.path.join(modules, name), libraries)
    found = {}
    for name in programs.split(":"):
        path = shutil.which(name, path="/usr/bin:/bin:/usr/local/bin")
        if path:
            found[os.path.basename(name)] = os.path.realpath(path)
            needs[os.path.realpath(path)] = needed(os.path.realpath(path), libraries)
    libraries.update(loaded(names.split(":")))
    document = {
        "stdlib": sysconfig.get_path("stdlib"),
        "platlib": getattr(sys, "platlibdir", "lib"),
        "needs": needs,
        "libraries": libraries,
        "programs": found,
    }
    sys.stdout.write(json.dumps(document))
    return 0


def needed(path: str, libraries: dict[str, str]) -> list[str]:
    """Return the sonames that a file needs, and note the file of each; none for what is no program of the loader."""
    loader = loader_path()
    if not loader:
        return []
    command = [loader, "--list", path]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_SECONDS, check=False)
    pairs = _LINE.findall(done.stdout.decode("utf-8", "surrogateescape"))
    libraries.update(pairs)
    return [name for name, _ in pairs]


def loader_path() -> str:
    """Return the file of the loader that runs this process; empty where it is not known."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        paths = (line.split(None, 5)[5].rstrip("\n") for line in file if line.count("/"))
        return next((path for path in paths if os.path.basename(path).startswith(("ld-linux", "ld-2.", "ld."))), "")


def loaded(names: list[str]) -> dict[str, str]:
    """Return the file that the loader takes for each soname that it finds."""

    class Facts(ctypes.Structure):
        _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))

    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue  # it is not here
    found: dict[str, str] = {}

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Facts), ctypes.c_size_t, ctypes.c_void_p)  # type: ignore[untyped-decorator]
    def note(facts: ctypes._Pointer[Facts], _size: int, _data: object) -> int:
        path = os.fsdecode(facts.contents.name or b"")
        if path.startswith("/"):
            found[os.path.basename(path)] = path
        return 0

    ctypes.CDLL(None).dl_iterate_phdr(note, None)  # dl_iterate_phdr(3)
    wanted = set(names)
    return {name: path for name, path in found.items() if name in wanted}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
