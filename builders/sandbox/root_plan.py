"""The root folder that a sandbox runs in, as on Lambda: what lies there whatever it is made of, and one for a Python of this
machine, which holds that Python, the libraries that the runtime has, and nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct, field

from builders.errors import UnavailableError
from builders.inside import read_script
from builders.interpreters import Interpreter
from builders.runtimes import (
    DEFAULT_RUNTIME,
    FUNCTION_GROUP,
    FUNCTION_USER,
    FUNCTION_USER_NAME,
    LANG_FOLDER,
    LAYERS_MOUNT,
    MACHINES,
    RUNTIME_FOLDER,
    RUNTIMES,
    TASK_FOLDER,
    Target,
)
from builders.sandbox.seccomp import system_call_filter

SCRIPT_FOLDER = "/var/rapid"
"""Where lpack's own script lies: on Lambda, the program that starts the runtime does."""
MOUNT_FOLDERS = (
    *("/dev", "/etc", "/home", "/proc", "/sys", "/tmp"),  # noqa: S108 Lambda's own
    *(TASK_FOLDER, LAYERS_MOUNT, SCRIPT_FOLDER, RUNTIME_FOLDER),
)
"""Folders that every root must have, for something is mounted there."""
UNSET = ("HOME",)
"""Variables that are not set on Lambda, though runtimes' images and engines may set them."""
HOST_NAME = "sandbox"
USER_FILES = {
    "/etc/passwd": f"root:x:0:0:root:/root:/bin/bash\n"
    f"{FUNCTION_USER_NAME}:x:{FUNCTION_USER}:{FUNCTION_GROUP}::/home/{FUNCTION_USER_NAME}:/sbin/nologin\n",
    "/etc/group": f"root:x:0:\n{FUNCTION_USER_NAME}:x:{FUNCTION_GROUP}:\n",
}
"""Files that say who the users are."""
_FILES = {
    **USER_FILES,
    "/etc/hosts": f"127.0.0.1 localhost {HOST_NAME}\n::1 localhost\n",
    "/etc/resolv.conf": "",
}
MOUNT_FILES = tuple(_FILES)
"""Files that every root must have, for another one is seen in their place."""


class RootPlan(Struct, frozen=True, kw_only=True):
    """A root folder, as `builders.inside.isolate.Plan` has it."""

    base: tuple[str, ...] = ()
    folders: tuple[str, ...] = MOUNT_FOLDERS
    links: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, int, bytes], ...] = tuple((place, 0o644, text.encode()) for place, text in _FILES.items())
    shown: tuple[tuple[str, str], ...] = ()
    hidden: tuple[str, ...] = ()
    user: tuple[int, int] = (FUNCTION_USER, FUNCTION_GROUP)
    filter: bytes = field(default_factory=system_call_filter)
    host: str = HOST_NAME


class HostFacts(Struct, frozen=True, kw_only=True):
    """What `builders.inside.libraries` lists: what a Python of this machine, and programs, need of it."""

    stdlib: str
    platlib: str
    needs: dict[str, list[str]]
    libraries: dict[str, str]
    programs: dict[str, str]
    certificates: str = ""


Fact = TypeVar("Fact")


class Remember(Protocol):
    """Returns the fact of this machine that was found before under a key, or finds it now.

    A fact of another form (type) under the same key is found anew, and replaced.
    """

    def __call__(self, key: str, form: type[Fact], find: Callable[[], Fact], /) -> Fact: ...


