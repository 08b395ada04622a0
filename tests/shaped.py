"""Small functions for tests of trimming, bytecode and proofs: built for this very Python, and run from their archives by it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from msgspec import Struct

from builders.runtimes import MACHINES
from packer.cache.local import LocalStore
from packer.trim.bytecode import Compiler

MINOR = sys.version_info.minor
RUNTIME = f"python3.{MINOR}"
ARCHITECTURE = MACHINES.get(platform.machine(), "x86_64")
TRIPLE = f"{platform.machine()}-linux-gnu.2.17"
NATIVE_TAG = f"cp39-abi3-manylinux_2_17_{platform.machine()}.manylinux2014_{platform.machine()}"
_RUN = """\
import json, sys
sys.path.insert(0, {folder!r})
{code}
print(json.dumps(result))
"""


class InPlace(Executor):
    """Runs everything at once, in the thread that asks for it."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args, **kwargs))
        return future


def compiler_of(folder: Path, jobs: int = 1) -> Compiler:
    """Give a compiler with a store in this folder."""
    return Compiler(LocalStore(folder), jobs, InPlace())


class Project(Struct, frozen=True, kw_only=True):
    """A configured project with one function, ``one``, whose handler is ``app.handler``."""

    folder: Path
    lpack: Callable[..., subprocess.CompletedProcess[str]]

    @property
    def archive(self) -> Path:
        return self.folder / "dist" / "one.zip"

    def write(self, files: Mapping[str, str]) -> None:
        """Write files below the project's folder; the function's source is in ``src``."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def configure(self, settings: str = "") -> None:
        """Write the configuration; ``settings`` are lines of the function's table."""
        head = f'runtime = "{RUNTIME}"\narch = "{ARCHITECTURE}"\n'
        self.write({"lpack.toml": f'{head}[functions.one]\nsource = "src"\nhandler = "app.handler"\n{settings}\n'})

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command line, which must end with this status."""
        finished = self.lpack(*arguments, cwd=self.folder)
        assert finished.returncode == status, (finished.returncode, finished.stdout, finished.stderr)
        return finished

    def build(self, *flags: str) -> dict[str, Any]:
        """Build, and give the function's part of the manifest."""
        report: dict[str, Any] = json.loads(self.run("build", "--json", *flags).stdout)["functions"]["one"]
        return report

    def names(self) -> set[str]:
        """Give the paths in the archive."""
        with zipfile.ZipFile(self.archive) as archive:
            assert archive.testzip() is None
            return set(archive.namelist())

    def read(self, name: str) -> bytes:
        """Read a file of the archive."""
        with zipfile.ZipFile(self.archive) as archive:
            return archive.read(name)

    def result(self, code: str) -> Any:
        """Run code that sets ``result``, on nothing but the unpacked archive and the standard library."""
        folder = self.folder / "unpacked" / str(self.archive.stat().st_mtime_ns)
        if not folder.exists():
            with zipfile.ZipFile(self.archive) as archive:
                archive.extractall(folder)
        command = [sys.executable, "-I", "-S", "-B", "-c", _RUN.format(folder=str(folder), code=code)]
        finished = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout.splitlines()[-1])

    def answer(self, event: object = None) -> Any:
        """Give what the handler of the archive returns."""
        return self.result(f"import app; result = app.handler({event!r}, None)")


def make_project(
    folder: Path,
    lpack: Callable[..., subprocess.CompletedProcess[str]],
    handler: str,
    requirements: str = "",
    settings: str = "",
) -> Project:
    """Write a project into a new folder."""
    project = Project(folder=folder, lpack=lpack)
    project.write({"src/app.py": handler, "src/requirements.txt": requirements})
    project.configure(settings)
    return project
