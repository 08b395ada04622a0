"""Native code for tests: small shared libraries for any machine and any glibc, compiled by zig."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from builders.host.strip import HostStrip

EMPTY = "int lpack_test(void) { return 42; }\n"
NEW_SYMBOL = "#include <stdlib.h>\nunsigned lpack_test(void) { return arc4random(); }\n"
"""Source that needs arc4random, which glibc has since 2.36 (its release notes)."""
ZIG_CACHE = Path(tempfile.gettempdir()) / "lpack-test-zig"
"""Where zig keeps its libraries compiled for all tests of this machine: C++'s alone take it a minute for each target."""


def compile_library(
    path: Path,
    source: str = EMPTY,
    *,
    target: str = "x86_64-linux-gnu.2.17",
    options: tuple[str, ...] = (),
    cplusplus: bool = False,
) -> Path:
    """Compile a shared library for ``target``, zig's triple with a glibc version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = path.with_suffix(".cpp" if cplusplus else ".c")
    code.write_text(source)
    compiler = [sys.executable, "-m", "ziglang", "c++" if cplusplus else "cc", "-target", target, "-shared", "-fPIC", "-g0"]
    # What zig links by itself for checks of undefined behavior and for arithmetic that C lacks is unused here, and compiling
    # it takes 12 s and 3 s of processor time for each target.
    compiler += ["-fno-sanitize=undefined", *([] if cplusplus else ["-rtlib=none"])]
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(ZIG_CACHE), "ZIG_LOCAL_CACHE_DIR": str(ZIG_CACHE / "local")}
    command = [*compiler, str(code), "-o", str(path), *options]
    finished = subprocess.run(command, env={**caches, "PATH": os.defpath}, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    code.unlink()
    return path


def strip_file(path: Path, to: Path) -> None:
    """Write what this machine's eu-strip makes of a file."""
    with tempfile.TemporaryDirectory() as folder:
        [stripped] = HostStrip().strip([path.read_bytes()], Path(folder))
    assert isinstance(stripped, bytes)
    to.write_bytes(stripped)
