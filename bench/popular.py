"""Trims the most packed distributions of PyPI, and sees whether each still works: ``python -m bench.popular``.

Each is a function of its own, which imports its main modules, and finds its version and its entry points. It is built as it
comes and trimmed; both are started, and have to come to the same.
"""

from __future__ import annotations

import argparse
import configparser
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict
from platformdirs import user_cache_path

from bench.catalogue import POPULAR, PROVIDED, base_name, chosen, locked, modules_of
from bench.machine import described, machine
from bench.measure import CommandFailedError, measure
from bench.peers import PYTHON, WORKLOADS, Place
from bench.rows import RESULTS
from bench.starts import Starts, opened
from packer.core.records import read_manifest
from packer.verify.runner import Event, Outcome

NAME = "one"
ROUNDS = 3
_OVER_LIMIT = 3
"""The status of a build that is over one of Lambda's limits."""
UNTRIMMED = ("--trim", "none", "--bytecode", "off", "--verify", "none")
_CONFIGURATION = f"""runtime = "python{PYTHON}"
[functions.{NAME}]
source = "source"
handler = "app.handler"
provided = {{provided}}
"""
# Entry points of programs are found, and not loaded: many a one begins to work then. Those for pkg-config lead to its files,
# which only builds of other packages read.
_APP = """import importlib.metadata
{imports}

NOT_LOADED = ("console_scripts", "gui_scripts", "pkg_config")


def handler(event, context):
    found = importlib.metadata.distribution({name!r})
    points = list(found.entry_points)
    assert found.version == event["version"], found.version
    assert sorted([point.group, point.name, point.value] for point in points) == event["entry_points"], points
    return {{f"{{point.group}} {{point.name}}": load(point) for point in points if point.group not in NOT_LOADED}}


def load(point):
    try:
        return repr(type(point.load()))
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"
"""


class Side(Struct, frozen=True, kw_only=True):
    """A function as it was built: unzipped bytes, files, and milliseconds of each import; ``trouble`` where it fails."""

    bytes: int
    files: int
    milliseconds: tuple[float, ...]
    trouble: str


class Result(Struct, frozen=True, kw_only=True):
    """What became of one distribution; ``trouble`` says why it does not work, and is empty where it does.

    ``before`` is None where it is over Lambda's limit, and ``after`` where it cannot be built either.
    """

    requirement: str
    version: str = ""
    before: Side | None = None
    after: Side | None = None
    trouble: str = ""


class Bench:
    """One run in a folder of its own."""

    def __init__(self, place: Place, starts: Starts, level: str) -> None:
        self._place = place
        self._starts = starts
        self._level = level

    def workloads(self) -> tuple[str, ...]:
        """Lock the workloads, and give all that is in their locks."""
        found: list[Path] = []
        for name in ("pair", "mono12"):
            folder = self._place.work / name
            shutil.copytree(WORKLOADS / name, folder)
            self._lpack(folder, "lock")
            found += folder.glob("pylock.*.toml")
        return locked(found)

    def result(self, requirement: str) -> Result:
        """Build one distribution both ways, and start both; what cannot be built is a result too."""
        folder = self._place.work / "project"
        write_project(folder, requirement)
        try:
            return self._compared(requirement, folder)
        except CommandFailedError as error:
            return Result(requirement=requirement, trouble=reason_of(str(error)))
        finally:
            shutil.rmtree(folder)

    def _compared(self, requirement: str, folder: Path) -> Result:
        name, fits = base_name(requirement), True
        try:
            self._lpack(folder, "build", *UNTRIMMED, "--out", "untrimmed")
        except CommandFailedError as error:
            if error.status != _OVER_LIMIT:
                raise
            fits = False
        if self._level == "max":
            self._lpack(folder, "profile")
        self._lpack(folder, "build", "--trim", self._level, "--out", "trimmed")
        expected = installed(folder / ("untrimmed" if fits else "trimmed") / f"{NAME}.zip", name)
        before, was = self._side(folder / "untrimmed", expected) if fits else (None, None)
        after, came = self._side(folder / "trimmed", expected)
        trouble = after.trouble or (difference(was, came) if was else "")
        return Result(requirement=requirement, version=expected["version"], before=before, after=after, trouble=trouble)

    def _side(self, out: Path, expected: dict[str, Any]) -> tuple[Side, Outcome]:
        laid = self._starts.unpack(out / f"{NAME}.zip", out / "unpacked")
        outcomes = [self._starts.start(laid, "events", [Event(name="expected", value=expected)]) for _ in range(ROUNDS)]
        shutil.rmtree(laid.task)
        artifact = read_manifest(out / "lpack.json").functions[NAME].artifact
        side = Side(
            bytes=artifact.unzipped_bytes,
            files=artifact.files,
            milliseconds=tuple(outcome.milliseconds for outcome in outcomes),
            trouble=next(filter(None, (outcome.trouble() for outcome in outcomes)), ""),
        )
        return side, outcomes[-1]

    def _lpack(self, folder: Path, *arguments: str) -> None:
        command = (str(self._place.lpack), *arguments)
        measure(command, folder, self._place.lpack_environment(), self._place.work / "log", watch=False)


