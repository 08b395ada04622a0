"""Builds functions that may share layers: what all need is divided, and each is built and proved with its layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from builders.errors import LpackError
from builders.runtimes import Target
from packer.cache.store import digest_of
from packer.core.errors import raise_any
from packer.core.events import Reporter
from packer.core.futures import collect_results
from packer.core.model import Function
from packer.layers.assignment import Division, LayerShare, MadeLayer, Need, divide, shared, with_required
from packer.layers.planner import Piece
from packer.manifest.summary import list_removed
from packer.pipeline.gatherer import FunctionInputs, Gatherer
from packer.pipeline.layer_maker import Beside, Version, Wanted
from packer.pipeline.layer_parts import LayerCompilation
from packer.pipeline.local_work import SettledFunction, Work
from packer.pipeline.plan_progress import Progress, begin_progress
from packer.pipeline.results import Built, Result, check_limits, make_state
from packer.pipeline.state import FunctionState, LayeredState
from packer.source.function_source import SourceScan
from packer.trim.rules import Unit

Value = TypeVar("Value")


class GroupMember:
    """A function that takes part in a build: what decides it, and what it was."""

    def __init__(self, function: Function, gatherer: Gatherer, previous: FunctionState | None) -> None:
        self.function = function
        self.scan: SourceScan = gatherer.scan(function)
        # Taken before anything is built: what is edited meanwhile differs from it, and the next build sees that.
        self.inputs: FunctionInputs = gatherer.inputs(function, self.scan)
        fits = previous is not None and previous.fingerprint == self.inputs.fingerprint(previous.folders)
        self.previous = previous if fits else None

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.name

    @property
    def known(self) -> LayeredState | None:
        """What is remembered of it, where all that decides it is as it was."""
        return self.previous.layered if self.previous else None


class GroupPlan(Struct, frozen=True, kw_only=True):
    """What functions of a target need, what of that may lie in layers, how large that is there, and who gets what."""

    target: Target
    needs: Mapping[str, Need]
    wanted: Mapping[str, Wanted]
    sizes: Mapping[str, Piece]
    division: Division


class GroupPurpose(Protocol):
    """What a group works for: artifacts, or only to say what they are going to be."""

    def is_current(self, previous: FunctionState) -> bool:
        """Return whether what was made of a function that is as it was still serves."""
        ...

    def limit_warnings(self, function: Function, result: Result, layers: Sequence[MadeLayer]) -> tuple[str, ...]:
        """Return warnings about sizes; raises `LimitError` for what must not be written."""
        ...


class ArtifactPurpose:
    """Artifacts are wanted in the output folder, none over a limit."""

    def is_current(self, previous: FunctionState) -> bool:
        """Return whether the artifact lies where it belongs."""
        return previous.is_written()

    def limit_warnings(self, function: Function, result: Result, layers: Sequence[MadeLayer]) -> tuple[str, ...]:
        """Return warnings about sizes; raises `LimitError`."""
        return check_limits(function, result, layers)


class ZipGroup:
    """Functions of one target that are compiled alike, and may share layers.

    ``chosen`` are those to be built; the others only take part in the plan. ``work`` does what is to be done, ``is_known``
    says of a key whether the size of what it stands for is known, and ``now`` is the build's start in nanoseconds.
    """

    def __init__(
        self,
        members: Sequence[GroupMember],
        chosen: frozenset[str],
        work: Work,
        compilation: LayerCompilation,
        is_known: Callable[[str], bool],
        reporter: Reporter,
        now: int,
        purpose: GroupPurpose,
    ) -> None:
        self._members = {member.name: member for member in members}
        self._chosen = chosen
        self._work = work
        self._compilation = compilation
        self._is_known = is_known
        self._reporter = reporter
        self._now = now
        self._purpose = purpose
        self._target = members[0].function.target
        self.unused: Mapping[str, str] = {}
        """Why nobody here gets a named layer, once it has been built."""
        self._unchanged: dict[str, Built] = {}
        self._without_sources: Mapping[str, tuple[str, ...]] = {}
        self._settled: dict[str, tuple[tuple[MadeLayer, ...], SettledFunction]] = {}
        self._layers: dict[str, MadeLayer] = {}
        wanted = [each for each in members if each.function.layers.wanted]
        self._peers = tuple(sorted(each.name for each in wanted))
        self._believed = all(each.known is not None and each.known.peers == self._peers for each in wanted)

    def build(self, executor: Executor) -> dict[str, Built]:
        """Build the chosen functions; raises the one error, or `ManyErrors`, when all have ended.

        What a build finds out may change the plan: it is made again, and what it changes is built again, until nothing is
        found out any more. `Progress.revise` says why that ends.
        """
        progress = self._begin(executor)
        while True:
            progress, planned = self._plan_layers(progress, executor)
            layers = self._make_layers(planned, executor)
            mine = {name: tuple(layers[place] for place in planned.division.places(name)) for name in self._chosen}
            settled = self._settle_chosen(progress, mine, executor)
            revised = _revise_progress(progress, settled)
            stands = {name: progress[name].accept(each) for name, each in settled.items() if name not in revised}
            self._settled |= {name: (mine[name], settled[name]) for name in stands}
            progress = {**progress, **stands, **self._prepare_again(progress, revised, executor)}
            if not revised:
                self.unused = planned.division.unused
                self._without_sources = self._find_without_sources(progress, planned)
                return self._unchanged | self._record_all(progress)

    def plan(self, executor: Executor) -> GroupPlan:
        """Plan layers, and build nothing; raises the one error, or `ManyErrors`."""
        return self._plan_layers(self._begin(executor), executor)[1]

    def _begin(self, executor: Executor) -> dict[str, Progress]:
        """Prepare what has changed; one that is not asked for and fails is left out of the plan."""
        progress = {
            name: begin_progress(each.function, each.known, believed=self._believed) for name, each in self._members.items()
        }
        new = [name for name, each in self._members.items() if each.known is None and each.function.layers.wanted]
        futures = {name: executor.submit(self._work.prepare, Version(name=name)) for name in new}
        for name in find_failures(futures, self._chosen, self._reporter):
            del self._members[name], progress[name], futures[name]
        return progress | {name: _add_need(progress[name], future.result()) for name, future in futures.items()}

    def _plan_layers(self, progress: Mapping[str, Progress], executor: Executor) -> tuple[dict[str, Progress], GroupPlan]:
        """Divide what the functions need; return what is known of them by then, too."""
        progress = dict(progress)
        needs, wanted, unknown = self._collect_needs(progress)
        while old := _find_remembered(progress, unknown):  # fewer each time: those that are prepared now are not among them
            progress |= self._prepare(progress, old, executor)
            needs, wanted, unknown = self._collect_needs(progress)
        self._work.warm(unknown)
        sizes = collect_results({digest: executor.submit(self._work.size, each) for digest, each in wanted.items()})
        weights: dict[str, float] = {}
        for need in needs.values():
            for digest, each in need.distributions.items():
                weights[digest] = max(each.weight, weights.get(digest, 0.0))
        sizes = {digest: replace(size, weight=weights[digest]) for digest, size in sizes.items()}
        planned = GroupPlan(target=self._target, needs=needs, wanted=wanted, sizes=sizes, division=divide(needs, sizes))
        return progress, planned

    def _collect_needs(self, progress: Mapping[str, Progress]) -> tuple[dict[str, Need], dict[str, Wanted], list[Wanted]]:
        """Return what functions need, what layers would hold of that, and what of these nothing is known of."""
        taking_part = [each for each in self._members.values() if each.function.layers.wanted and not progress[each.name].alone]
        needs = with_required({member.name: progress[member.name].require_need() for member in taking_part})
        wanted = self._describe_wanted(progress, needs)
        return needs, wanted, [each for each in wanted.values() if not self._is_known(each.key)]

    def _prepare(self, progress: Mapping[str, Progress], names: Collection[str], executor: Executor) -> dict[str, Progress]:
        """Return what is known of functions that are looked at now."""
        futures = {name: executor.submit(self._work.prepare, progress[name].version) for name in names}
        return {name: _add_need(progress[name], found) for name, found in collect_results(futures).items()}

    def _prepare_again(
        self, progress: Mapping[str, Progress], revised: Mapping[str, Progress], executor: Executor
    ) -> dict[str, Progress]:
        """Prepare again those that must be trimmed differently; return what is known of all that were revised."""
        trimmed = [name for name, each in revised.items() if each.kept != progress[name].kept]
        return {**revised, **self._prepare(revised, trimmed, executor)}

    def _settle_chosen(
        self, progress: Mapping[str, Progress], mine: Mapping[str, tuple[MadeLayer, ...]], executor: Executor
    ) -> dict[str, SettledFunction]:
        """Build what does not stand with its layers as it is."""
        todo = [name for name in sorted(self._chosen) if not self._is_settled(self._members[name], progress[name], mine[name])]
        self._work.ready({name: mine[name] for name in todo})
        return collect_results({name: executor.submit(self._work.settle, progress[name].version, mine[name]) for name in todo})

    def _make_layers(self, planned: GroupPlan, executor: Executor) -> dict[int, MadeLayer]:
        """Make the layers that one of the chosen has; return them by their places in the plan."""
        shares = {place: share for place, share in enumerate(planned.division.shares) if self._chosen.intersection(share.users)}
        besides = {place: self._find_beside(share, planned.needs) for place, share in shares.items()}
        keys = {place: _digest_layer(share, planned.wanted, besides[place]) for place, share in shares.items()}
        new = {key: place for place, key in keys.items() if key not in self._layers}
        make = self._work.make
        made = {key: executor.submit(make, shares[place], planned.wanted, besides[place]) for key, place in new.items()}
        self._layers |= collect_results(made)
        return {place: self._layers[key] for place, key in keys.items()}

    def _find_beside(self, share: LayerShare, needs: Mapping[str, Need]) -> Beside:
        held = frozenset(share.pieces)
        users = [needs[user] for user in share.users]
        digests = {digest for need in users for digest in (*(need.distributions.keys() - held), *need.libraries)}
        return Beside(digests=tuple(sorted(digests)), users=share.users)

    def _find_without_sources(self, progress: Mapping[str, Progress], planned: GroupPlan) -> dict[str, tuple[str, ...]]:
        """Return who has layers without sources for lack of room in other functions, and which functions these are."""
        found: dict[str, tuple[str, ...]] = {}
        for name in planned.needs:
            held = {
                digest
                for place in planned.division.places(name)
                for digest in planned.division.shares[place].pieces
                if planned.wanted[digest].only
            }
            tight = (each for each, need in planned.needs.items() if progress[each].tight and held & need.distributions.keys())
            if not progress[name].tight and (others := tuple(sorted(tight))):
                found[name] = others
        return found

    def _describe_wanted(self, progress: Mapping[str, Progress], needs: Mapping[str, Need]) -> dict[str, Wanted]:
        """Return what a layer would contain of each distribution that may be in one."""
        found: dict[str, Wanted] = {}
        for digest, users in shared(needs).items():
            variants = {needs[user].distributions[digest].variant: user for user in reversed(users)}
            only = any(progress[user].tight for user in users)
            versions = tuple(progress[variants[each]].version for each in sorted(variants))
            key = self._compilation.key(digest, variants, only=only)
            found[digest] = Wanted(digest=digest, key=key, only=only, versions=versions)
        return found

    def _is_settled(self, member: GroupMember, progress: Progress, layers: Sequence[MadeLayer]) -> bool:
        """Return whether a function is as it was, or was built with these layers already."""
        names = [layer.name for layer in layers]
        known, previous = member.known, member.previous
        as_it_was = not progress.prepared and known is not None and list(known.layers) == names
        if as_it_was and known is not None and previous is not None and self._purpose.is_current(previous):
            self._reporter.stage(member.name, "unchanged")
            state = member.inputs.refresh_state(previous, self._now)
            state = replace(state, layered=replace(known, peers=self._peers, tight=progress.tight, alone=progress.alone))
            self._unchanged[member.name] = Built(state=state, staged=None)
            return True
        done = self._settled.get(member.name)
        return done is not None and [layer.name for layer in done[0]] == names and done[1].restored == progress.kept

    def _record_all(self, progress: Mapping[str, Progress]) -> dict[str, Built]:
        """Write down what was built; raises the one error, or `ManyErrors`, for what is over a limit."""
        built: dict[str, Built] = {}
        errors: list[LpackError] = []
        for name, (layers, settled) in self._settled.items():
            try:
                built[name] = self._record(self._members[name], progress[name], layers, settled)
            except LpackError as error:
                errors.append(error)
        raise_any(errors)
        return built

    def _record(self, member: GroupMember, progress: Progress, layers: Sequence[MadeLayer], settled: SettledFunction) -> Built:
        result, reporter = settled.result, self._reporter
        limits = self._purpose.limit_warnings(member.function, result, layers)
        others = self._without_sources.get(member.name, ())
        without = [_warn_of_missing_sources(member.name, self._members[each].function) for each in others]
        warnings = (*result.warnings, *([progress.alone] if progress.alone else []), *without, *limits)
        fingerprint = member.inputs.fingerprint(result.folders)
        layered = _make_layered_state(progress, layers, self._peers)
        state = make_state(replace(result, warnings=warnings), member.inputs, fingerprint, self._now, layered)
        if result.summary:
            reporter.note(f"{member.name}: {result.summary}")
            for line in list_removed(result.report):
                reporter.debug(f"{member.name}: {line}")
        reporter.stage(member.name, "done")
        staged = {layer.report.path: layer.staged for layer in layers if layer.staged is not None}
        return Built(state=state, staged=settled.staged, layers=staged)


def _warn_of_missing_sources(name: str, other: Function) -> str:
    """Return the warning of a function that another one's lack of room changes."""
    limit = "its budget" if other.budget.zip is not None or other.budget.unzipped is not None else "Lambda's limit"
    return (
        f"{name}: layers that it shares with {other.name} hold bytecode in the place of sources, for with both {other.name} "
        f'is over {limit}. Write bytecode = "only" for {other.name}, which has layers of its own then, or give it more room.'
    )


