"""Measures layers and large repositories: ``python -m bench.layers``.

What is uploaded of `mono12` with layers, at first and after updates, against `sam build` and `zip -qr`; how long builds of a
made-up repository of 200 functions take, on this machine and on a Dask cluster of two workers against one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from bench.large import Large, cluster_lines, monorepo_lines
from bench.machine import described, machine, versions
from bench.measure import CommandFailedError
from bench.monorepo import Shape
from bench.peers import Place, add_cache, prepare
from bench.rows import Line, markdown, write_results
from bench.uploads import Uploads, update_lines, upload_lines

PARTS = ("upload", "update", "monorepo", "cluster")
_SETS = 25


def main() -> None:
    """Print the table and write bench/results/layers.json."""
    options = _options()
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="work-", dir=cache) as folder:
        place = prepare(cache, Path(folder), offline=True)
        try:
            lines, samples = _run(place, options)
        except CommandFailedError as error:
            raise SystemExit(str(error)) from None
        facts, tools = machine(), versions(place)
    write_results("layers", options.rounds, before, (facts, tools), lines, samples)
    print(markdown(lines))
    load = f"The load was {before[0]:.1f} before and {os.getloadavg()[0]:.1f} after."
    print(f"\nMedians of {options.rounds} in turns. {load} {described(facts, tools)}")


def _run(place: Place, options: argparse.Namespace) -> tuple[list[Line], dict[str, Any]]:
    shape = Shape(functions=options.functions, users=max(1, options.functions // 10))
    forms = [(0, True), (0, False), (_SETS, True)]
    parts = {
        "upload": lambda: upload_lines(Uploads(place)),
        "update": lambda: update_lines(Uploads(place)),
        "monorepo": lambda: monorepo_lines(Large(place, shape), options.rounds, forms[: options.forms]),
        "cluster": lambda: cluster_lines(Large(place, shape), options.rounds),
    }
    lines: list[Line] = []
    samples: dict[str, Any] = {}
    for part in PARTS:
        if part in options.only:
            more, samples[part] = parts[part]()
            lines += more
    return lines, samples


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.layers", description=__doc__)
    parser.add_argument("--only", type=_parts, default=PARTS, help=f"parts to run (default: {','.join(PARTS)})")
    parser.add_argument("--rounds", type=int, default=3, help="samples of each build (default: %(default)s)")
    parser.add_argument("--functions", type=int, default=200, help="functions of the repository (default: %(default)s)")
    parser.add_argument(
        "--forms",
        type=int,
        default=3,
        help=f"1: all sets of requirements different, and locked; 2: without locks, too; 3: and {_SETS} sets",
    )
    add_cache(parser)
    return parser.parse_args()


def _parts(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if not set(chosen) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"known are {', '.join(PARTS)}")
    return chosen


if __name__ == "__main__":
    main()
