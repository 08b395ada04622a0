"""`lpack check`: how long it takes with nothing changed and with one requirement changed, and how exact it is.

    python -m bench.checks --rounds 7

Predictions are made with the wheels in the store and nothing else of them: what was built before is moved away first.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.machine import machine
from bench.measure import Sample, measure
from bench.monorepo import Shape, write_repository
from bench.rows import Line, markdown, write_results

WORKLOADS = Path(__file__).parent / "workloads"
_DERIVED = ("derived", "projects")
_LPACK = (sys.executable, "-m", "packer.cli")
_CONFIG = 'runtime = "python3.12"\narch = "x86_64"\ndiscover = ["*"]\n'
_OLD, _NEW = "Jinja2==3.1.6", "Jinja2==3.1.5"


class Bench:
    """One run: ``folder`` has a cache of its own, and copies of workloads."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder = folder
        self.rounds = rounds
        self.cache = folder / "cache"
        self.environment = {**os.environ, "LPACK_CACHE_DIR": str(self.cache)}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.samples: dict[str, list[Sample]] = {}

    def project(self, name: str) -> Path:
        """Copy a workload."""
        to = self.folder / name
        shutil.copytree(WORKLOADS / name, to, ignore=shutil.ignore_patterns("dist", "__pycache__"))
        if not (to / "lpack.toml").exists():
            (to / "lpack.toml").write_text(_CONFIG)
        return to

    def lpack(self, *arguments: str, at: Path) -> dict[str, Any]:
        """Run lpack, and give what it prints as JSON, if anything."""
        command = [*_LPACK, *arguments]
        done = subprocess.run(command, cwd=at, env=self.environment, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout) if "--json" in arguments else {}
        return found

    def timed(self, name: str, command: Sequence[str], at: Path) -> Sample:
        """Measure one run."""
        sample = measure(command, at, self.environment, self.folder / "log", watch=False)
        self.samples.setdefault(name, []).append(sample)
        return sample

    def median(self, name: str, figure: Callable[[Sample], float]) -> float:
        """Give the median of a figure."""
        return statistics.median(figure(each) for each in self.samples[name])

    def without_derived(self) -> None:
        """Leave nothing in the store but wheels, and what is read of each when it enters."""
        for name in _DERIVED:
            shutil.rmtree(self.cache / name, ignore_errors=True)


def nothing_changed(bench: Bench) -> list[Line]:
    """Measure a check of mono12 in turns with `python -c pass`."""
    at = bench.project("mono12")
    bench.lpack("lock", at=at)
    bench.lpack("build", at=at)
    for _ in range(2):
        bench.lpack("check", at=at)
    for _ in range(bench.rounds * 3):
        bench.timed("python", (sys.executable, "-c", "pass"), at)
        bench.timed("unchanged", (str(Path(sys.executable).with_name("lpack")), "check"), at)
    wall, bare = bench.median("unchanged", lambda each: each.wall), bench.median("python", lambda each: each.wall)
    cpu = bench.median("unchanged", lambda each: each.cpu)
    times = wall / bare
    return [
        Line(
            part="check",
            what="mono12, nothing changed",
            ours=f"{wall * 1000:.0f} ms, {cpu * 1000:.0f} ms of CPU",
            theirs=f"python -c pass: {bare * 1000:.0f} ms",
            ratio=f"{times:.1f}x the time",
            wanted="5x, 250 ms of CPU",
            met=times <= 5 and cpu < 0.25,
        )
    ]


def one_requirement(bench: Bench) -> list[Line]:
    """Measure a check after one function's requirement has moved, with its lock: one that was built before."""
    at = bench.folder / "mono12"
    path = at / "notify" / "requirements.txt"
    for text in (path.read_text().replace(_OLD, _NEW), path.read_text()):
        path.write_text(text)
        bench.lpack("lock", "notify", at=at)
        bench.lpack("build", "notify", at=at)
        bench.lpack("check", at=at)
    for number in range(bench.rounds):
        path.write_text(re.sub(r"Jinja2==\S+", _NEW if number % 2 == 0 else _OLD, path.read_text()))
        bench.lpack("lock", "notify", at=at)
        bench.timed("requirement", (*_LPACK, "check"), at)
    wall = bench.median("requirement", lambda each: each.wall)
    return [
        Line(
            part="check",
            what="mono12, one requirement and its lock changed",
            ours=f"{wall * 1000:.0f} ms",
            wanted="600 ms",
            met=wall < 0.6,
        )
    ]


def exactness(bench: Bench) -> list[Line]:
    """Compare what checks predict with what builds write, for all workloads, by default."""
    lines = []
    for name in ("mono12", "pair"):
        at = bench.folder / name if (bench.folder / name).exists() else bench.project(name)
        bench.lpack("build", at=at)  # brings the wheels
        bench.without_derived()
        shutil.rmtree(at / "dist")
        told = bench.lpack("check", "--json", at=at)["functions"]
        built = bench.lpack("build", "--json", at=at)["functions"]
        worst = max(_off(told[each], built[each]["artifact"]) for each in built)
        exact = sum(_off(told[each], built[each]["artifact"]) == 0 for each in built)
        lines.append(
            Line(
                part="check",
                what=f"{name}: predicted against built, zipped and unzipped, by default",
                ours=f"{worst:.2%} off at worst, {exact} of {len(built)} to the byte",
                wanted="1 %",
                met=worst <= 0.01,
            )
        )
    return lines


def _off(told: Mapping[str, Any], artifact: Mapping[str, Any]) -> float:
    return max(abs(told[key] - artifact[key]) / artifact[key] for key in ("zip_bytes", "unzipped_bytes"))


def many(bench: Bench) -> list[Line]:
    """Measure a check of 200 functions with nothing changed."""
    root = bench.folder / "many"
    root.mkdir()
    write_repository(root, Shape())
    bench.lpack("lock", at=root)
    bench.lpack("build", at=root)
    for _ in range(2):
        bench.lpack("check", at=root)
    for _ in range(bench.rounds):
        bench.timed("many", (*_LPACK, "check"), root)
    wall = bench.median("many", lambda each: each.wall)
    return [Line(part="check", what="200 functions, nothing changed", ours=f"{wall * 1000:.0f} ms", wanted="1 s", met=wall < 1)]


def main() -> None:
    """Measure all of it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="lpack-bench-") as folder:
        bench = Bench(Path(folder), arguments.rounds)
        lines = [*nothing_changed(bench), *one_requirement(bench), *exactness(bench), *many(bench)]
        samples = {name: [each.as_json() for each in found] for name, found in bench.samples.items()}
    print(markdown(lines))
    write_results("checks", arguments.rounds, before, (machine(), {}), lines, samples)


if __name__ == "__main__":
    main()
