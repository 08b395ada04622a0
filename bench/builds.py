"""Measures builds in containers: ``python -m bench.builds``.

Three functions, each with one package that is compiled, in lpack and as `sam build --use-container` does it: the same image,
pip in the container, one function after the other. The peer has all sources and wheels in a folder and asks no index; lpack
asks the index for the build requirements in each first build.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct
from msgspec.structs import asdict

from bench.machine import described, machine
from bench.measure import Sample, measure
from bench.peers import WORKLOADS
from bench.rows import RESULTS

FUNCTIONS = ("markup", "database", "memory")
IMAGE = "lpack-test/build-python3.11:bookworm"
WANTED = {"first build": 2, "second build, nothing changed": 50}
# What aws-lambda-builders' Python workflow asks pip for where a package has no wheel, less the attempts that fail by design.
_SAM = """
pip="python3.11 -m pip --no-cache-dir --disable-pip-version-check"
$pip download --requirement /source/requirements.txt --dest /tmp/all --exists-action i
$pip wheel --no-deps --wheel-dir /tmp/all /tmp/all/*.tar.gz
for wheel in /tmp/all/*.whl; do python3.11 -m zipfile -e "$wheel" /target; done
"""
_TOOLS = ("setuptools", "wheel", "cython")
_LPACK = Path(sys.executable).parent / "lpack"


class Result(Struct, frozen=True, kw_only=True):
    """All samples of one kind of build."""

    title: str
    lpack: list[Sample]
    peer: list[Sample]

    @property
    def ratio(self) -> float:
        return median(sample.wall for sample in self.peer) / median(sample.wall for sample in self.lpack)


class Bench:
    """One run in a folder of its own."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._project = work / "native"
        self._wheels = work / "wheels"
        self._cache = work / "cache"
        self._log = work / "log"
        shutil.copytree(WORKLOADS / "native", self._project)

    def prepare(self) -> None:
        """Lock, download all that both need, and let each build once."""
        self._lpack("lock")
        self._wheels.mkdir()
        for lock in self._project.glob("pylock.*.toml"):
            for url in re.findall(r'url = "([^"]+\.tar\.gz)"', lock.read_text()):
                with urllib.request.urlopen(url) as answer:
                    (self._wheels / url.rpartition("/")[2]).write_bytes(answer.read())
        tags = ["--python-version", "3.11", "--platform", "manylinux_2_17_x86_64", "--only-binary", ":all:"]
        command = [sys.executable, "-m", "pip", "download", "-q", "-d", str(self._wheels), *tags, *_TOOLS]
        subprocess.run(command, check=True)
        self.lpack(first=True)
        self.peer()

    def lpack(self, *, first: bool) -> Sample:
        """Build with lpack: from scratch but for what was downloaded, or again."""
        if first:
            for folder in (self._cache / "derived", self._cache / "projects", self._project / "dist"):
                shutil.rmtree(folder, ignore_errors=True)
            # What was built lies among the wheels, and is found there by the records that are gone now.
        return self._lpack("build")

    def _lpack(self, command: str) -> Sample:
        environment = {**os.environ, "LPACK_CACHE_DIR": str(self._cache), "UV_CACHE_DIR": str(self._work / "uv")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return measure([str(_LPACK), command], self._project, environment, self._log)

    def peer(self) -> Sample:
        """Build each function's requirements by pip in a container of its own, one after the other."""
        total: Sample | None = None
        for name in FUNCTIONS:
            target = self._work / "target" / name
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            mounts = [f"{self._project / name}:/source:ro", f"{self._wheels}:/wheels:ro", f"{target}:/target"]
            docker = ["docker", "run", "--rm", *(word for mount in mounts for word in ("--volume", mount))]
            docker += ["--env", "PIP_NO_INDEX=1", "--env", "PIP_FIND_LINKS=/wheels", IMAGE, "sh", "-euc", _SAM]
            sample = measure(docker, self._work, os.environ, self._log)
            total = total.then(sample) if total else sample
        assert total is not None
        return total


def in_turns(title: str, rounds: int, ours: Callable[[], Sample], theirs: Callable[[], Sample]) -> Result:
    """Measure one after the other, and again."""
    result = Result(title=title, lpack=[], peer=[])
    for number in range(rounds):
        print(f"{title} {number + 1}/{rounds}", file=sys.stderr, flush=True)
        result.lpack.append(ours())
        result.peer.append(theirs())
    return result


def markdown(results: Sequence[Result]) -> str:
    """Give the table."""
    lines = [["three sources in containers", "lpack", "pip in the container, one by one", "ratio", "wanted"], ["---"] * 5]
    for result in results:
        ours, theirs = (median(sample.wall for sample in samples) for samples in (result.lpack, result.peer))
        wanted = WANTED[result.title]
        met = "met" if result.ratio >= wanted else "not met"
        lines.append([result.title, f"{ours:.2f} s", f"{theirs:.1f} s", f"{result.ratio:.1f}x", f"{wanted}x: {met}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print the table and write bench/results/builds.json."""
    parser = argparse.ArgumentParser(prog="python -m bench.builds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="samples of each build (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder))
        bench.prepare()
        first = in_turns("first build", options.rounds, lambda: bench.lpack(first=True), bench.peer)
        bench.lpack(first=False)
        again = in_turns("second build, nothing changed", options.rounds, lambda: bench.lpack(first=False), bench.peer)
    results = [first, again]
    RESULTS.mkdir(exist_ok=True)
    document = {"schema": 1, "machine": machine(), "results": [asdict(result) for result in results]}
    (RESULTS / "builds.json").write_text(json.dumps(document, indent=2) + "\n")
    print(markdown(results))
    print(f"\nMedians of {options.rounds} in turns. {described(machine(), {})}")


if __name__ == "__main__":
    main()
