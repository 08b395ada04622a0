"""Native code for tests: small shared libraries for any machine and any glibc, compiled by zig."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

EMPTY = "int lpack_test(void) { return 42; }\n"
NEW_SYMBOL = "#include <stdlib.h>\nunsigned lpack_test(void) { return arc4random(); }\n"
"""Source that needs arc4random, which glibc has since 2.36 (its release notes)."""
_CACHE = Path(tempfile.gettempdir()) / "lpack-test-zig"


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
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(_CACHE), "ZIG_LOCAL_CACHE_DIR": str(_CACHE / "local"), "PATH": "/usr/bin:/bin"}
    command = [*compiler, str(code), "-o", str(path), *options]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    code.unlink()
    return path
