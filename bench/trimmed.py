"""Measures what trimming, bytecode and proofs gain, and what they cost: ``python -m bench.trimmed``.

Against `sam build` and `zip -qr`: how long functions take to start, and how large they are; against lpack itself without all of
that: how long it builds. As root on Linux only, for each start reads from a cold disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict

from bench.contestants import PLAIN, Contestant, Lpack, Sam
from bench.machine import described, machine, versions
from bench.measure import CommandFailedError, Sample, measure
from bench.peers import Place, add_cache, prepare
from bench.rows import RESULTS
from bench.starts import TARGET, Starts, opened
from builders.sandbox.emulator import CLIENT, VARIABLE
from packer.verify.coldstart import can_drop_caches, drop_caches
from packer.verify.runner import UnpackedFunction

SAM, OFF, BESIDE, SAFE, MAX = "sam", "safe, no bytecode", "safe, beside", "safe", "max"
FLAGS: Mapping[str, tuple[str, ...]] = {
    OFF: ("--trim", "safe", "--bytecode", "off"),
    BESIDE: ("--trim", "safe", "--bytecode", "beside"),
    SAFE: ("--trim", "safe"),
    MAX: ("--trim", "max", "--bytecode", "only"),
}
"""How lpack is called for each form of its archives."""
PAIR, MONO = "pair", "mono12"
FUNCTIONS = ("api", "data")
STARTED = (SAM, SAFE, MAX)
_OF_WHEELS = ("bytecode", "scans", "stripped")
_OF_SOURCES = 1
"""Files of these kinds that one changed source makes: its bytecode."""


class Row(Struct, frozen=True, kw_only=True):
    """lpack's figure and that of what it is compared with; ``wanted`` is the most that may come of them, None where any may.

    ``kind`` says what comes of them: lpack's figure in parts of the other, or what it has on top.
    """

    number: str
    title: str
    kind: Literal["ratio", "added"]
    unit: Literal["ms", "MB", "s", ""]
    ours: float
    theirs: float
    wanted: float | None

    @property
    def value(self) -> float:
        return self.ours / self.theirs if self.kind == "ratio" else self.ours - self.theirs

    @property
    def met(self) -> bool | None:
        return None if self.wanted is None else round(self.value, 2) <= self.wanted


class Bench:
    """One run: what is built of each workload, and how it is measured."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.built: dict[str, dict[str, Contestant]] = {}

    def build(self, workload: str, forms: Iterable[str]) -> None:
        """Build a workload with SAM, and with lpack in all of these forms."""
        contestants: dict[str, Contestant] = {SAM: Sam(self._place, workload)}
        contestants |= {form: Lpack(self._place, workload, *FLAGS[form], locked=True, profiled=form == MAX) for form in forms}
        for form, contestant in contestants.items():
            _say(f"{workload}: {form}")
            contestant.check()
            self._all(contestant, first=True)
        self.built[workload] = contestants

    def archives(self, workload: str) -> dict[str, dict[str, Path]]:
        """Give each form's archives by the functions' names, which SAM's have in another spelling."""
        return {
            form: {archive.stem.lower(): archive for archive in contestant.archives()}
            for form, contestant in self.built[workload].items()
        }

    def starts(self, starts: Starts, client: Path, rounds: int) -> dict[tuple[str, str], list[float]]:
        """Give the milliseconds of cold starts of `pair`'s functions; all take turns, after one start each that counts not."""
        laid: dict[tuple[str, str], UnpackedFunction] = {}
        for function in FUNCTIONS:
            for form, archives in self.archives(PAIR).items():
                if form in STARTED:
                    folder = self._place.work / "laid-out" / function / form.replace(" ", "-")
                    folder.parent.mkdir(parents=True, exist_ok=True)
                    laid[function, form] = starts.unpack(archives[function], folder, client)
        times: dict[tuple[str, str], list[float]] = {key: [] for key in laid}
        for number in range(rounds + 1):
            for key, each in laid.items():
                drop_caches()
                outcome = starts.start(each, "rie")
                if outcome.trouble():
                    raise SystemExit(f"{' as '.join(key)} does not start: {outcome.trouble()}\n{outcome.trace()}")
                times[key] += [outcome.milliseconds] if number else []
            _say(f"starts {number}/{rounds}")
        return times

    def builds(self, rounds: int, *, later: bool) -> tuple[dict[str, list[Sample]], int]:
        """Measure builds of `mono12` with all that lpack does and without it, in turns, from scratch or ``later``.

        Gives as well how many files of wheels the last full build had to make again, if it was a later one.
        """
        contestants = {
            name: Lpack(self._place, MONO, *flags, locked=True, kept=later, edit=later)
            for name, flags in (("plain", PLAIN), ("full", FLAGS[SAFE]))
        }
        samples: dict[str, list[Sample]] = {name: [] for name in contestants}
        again = 0
        for number in range(rounds + 1):
            for name, contestant in contestants.items():
                before = self._derived()
                sample = self._all(contestant, first=not number)
                if number:
                    samples[name].append(sample)
                    again = max(len(self._derived() - before) - _OF_SOURCES, 0) if name == "full" else again
            _say(f"builds, {'one line changed' if later else 'from scratch'} {number}/{rounds}")
        return samples, again if later else 0

    def _derived(self) -> frozenset[str]:
        folder = self._place.cache / "lpack" / "derived"
        return frozenset(str(path) for kind in _OF_WHEELS for path in (folder / kind).rglob("*") if path.is_file())

    def _all(self, contestant: Contestant, *, first: bool) -> Sample:
        log = self._place.work / "output.log"
        if first:
            for step in contestant.copy():
                measure(step.command, step.folder, step.environment, log, watch=False)
        contestant.reset()
        os.sync()  # what was written before must not be flushed in this one's time
        total = Sample(wall=0, user=0, system=0, largest_process=0)
        for step in contestant.steps():
            total = total.then(measure(step.command, step.folder, step.environment, log, watch=False))
        return total


