"""Lays out what `bench.own_tests` compares: a distribution as uv installs it and as lpack packs it, and a copy of its tests."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from bench.measure import CommandFailedError, measure
from bench.peers import PYTHON, Place, find_python
from bench.suite_runs import Surroundings
from bench.suites import CONFIGURATION, PYTEST, UNTIL, Suite

NAME = "one"
_MODULE = "suite_handler"
"""The function's own module, which tests can see: no name that a framework looks for, as Flask does for ``app.py``."""
_PLATFORM = "x86_64-manylinux_2_34"
_CONFIGURATION = f"""runtime = "python{PYTHON}"
layers = "none"
[functions.{NAME}]
source = "source"
handler = "{_MODULE}.handler"
"""
_HANDLER = "\n\ndef handler(event, context):\n    return {returned}\n"


class Sides(Struct, frozen=True, kw_only=True):
    """A suite that is ready to run: what was installed and what was packed, each with the test tools behind it."""

    plain: Surroundings
    packed: Surroundings
    removed: tuple[str, ...]
    """Paths of the test files within the packages that lpack had removed, and that were put back to be run."""


class Preparation:
    """Prepares suites below ``place.work``; what is downloaded stays in ``place.cache``."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._uv = str(Path(sys.executable).parent / "uv")
        self._environment = place.lpack_environment() | {"UV_EXCLUDE_NEWER": UNTIL, "UV_PYTHON_DOWNLOADS": "never"}
        self._python = place.cache / f"python{PYTHON}" / "bin" / "python"

    def python(self) -> Path:
        """Return a Python of the target's version that has no packages of its own."""
        if not self._python.exists():
            command = (str(find_python(PYTHON)), "-m", "venv", "--without-pip", "--clear", str(self._python.parent.parent))
            subprocess.run(command, check=True)
        return self._python

    def prepare(self, suite: Suite, folder: Path) -> Sides:
        """Install, pack and lay out one suite in a new folder; raises `CommandFailedError`."""
        folder.mkdir()
        source = self._unpack_sdist(suite, folder / "sdist")
        everything = self._pins((suite.requirement, PYTEST, *suite.needs), (), folder)
        packed = self._pins((suite.requirement,), everything, folder)
        self._install(packed, folder / "plain", "--only-binary", ":all:")
        self._install(sorted(set(everything) - set(packed)), folder / "tools")
        self._pack(suite, packed, folder)
        missing = put_back(suite, source, folder / "plain"), put_back(suite, folder / "plain", folder / "packed")
        sides = []
        for side in ("plain", "packed"):
            copy, home = folder / f"tests-{side}", folder / f"home-{side}"
            copy_tests(suite, source, copy)
            home.mkdir()
            path = (folder / side, folder / "tools")
            sides.append(Surroundings(python=self.python(), path=path, folder=copy, home=home))
        for where in sides:
            check_origin(suite, where)
        return Sides(plain=sides[0], packed=sides[1], removed=missing[1])

    def _pins(self, requirements: Iterable[str], constraints: Iterable[str], folder: Path) -> tuple[str, ...]:
        """Resolve requirements for the target to ``name==version``, as of the date in the table."""
        held = folder / "held.txt"
        held.write_text(_lines(constraints))
        return tuple(self._resolve(requirements, "--no-annotate", "--no-header", "-c", str(held)).split())

    def _resolve(self, requirements: Iterable[str], *options: str) -> str:
        """Have uv resolve requirements once; what is as of a date can be remembered for the next run."""
        text = _lines(requirements)
        held = "".join(Path(option).read_text() for option in options if option.startswith("/"))
        key = hashlib.sha256(
            "\0".join((UNTIL, *(option for option in options if not option.startswith("/")), text, held)).encode()
        ).hexdigest()
        known = self._place.cache / "resolutions" / key
        if not known.exists():
            target = ("-p", str(self.python()), "--python-platform", _PLATFORM)
            answer = self._call("pip", "compile", "-q", *target, *options, "-", text=text)
            known.parent.mkdir(exist_ok=True)
            known.write_text(answer)
        return known.read_text()

    def _install(self, pins: Sequence[str], target: Path, *more: str) -> None:
        target.mkdir()
        if not pins:
            return
        listed = target.with_suffix(".txt")
        listed.write_text(_lines(pins))
        options = ("--no-deps", *more, "--link-mode", "copy", "--python-platform", _PLATFORM)
        self._call("pip", "install", "-q", "-p", str(self.python()), *options, "--target", str(target), "-r", str(listed))

    def _pack(self, suite: Suite, pins: Sequence[str], folder: Path) -> None:
        """Have lpack build a function that requires the distribution, with its default level, and unpack the archive."""
        project = folder / "project"
        (project / "source").mkdir(parents=True)
        (project / "lpack.toml").write_text(_CONFIGURATION)
        (project / "source" / "requirements.txt").write_text(_lines(pins))
        imports = "".join(f"import {module}\n" for module in suite.modules)
        (project / "source" / f"{_MODULE}.py").write_text(imports + _HANDLER.format(returned=suite.returned))
        command = (str(self._place.lpack), "build", "--trim", "safe", "--out", str(project / "dist"))
        measure(command, project, self._environment, folder / "build.log", watch=False)
        with zipfile.ZipFile(project / "dist" / f"{NAME}.zip") as archive:
            for member in archive.infolist():
                os.chmod(archive.extract(member, folder / "packed"), 0o755 if member.external_attr >> 16 & 0o100 else 0o644)

    def _unpack_sdist(self, suite: Suite, folder: Path) -> Path:
        """Download the sdist that the index has of the suite's version, and unpack it; return its root."""
        (package,) = tomllib.loads(self._resolve((suite.pin,), "--no-deps", "--format", "pylock.toml"))["packages"]
        if "sdist" not in package:
            raise CommandFailedError(f"the index has no sdist of {suite.pin}")
        with tarfile.open(self._download(package["sdist"])) as archive:
            archive.extractall(folder, filter="data")
        (root,) = folder.iterdir()
        return root

    def _download(self, sdist: Mapping[str, object]) -> Path:
        url, digest = str(sdist["url"]), str(dict(sdist["hashes"])["sha256"])  # type: ignore[call-overload]
        path = self._place.cache / "sdists" / url.rpartition("/")[2]
        if not path.exists():
            with urllib.request.urlopen(url) as answer:
                content = answer.read()
            if hashlib.sha256(content).hexdigest() != digest:
                raise CommandFailedError(f"{url} is not what the index says: its SHA-256 is another")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return path

    def _call(self, *arguments: str, text: str = "") -> str:
        command = (self._uv, *arguments)
        done = subprocess.run(command, env=self._environment, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandFailedError(f"`{' '.join(command)}` ended with status {done.returncode}:\n{done.stderr.strip()}")
        return done.stdout


def copy_tests(suite: Suite, source: Path, folder: Path) -> None:
    """Copy a suite's tests out of its sdist, and the files that configure pytest."""
    folder.mkdir()
    for path in (*suite.tests, *suite.beside, *CONFIGURATION):
        if (source / path).is_dir():
            shutil.copytree(source / path, folder / path, symlinks=True)
        elif (source / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / path, folder / path)
        elif path not in CONFIGURATION:
            raise CommandFailedError(f"the sdist of {suite.pin} has no {path}")


def put_back(suite: Suite, source: Path, side: Path) -> tuple[str, ...]:
    """Copy what a side lacks of the test files within packages; return their paths. Bytecode is not copied."""
    copied = []
    for pattern in suite.within:
        roots = (source, source / "src", source / "lib")
        root, found = next(((root, found) for root in roots if (found := sorted(root.glob(pattern)))), (source, []))
        if not found:
            raise CommandFailedError(f"{source} has no {pattern}")
        for file in (file for each in found for file in ([each] if each.is_file() else sorted(each.rglob("*")))):
            target = side / file.relative_to(root)
            if file.is_file() and not target.exists() and "__pycache__" not in file.parts:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
                copied.append(str(target.relative_to(side)))
    return tuple(copied)


def check_origin(suite: Suite, where: Surroundings) -> None:
    """Make sure that the suite's modules come from the side that is tested; raises `CommandFailedError`."""
    program = "import importlib.util, sys\nfor name in sys.argv[1:]:\n    print(importlib.util.find_spec(name).origin)"
    tops = sorted({module.partition(".")[0] for module in suite.modules})
    command = (str(where.python), "-c", program, *tops)
    done = subprocess.run(command, cwd=where.folder, env=where.environment(), capture_output=True, text=True, check=False)
    strays = [origin for origin in done.stdout.split() if not Path(origin).is_relative_to(where.path[0])]
    if done.returncode or strays or not done.stdout:
        raise CommandFailedError(f"{suite.pin} is not imported from {where.path[0]}: {strays or done.stderr.strip()}")


def _lines(words: Iterable[str]) -> str:
    return "".join(f"{word}\n" for word in words)
