"""A target's compiler made of zig: the programs, and what makes Python's build tools compile for the target.

Build tools learn of a cross build in the way that CPython's own build and crossenv have: ``_PYTHON_HOST_PLATFORM`` names the
platform, ``_PYTHON_SYSCONFIGDATA_NAME`` the module with the build-time variables (CPython, Lib/sysconfig).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

from msgspec import Struct

from builders.errors import UnavailableError
from builders.runtimes import Target

_PROGRAMS = {
    "cc": "cc",
    "c++": "c++",
    "gcc": "cc",
    "g++": "c++",
    "clang": "cc",
    "clang++": "c++",
    "ar": "ar",
    "ranlib": "ranlib",
}
"""Names on the back end's PATH, and the part of zig that stands behind each."""
# `zig cc` differs from GCC's and clang's own command lines where the comments say so.
_COMPILER = """\
#!/bin/sh
language={language}
for each in "$@"; do
  shift
  case $each in
    # It finds the headers of C++ as `zig c++` alone, and some build tools compile C++ with the C compiler.
    *.cpp | *.cc | *.cxx | *.c++ | *.C) language=c++ ;;
    # What this machine has of libraries and headers is not for the target, but for those of CPython itself.
    -I/usr/include/python3* | -I/usr/local/include/python3*) ;;
    -I/usr/include* | -I/usr/lib/* | -I/usr/local/include* | -L/usr/lib* | -L/usr/local/lib* | -L/lib*) continue ;;
    # Its linker knows neither, and a library works without them: they hide symbols from other libraries, or bind them early.
    -Wl,-Bsymbolic-functions | -Wl,--exclude-libs,* | -Wl,--exclude-libs=*) continue ;;
    # It takes what stands after a minus for a feature to leave out, and has no names for architectures of Arm.
    -march=x86-64) each=-march=x86_64 ;;
    -march=x86-64-v[234]) each=-march=x86_64_v${{each##*-v}} ;;
    -march=armv8-a*) each=-mcpu=generic${{each#-march=armv8-a}} ;;
  esac
  set -- "$@" "$each"
done
# Without -O2 it compiles for debugging, and with traps for undefined behavior, which C code of today is not free of.
# Debugging information would tell where the build was, and that of zig's own libraries where the first one with this cache was.
exec {zig} "$language" -target {triple} -O2 -fno-sanitize=undefined {options} "$@" -g0 -Wl,--strip-debug
"""
_OTHER = """\
#!/bin/sh
exec {zig} {part} "$@"
"""
_FLAGS = "-DNDEBUG -fwrapv -O3 -Wall"
"""What extension modules are compiled with: as CPython's own, without whatever was right for this machine's CPython alone."""
_SYSCONFIG = "_sysconfigdata_lpack"
_SYSCONFIG_TEXT = """\
import importlib, sys

own = "_sysconfigdata_{{}}_{{}}_{{}}".format(sys.abiflags, sys.platform, getattr(sys.implementation, "_multiarch", ""))
build_time_vars = {{**importlib.import_module(own).build_time_vars, **{changes!r}}}
"""
_MACHINE = "lpack_machine"
_MACHINE_TEXT = """\
import os

own = os.uname
os.uname = lambda: os.uname_result((*own()[:4], {machine!r}))
"""
_WHEEL = "lpack_cross-0-py3-none-any.whl"
_METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: lpack-cross\nVersion: 0\n",
    "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}


class Zig(Struct, frozen=True, kw_only=True):
    """An installed zig: its program and its version."""

    program: Path
    version: str


class Toolchain(Struct, frozen=True, kw_only=True):
    """Text files to write for a target: ``programs`` go on the PATH of the back end, ``modules`` into its environment."""

    programs: Mapping[str, str]
    modules: Mapping[str, str]
    variables: Mapping[str, str]

    def write(self, folder: Path) -> Path:
        """Write the programs to an empty folder, and return a wheel with the modules in it: one more build requirement."""
        for name, text in self.programs.items():
            path = folder / name
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755)
        info = "lpack_cross-0.dist-info"
        files = {**self.modules, **{f"{info}/{name}": text for name, text in _METADATA.items()}}
        with zipfile.ZipFile(folder / _WHEEL, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
            archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))
        return folder / _WHEEL