_SECONDS = 60
_LIBRARIES, _PROGRAMS = "/usr/lib64", "/usr/bin"
_LOADERS = {"ld-linux-aarch64.so.1": "/usr/lib/ld-linux-aarch64.so.1"}
"""Loaders that do not lie with the libraries (each architecture's psABI); /lib is /usr/lib."""
_KINDS = {"x86_64": "libc6,x86-64", "aarch64": "libc6,AArch64"}
"""What ldconfig calls libraries of a machine."""
_EMPTY = ("/etc/ssl", "/media", "/mnt", "/root", "/run", "/srv", "/usr/lib", "/var/tmp")  # noqa: S108 nothing is written to them
_COMMANDS = (
    *("sh", "bash", "basename", "cat", "chmod", "cp", "cut", "date", "dirname", "echo", "env", "expr", "false", "grep", "head"),
    *("id", "ln", "ls", "mkdir", "mktemp", "mv", "printf", "pwd", "readlink", "realpath", "rm", "rmdir", "sed", "sleep"),
    *("sort", "tail", "tee", "test", "touch", "tr", "true", "uname", "uniq", "wc", "which"),
)
"""Programs that the operating systems of all runtimes have: of bash, coreutils, grep and sed, without which no package of
theirs can be installed."""
_NAME_SERVICES = ("libnss_files.so.2", "libnss_dns.so.2")
"""What the C library loads by itself to look up users and hosts; newer ones have it built in."""
_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_SYSTEM, _LINKED = ("/etc/", "/usr/"), ("/etc/ssl/", "/etc/pki/")
"""Where an operating system's own OpenSSL looks for certificates, and where of that the root has a link anyway."""
_ZONES = "/usr/share/zoneinfo"
_NOT_IN = ("site-packages", "dist-packages", "test", "idlelib", "turtledemo")
"""Folders of the standard library that are hidden: what is installed for this machine, and what the runtimes do not have."""


class HostRoot(Struct, frozen=True, kw_only=True):
    """A root for a Python of this machine, with the path of its interpreter there.

    ``libraries`` are places of libraries that the runtime has, ``private`` those that it need not have, with the modules of the
    standard library that need each (an empty name: the interpreter itself). ``files`` are the files of both on this machine.
    """

    plan: RootPlan
    python: str
    libraries: frozenset[str]
    private: Mapping[str, tuple[str, ...]]
    files: Mapping[str, str]


def host_root(found: Interpreter, programs: Sequence[str], remember: Remember) -> HostRoot:
    """Return a root for an interpreter of this machine and ``programs`` of it, by paths; raises `UnavailableError`."""
    target = _target_of(found)
    names = (*sorted(target.libraries), *_NAME_SERVICES)
    facts = remember(_key(found, names, programs), HostFacts, lambda: _host_facts(str(found.path), names, tuple(programs)))
    python = f"{LANG_FOLDER}/bin/python{found.version.rpartition('.')[0]}"
    stdlib = f"{LANG_FOLDER}/{facts.platlib}/{os.path.basename(facts.stdlib)}"
    places = {name: _library_place(name) for name in facts.libraries}
    shown = [(os.path.realpath(facts.libraries[name]), place) for name, place in places.items()]
    shown += [(os.path.realpath(found.path), python), (facts.stdlib, stdlib)]
    shown += [(path, f"{_PROGRAMS}/{name}") for name, path in facts.programs.items()]
    bundle = next(filter(os.path.exists, _CERTIFICATES), None)
    shown += [(os.path.realpath(bundle), _CERTIFICATES[1])] if bundle else []
    shown += [(_ZONES, _ZONES)] if os.path.isdir(_ZONES) else []
    runtime = frozenset(place for name, place in places.items() if name in names)
    stdlib_needs = _needed_by(facts, places)
    certificates = _certificate_links(facts.certificates)
    plan = RootPlan(
        folders=(*MOUNT_FOLDERS, *_folders(shown), *_EMPTY, *(os.path.dirname(place) for _, place in certificates)),
        links=(*_links(python), *certificates),
        files=(*RootPlan().files, *_system_files(target), _ldconfig(sorted(runtime))),
        shown=tuple(shown),
        hidden=tuple(f"{stdlib}/{name}" for name in _NOT_IN if os.path.isdir(f"{facts.stdlib}/{name}")),
    )
    private = {place: stdlib_needs.get(place, ()) for place in places.values() if place not in runtime}
    files_of = {place: os.path.realpath(facts.libraries[name]) for name, place in places.items()}
    return HostRoot(plan=plan, python=python, libraries=runtime, private=private, files=files_of)


def _target_of(found: Interpreter) -> Target:
    """Return the target that an interpreter stands for; the default one's runtime, where it is none of Lambda's."""
    name = f"python{found.version.rpartition('.')[0]}"
    return Target.of(name if name in RUNTIMES else DEFAULT_RUNTIME, MACHINES[platform.machine()])


