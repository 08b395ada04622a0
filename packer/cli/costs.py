"""What the commands share that say who requires what, and the bytes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from packer.cli.common import find_flagged_project, open_store
from packer.cli.project_appraisal import appraise_project
from packer.core.errors import UsageError

if TYPE_CHECKING:
    from packer.cli.terminal import LineReporter
    from packer.core.model import Function
    from packer.inspect.requirement_report import Costs
    from packer.pipeline.gatherer import Gatherer
    from packer.resolve.requirement_graph import RequirementGraph, RequirementGraphs


def find_costs(names: Sequence[str], flags: Mapping[str, Any], reporter: LineReporter, *, one: bool = False) -> Iterator[Costs]:
    """Return the costs of the named functions, or of all; ``flags`` are those of the command line.

    With ``one`` there must be one. Raises `LpackError`.
    """
    from packer.cli.wiring import open_project_tools, read_config
    from packer.config.project_reader import select_functions
    from packer.inspect.requirement_report import Costs
    from packer.pipeline.gatherer import make_gatherer
    from packer.resolve.requirement_graph import RequirementGraphs

    project = find_flagged_project(names, flags)
    store = open_store()
    whole = {"out": None, "strict": False, **flags}
    config = read_config(project, flags)
    functions = select_functions(config, project)
    if one and len(functions) != 1:
        what = f"{' '.join(names)} has {len(functions)} functions: {', '.join(each.name for each in functions)}."
        raise UsageError(what, remedy="Name one of them in the folder of its configuration, or with --config.")
    state = appraise_project(project, whole, store, reporter)
    resolved = {**flags, "upgrade": False}  # just now, if at all
    with open_project_tools(config, resolved, store, reporter, build=False) as tools:
        gatherer, graphs = make_gatherer(tools, reporter, config.out), RequirementGraphs(store)
        for function in functions:
            needs = _read_graph(function, gatherer, graphs)
            known = state.functions[function.name]
            exact = not (known.estimate and known.estimate.known_by)
            yield Costs.of(function.name, needs, known.report, exact=exact)


def _read_graph(function: Function, gatherer: Gatherer, graphs: RequirementGraphs) -> RequirementGraph:
    from packer.resolve.requirement_graph import read_requirement_graph

    distributions = gatherer.obtain_distributions(function)
    # Of one that is only outlined, another part may be known another time.
    wheels = {name: f"{each.digest} {each.outlined}".rstrip() for name, each in distributions.items()}
    trees = ((name, gatherer.tree(each)) for name, each in distributions.items())
    return graphs.read(function, wheels, lambda: read_requirement_graph(function, dict(trees)))
