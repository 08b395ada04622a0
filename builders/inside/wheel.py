"""Builds one wheel: ``python wheel.py request.json``, run by the target's interpreter in a container, or by one of its minor.

The request has ``source`` (an sdist or a folder), ``work`` (an empty folder), ``wheels`` (files of the build requirements, pip
among them), ``requires`` (what they were resolved for), ``backend`` (the table [build-system]), ``environment`` (variables for
everything), ``variables`` (for the back end alone) and ``folders`` (first on its PATH).

The answer, ``work/answer.json``, has either ``more`` (what the back end asks for beside ``requires``; nothing was built), or
``wheels`` (the names of what lies in ``work/out``) and ``libraries`` (where this machine's loader looks for libraries).
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

FAILED, NO_ENVIRONMENT = 3, 4
"""Exit statuses when the back end fails, and when its requirements cannot be installed; what they printed stands above."""
# PEP 517: what a source without a build system means.
_LEGACY = "setuptools.build_meta:__legacy__"
# The folders that the loader of glibc looks in by itself (ld.so(8)).
_LOADER_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_HOOK = """
import importlib, json, sys
backend, path, answer = sys.argv[1:]
sys.path[:0] = json.loads(path)
module, _, attribute = backend.partition(":")
found = importlib.import_module(module)
for name in filter(None, attribute.split(".")):
    found = getattr(found, name)
hook = getattr(found, "get_requires_for_build_wheel", None)
with open(answer, "w", encoding="utf-8") as file:
    json.dump(list(hook(None)) if hook else [], file)
"""


def main(path: str) -> int:
    """Build what the request asks for, and give the exit status."""
    request = json.loads(Path(path).read_text(encoding="utf-8"))
    work = Path(request["work"])
    environment = {**os.environ, **request["environment"]}
    for name in ("tmp", "home", "out"):
        (work / name).mkdir(exist_ok=True)
    environment.update(TMPDIR=str(work / "tmp"), HOME=str(work / "home"))
    source = unpack(Path(request["source"]), work / "source")
    try:
        python = make_environment(work / "env", request["wheels"], environment)
    except subprocess.CalledProcessError:
        return NO_ENVIRONMENT
    environment.update(request["variables"])
    environment["PATH"] = os.pathsep.join([*request["folders"], str(python.parent), environment.get("PATH", os.defpath)])
    answer: dict[str, Any] = {}
    try:
        asked = requirements_of(source, python, work / "requires.json", request["backend"], environment)
        more = [line for line in asked if normal(line) not in {normal(known) for known in request["requires"]}]
        if more:
            answer["more"] = more
        else:
            build = ["wheel", "--verbose", "--no-build-isolation", "--no-index", "--no-deps", "--no-cache-dir", "--wheel-dir"]
            run([str(python), "-m", "pip", *build, str(work / "out"), str(source)], environment, work)
            answer.update(wheels=sorted(path.name for path in (work / "out").iterdir()), libraries=loader_folders())
    except subprocess.CalledProcessError:
        return FAILED
    finally:
        answer["processes_refused"] = refused_processes()
        (work / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    return 0


def normal(requirement: str) -> str:
    """Give a requirement without the spaces and capitals that change nothing."""
    return re.sub(r"\s+", "", requirement).lower().replace("_", "-")


def run(command: list[str], environment: dict[str, str], folder: Path) -> None:
    """Run a command with its output in ours; raises ``CalledProcessError``."""
    sys.stdout.flush()
    subprocess.run(command, env=environment, cwd=folder, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)


def unpack(source: Path, to: Path) -> Path:
    """Give a folder that the build may write to, with the source in it."""
    if source.is_dir():
        shutil.copytree(source, to, symlinks=True)
        return to
    if tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(to, **safe)  # type: ignore[arg-type]  # noqa: S202 what it holds is run next anyway
    else:
        shutil.unpack_archive(str(source), str(to), "zip")
    inner = [path for path in to.iterdir() if path.is_dir()]
    return inner[0] if len(inner) == 1 else to


def make_environment(folder: Path, wheels: list[str], environment: dict[str, str]) -> Path:
    """Make an isolated environment with exactly these wheels, and give its Python."""
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)], environment, folder.parent)
    python = folder / "bin" / "python"
    pip = next(wheel for wheel in wheels if Path(wheel).name.startswith("pip-"))
    with zipfile.ZipFile(
        pip
    ) as archive:  # a wheel can be run where it is, but then nothing keeps its bytecode for the next time
        archive.extractall(folder / "lib" / f"python3.{sys.version_info[1]}" / "site-packages")  # noqa: S202 only pip
    install = ["install", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--no-warn-script-location", "--quiet"]
    others = [wheel for wheel in wheels if wheel != pip]
    if others:
        run([str(python), "-m", "pip", *install, *others], environment, folder.parent)
    return python


def requirements_of(source: Path, python: Path, answer: Path, system: dict[str, Any], environment: dict[str, str]) -> list[str]:
    """Ask the back end what else it needs to build a wheel."""
    backend = system.get("build-backend", _LEGACY)
    # PEP 517: a legacy source imports from its own folder.
    paths = [str(source / each) for each in (["."] if backend == _LEGACY else system.get("backend-path", []))]
    run([str(python), "-c", _HOOK, backend, json.dumps(paths), str(answer)], environment, source)
    found: list[str] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def loader_folders() -> list[str]:
    """Give the folders that this machine's loader looks in, first to last (ld.so.conf(5))."""
    found: list[str] = []

    def read(path: str) -> None:
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            words = line.partition("#")[0].split()
            if words[:1] == ["include"]:
                for pattern in words[1:]:
                    for each in sorted(glob.glob(f"/etc/{pattern}" if pattern[0] != "/" else pattern)):  # noqa: PTH207 absolute
                        read(each)
            else:
                found.extend(words)

    read("/etc/ld.so.conf")
    return list(dict.fromkeys([*found, *_LOADER_FOLDERS]))


def refused_processes() -> int:
    """Give how many processes the control group has refused to start; 0 where it does not say."""
    for path in ("/sys/fs/cgroup/pids.events", "/sys/fs/cgroup/pids/pids.events"):
        try:
            words = Path(path).read_text(encoding="ascii").split()
            return int(words[words.index("max") + 1])
        except (OSError, ValueError):
            continue
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