def _key(found: Interpreter, names: Sequence[str], programs: Sequence[str]) -> str:
    """Return all that decides what an interpreter needs: itself, and when libraries were last installed here."""
    paths = (str(found.path), os.path.realpath(found.path), "/etc/ld.so.cache", "/usr/bin", "/usr/lib")
    seen = [(path, *_signature(path)) for path in paths]
    return json.dumps([found.version, seen, names, sorted(programs), read_script("libraries.py").decode()])


def _signature(path: str) -> tuple[int, int]:
    try:
        facts = os.stat(path)
    except OSError:
        return 0, 0
    return facts.st_mtime_ns, facts.st_size


@cache
def _host_facts(python: str, names: tuple[str, ...], programs: tuple[str, ...]) -> HostFacts:
    """Ask an interpreter; raises `UnavailableError`."""
    wanted = (*_COMMANDS, *programs)
    command = [python, "-I", "-S", "-c", read_script("libraries.py").decode(), "\n".join(names), "\n".join(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=True)
        return msgspec.json.decode(done.stdout, type=HostFacts)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        what = f"{python} does not say what libraries it needs ({error})"
        raise UnavailableError(what, remedy="Reinstall that Python, or start a container engine.") from None


def _library_place(name: str) -> str:
    """Return where a library lies in the root, by its soname; the loader lies where programs say that it does."""
    return _LOADERS.get(name, f"{_LIBRARIES}/{name}")


def _needed_by(facts: HostFacts, places: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the modules of the standard library that need each library, by its place."""
    found: dict[str, list[str]] = {}
    for file, names in facts.needs.items():
        if not file.startswith("/"):
            for name in names:
                found.setdefault(places[name], []).append(file.partition(".")[0])
    return {place: tuple(modules) for place, modules in found.items()}


def _folders(shown: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the folders in which something is shown, and those that are."""
    return tuple(sorted({place if os.path.isdir(path) else os.path.dirname(place) for path, place in shown}))


def _links(python: str) -> tuple[tuple[str, str], ...]:
    """Return links (target, place): the usual names of folders, and of the interpreter."""
    name = python.rpartition("/")[2]
    multiarch = f"{platform.machine()}-linux-gnu"
    return (
        *((f"usr/{folder}", f"/{folder}") for folder in ("bin", "lib", "lib64")),
        *(("usr/bin", "/sbin"), ("bin", "/usr/sbin"), ("../lib64", f"/usr/lib/{multiarch}")),
        *((name, f"{LANG_FOLDER}/bin/{link}") for link in ("python", "python3")),
        *(("/etc/pki/tls/certs", "/etc/ssl/certs"), ("certs/ca-bundle.crt", "/etc/ssl/cert.pem"), ("/run", "/var/run")),
    )


def _certificate_links(place: str) -> tuple[tuple[str, str], ...]:
    """Return the link that the interpreter's own OpenSSL needs to find certificates, unless the root has one of that name.

    An OpenSSL of the user's own, as pyenv and conda install it, looks below their home folder: it finds no certificates, which
    is no error for it. A link there would show functions a path of this machine, and folders that Lambda does not have.
    """
    path = os.path.normpath(place)
    wanted = path.startswith(_SYSTEM) and not path.startswith(_LINKED)
    return ((_CERTIFICATES[1], path),) if wanted else ()


def _ldconfig(libraries: Sequence[str]) -> tuple[str, int, bytes]:
    """Return a program that lists libraries as ldconfig(8) does: ctypes.util.find_library() asks it."""
    kind = _KINDS.get(platform.machine(), "libc6")
    listing = "".join(f"\\t{path.rpartition('/')[2]} ({kind}) => {path}\\n" for path in libraries)
    return f"{_PROGRAMS}/ldconfig", 0o755, f"#!/bin/sh\nprintf '{listing}'\n".encode()


def _system_files(target: Target) -> tuple[tuple[str, int, bytes], ...]:
    """Return files that say what the operating system is."""
    system = target.runtime.operating_system
    version = system.rpartition(" ")[2]
    release = f'NAME="Amazon Linux"\nVERSION="{version}"\nID="amzn"\nID_LIKE="fedora"\nVERSION_ID="{version}"\n'
    names = "passwd: files\ngroup: files\nhosts: files dns\n"
    return ("/etc/os-release", 0o644, release.encode()), ("/etc/nsswitch.conf", 0o644, names.encode())
