"""`lpack coldstart`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import asdict

from packer.cli.common import find_flagged_project, open_reporter, open_store, project_options, shape_options
from packer.cli.trials import open_trials
from packer.core.records import json_text

if TYPE_CHECKING:
    from packer.core.model import Function
    from packer.manifest.budget import Measure
    from packer.verify.coldstart import ColdStart

_SHOWN = 10


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="Starts of each form.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with all figures instead of tables.")
@shape_options
@project_options
def command(*, names: tuple[str, ...], rounds: int, as_json: bool, verbose: bool, quiet: bool, **flags: Any) -> None:
    """Measure how long functions take to start, untrimmed and built.

    The clock is AWS's Runtime Interface Emulator where it is installed (it comes with the SAM CLI), else the import of the
    handler. As root on Linux each start reads from a cold disk. What is started is one package, without layers. Ends with
    status 3 where a start is over the budget `init`.
    """
    from packer.core.errors import raise_any
    from packer.inspect.trials import CLOCK_EMULATOR
    from packer.manifest.start_history import PastStart, save_start
    from packer.verify.coldstart import StartDocument, can_drop_caches, record_start

    found: list[tuple[Function, ColdStart]] = []
    store = open_store()
    project = find_flagged_project(names, flags)
    with open_reporter(verbose, quiet) as reporter, open_trials(store, reporter, names, flags) as (trials, functions):
        clocks = {trials.clock(function) for function in functions}
        if clocks != {CLOCK_EMULATOR}:
            reporter.note(
                "No Runtime Interface Emulator can be used here, so the import of the handler is timed, not the whole init."
            )
        if not can_drop_caches():
            reporter.note("Only root can empty the disk's caches: all starts but the first are warm.")
        for function in functions:
            found.append((function, trials.cold_start(function, rounds, reporter.note)))
            figures = asdict(record_start(found[-1][1]))
            measured = PastStart(**figures, clock=trials.clock(function), cold=can_drop_caches())
            save_start(store, project.path, function.name, measured)
    if as_json:
        document = StartDocument(
            clock=" and ".join(sorted(clocks)),
            cold=can_drop_caches(),
            functions={each.function: record_start(each) for _, each in found},
        )
        sys.stdout.write(json_text(document, ascii_only=True))
    else:
        _print_starts([each for _, each in found])
    over = [measure.error() for function, each in found if (measure := _measure_start(function, each)) and measure.over]
    raise_any(over)


def _measure_start(function: Function, found: ColdStart) -> Measure | None:
    """Check a start against the function's budget, if it has one."""
    from packer.core.model import OWN_SOURCE
    from packer.manifest.budget import start_measure

    parts = {name: own for name, own in found.distributions().items() if name != OWN_SOURCE}
    return start_measure(function.name, found.median_after, function.budget, parts)


def _print_starts(found: Sequence[ColdStart]) -> None:
    from packer.core.model import OWN_SOURCE
    from packer.verify.coldstart import slowest

    width = max(len(each.function) for each in found)
    sys.stdout.write(f"{'':<{width}}  untrimmed   as built   ratio\n")
    for each in found:
        ratio = each.median_after / each.median_before
        sys.stdout.write(f"{each.function:<{width}}  {each.median_before:6.0f} ms  {each.median_after:6.0f} ms  {ratio:6.2f}\n")
    for each in found:
        sys.stdout.write(f"\n{each.function}: the imports of each distribution, warm\n")
        for name, own in list(each.distributions().items())[:_SHOWN]:
            shown = {OWN_SOURCE: "its own source", "python": "Python itself"}.get(name, name)
            sys.stdout.write(f"{own:9.1f} ms  {shown}\n")
        sys.stdout.write(f"\n{each.function}: the slowest modules, self and cumulative\n")
        for module in slowest(each.modules, _SHOWN):
            sys.stdout.write(f"{module.own:9.1f} ms {module.total:9.1f} ms  {module.name}\n")