def _digest_layer(share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> str:
    """Return the digest of all that decides a layer."""
    keys = [wanted[digest].key for digest in share.pieces]
    return digest_of(share.name, *share.pieces, "", *share.users, "", *keys, "", *beside.digests)


def _add_need(progress: Progress, found: tuple[Need, frozenset[Unit]]) -> Progress:
    """Return what is known of a function that was looked at now."""
    need, kept = found
    return replace(progress, need=need, kept=kept)


def _find_remembered(progress: Mapping[str, Progress], unknown: Sequence[Wanted]) -> list[str]:
    """Return who needs what nothing is known of, and was not looked at now."""
    names = {version.name for each in unknown for version in each.versions}
    return [name for name in sorted(names) if not progress[name].prepared]


def _revise_progress(progress: Mapping[str, Progress], settled: Mapping[str, SettledFunction]) -> dict[str, Progress]:
    """Return what builds have changed, of those alone whose build asks for another plan; raises as `raise_any` does."""
    found: dict[str, Progress] = {}
    errors: list[LpackError] = []
    for name, each in settled.items():
        try:
            revised = progress[name].revise(each)
        except LpackError as error:
            errors.append(error)
        else:
            found |= {name: revised} if revised is not None else {}
    raise_any(errors)
    return found


def _make_layered_state(progress: Progress, layers: Sequence[MadeLayer], peers: tuple[str, ...]) -> LayeredState:
    """Return what the next build has to know of a function; ``peers`` are the functions that the plan was made for."""
    need = progress.require_need()
    return LayeredState(
        distributions={
            digest: (each.name, each.version, each.variant, each.size, each.weight, each.requires)
            for digest, each in need.distributions.items()
        },
        own=need.own,
        stuck=tuple(sorted(need.stuck)),
        tied=tuple(tuple(sorted(group)) for group in need.tied),
        libraries=need.libraries,
        tight=progress.tight,
        alone=progress.alone,
        peers=peers,
        layers=tuple(layer.name for layer in layers),
    )


def scan_members(
    functions: Sequence[Function],
    chosen: Collection[str],
    gatherer: Gatherer,
    previous: Callable[[str], FunctionState | None],
    executor: Executor,
    reporter: Reporter,
) -> dict[str, GroupMember]:
    """Scan functions; one that fails and is not ``chosen`` is skipped. Raises the error of a chosen one, or `ManyErrors`."""
    looked = {each.name: executor.submit(GroupMember, each, gatherer, previous(each.name)) for each in functions}
    lost = find_failures(looked, chosen, reporter)
    return {name: future.result() for name, future in looked.items() if name not in lost}


def find_failures(futures: Mapping[str, Future[Value]], chosen: Collection[str], reporter: Reporter) -> list[str]:
    """Wait for functions to be scanned, and return those that failed and were not chosen, which the plan goes without.

    Raises the one error of those that were asked for, or `ManyErrors`.
    """
    found: list[str] = []
    for name in [name for name in futures if name not in chosen]:
        try:
            futures[name].result()
        except LpackError as error:
            reporter.warn(f"{name} is not part of the layer plan: {error}")
            found.append(name)
    collect_results({name: future for name, future in futures.items() if name in chosen})
    return found
