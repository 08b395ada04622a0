"""Times an lpack against another one: ``python -m bench.versus REFERENCE_LPACK [--lpack NEW_LPACK] [--rounds 15]``.

The rows are what `bench.run`, `bench.checks`, `bench.layers` (its repository of many functions) and `bench.images` time of
lpack. Both sides have folders and caches of their own, and take turns; the order changes from round to round.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from statistics import median

from msgspec import Struct

from bench.contestants import EDITED, PLAIN
from bench.machine import machine
from bench.measure import Sample, measure
from bench.monorepo import SHARED_SOURCE, Shape, write_repository
from bench.peers import WORKLOADS
from bench.projects import write_base
from bench.rows import Line, markdown, write_results

_CONFIG = 'runtime = "python3.12"\narch = "x86_64"\ndiscover = ["*"]\n'
_VERSIONS = (b"Jinja2==3.1.6", b"Jinja2==3.1.5")
_DERIVED = ("derived", "projects")
_WANTED = 1.03
_IMAGES = 'format = "image"\nverify = "none"\n{config}[oci]\nbase = "oci:base"\n'


class Side:
    """One lpack with its cache, and the projects that it works on."""

    def __init__(self, lpack: Path, folder: Path) -> None:
        self.lpack = lpack
        self.folder = folder
        self.store = folder / "cache"
        dropped = {"PYTHONDONTWRITEBYTECODE"}
        known = {name: value for name, value in os.environ.items() if name not in dropped}
        self.environment = known | {"LPACK_CACHE_DIR": str(self.store), "UV_CACHE_DIR": str(folder / "uv")}
        folder.mkdir()
        self._edits = 0

    def project(self, workload: str, name: str, form: str = "{config}") -> Path:
        """Copy a workload, once; ``form`` is its configuration, with what that was as ``{config}``."""
        to = self.folder / name
        if not to.exists():
            shutil.copytree(WORKLOADS / workload, to, ignore=shutil.ignore_patterns("dist", "__pycache__"))
            path = to / "lpack.toml"
            path.write_text(form.replace("{config}", path.read_text() if path.exists() else _CONFIG))
        return to

    def repository(self) -> Path:
        """Write the repository of many functions, once."""
        root = self.folder / "repository"
        if not root.exists():
            write_repository(root, Shape())
        return root

    def run(self, at: Path, *arguments: str) -> None:
        """Run lpack without measuring; raises ``CalledProcessError``."""
        command = [str(self.lpack), *arguments]
        subprocess.run(command, cwd=at, env=self.environment, check=True, capture_output=True, stdin=subprocess.DEVNULL)

    def sample(self, at: Path, *arguments: str) -> Sample:
        """Measure one run of lpack."""
        os.sync()  # what was written before must not be flushed in this one's time
        return measure((str(self.lpack), *arguments), at, self.environment, self.folder / "log", watch=False)

    def edit(self, path: Path) -> None:
        """Add a line to a source."""
        self._edits += 1
        with path.open("a") as file:
            file.write(f"# edit {self._edits}\n")

    def keep_downloads(self, at: Path) -> None:
        """Leave nothing of a project but its sources, and of the cache but what was downloaded."""
        for folder in (at / "dist", *(self.store / name for name in _DERIVED)):
            shutil.rmtree(folder, ignore_errors=True)


class Row(Struct, frozen=True, kw_only=True):
    """One thing to time: ``prepare`` brings a side's project to where it can be timed, ``turn`` brings back a sample."""

    part: str
    what: str
    prepare: Callable[[Side], Path]
    turn: Callable[[Side, Path], Sample]


def _built(side: Side, *, locked: bool, name: str, flags: tuple[str, ...] = ()) -> Path:
    at = side.project(name.partition("-")[0], f"{name}{'-locked' if locked else ''}")
    if locked:
        side.run(at, "lock")
    side.run(at, "build", *flags)
    return at


def _from_scratch(side: Side, at: Path) -> Sample:
    side.keep_downloads(at)
    return side.sample(at, "build", *PLAIN)


def _again(side: Side, at: Path) -> Sample:
    return side.sample(at, "build", *PLAIN)


def _edited(side: Side, at: Path, *, source: str = EDITED, flags: tuple[str, ...] = ()) -> Sample:
    side.edit(at / source)
    return side.sample(at, "build", *flags)


def _nothing(side: Side) -> Path:
    return side.folder


def _sampled(side: Side, at: Path, *, words: tuple[str, ...]) -> Sample:
    return side.sample(at, *words)


def _requirement(side: Side, at: Path) -> Sample:
    path = at / "notify" / "requirements.txt"
    text = path.read_bytes()
    now = next(each for each in _VERSIONS if each not in text)
    path.write_bytes(re.sub(rb"Jinja2==\S+", now, text))
    side.run(at, "lock", "notify")
    return side.sample(at, "check")


