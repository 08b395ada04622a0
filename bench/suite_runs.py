"""Runs a test suite offline with what lies in given folders, and reads the report that pytest writes of it."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from msgspec import Struct

from bench.measure import CommandFailedError

Outcome = Literal["passed", "skipped", "failed", "error", "missing"]
TIME_LIMIT = 900
"""Seconds; suites are chosen to be done in two minutes of a processor's time, and a machine may have other work."""
_WORST_FIRST: tuple[Outcome, ...] = ("error", "failed", "skipped", "passed")
_TAIL = 4_000
_NO_REPORT = "pytest wrote no report"
# SIOCSIFFLAGS with IFF_UP and IFF_RUNNING (netdevice(7)): a new network namespace has its loopback device down.
_LOOPBACK = """import fcntl, os, socket, struct, sys
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 0x41))
os.execv(sys.argv[1], sys.argv[1:])
"""


class Report(Struct, frozen=True, kw_only=True):
    """The outcomes of a suite's tests by their ids, several where an id is not unique; seconds by the clock and of CPU time."""

    outcomes: Mapping[str, tuple[Outcome, ...]]
    seconds: float
    cpu: float

    def count(self, *wanted: Outcome) -> int:
        """Return how many tests came to one of these outcomes."""
        return sum(outcome in wanted for outcomes in self.outcomes.values() for outcome in outcomes)


class Difference(Struct, frozen=True, kw_only=True, order=True):
    """A test that passes with the distribution as it is installed, and comes to ``outcome`` as it is packed."""

    test: str
    outcome: Outcome


class Surroundings(Struct, frozen=True, kw_only=True):
    """Where a suite runs: modules are found in ``path``, in order; ``folder`` is the current one, ``home`` a scratch folder."""

    python: Path
    path: tuple[Path, ...]
    folder: Path
    home: Path

    def environment(self) -> dict[str, str]:
        """Return the variables: nothing of the user's, no package of the interpreter's own, the same hashes in each run."""
        programs = [*(str(place / "bin") for place in self.path), str(self.python.parent), "/usr/local/bin", "/usr/bin", "/bin"]
        return {
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join(programs),
            "PYTHONHASHSEED": "0",
            "PYTHONNOUSERSITE": "1",
            "PYTHONPATH": os.pathsep.join(map(str, self.path)),
            "TMPDIR": str(self.home),
            "TZ": "UTC",
        }


def run_suite(where: Surroundings, arguments: Sequence[str], log: Path) -> Report:
    """Run pytest once without network; raises `CommandFailedError` where it writes no report or is not done in time."""
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    command = offline(where.python, "-m", "pytest", "-p", "no:cacheprovider", "--junit-xml", str(report), *arguments)
    began, used = time.perf_counter(), _cpu_of_children()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=where.folder,
            env=where.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            raise CommandFailedError(f"the tests were not done after {TIME_LIMIT} s; {log} has their output") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what tests left behind
            process.wait()
    if not report.exists():
        raise CommandFailedError(f"{_NO_REPORT}:\n{log.read_text(errors='replace')[-_TAIL:].strip()}", process.returncode)
    seconds, cpu = time.perf_counter() - began, _cpu_of_children() - used
    return Report(outcomes=read_report(report, (*where.path, where.folder, where.home)), seconds=seconds, cpu=cpu)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def offline(python: Path, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a Python in a network namespace of its own, with nothing in it but loopback."""
    as_user = () if os.geteuid() == 0 else ("--map-root-user",)
    return ("unshare", "--net", *as_user, str(python), "-c", _LOOPBACK, str(python), *arguments)


def read_report(report: Path, folders: Iterable[Path] = ()) -> dict[str, tuple[Outcome, ...]]:
    """Read a report in JUnit's format (pytest, "Creating JUnitXML format files").

    A test that fails and whose teardown fails, too, stands in it twice, and is counted once, by its worst outcome. What differs
    from run to run is taken out of ids: addresses of objects, times of day, and the ``folders`` that the run had for itself.
    """
    cases: dict[str, Counter[Outcome]] = {}
    for case in ET.parse(report).iter("testcase"):
        name = "::".join(filter(None, (case.get("classname"), case.get("name", ""))))
        cases.setdefault(_stable(name, folders), Counter())[_outcome(case)] += 1
    return {name: _merged(found) for name, found in sorted(cases.items())}


def _outcome(case: ET.Element) -> Outcome:
    kinds = {child.tag for child in case}
    if "error" in kinds:
        return "error"
    if "failure" in kinds:
        return "failed"
    return "skipped" if "skipped" in kinds else "passed"


def _merged(found: Counter[Outcome]) -> tuple[Outcome, ...]:
    # What fails in a test and again in its teardown is two cases, a failure and an error.
    found["failed"] -= min(found["failed"], found["error"])
    return tuple(kind for kind in _WORST_FIRST for _ in range(found[kind]))


def _stable(name: str, folders: Iterable[Path]) -> str:
    for folder in folders:
        name = name.replace(str(folder), "…")
    return re.sub(r"(?<=0x)[0-9a-f]{6,}|\b\d\d:\d\d:\d\d(\.\d+)?", "…", name)


def differences(plain: Report, packed: Report) -> tuple[Difference, ...]:
    """Return the tests that pass in the first report and do not in the second, each once."""
    found = []
    for test, outcomes in plain.outcomes.items():
        others = packed.outcomes.get(test, ())
        if outcomes.count("passed") > others.count("passed"):
            found.append(Difference(test=test, outcome=next((each for each in others if each != "passed"), "missing")))
    return tuple(found)
