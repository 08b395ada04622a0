"""Measures the layer planner: ``python -m bench.planner``.

Against the exact optimum on small random instances, in time and memory on large ones, and in what moves when something changes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import fmean

from msgspec import Struct
from msgspec.structs import asdict, replace

from bench.instances import MODELS, Instance, large, small
from bench.machine import machine
from bench.rows import RESULTS
from packer.layers.planner import Demand, LayerPlan, Piece, plan_layers

_EXACT = 1 + 1e-9
Artifacts = set[tuple[tuple[str, ...], frozenset[str]]]


class Compared(Struct, frozen=True, kw_only=True):
    """One small instance: the plan's bytes, the optimum's or what nothing can be below, and the seconds of both."""

    seed: int
    model: str
    hard: bool
    stored: int
    optimum: int
    proved: bool
    planning: float
    solving: float

    @property
    def ratio(self) -> float:
        return self.stored / self.optimum


class Sized(Struct, frozen=True, kw_only=True):
    """One large instance, planned in a process of its own: ``memory`` is its peak, in bytes."""

    exponent: float
    seconds: float
    processor_seconds: float
    memory: int
    layers: int
    stored: int
    distinct: int
    apart: int


class Moved(Struct, frozen=True, kw_only=True):
    """One change: how many artifacts had to change, how many others did, and of how many there are in all."""

    needed: int
    others: int
    artifacts: int


def compare(seed: int, seconds: float) -> Compared:
    """Plan a small instance and solve it exactly; nothing is too small to share in either."""
    from bench.optimum import optimum  # it needs SciPy, and the other rows do not

    instance = small(seed)
    before = time.process_time()
    plan = plan_layers(instance.demands, instance.pieces, smallest=0)
    between = time.process_time()
    best = optimum(instance.demands, instance.pieces, seconds=seconds)
    if best.proved and plan.stored < best.bound:
        raise AssertionError(f"seed {seed}: a plan is below what the solver takes for the optimum")
    return Compared(
        seed=seed,
        model=instance.model,
        hard=instance.hard,
        stored=plan.stored,
        optimum=best.bound,
        proved=best.proved,
        planning=between - before,
        solving=time.process_time() - between,
    )


def measure_large(exponent: float) -> Sized:
    """Plan the large instance in a fresh process, so that its peak of memory is its own."""
    command = (sys.executable, "-m", "bench.planner", "--large", str(exponent))
    finished = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return Sized(**json.loads(finished.stdout))


def plan_large(exponent: float) -> Sized:
    """Plan the large instance in this process."""
    instance = large(1, exponent=exponent)
    start, busy = time.perf_counter(), time.process_time()
    plan = plan_layers(instance.demands, instance.pieces)
    return Sized(
        exponent=exponent,
        seconds=time.perf_counter() - start,
        processor_seconds=time.process_time() - busy,
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        layers=len(plan.layers),
        stored=plan.stored,
        distinct=instance.distinct,
        apart=instance.apart,
    )


def artifacts(plan: LayerPlan) -> Artifacts:
    """Give all artifacts, by their users and pieces."""
    layers = {(layer.users, frozenset(layer.pieces)) for layer in plan.layers}
    return layers | {((name,), kept) for name, kept in plan.packed.items()}


def churn(seed: int) -> dict[str, list[Moved]]:
    """Change a small instance in each way, and see what moves; nothing where no function is over its slots."""
    instance = small(seed)
    if not instance.hard:
        return {}
    before = artifacts(plan_layers(instance.demands, instance.pieces))
    needed = sorted({key for demand in instance.demands.values() for key in demand.pieces})
    return {
        "an unrelated function": [unrelated(instance, before)],
        **{
            f"an update, {percent} % larger": [updated(instance, before, key, 1 + percent / 100) for key in needed[::8]]
            for percent in (0, 1, 5, 20)
        },
    }


def unrelated(instance: Instance, before: Artifacts) -> Moved:
    """Add a function that shares nothing; all else must stay."""
    demands = {**instance.demands, "a-new-function": Demand(pieces=frozenset({"new", "newer"}))}
    new = {"new": Piece(zipped=5_000_000, unzipped=0), "newer": Piece(zipped=500_000, unzipped=0)}
    after = artifacts(plan_layers(demands, {**instance.pieces, **new}))
    return Moved(needed=len(after - before), others=len(before - after), artifacts=len(before))


def updated(instance: Instance, before: Artifacts, key: str, factor: float) -> Moved:
    """Update one distribution: another key and size; what does not hold it should stay."""
    piece = instance.pieces[key]
    pieces = {**instance.pieces, f"{key}-next": replace(piece, zipped=round(piece.zipped * factor))}
    del pieces[key]
    demands = {
        name: replace(demand, pieces=frozenset(f"{key}-next" if each == key else each for each in demand.pieces))
        for name, demand in instance.demands.items()
    }
    after = artifacts(plan_layers(demands, pieces))
    renamed = {(users, frozenset(each.removesuffix("-next") for each in kept)) for users, kept in after}
    held = {artifact for artifact in before if key in artifact[1]}
    return Moved(needed=len(held), others=len(before - renamed - held), artifacts=len(before) - len(held))


def main() -> None:
    """Measure and print the tables; all figures go to ``results/planner.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=200, help="small instances (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120, help="the solver's limit for each (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="instances solved at once (default: %(default)s)")
    parser.add_argument("--large", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.large is not None:
        print(json.dumps(asdict(plan_large(arguments.large))))
        return
    sized = [measure_large(exponent) for exponent in (0.8, 1.0, 1.2)]
    print(large_table(sized), end="\n\n", flush=True)
    seeds, compared = range(arguments.instances), []
    with ProcessPoolExecutor(arguments.jobs) as pool:
        moved = [*pool.map(churn, seeds)]
        print(churn_table(moved), end="\n\n", flush=True)
        for result in pool.map(partial(compare, seconds=arguments.seconds), seeds):
            print(f"{result.seed}: {result.ratio:.4f}{'' if result.proved else ' of a bound'}", file=sys.stderr, flush=True)
            compared.append(result)
    print(optimum_table(compared))
    RESULTS.mkdir(exist_ok=True)
    figures = {"machine": machine(), "large": [*map(asdict, sized)], "small": [*map(asdict, compared)]}
    figures["churn"] = [{name: [*map(asdict, each)] for name, each in one.items()} for one in moved]
    (RESULTS / "planner.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def optimum_table(compared: Sequence[Compared]) -> str:
    """Give the ratios to the optimum, in all and where some function is over its slots."""
    kinds: list[tuple[str, Callable[[Compared], bool]]] = [
        ("all", lambda _: True),
        ("over the slots", lambda each: each.hard),
        *((f"over the slots, {model}", lambda each, model=model: each.hard and each.model == model) for model in MODELS),
    ]
    lines = [
        (
            "instances",
            "number",
            "proved",
            "mean ratio",
            "worst ratio",
            "exactly 1.00",
            "the others against a bound",
            "planning",
        ),
        ("---",) * 8,
    ]
    for name, chosen in kinds:
        of_kind = [each for each in compared if chosen(each)]
        proved = [each.ratio for each in of_kind if each.proved]
        rest = [each.ratio for each in of_kind if not each.proved]
        exact = sum(ratio <= _EXACT for ratio in proved)
        if proved:
            lines.append(
                (
                    name,
                    str(len(of_kind)),
                    str(len(proved)),
                    f"{fmean(proved):.4f}",
                    f"{max(proved):.4f}",
                    f"{exact} ({exact / len(proved):.0%})",
                    f"at most {max(rest):.4f}" if rest else "-",
                    f"{fmean(each.planning for each in of_kind):.3f} s, at most {max(each.planning for each in of_kind):.2f} s",
                )
            )
    return _markdown(lines)


def large_table(sized: Sequence[Sized]) -> str:
    """Give time, memory and sizes of the large instances."""
    lines = [("exponent", "time", "CPU", "peak memory", "layers", "stored", "apart", "each once"), ("---",) * 8]
    for each in sized:
        gigabytes = (f"{size / 1e9:.2f} GB" for size in (each.stored, each.apart, each.distinct))
        memory = f"{each.memory / 1e6:.0f} MB"
        times = (f"{each.seconds:.2f} s", f"{each.processor_seconds:.2f} s")
        lines.append((f"{each.exponent}", *times, memory, str(each.layers), *gigabytes))
    return _markdown(lines)


def churn_table(found: Sequence[dict[str, list[Moved]]]) -> str:
    """Give what moves although it need not: every artifact that does not hold what has changed."""
    lines = [
        ("change", "changes", "artifacts that must change", "others that change", "changes that move others"),
        ("---",) * 5,
    ]
    for name in dict.fromkeys(name for each in found for name in each):
        moved = [one for each in found for one in each.get(name, ())]
        others, still = sum(each.others for each in moved), sum(each.artifacts for each in moved)
        unquiet = sum(each.others > 0 for each in moved)
        needed = f"{fmean(each.needed for each in moved):.2f}"
        lines.append(
            (name, str(len(moved)), needed, f"{others} of {still} ({others / still:.2%})", f"{unquiet / len(moved):.1%}")
        )
    return _markdown(lines)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