def _repository(side: Side) -> Path:
    root = side.repository()
    side.run(root, "lock")
    side.run(root, "build")
    return root


def _first(side: Side, at: Path) -> Sample:
    side.keep_downloads(at)
    return side.sample(at, "build")


def _local_package(side: Side, at: Path) -> Sample:
    side.edit(at / SHARED_SOURCE)
    return side.sample(at, "build")


def _images(side: Side) -> Path:
    at = side.project("pair", "images", _IMAGES)
    write_base(at / "base", "x86_64", {"lambda-entrypoint.sh": b"#!/bin/sh\n"})
    side.run(at, "lock", "data")
    side.run(at, "build", *PLAIN, "data")
    return at


def _rows() -> Iterator[Row]:
    for locked, how in ((True, "lock files"), (False, "no lock files")):
        for name in ("pair", "mono12"):
            built = partial(_built, locked=locked, name=name, flags=PLAIN)
            yield Row(part="run", what=f"{name} from scratch, {how}", prepare=built, turn=_from_scratch)
        kept = partial(_built, locked=locked, name="mono12-kept", flags=PLAIN)
        yield Row(part="run", what=f"mono12, nothing changed, {how}", prepare=kept, turn=_again)
        yield Row(part="run", what=f"mono12, one line changed, {how}", prepare=kept, turn=partial(_edited, flags=PLAIN))
    yield Row(part="run", what="lpack --help", prepare=_nothing, turn=partial(_sampled, words=("--help",)))
    whole, checked = (partial(_built, locked=True, name=f"mono12-{name}") for name in ("whole", "check"))
    yield Row(part="run", what="mono12 trimmed and proved, one line changed", prepare=whole, turn=_edited)
    yield Row(part="checks", what="mono12, nothing changed", prepare=checked, turn=partial(_sampled, words=("check",)))
    yield Row(part="checks", what="mono12, one requirement and its lock changed", prepare=checked, turn=_requirement)
    yield Row(part="layers", what="200 functions, first build", prepare=_repository, turn=_first)
    yield Row(
        part="layers", what="200 functions, nothing changed", prepare=_repository, turn=partial(_sampled, words=("build",))
    )
    yield Row(part="layers", what="200 functions, one local package changed", prepare=_repository, turn=_local_package)
    line = partial(_edited, source="data/app.py", flags=(*PLAIN, "data"))
    yield Row(part="images", what="image of pair/data, one line changed", prepare=_images, turn=line)


def _compare(row: Row, new: Side, old: Side, rounds: int) -> Line:
    """Time both sides in turns, and return the medians, and the median of each round's ratio with its spread."""
    places = {side: row.prepare(side) for side in (new, old)}
    samples: dict[Side, list[Sample]] = {new: [], old: []}
    for side in (new, old):
        row.turn(side, places[side])
    for number in range(rounds):
        for side in (new, old) if number % 2 else (old, new):
            samples[side].append(row.turn(side, places[side]))
    walls, cpus = (
        [figure(one) / figure(other) for one, other in zip(samples[new], samples[old], strict=True)]
        for figure in (attrgetter("wall"), attrgetter("cpu"))
    )
    line = Line(
        part=row.part,
        what=row.what,
        ours=_figures(samples[new]),
        theirs=_figures(samples[old]),
        ratio=f"{median(walls):.3f} ({min(walls):.2f} to {max(walls):.2f}); CPU {median(cpus):.3f}",
        wanted=f"{_WANTED:.2f}",
        met=median(walls) <= _WANTED,
    )
    print(f"{row.part}: {row.what}: {line.ours} against {line.theirs}, {line.ratio}", file=sys.stderr, flush=True)
    return line


def _figures(samples: Sequence[Sample]) -> str:
    return f"{median(each.wall for each in samples):.3f} s, CPU {median(each.cpu for each in samples):.3f} s"


def main() -> None:
    """Print the table, and write bench/results/versus.json."""
    parser = argparse.ArgumentParser(prog="python -m bench.versus", description=__doc__)
    parser.add_argument("reference", type=Path, help="the lpack to compare with")
    parser.add_argument("--lpack", type=Path, default=Path(sys.executable).with_name("lpack"), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of samples of each row (default: %(default)s)")
    parser.add_argument("--only", default="", help="rows whose part and words contain this")
    options = parser.parse_args()
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="versus-") as folder:
        new, old = Side(options.lpack, Path(folder, "new")), Side(options.reference, Path(folder, "old"))
        rows = [row for row in _rows() if options.only in f"{row.part}: {row.what}"]
        lines = [_compare(row, new, old, options.rounds) for row in rows]
    write_results("versus", options.rounds, before, (machine(), {}), lines, {})
    print(markdown(lines))


if __name__ == "__main__":
    main()
