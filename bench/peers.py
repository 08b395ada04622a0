"""The other tools: finds a Python 3.12, makes their virtual environment, and gives the variables they run with."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from platformdirs import user_cache_path

WORKLOADS = Path(__file__).parent / "workloads"
PYTHON = "3.12"
_GLIBC_MINOR = 34
PACKAGES = ("aws-sam-cli", "uv")
_DROPPED = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""What would slow a tool down, or show it packages that its users do not have."""


class Place(Struct, frozen=True, kw_only=True):
    """The folders of one run and the tools in them.

    ``cache`` outlives the run (environments and the tools' own caches); ``work`` is fresh, and on the same file system, so
    that uv can hard-link from its cache. ``lpack`` is None where lpack is not installed beside the Python that runs this.
    ``offline`` gives the peers all wheels in a folder and no index, which spares them the network and most of resolving.
    """

    cache: Path
    work: Path
    peers: Path
    lpack: Path | None
    offline: bool = False

    def peer_environment(self) -> dict[str, str]:
        """Give the peers' variables: their own caches, and their Python 3.12 first on PATH."""
        wheels = str(self.cache / "wheels")
        local = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels, "UV_NO_INDEX": "1", "UV_FIND_LINKS": wheels}
        own = {
            "PATH": f"{self.peers}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PIP_CACHE_DIR": str(self.cache / "pip"),
            "UV_CACHE_DIR": str(self.cache / "uv"),
            "SAM_CLI_TELEMETRY": "0",
            "__SAM_CLI_APP_DIR": str(self.cache / "sam"),
        }
        return _clean_environment() | own | (local if self.offline else {})

    def lpack_environment(self) -> dict[str, str]:
        """Give lpack's variables: its store, and another cache for the uv that it calls."""
        own = {"LPACK_CACHE_DIR": str(self.cache / "lpack"), "UV_CACHE_DIR": str(self.cache / "uv-of-lpack")}
        return _clean_environment() | own


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _DROPPED}


def prepare(cache: Path, work: Path, *, offline: bool) -> Place:
    """Make what is missing of the peers' environment; `SystemExit` where there is no Python 3.12 to make it from."""
    lpack = Path(sys.executable).parent / "lpack"
    peers = cache / "peers" / "bin"
    # The peers' environment is also the host Python of `sam build`, which looks for python3.12 and its pip on PATH.
    # The newest pip goes in as well: the peer shall be measured at its best.
    if not all((peers / tool).exists() for tool in ("sam", "uv")):
        for command in (
            (str(find_python(PYTHON)), "-m", "venv", "--clear", str(peers.parent)),
            (str(peers / "python"), "-m", "pip", "install", "--quiet", "--upgrade", "pip"),
            (str(peers / "python"), "-m", "pip", "install", "--quiet", *PACKAGES),
        ):
            print(f"$ {' '.join(command)}", file=sys.stderr, flush=True)
            subprocess.run(command, check=True, env=_clean_environment())
    if offline:
        download(cache)
    return Place(cache=cache, work=work, peers=peers, lpack=lpack if lpack.exists() else None, offline=offline)


def download(cache: Path, version: str = PYTHON, folder: str = "wheels") -> list[Path]:
    """Have the wheels of all workloads for a Python in a folder of the cache, each once; give them sorted by name."""
    wheels = cache / folder
    wheels.mkdir(parents=True, exist_ok=True)
    # pip takes a platform literally, so every glibc that the target's can stand in for has to be named.
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(_GLIBC_MINOR, 4, -1)]
    target = ["--only-binary=:all:", f"--python-version={version}", *platforms, "--platform=manylinux2014_x86_64"]
    peer = cache / "peers" / "bin" / "python"
    for requirements in sorted(WORKLOADS.glob("*/*/requirements.txt")):
        done = wheels / f"{hashlib.sha256(requirements.read_bytes()).hexdigest()}.done"
        if not done.exists():
            python = str(peer if peer.exists() else find_python(version))
            command = [python, "-m", "pip", "download", "--quiet", "--dest", str(wheels), *target]
            subprocess.run([*command, "--requirement", str(requirements)], check=True)
            done.touch()
    return sorted(wheels.glob("*.whl"))


def find_python(version: str) -> Path:
    """Give a working interpreter of ``version``; `SystemExit` where there is none."""
    for candidate in _candidates(version):
        program = "import sys; print(sys.executable, '%d.%d' % sys.version_info[:2])"
        found = _output(candidate, "-c", program).rsplit(" ", 1)
        if len(found) == 2 and found[1] == version:
            return Path(found[0])
    raise SystemExit(f"No Python {version} on PATH, in pyenv or in uv. Install one: `uv python install {version}`.")


def _candidates(version: str) -> Iterator[str]:
    # One on PATH may be a pyenv shim that ends with an error, so each is tried.
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield on_path
    root = _output("pyenv", "root")
    for name in _output("pyenv", "versions", "--bare").split():
        if name.startswith(f"{version}."):
            yield f"{root}/versions/{name}/bin/python{version}"
    for uv in ("uv", str(Path(sys.executable).parent / "uv")):
        found = _output(uv, "python", "find", version)
        if found:
            yield found


def _output(*command: str) -> str:
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return ""
    return finished.stdout.strip() if finished.returncode == 0 else ""


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where tools are installed, and keep what they download, from one benchmark to the next."""
    parser.add_argument(
        "--cache",
        type=Path,
        default=user_cache_path("lpack-bench"),
        help="environments and caches of the tools (default: %(default)s)",
    )
