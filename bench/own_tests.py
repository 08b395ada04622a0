"""Runs the test suites that distributions bring in their sdists, installed and packed: ``python -m bench.own_tests``.

Each distribution is laid out twice with the same dependencies: as uv installs it, and as lpack packs it by default, trimmed at
level ``safe``, stripped and compiled. Both run the same tests with the same tools, offline. A test that passes installed has to
pass packed, unless `bench.suites` has a reason why it cannot.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict

from bench.catalogue import base_name
from bench.machine import described, machine
from bench.measure import CommandFailedError
from bench.peers import Place, add_cache
from bench.rows import RESULTS
from bench.suite_runs import Difference, Outcome, Report, differences, run_suite
from bench.suite_sides import Preparation, Sides
from bench.suites import EXPLANATIONS, SUITES, UNTIL, Explanation, Suite

_OPTIONS = ("--continue-on-collection-errors", "-o", "addopts=", "-q", "-rN", "--tb=short", "--no-header")
_COUNTED: tuple[tuple[str, tuple[Outcome, ...]], ...] = (
    ("passed", ("passed",)),
    ("failed", ("failed", "error")),
    ("skipped", ("skipped",)),
)
"""Columns of the table, with the outcomes that each counts."""


class Result(Struct, frozen=True, kw_only=True):
    """What came of one suite.

    ``unexplained`` tests passed installed and not packed in each of two runs, ``flaky`` ones in the first alone. ``put_back``
    counts test files that lpack had removed. ``trouble`` says why there is nothing to compare.
    """

    suite: Suite
    plain: Report | None = None
    packed: Report | None = None
    put_back: int = 0
    explained: tuple[tuple[Difference, str], ...] = ()
    unexplained: tuple[Difference, ...] = ()
    flaky: tuple[Difference, ...] = ()
    unused: tuple[str, ...] = ()
    """Patterns of explanations that explain nothing."""
    trouble: str = ""

    @property
    def good(self) -> bool:
        """Whether all that passes installed passes packed, or is explained."""
        return not (self.unexplained or self.unused or self.trouble)


class Bench:
    """Runs suites in folders below ``place.work``."""

    def __init__(self, place: Place, explanations: Sequence[Explanation] = EXPLANATIONS) -> None:
        self._place = place
        self._preparation = Preparation(place)
        self._explanations = explanations

    def result(self, suite: Suite) -> Result:
        """Prepare both sides and run the suite in each; what cannot be prepared or run is a result too."""
        try:
            sides = self._preparation.prepare(suite, self._place.work / base_name(suite.requirement))
            return self._compared(suite, sides)
        except CommandFailedError as error:
            return Result(suite=suite, trouble=str(error))

    def _compared(self, suite: Suite, sides: Sides) -> Result:
        plain, packed = self._run_both(suite, sides)
        if not plain.count("passed"):
            raise CommandFailedError(f"no test of {suite.pin} passes as it is installed")
        known = [each for each in self._explanations if each.name == base_name(suite.requirement)]
        found, used = sort_out(differences(plain, packed), known)
        unexplained, flaky = tuple(each for each, reason in found if not reason), tuple[Difference, ...]()
        if unexplained:
            again = {each.test for each in differences(*self._run_both(suite, sides))}
            flaky = tuple(each for each in unexplained if each.test not in again)
            unexplained = tuple(each for each in unexplained if each.test in again)
        return Result(
            suite=suite,
            plain=plain,
            packed=packed,
            put_back=len(sides.removed),
            explained=tuple((each, reason) for each, reason in found if reason),
            unexplained=unexplained,
            flaky=flaky,
            unused=tuple(each.tests for each in known if each not in used),
        )

    def _run_both(self, suite: Suite, sides: Sides) -> tuple[Report, Report]:
        reports = []
        for where in (sides.plain, sides.packed):
            inside = (str(where.path[0] / path) for path in suite.run_within)
            settings = ("--rootdir", str(where.folder), *configuration(where.folder))
            seed = ("--hypothesis-seed=0",) if "hypothesis" in suite.needs else ()
            arguments = (*_OPTIONS, *seed, *settings, *suite.options, *suite.run, *inside)
            reports.append(run_suite(where, arguments, where.folder.with_suffix(".log")))
        return reports[0], reports[1]


def configuration(folder: Path) -> tuple[str, ...]:
    """Return pytest's options that name its configuration in a folder, for it looks beside the tests; none where there is none.

    The files are searched in pytest's order ("Configuration file formats").
    """
    marks = {"pytest.ini": "[pytest]", "pyproject.toml": "[tool.pytest", "tox.ini": "[pytest]", "setup.cfg": "[tool:pytest]"}
    for name, mark in marks.items():
        if (folder / name).exists() and mark in (folder / name).read_text():
            return ("-c", str(folder / name))
    return ()


def sort_out(
    found: Sequence[Difference], known: Sequence[Explanation]
) -> tuple[list[tuple[Difference, str]], list[Explanation]]:
    """Return each difference with its reason, empty where there is none, and the explanations that were of use."""
    sorted_out, used = [], []
    for difference in found:
        fitting = [each for each in known if re.search(each.tests, difference.test)]
        used += fitting
        sorted_out.append((difference, fitting[0].reason if fitting else ""))
    return sorted_out, used


def markdown(results: Sequence[Result]) -> str:
    """Return the table: passed, failed and skipped installed and packed, and how many differ."""
    head = ("distribution", *(name for name, _ in _COUNTED), "differ", "explained")
    lines = [head, ("---",) * len(head)]
    for result in results:
        name = result.suite.pin.replace("==", " ")
        if result.plain is None or result.packed is None:
            lines.append((name, *("-",) * (len(head) - 2), result.trouble.splitlines()[-1].replace("|", r"\|")))
        else:
            lines.append((name, *_counts([result])))
    several = sum(result.plain is not None for result in results)
    lines.append((f"{several} suite{'' if several == 1 else 's'}", *_counts(results)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counts(results: Sequence[Result]) -> tuple[str, ...]:
    """Return the columns of counts: what came of the suites together, as ``installed / packed``, and how many tests differ."""
    pairs = [(each.plain, each.packed) for each in results if each.plain and each.packed]
    outcomes = (
        f"{sum(plain.count(*kinds) for plain, _ in pairs):,} / {sum(packed.count(*kinds) for _, packed in pairs):,}"
        for _, kinds in _COUNTED
    )
    differ, explained = sum(len(each.unexplained) for each in results), sum(len(each.explained) for each in results)
    return (*outcomes, str(differ), str(explained))


def seconds(result: Result) -> str:
    """Return how long a suite's tests took, in seconds of CPU time, installed and packed; empty where there is no report."""
    sides = [each for each in (result.plain, result.packed) if each]
    return f"{' / '.join(f'{side.cpu:.0f}' for side in sides)} s of CPU time" if sides else ""