def unzipped(archive: Path) -> int:
    """Give the bytes of all files in an archive."""
    with zipfile.ZipFile(archive) as file:
        return sum(member.file_size for member in file.infolist())


def rows_of_starts(times: Mapping[tuple[str, str], Sequence[float]]) -> list[Row]:
    """Compare the medians of starts."""
    wanted = {("api", SAFE): 0.46, ("api", MAX): 0.38, ("data", SAFE): 0.40, ("data", MAX): 0.34}
    return [
        Row(
            number="a",
            title=f"pair/{function}: init, {form}",
            kind="ratio",
            unit="ms",
            ours=median(times[function, form]),
            theirs=median(times[function, SAM]),
            wanted=most,
        )
        for (function, form), most in wanted.items()
    ]


def rows_of_sizes(unzipped_bytes: Mapping[str, int], zip_bytes: Mapping[str, int]) -> list[Row]:
    """Compare the bytes of `pair`'s data function, and of all archives of `mono12`, by their forms."""
    compared = (
        ("b", "pair/data: unzipped", unzipped_bytes, {OFF: 0.80, BESIDE: 1.0, MAX: 0.62}),
        ("c", "mono12: all ZIPs", zip_bytes, {OFF: 0.85, MAX: 0.60}),
    )
    return [
        Row(
            number=number,
            title=f"{title}, {form}",
            kind="ratio",
            unit="MB",
            ours=sizes[form] / 1e6,
            theirs=sizes[SAM] / 1e6,
            wanted=most,
        )
        for number, title, sizes, wanted in compared
        for form, most in wanted.items()
    ]


def rows_of_builds(first: Mapping[str, Sequence[Sample]], later: Mapping[str, Sequence[Sample]], again: int) -> list[Row]:
    """Say what a first and a later build take on top of one that does no more than pack."""
    rows = []
    for title, samples, wanted in (("first build", first, 15.0), ("one line changed", later, None)):
        plain, full = (median(sample.wall for sample in samples[name]) for name in ("plain", "full"))
        rows.append(
            Row(number="d", title=f"mono12: {title}", kind="added", unit="s", ours=full, theirs=plain, wanted=wanted),
        )
    title = "mono12: one line changed, scans, libraries and bytecode of wheels made again"
    return [*rows, Row(number="d", title=title, kind="added", unit="", ours=again, theirs=0, wanted=0)]


