"""Lists what a Python of this machine needs to run in a root folder of its own: ``python libraries.py NAMES PROGRAMS``.

NAMES are sonames, PROGRAMS names or paths of programs, with line feeds between. Prints JSON: ``stdlib``, the folder of the
standard library, and ``platlib``, the name of the folder that it belongs into; ``needs``, the sonames that each extension
module there, each program (by its path) and the interpreter (an empty name) needs, directly or not; ``libraries`` and
``programs``, the file of each soname and of each program that is here; ``certificates``, the file where its OpenSSL looks for
those of authorities.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig

_LINE = re.compile(r"^\s*(\S+) => (/.+) \(0x[0-9a-f]+\)$", re.MULTILINE)
"""A line of what the loader lists: a soname, and the file that it takes for it (ld.so(8), --list)."""
_SECONDS = 30
_ABSENT = re.compile(r"_tkinter|_test|xx|nis\.|_ctypes_test")
"""Extension modules that Lambda's Python does not have, or that are there to test Python."""
_IDENTITY = b"\x7fELF\x02\x01"
"""The head of a 64-bit, little-endian file; the tables that are read of it, in the order of gABI, chapters 4 and 5."""
_FILE, _SEGMENT, _ENTRY = struct.Struct("<16sHHIQQQIHHH"), struct.Struct("<IIQQQQQQ"), struct.Struct("<QQ")
_LOAD, _DYNAMIC, _NEEDED, _STRINGS = 1, 2, 1, 5
_LONGEST_NAME = 256


def main(names: str, programs: str) -> int:
    """Print the list."""
    modules = os.path.join(sysconfig.get_path("platstdlib"), "lib-dynload")
    listed = sorted(os.listdir(modules)) if os.path.isdir(modules) else []
    files = {"": os.path.realpath(sys.executable)}
    files.update({name: os.path.join(modules, name) for name in listed if not _ABSENT.match(name)})
    found = {}
    for name in programs.split("\n"):
        path = shutil.which(name, path="/usr/bin:/bin:/usr/local/bin")
        if path:
            found[os.path.basename(name)] = os.path.realpath(path)
            files[os.path.realpath(path)] = os.path.realpath(path)
    direct = {name: needed(path) for name, path in files.items()}
    wanted = {name for each in direct.values() for name in each}
    libraries = resolve(files[""], modules, [name for name in files if name in listed], [*wanted, *names.split("\n")])
    between = {name: needed(path) for name, path in libraries.items()}
    document = {
        "stdlib": sysconfig.get_path("stdlib"),
        "platlib": getattr(sys, "platlibdir", "lib"),
        "needs": {name: [each for each in closure(names, between) if each in libraries] for name, names in direct.items()},
        "libraries": libraries,
        "programs": found,
        "certificates": certificates(),
    }
    sys.stdout.write(json.dumps(document))
    return 0


def certificates() -> str:
    """Return the file that OpenSSL was built to take certificates of authorities from; empty where there is no module ssl."""
    try:
        import ssl
    except ImportError:
        return ""
    return ssl.get_default_verify_paths().openssl_cafile


def closure(names: list[str], between: dict[str, list[str]]) -> list[str]:
    """Return sonames, and all that these need."""
    found = dict.fromkeys(names)
    waiting = list(names)
    while waiting:
        more = [name for name in between.get(waiting.pop(), ()) if name not in found]
        found.update(dict.fromkeys(more))
        waiting += more
    return list(found)


def needed(path: str) -> list[str]:
    """Return the sonames that a file itself needs; none for what is no such file."""
    try:
        with open(path, "rb") as file:
            head = file.read(_FILE.size)
            if not head.startswith(_IDENTITY):
                return []
            _, _, _, _, _, start, _, _, _, size, count = _FILE.unpack(head)
            file.seek(start)
            table = file.read(size * count)
            segments = [_SEGMENT.unpack_from(table, size * number) for number in range(count)]
            entries = []
            for kind, _, offset, _, _, length, _, _ in segments:
                if kind == _DYNAMIC:
                    file.seek(offset)
                    data = file.read(length)
                    entries = list(_ENTRY.iter_unpack(data[: len(data) // _ENTRY.size * _ENTRY.size]))
            strings = next((value for tag, value in entries if tag == _STRINGS), 0)
            found = []
            for _, place in (entry for entry in entries if entry[0] == _NEEDED):
                file.seek(offset_of(segments, strings + place))
                found.append(file.read(_LONGEST_NAME).partition(b"\0")[0].decode())
            return found
    except (OSError, ValueError, struct.error):
        return []


def offset_of(segments: list[tuple[int, ...]], address: int) -> int:
    """Return where in the file lies what is loaded at an address; raises ``ValueError``."""
    for kind, _, offset, start, _, length, _, _ in segments:
        if kind == _LOAD and start <= address < start + length:
            return offset + address - start
    raise ValueError(address)


def resolve(program: str, folder: str, modules: list[str], names: list[str]) -> dict[str, str]:
    """Return the file that the loader takes for each soname, and for all that these need, where a program loads them.

    ``modules`` are files of a folder that the program loads as well.
    """
    loader = loader_path()
    if not loader:
        return {}
    # By names alone: spaces and colons in a path would end it (ld.so(8), LD_PRELOAD).
    environment = {"LD_PRELOAD": ":".join([*(f"./{name}" for name in modules), *sorted(names)])}
    command = [loader, "--list", program]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_SECONDS,
        check=False,
        env=environment,
        cwd=folder if modules else "/",
    )
    found = {name: path for name, path in _LINE.findall(done.stdout.decode("utf-8", "surrogateescape")) if "/" not in name}
    return {**found, os.path.basename(loader): loader}


def loader_path() -> str:
    """Return the file of the loader that runs this process; empty where it is not known."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        paths = (line.split(None, 5)[5].rstrip("\n") for line in file if line.count("/"))
        return next((path for path in paths if os.path.basename(path).startswith(("ld-linux", "ld-2.", "ld."))), "")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