def details(results: Sequence[Result]) -> str:
    """Return a line for each test that differs, with its reason, and for each explanation that explains nothing."""
    lines = []
    for result in results:
        name = base_name(result.suite.requirement)
        lines += [f"{name}: {each.test}: {each.outcome}" for each in result.unexplained]
        lines += [f"{name}: {each.test}: {each.outcome}, explained: {reason}" for each, reason in result.explained]
        lines += [f"{name}: {each.test}: {each.outcome} in the first of two runs" for each in result.flaky]
        lines += [f"{name}: no test differs that {pattern!r} would explain" for pattern in result.unused]
        lines += [f"{name}: {result.trouble}"] if result.trouble else []
    return "\n".join(lines)


def chosen_suites(names: Sequence[str]) -> tuple[Suite, ...]:
    """Return the suites of these distributions, or all; `SystemExit` where there is none for a name."""
    wanted = set(map(base_name, names))
    unknown = wanted - {base_name(suite.requirement) for suite in SUITES}
    if unknown:
        raise SystemExit(f"No suite of {', '.join(sorted(unknown))}; bench/suites.py has the list.")
    return tuple(suite for suite in SUITES if not wanted or base_name(suite.requirement) in wanted)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.own_tests", description=__doc__)
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="distributions to take (default: all)")
    parser.add_argument(
        "--json", type=Path, default=RESULTS / "own_tests.json", metavar="FILE", help="all results (default: %(default)s)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder to work in, which is left as it is then")
    add_cache(parser)
    return parser.parse_args()


def main() -> int:
    """Print the table, write all results, and end with status 1 where a test differs that nothing explains."""
    options = _options()
    suites = chosen_suites(options.only)
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=cache) as temporary:
        work = options.keep.absolute() if options.keep else Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        lpack = Path(sys.executable).parent / "lpack"
        bench = Bench(Place(cache=cache, work=work, peers=cache / "peers" / "bin", lpack=lpack))
        results = []
        for number, suite in enumerate(suites, 1):
            print(f"{number}/{len(suites)} {suite.pin}", file=sys.stderr, flush=True)
            results.append(bench.result(suite))
            print(markdown(results[-1:]).splitlines()[2], seconds(results[-1]), file=sys.stderr)
            print(details(results[-1:]), file=sys.stderr, flush=True)
            if not options.keep:
                shutil.rmtree(work / base_name(suite.requirement), ignore_errors=True)
    _publish(results, options.json)
    return 0 if all(result.good for result in results) else 1


def _publish(results: Sequence[Result], path: Path) -> None:
    document = {
        "schema": 1,
        "until": UNTIL,
        "machine": machine(),
        "versions": {"lpack": version("lambda-lpack")},
        "results": [asdict(result) for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, default=asdict) + "\n")
    print(markdown(results))
    print(f"\nInstalled / packed. {described(machine(), {'lpack': version('lambda-lpack')})}")
    print(details(results))


if __name__ == "__main__":
    sys.exit(main())
