"""Builds functions that may share layers: what all need is divided, and each is built and proved with its layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from builders.runtimes import Target
from packer.core.errors import LpackError, ManyErrors
from packer.core.events import Reporter
from packer.core.model import Function
from packer.layers.assignment import Division, MadeLayer, Need, Needed, Share, divide, shared, with_required
from packer.layers.planner import Piece
from packer.pipeline.gatherer import Gatherer, Inputs, Tools
from packer.pipeline.layer_maker import Beside, Version, Wanted, way_of
from packer.pipeline.local_work import Settled, Work
from packer.pipeline.results import Built, Result, held_to_limits, state_of
from packer.pipeline.state import FunctionState, LayeredState
from packer.source.function_source import Scan
from packer.trim.rules import Unit

Key = TypeVar("Key")
Value = TypeVar("Value")


class Member:
    """A function on its way through the build: what decides it, what it was, and what has been found out of it."""

    def __init__(self, function: Function, gatherer: Gatherer, previous: FunctionState | None) -> None:
        self.function = function
        self.scan: Scan = gatherer.scan(function)
        # Taken before anything is built: what is edited meanwhile differs from it, and the next build sees that.
        self.inputs: Inputs = gatherer.inputs(function, self.scan)
        fits = previous is not None and previous.fingerprint == self.inputs.fingerprint(previous.folders)
        self.previous = previous if fits else None
        self.kept: frozenset[Unit] | None = None
        self._need: Need | None = None
        self.tight = function.bytecode.mode == "only"
        self.alone = ""

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.name

    @property
    def known(self) -> LayeredState | None:
        """What is remembered of it, where all that decides it is as it was."""
        return self.previous.layered if self.previous else None

    def believe(self) -> None:
        """Take over what was found out with the same neighbours: that sources must go, or that it works alone only."""
        if self.known is not None:
            self.tight, self.alone = self.known.tight, self.known.alone

    @property
    def version(self) -> Version:
        """How it is trimmed."""
        return Version(name=self.name, kept=self.kept)

    @property
    def need(self) -> Need:
        """What it needs; it has been prepared, or is remembered."""
        if self._need is None:
            if self.known is None:
                raise ValueError(f"{self.name} was not prepared")
            self._need = _remembered(self.known, self.function)
        return self._need

    def prepare(self, work: Work, kept: frozenset[Unit] | None = None) -> None:
        """Find out what it needs; raises `LpackError`."""
        self._need, self.kept = work.prepare(Version(name=self.name, kept=kept))

    def take(self, settled: Settled) -> None:
        """Take in what building it has found out."""
        self._need, self.kept = settled.need, settled.restored

    @property
    def prepared(self) -> bool:
        """Whether it has been looked at now."""
        return self.kept is not None

    def state(self, layers: Sequence[MadeLayer], peers: tuple[str, ...]) -> LayeredState:
        """Give what the next build has to know of it; ``peers`` are the functions that the plan was made for."""
        need = self.need
        return LayeredState(
            distributions={
                digest: (each.name, each.version, each.variant, each.size, each.weight, each.requires)
                for digest, each in need.distributions.items()
            },
            own=need.own,
            stuck=tuple(sorted(need.stuck)),
            tied=tuple(tuple(sorted(group)) for group in need.tied),
            libraries=need.libraries,
            tight=self.tight,
            alone=self.alone,
            peers=peers,
            layers=tuple(layer.name for layer in layers),
        )


def _remembered(known: LayeredState, function: Function) -> Need:
    return Need(
        distributions={
            digest: Needed(name=name, version=version, variant=variant, size=size, weight=weight, requires=tuple(requires))
            for digest, (name, version, variant, size, weight, requires) in known.distributions.items()
        },
        own=known.own,
        options=function.layers,
        stuck=frozenset(known.stuck),
        tied=tuple(map(frozenset, known.tied)),
        libraries=known.libraries,
    )


class Planned(Struct, frozen=True, kw_only=True):
    """What functions of a target need, what of that may lie in layers, how large that is there, and who gets what."""

    target: Target
    needs: Mapping[str, Need]
    wanted: Mapping[str, Wanted]
    sizes: Mapping[str, Piece]
    division: Division


class Group:
    """Functions of one target that are compiled alike, and may share layers.

    ``chosen`` are those to be built; the others only take part in the plan. ``work`` does what is to be done, and ``now`` is
    the build's start in nanoseconds.
    """

    def __init__(self, members: Sequence[Member], chosen: frozenset[str], tools: Tools, work: Work, now: int) -> None:
        self._members = {member.name: member for member in members}
        self._chosen = chosen
        self._tools = tools
        self._work = work
        self._now = now
        function = members[0].function
        self._target = function.target
        self._way = way_of(tools, function.target, function.bytecode)
        self.unused: Mapping[str, str] = {}
        """Why nobody here gets a named layer, once it has been built."""
        self._unchanged: dict[str, Built] = {}
        self._settled: dict[str, tuple[tuple[MadeLayer, ...], Settled]] = {}
        self._layers: dict[tuple[Share, tuple[str, ...], Beside], MadeLayer] = {}
        self._peers = tuple(sorted(each.name for each in members if each.function.layers.wanted))
        if all(each.known is not None and each.known.peers == self._peers for each in members if each.function.layers.wanted):
            for each in members:
                each.believe()

    def build(self, executor: Executor) -> dict[str, Built]:
        """Build the chosen functions; raises the one error, or `ManyErrors`, when all have ended."""
        self._prepare(executor)
        while True:
            planned = self._planned(executor)
            layers = self._made(planned, executor)
            mine = {name: tuple(layers[share] for share in planned.division.of(name)) for name in self._chosen}
            todo = [self._members[name] for name in sorted(self._chosen) if not self._stands(self._members[name], mine[name])]
            self._work.ready({each.name: mine[each.name] for each in todo})
            futures = {each.name: executor.submit(self._work.settle, each.version, mine[each.name]) for each in todo}
            settled = gathered_results(futures)
            if all([self._agrees(self._members[name], mine[name], each) for name, each in settled.items()]):  # noqa: C419
                self.unused = planned.division.unused
                return self._unchanged | self._noted_all()

    def plan(self, executor: Executor) -> Planned:
        """Plan layers, and build nothing; raises the one error, or `ManyErrors`."""
        self._prepare(executor)
        return self._planned(executor)

    def _prepare(self, executor: Executor) -> None:
        """Prepare what has changed; one that is not asked for and fails is left out of the plan."""
        new = {name: each for name, each in self._members.items() if each.known is None and each.function.layers.wanted}
        futures = {name: executor.submit(member.prepare, self._work) for name, member in new.items()}
        for name in left_out(futures, self._chosen, self._tools.reporter):
            del self._members[name]

    def _planned(self, executor: Executor) -> Planned:
        """Divide what the functions need."""
        while True:
            taking_part = [each for each in self._members.values() if each.function.layers.wanted and not each.alone]
            needs = with_required({member.name: member.need for member in taking_part})
            wanted = self._wanted(needs)
            unknown = [each for each in wanted.values() if not self._way.is_known(self._tools.store, each.key)]
            if not self._renewed(unknown, executor):
                break
        self._work.warm(unknown)
        sizes = gathered_results({digest: executor.submit(self._work.size, each) for digest, each in wanted.items()})
        weights: dict[str, float] = {}
        for need in needs.values():
            for digest, each in need.distributions.items():
                weights[digest] = max(each.weight, weights.get(digest, 0.0))
        sizes = {digest: replace(size, weight=weights[digest]) for digest, size in sizes.items()}
        return Planned(target=self._target, needs=needs, wanted=wanted, sizes=sizes, division=divide(needs, sizes))

    def _renewed(self, unknown: Sequence[Wanted], executor: Executor) -> bool:
        """Prepare who needs what nothing is known of, and is only remembered; say whether there was any."""
        names = {version.name for each in unknown for version in each.versions}
        old = [self._members[name] for name in sorted(names) if not self._members[name].prepared]
        gathered_results({member.name: executor.submit(member.prepare, self._work) for member in old})
        return bool(old)

    def _made(self, planned: Planned, executor: Executor) -> dict[Share, MadeLayer]:
        """Make the layers that one of the chosen has."""
        shares = [share for share in planned.division.shares if self._chosen.intersection(share.users)]
        besides = {share: self._beside(share, planned.needs) for share in shares}
        keys = {share: (share, tuple(planned.wanted[each].key for each in share.pieces), besides[share]) for share in shares}
        new = {key: share for share, key in keys.items() if key not in self._layers}
        made = {key: executor.submit(self._work.make, share, planned.wanted, besides[share]) for key, share in new.items()}
        self._layers |= gathered_results(made)
        return {share: self._layers[key] for share, key in keys.items()}

    def _beside(self, share: Share, needs: Mapping[str, Need]) -> Beside:
        held = frozenset(share.pieces)
        users = [needs[user] for user in share.users]
        digests = {digest for need in users for digest in (*(need.distributions.keys() - held), *need.libraries)}
        return Beside(digests=tuple(sorted(digests)), users=share.users)

    def _wanted(self, needs: Mapping[str, Need]) -> dict[str, Wanted]:
        """Say what a layer would hold of each distribution that may lie in one."""
        found: dict[str, Wanted] = {}
        for digest, users in shared(needs).items():
            variants = {needs[user].distributions[digest].variant: user for user in reversed(users)}
            only = any(self._members[user].tight for user in users)
            versions = tuple(self._members[variants[each]].version for each in sorted(variants))
            key = self._way.key(digest, variants, only=only)
            found[digest] = Wanted(digest=digest, key=key, only=only, versions=versions)
        return found

    def _stands(self, member: Member, layers: Sequence[MadeLayer]) -> bool:
        """Say whether a function is as it was, or was built with these layers already."""
        names = [layer.name for layer in layers]
        known, previous = member.known, member.previous
        as_it_was = not member.prepared and known is not None and list(known.layers) == names
        if as_it_was and known is not None and previous is not None and self._is_there(previous):
            self._tools.reporter.stage(member.name, "unchanged")
            state = member.inputs.seen_again(previous, self._now)
            state = replace(state, layered=replace(known, peers=self._peers, tight=member.tight, alone=member.alone))
            self._unchanged[member.name] = Built(state=state, staged=None)
            return True
        done = self._settled.get(member.name)
        return done is not None and [layer.name for layer in done[0]] == names and done[1].restored == member.kept

    def _agrees(self, member: Member, layers: tuple[MadeLayer, ...], settled: Settled) -> bool:
        """Take in what building a function has found out; say whether the plan stands."""
        if settled.cramped and not member.tight:
            member.tight = True
            return False
        if settled.alone and not member.alone:
            member.alone = settled.alone
            return False
        if settled.kept != settled.restored:
            member.prepare(self._work, settled.kept)
            return False
        member.take(settled)
        self._settled[member.name] = (layers, settled)
        return True

    def _noted_all(self) -> dict[str, Built]:
        """Write down what was built; raises the one error, or `ManyErrors`, for what is over a limit."""
        built: dict[str, Built] = {}
        errors: list[LpackError] = []
        for name, (layers, settled) in self._settled.items():
            try:
                built[name] = self._noted(self._members[name], layers, settled)
            except LpackError as error:
                errors.append(error)
        raise_any(errors)
        return built

    def _is_there(self, previous: FunctionState) -> bool:
        """Say whether what was made of a function that is as it was lies where it belongs."""
        return previous.is_written()

    def _limits(self, function: Function, result: Result, layers: Sequence[MadeLayer]) -> tuple[str, ...]:
        """Give warnings about sizes; raises `LimitError`."""
        return held_to_limits(function, result, layers)

    def _noted(self, member: Member, layers: Sequence[MadeLayer], settled: Settled) -> Built:
        result, reporter = settled.result, self._tools.reporter
        limits = self._limits(member.function, result, layers)
        warnings = (*result.warnings, *([member.alone] if member.alone else []), *limits)
        fingerprint = member.inputs.fingerprint(result.folders)
        layered = member.state(layers, self._peers)
        state = state_of(replace(result, warnings=warnings), member.inputs, fingerprint, self._now, layered)
        if result.told:
            reporter.note(f"{member.name}: {result.told}")
        reporter.stage(member.name, "done")
        staged = {layer.report["path"]: layer.staged for layer in layers if layer.staged is not None}
        return Built(state=state, staged=settled.staged, layers=staged)


def look_at(
    functions: Sequence[Function],
    chosen: Collection[str],
    gatherer: Gatherer,
    previous: Callable[[str], FunctionState | None],
    executor: Executor,
    reporter: Reporter,
) -> dict[str, Member]:
    """Look at functions; one that fails and is not ``chosen`` is left out. Raises the one error of others, or `ManyErrors`."""
    looked = {each.name: executor.submit(Member, each, gatherer, previous(each.name)) for each in functions}
    lost = left_out(looked, chosen, reporter)
    return {name: future.result() for name, future in looked.items() if name not in lost}


def gathered_results(futures: Mapping[Key, Future[Value]]) -> dict[Key, Value]:
    """Give what came of all; raises the one error, or `ManyErrors`, when all have ended."""
    errors: list[LpackError] = []
    found: dict[Key, Value] = {}
    try:
        for key, future in futures.items():
            try:
                found[key] = future.result()
            except LpackError as error:
                errors.append(error)
    finally:
        for future in futures.values():
            future.cancel()  # has no effect unless the loop was interrupted
    raise_any(errors)
    return found


def left_out(futures: Mapping[str, Future[Value]], chosen: Collection[str], reporter: Reporter) -> list[str]:
    """Wait for what looks at functions, and give those that the plan must do without: they fail, and nobody asked for them.

    Raises the one error of those that were asked for, or `ManyErrors`.
    """
    found: list[str] = []
    for name in [name for name in futures if name not in chosen]:
        try:
            futures[name].result()
        except LpackError as error:
            reporter.warn(f"{name} is left out when layers are planned: {error}")
            found.append(name)
    gathered_results({name: future for name, future in futures.items() if name in chosen})
    return found


def raise_any(errors: Sequence[LpackError]) -> None:
    """Raise the one error, or `ManyErrors`, if there is any."""
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
