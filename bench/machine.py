"""Says what the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from bench.peers import PYTHON, Place


def machine() -> dict[str, str | int]:
    """Describe the hardware, the kernel and the Python that runs this."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) * 1024,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions(place: Place) -> dict[str, str]:
    """Give the version of every tool that takes part; empty where it is not there."""
    return {
        "lpack": _package("lambda-lpack"),
        "lpack's Python": platform.python_version(),
        "lpack's uv": _package("uv"),
        "sam": _last_word(place.peers / "sam", "--version"),
        "pip (sam)": _last_word(place.peers / "python", "-c", "import pip; print(pip.__version__)"),
        "Python (sam, uv)": _last_word(place.peers / f"python{PYTHON}", "--version"),
        "uv": _last_word(place.peers / "uv", "--version", word=1),
        "zip": _zip_version(),
    }


def described(facts: dict[str, str | int], tools: dict[str, str]) -> str:
    """Put the machine and the tools in one sentence each, for below the table."""
    memory = int(facts["memory"]) / 1e9
    line = f"{facts['cores']} cores of {facts['cpu']}, {memory:.0f} GB, {facts['kernel']}, {facts['libc']}."
    return f"{line} {', '.join(f'{name} {version}' for name, version in tools.items() if version)}."


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _field(path: str, name: str) -> str:
    file = Path(path)
    for line in file.read_text().splitlines() if file.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _output(command: Sequence[str | Path]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
        return ""


def _last_word(*command: str | Path, word: int = -1) -> str:
    words = _output(command).split()
    return words[word] if words else ""


def _zip_version() -> str:
    for line in _output(("zip", "-v")).splitlines():
        if line.startswith("This is Zip"):
            return line.split()[3]
    return ""