def find_zig() -> Zig:
    """Find the zig of the package ziglang; raises `UnavailableError`."""
    spec = find_spec("ziglang")
    folders = spec.submodule_search_locations if spec else None
    try:
        installed = version("ziglang")
    except PackageNotFoundError:
        folders = None
    if not folders:
        remedy = "Install it: `pip install 'lambda-lpack[cross]'`."
        raise UnavailableError("the package ziglang, which compiles without a container, is not installed", remedy=remedy)
    return Zig(program=Path(folders[0]) / "zig", version=installed)


def make_toolchain(target: Target, program: str, places: Mapping[str, str], headers: str = "") -> Toolchain:
    """Describe the compiler of a target.

    ``places`` are folders of this machine with the names that they get in what is compiled (by ``__FILE__``, assertions), so
    that it does not tell where that was; ``headers`` is a folder to look in first. The compiler's command line is a part of
    what decides a wheel's bytes: with made-up paths this serves as a key, too.
    """
    options = [f"-ffile-prefix-map={place}={name}" for place, name in places.items()]
    options += ["-isystem", headers] if headers else []
    words = {
        "zig": quote(program),
        "triple": f"{target.machine}-linux-gnu.2.{target.glibc}",
        "options": " ".join(map(quote, options)),
    }
    programs = {
        name: (_COMPILER if part in ("cc", "c++") else _OTHER).format(language=part, part=part, **words)
        for name, part in _PROGRAMS.items()
    }
    modules = {
        f"{_SYSCONFIG}.py": _SYSCONFIG_TEXT.format(changes=_build_variables(target)),
        f"{_MACHINE}.py": _MACHINE_TEXT.format(machine=target.machine),
        f"{_MACHINE}.pth": f"import {_MACHINE}\n",
    }
    return Toolchain(programs=programs, modules=modules, variables=_variables(target))


def _compilers() -> dict[str, str]:
    """Return the variables that say the same to Python's build tools and to all others."""
    return {
        "CC": "cc",
        "CXX": "c++",
        "AR": "ar",
        "RANLIB": "ranlib",
        "LDSHARED": "cc -shared",
        "LDCXXSHARED": "c++ -shared",
    }


def _variables(target: Target) -> dict[str, str]:
    return {
        **_compilers(),
        "_PYTHON_HOST_PLATFORM": f"linux-{target.machine}",
        "_PYTHON_SYSCONFIGDATA_NAME": _SYSCONFIG,
        # What this machine has of libraries is not for the target.
        "PKG_CONFIG_LIBDIR": "/nonexistent",
    }


def _build_variables(target: Target) -> dict[str, str | int]:
    """Return the build-time variables in which the target's CPython differs from this machine's."""
    abi = f"cpython-3{target.runtime.minor}-{target.machine}-linux-gnu"
    empty = (
        "BASECFLAGS",
        "CONFIGURE_CFLAGS",
        "CONFIGURE_LDFLAGS",
        "CPPFLAGS",
        "LDFLAGS",
        "OPT",
        "PY_LDFLAGS",
        "PY_CORE_LDFLAGS",
    )
    return {
        **_compilers(),
        **dict.fromkeys(empty, ""),
        "ARFLAGS": "rcs",
        "BLDSHARED": "cc -shared",
        "CCSHARED": "-fPIC",
        "CFLAGS": _FLAGS,
        "EXT_SUFFIX": f".{abi}.so",
        "HOST_GNU_TYPE": f"{target.machine}-unknown-linux-gnu",
        "LINKCC": "cc",
        "MULTIARCH": f"{target.machine}-linux-gnu",
        "PY_CFLAGS": _FLAGS,
        "SHLIB_SUFFIX": ".so",
        "SOABI": abi,
        # An extension module links to no libpython: neither as a shared one nor (setuptools, for cross builds) as Android's.
        "ANDROID_API_LEVEL": 0,
        "Py_ENABLE_SHARED": 0,
    }
