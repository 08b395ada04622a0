"""Builds one wheel: ``python wheel.py request.json``, run by the target's interpreter in a container, or by one of its minor.

The request has ``source`` (an sdist or a folder), ``work`` (an empty folder), ``wheels`` (files of the build requirements),
``requires`` (what they were resolved for), ``backend`` (the table [build-system]), ``config`` (its settings, or None),
``environment`` (variables for everything), ``variables`` (for the back end alone) and ``folders`` (first on its PATH).

The answer, ``work/answer.json``, has either ``more`` (what the back end asks for beside ``requires``; nothing was built), or
``wheels`` (the names of what lies in ``work/out``) and ``libraries`` (where this machine's loader looks for libraries).
"""

from __future__ import annotations

import configparser
import glob
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

FAILED, NO_ENVIRONMENT = 3, 4
"""Exit statuses when the back end fails, and when its requirements cannot be installed; what they printed stands above."""
# The folders that the loader of glibc looks in by itself (ld.so(8)).
_LOADER_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")


def main(path: str) -> int:
    """Build what the request asks for, and return the exit status."""
    request = json.loads(Path(path).read_text(encoding="utf-8"))
    work = Path(request["work"])
    environment = {**os.environ, **request["environment"]}
    for name in ("tmp", "home", "out"):
        (work / name).mkdir(exist_ok=True)
    environment.update(TMPDIR=str(work / "tmp"), HOME=str(work / "home"))
    source = unpack(Path(request["source"]), work / "source")
    try:
        python = make_environment(work / "env", request["wheels"], environment)
    except (subprocess.CalledProcessError, OSError, ValueError, configparser.Error) as error:
        sys.stdout.write(f"{error}\n")
        return NO_ENVIRONMENT
    environment.update(request["variables"])
    environment["PATH"] = os.pathsep.join([*request["folders"], str(python.parent), environment.get("PATH", os.defpath)])
    answer: dict[str, Any] = {}
    try:
        hooks = Path(__file__).with_name("hooks.py")
        run([str(python), str(hooks), path, str(source), str(work)], environment, source)
        more = json.loads((work / "more.json").read_text(encoding="utf-8"))
        wheels = sorted(each.name for each in (work / "out").iterdir())
        answer.update({"more": more} if more else {"wheels": wheels, "libraries": loader_folders()})
    except subprocess.CalledProcessError:
        return FAILED
    finally:
        answer["processes_refused"] = refused_processes()
        (work / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    return 0


def run(command: list[str], environment: dict[str, str], folder: Path) -> None:
    """Run a command with its output in ours; raises ``CalledProcessError``."""
    sys.stdout.flush()
    subprocess.run(command, env=environment, cwd=folder, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)


def unpack(source: Path, to: Path) -> Path:
    """Return a folder that the build may write to, with the source in it."""
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
    """Make an isolated environment with exactly these wheels, and return its Python.

    They are known to be good, and are unpacked as the wheel format says: pip would take most of a small build's time.
    """
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)], environment, folder.parent)
    python = folder / "bin" / "python"
    site = folder / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                path = Path(archive.extract(member, site))
                # Some requirements are programs (cmake, ninja), and what unpacks a ZIP forgets what may be executed.
                if member.external_attr >> 16 & 0o111 and not member.is_dir():
                    path.chmod(0o755)
        spread(site, folder, python)
    for table in site.glob("*.dist-info/entry_points.txt"):
        write_launchers(table, folder / "bin", python)
    return python


def spread(site: Path, folder: Path, python: Path) -> None:
    """Move what a wheel's .data folder holds to where each of its schemes belongs."""
    for data in site.glob("*.data"):
        for scheme in data.iterdir():
            name = data.name.partition("-")[0]
            places = {"scripts": folder / "bin", "data": folder, "headers": folder / "include" / name}
            for path in [path for path in scheme.rglob("*") if path.is_file()]:
                to = places.get(scheme.name, site) / path.relative_to(scheme)
                to.parent.mkdir(parents=True, exist_ok=True)
                path.replace(to)
                if scheme.name == "scripts":
                    own = to.read_bytes()
                    if own.startswith(b"#!python"):
                        to.write_bytes(b"#!" + os.fsencode(python) + b"\n" + own.partition(b"\n")[2])
                    to.chmod(0o755)
        shutil.rmtree(data)


def write_launchers(table: Path, folder: Path, python: Path) -> None:
    """Write the programs that a distribution's entry points name (the entry points specification, console_scripts)."""
    points = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    points.optionxform = str  # type: ignore[assignment,method-assign]
    points.read_string(table.read_text(encoding="utf-8"))
    for name, place in points.items("console_scripts") if points.has_section("console_scripts") else ():
        module, _, attribute = place.partition("[")[0].strip().partition(":")
        path = folder / name
        path.write_text(
            f"#!{python}\nimport sys\nfrom {module} import {attribute.partition('.')[0]}\nsys.exit({attribute}())\n",
            encoding="utf-8",
        )
        path.chmod(0o755)


def loader_folders() -> list[str]:
    """Return the folders that this machine's loader looks in, first to last (ld.so.conf(5))."""
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
    """Return how many processes the control group has refused to start; 0 where it does not say."""
    for path in ("/sys/fs/cgroup/pids.events", "/sys/fs/cgroup/pids/pids.events"):
        try:
            words = Path(path).read_text(encoding="ascii").split()
            return int(words[words.index("max") + 1])
        except (OSError, ValueError):
            continue
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
