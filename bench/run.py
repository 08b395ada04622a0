"""Measures lpack side by side with what people use today: ``python -m bench.run``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from msgspec.structs import asdict

from bench import table
from bench.contestants import Contestant, Step
from bench.machine import described, machine, versions
from bench.measure import CommandFailedError, Sample, measure
from bench.peers import Place, add_cache, prepare
from bench.rows import RESULTS
from bench.scenarios import ROWS, SCENARIOS, Row, Scenario, chosen


class Run:
    """All samples of one run, as they come in; a contestant that fails is left out from then on."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.samples: dict[tuple[str, str], list[Sample]] = {}
        self.labels: dict[tuple[str, str], str] = {}
        self.archives: dict[tuple[str, str], dict[str, int]] = {}
        self.failures: dict[tuple[str, str], str] = {}

    def measure(self, scenario: Scenario, names: set[str], rounds: int) -> None:
        """Measure the named contestants of a scenario in turns, after one run each that only warms their caches."""
        contestants = {name: one for name, one in scenario.contestants(self.place).items() if name in names}
        for name, contestant in contestants.items():
            self.labels[scenario.name, name] = contestant.tool
            self._attempt(scenario, name, contestant, "warming up")
        for number in range(rounds):
            for name, contestant in contestants.items():
                sample = self._attempt(scenario, name, contestant, f"{number + 1}/{rounds}")
                if sample:
                    self.samples.setdefault((scenario.name, name), []).append(sample)

    def _attempt(self, scenario: Scenario, name: str, contestant: Contestant, what: str) -> Sample | None:
        key = scenario.name, name
        if key in self.failures:
            return None
        warming = what == "warming up"
        try:
            if warming:
                contestant.check()
                self._all(contestant.copy())
            contestant.reset()
            os.sync()  # what the tool before has written must not be flushed in this one's time
            sample = self._all(contestant.steps())
        except CommandFailedError as error:
            self.failures[key] = str(error)
            self.samples.pop(key, None)
            _say(f"{scenario.name}: {contestant.tool} FAILED: {error}")
            return None
        self.archives[key] = {path.name: path.stat().st_size for path in contestant.archives()}
        if scenario.rounds is None or warming:
            _say(f"{scenario.name} {what}: {contestant.tool} {sample.wall:.2f} s, {sample.memory / 1e6:.0f} MB")
        return sample

    def _all(self, steps: Iterable[Step]) -> Sample:
        total = Sample(wall=0, user=0, system=0, largest_process=0)
        log = self.place.work / "output.log"
        for step in steps:
            total = total.then(measure(step.command, step.folder, step.environment, log, watch=step.watch))
        return total

    def as_json(self, rows: tuple[Row, ...]) -> dict[str, Any]:
        return {
            "contestants": [
                {
                    "scenario": scenario,
                    "name": name,
                    "tool": label,
                    "failure": self.failures.get((scenario, name)),
                    "median_wall": median(s.wall for s in samples) if samples else None,
                    "median_cpu": median(s.cpu for s in samples) if samples else None,
                    "archives": self.archives.get((scenario, name), {}),
                    "samples": [sample.as_json() for sample in samples],
                }
                for (scenario, name), label in self.labels.items()
                for samples in (self.samples.get((scenario, name), []),)
            ],
            "rows": [
                {**asdict(row), "ratio": table.ratio(row, self.samples), "met": table.verdict(row, self.samples)}
                for row in rows
            ],
        }


def main() -> None:
    """Measure the chosen rows, print the table to stdout and write bench/results/latest.json."""
    options = _options()
    rows = chosen(options.rows)
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=cache))
    try:
        run = Run(prepare(cache, work, offline=options.peers_offline))
        for scenario in SCENARIOS:
            names = {name for row in rows if row.scenario == scenario.name for name in (row.subject, row.peer)}
            if names:
                run.measure(scenario, names, scenario.rounds or options.rounds)
        _publish(run, rows, options)
    finally:
        if options.keep:
            _say(f"Kept {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


def _publish(run: Run, rows: tuple[Row, ...], options: argparse.Namespace) -> None:
    facts, tools = machine(), versions(run.place)
    RESULTS.mkdir(exist_ok=True)
    document = {
        "schema": 1,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rounds": options.rounds,
        "peers_offline": options.peers_offline,
        "load": os.getloadavg(),
        "machine": facts,
        "versions": tools,
        **run.as_json(rows),
    }
    (RESULTS / "latest.json").write_text(json.dumps(document, indent=2) + "\n")
    print(table.markdown(rows, run.labels, run.samples, wanted=options.wanted))
    print(f"\nMedians of {options.rounds}; CPU and peak memory are lpack's / the peer's. {described(facts, tools)}")
    if not options.peers_offline and not (run.place.cache / "pip").exists():
        # Many proxies forbid caching; it is said here, for the table promises that the wheels are cached.
        print("\npip could cache nothing here, so `sam build` downloaded its wheels from the index in every sample.")
    for (scenario, name), reason in run.failures.items():
        print(f"\nDid not run: {name} ({scenario}): {reason.splitlines()[-1]}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument(
        "--rows", default="", help=f"rows to run, such as 1,4b (default: all of {ROWS[0].number} to {ROWS[-1].number})"
    )
    parser.add_argument("--rounds", type=int, default=5, help="samples of each tool (default: %(default)s)")
    parser.add_argument("--wanted", action="store_true", help="add what is wanted of lpack, and whether it is met")
    parser.add_argument(
        "--peers-offline",
        action="store_true",
        help="give the peers all wheels in a folder and no index to ask: their best case",
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with the workloads and what was built")
    add_cache(parser)
    return parser.parse_args()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