def markdown(rows: Sequence[Row]) -> str:
    """Give the table."""
    lines = [["", "what", "lpack", "against", "ratio, or added", "wanted", "met"], ["---"] * 7]
    for row in rows:
        against = {"ratio": "sam build + zip", "added": "lpack without"}[row.kind]
        added = f"+{row.value:.2f} {row.unit}" if row.unit else f"{row.value:.0f}"
        value = f"{row.value:.2f}" if row.kind == "ratio" else added
        wanted = "" if row.wanted is None else f"at most {row.wanted:g} {row.unit if row.kind == 'added' else ''}".rstrip()
        met = {None: "", True: "yes", False: "no"}[row.met]
        lines.append(
            [row.number, row.title, _figure(row, row.ours), f"{against}: {_figure(row, row.theirs)}", value, wanted, met]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figure(row: Row, value: float) -> str:
    digits = {"ms": 0, "MB": 1, "s": 2, "": 0}[row.unit]
    return f"{value:.{digits}f} {row.unit}".rstrip()


def fetch_client(place: Place) -> Path:
    """Have what connects a handler to the emulator in a folder of the cache, for the target's Python."""
    folder = place.cache / "client"
    if not (folder / CLIENT).is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        command = [str(place.peers / "python"), "-m", "pip", "install", "--quiet", "--target", str(folder), CLIENT]
        subprocess.run(command, check=True, env=place.lpack_environment())
    return folder


def name_emulator(place: Place) -> None:
    """Let the emulator be found that comes with the peers' SAM; `SystemExit` where it has none."""
    pattern = f"lib/python3.*/site-packages/samcli/local/rapid/aws-lambda-rie-{TARGET.architecture}"
    found = next(place.peers.parent.glob(pattern), None)
    if found is None:
        raise SystemExit(f"SAM CLI has no Runtime Interface Emulator; name one: {VARIABLE}=PATH.")
    os.environ.setdefault(VARIABLE, str(found))


def main() -> None:
    """Print the table and write bench/results/trimmed.json."""
    parser = argparse.ArgumentParser(prog="python -m bench.trimmed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="starts and builds of each form (default: %(default)s)")
    add_cache(parser)
    options = parser.parse_args()
    if not can_drop_caches():
        raise SystemExit("Cold starts can be measured as root on Linux only.")
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=cache) as folder:
        place = prepare(cache, Path(folder), offline=True)
        name_emulator(place)
        try:
            _run(Bench(place), place, options.rounds)
        except CommandFailedError as error:
            raise SystemExit(str(error)) from None


def _run(bench: Bench, place: Place, rounds: int) -> None:
    client = fetch_client(place)
    bench.build(PAIR, FLAGS)
    bench.build(MONO, FLAGS)
    sizes = {
        workload: {
            form: {name: {"zip": path.stat().st_size, "unzipped": unzipped(path)} for name, path in archives.items()}
            for form, archives in bench.archives(workload).items()
        }
        for workload in bench.built
    }
    with opened(place.cache / "starts") as starts:
        times = bench.starts(starts, client, rounds)
    first, _ = bench.builds(rounds, later=False)
    later, again = bench.builds(rounds, later=True)
    unzipped_bytes = {form: found["data"]["unzipped"] for form, found in sizes[PAIR].items()}
    zip_bytes = {form: sum(each["zip"] for each in found.values()) for form, found in sizes[MONO].items()}
    rows = [*rows_of_starts(times), *rows_of_sizes(unzipped_bytes, zip_bytes), *rows_of_builds(first, later, again)]
    facts, tools = machine(), versions(place)
    document = {
        "schema": 1,
        "rounds": rounds,
        "load": os.getloadavg(),
        "machine": facts,
        "versions": tools,
        "rows": [{**asdict(row), "value": row.value, "met": row.met} for row in rows],
        "starts": [{"function": function, "form": form, "ms": found} for (function, form), found in times.items()],
        "sizes": sizes,
        "builds": {
            title: {name: [sample.as_json() for sample in found] for name, found in samples.items()}
            for title, samples in (("first", first), ("later", later))
        },
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "trimmed.json").write_text(json.dumps(document, indent=2) + "\n")
    print(markdown(rows))
    print(f"\nMedians of {rounds} in turns. {described(facts, tools)}")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