def write_project(folder: Path, requirement: str) -> None:
    """Write a function that has one requirement."""
    source = folder / "source"
    source.mkdir(parents=True)
    provided = json.dumps(PROVIDED.get(base_name(requirement), ()))
    (folder / "lpack.toml").write_text(_CONFIGURATION.format(provided=provided))
    (source / "requirements.txt").write_text(f"{requirement}\n")
    imports = "\n".join(f"import {module}" for module in modules_of(requirement))
    (source / "app.py").write_text(_APP.format(imports=imports, name=base_name(requirement)))


def installed(archive: Path, name: str) -> dict[str, Any]:
    """Give the version of a distribution in an archive, and its entry points as (group, name, value)."""
    with zipfile.ZipFile(archive) as file:
        for folder in (path.partition("/")[0] for path in file.namelist() if path.endswith(".dist-info/METADATA")):
            found, _, version = folder.removesuffix(".dist-info").partition("-")
            if base_name(found) == name:
                path = f"{folder}/entry_points.txt"
                text = file.read(path).decode() if path in file.namelist() else ""
                return {"version": version, "entry_points": entry_points(text)}
    raise CommandFailedError(f"{archive.name} has no {name}")


def entry_points(text: str) -> list[list[str]]:
    """Read an entry_points.txt (PyPA, "Entry points specification"): sorted (group, name, value)."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names have upper and lower case
    parser.read_string(text)
    return sorted([group, name, value] for group in parser.sections() for name, value in parser[group].items())


def reason_of(text: str) -> str:
    """Give the line of a failed command's output that says why, or its first one."""
    lines = text.splitlines()
    return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])


def difference(was: Outcome, came: Outcome) -> str:
    """Say in what a trimmed function comes to something else than it does untrimmed; empty where it does not."""
    if was.trouble():
        return f"not untrimmed either: {was.trouble()}"
    before, after = (outcome.events[0]["result"] for outcome in (was, came))
    return "; ".join(f"{point}: {found}" for point, found in after.items() if before[point] != found)


def markdown(results: Sequence[Result]) -> str:
    """Give the table; what does not work says why."""
    lines = [["distribution", "version", "unzipped", "files", "import", "works"], ["---"] * 6]
    for result in results:
        works = f"no: {result.trouble}".replace("|", r"\|") if result.trouble else "yes"
        sides = (result.before, result.after)
        figures = [_both(sides, lambda side: f"{side.bytes / 1e6:.1f} MB")]
        figures += [_both(sides, lambda side: str(side.files))]
        figures += [_both(sides, lambda side: f"{median(side.milliseconds):.0f} ms")]
        lines.append([result.requirement, result.version, *figures, works])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _both(sides: Sequence[Side | None], told: Callable[[Side], str]) -> str:
    return " / ".join(told(side) if side else "-" for side in sides)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.popular", description=__doc__)
    parser.add_argument("--names", default="", help="distributions to take, such as numpy,pillow (default: all)")
    parser.add_argument("--level", default="safe", choices=("safe", "max"), help="how to trim (default: %(default)s)")
    parser.add_argument("--only", choices=("popular", "workloads"), help="take one of the two lists alone")
    parser.add_argument(
        "--cache", type=Path, default=user_cache_path("lpack-bench"), help="lpack's store (default: below %(default)s)"
    )
    return parser.parse_args()


def main() -> int:
    """Print the table, write bench/results/popular.json, and end with status 1 where a distribution does not work."""
    options = _options()
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="work-", dir=cache) as folder, opened(cache / "starts") as starts:
        lpack = Path(sys.executable).parent / "lpack"
        place = Place(cache=cache, work=Path(folder), peers=cache / "peers" / "bin", lpack=lpack)
        bench = Bench(place, starts, options.level)
        popular = POPULAR if options.only != "workloads" else ()
        requirements = chosen([*popular, *(bench.workloads() if options.only != "popular" else ())], options.names)
        for number, requirement in enumerate(requirements, 1):
            results.append(bench.result(requirement))
            trouble = results[-1].trouble or "works"
            print(f"{number}/{len(requirements)} {requirement}: {trouble}", file=sys.stderr, flush=True)
    _publish(results, options.level)
    return 1 if any(result.trouble for result in results) else 0


def _publish(results: Sequence[Result], level: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    document = {"schema": 1, "level": level, "machine": machine(), "results": [asdict(result) for result in results]}
    (RESULTS / "popular.json").write_text(json.dumps(document, indent=2) + "\n")
    print(markdown(results))
    tools = {"lpack": version("lambda-lpack")}
    print(
        f"\nBefore / after trimming at level {level}; - is over Lambda's limit, or not built. Imports are medians of {ROUNDS}."
    )
    print(described(machine(), tools))


if __name__ == "__main__":
    sys.exit(main())
