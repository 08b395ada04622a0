"""`lpack coldstart`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from packer.cli.common import open_store, project_options, reporting, shape_options
from packer.cli.trials import opened_trials

if TYPE_CHECKING:
    from packer.coldstart import ColdStart
    from packer.model import Function

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
    handler. As root on Linux each start reads from a cold disk. Ends with status 3 where a start is over the budget `init`.
    """
    from packer.coldstart import can_drop_caches, over_budget
    from packer.errors import LimitError
    from packer.trials import CLOCK_EMULATOR

    found: list[tuple[Function, ColdStart]] = []
    with reporting(verbose, quiet) as reporter, opened_trials(open_store(), reporter, names, flags) as (trials, functions):
        clocks = {trials.clock(function) for function in functions}
        if clocks != {CLOCK_EMULATOR}:
            reporter.note(
                "No Runtime Interface Emulator can be used here, so the import of the handler is timed, not the whole init."
            )
        if not can_drop_caches():
            reporter.note("Only root can empty the disk's caches: all starts but the first are warm.")
        found = [(function, trials.cold_start(function, rounds, reporter.note)) for function in functions]
    if as_json:
        document = {
            "clock": " and ".join(sorted(clocks)),
            "cold": can_drop_caches(),
            "functions": {each.function: _as_json(each) for _, each in found},
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _print([each for _, each in found])
    over = [text for function, each in found if (text := over_budget(function, each))]
    if over:
        remedy = "Import less, or later; `lpack coldstart --json` has the whole import tree. Or raise the budget."
        raise LimitError("\n".join(over), remedy=remedy)


def _as_json(found: ColdStart) -> dict[str, Any]:
    """Give all figures, in milliseconds."""
    return {
        "before": {"median": round(found.median_before, 1), "samples": [round(each, 1) for each in found.before]},
        "after": {"median": round(found.median_after, 1), "samples": [round(each, 1) for each in found.after]},
        "ratio": round(found.median_after / found.median_before, 3),
        "distributions": {name: round(own, 1) for name, own in found.distributions().items()},
        "imports": [
            {
                "module": each.name,
                "distribution": each.distribution,
                "depth": each.depth,
                "self": round(each.own, 3),
                "cumulative": round(each.total, 3),
            }
            for each in found.modules
        ],
    }


def _print(found: Sequence[ColdStart]) -> None:
    from packer.coldstart import slowest
    from packer.model import OWN_SOURCE

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
