"""Builds functions that may share layers: all are looked at, what they need is divided, and each is proved with its layers."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

from builders.runtimes import Target
from packer.assemble import check_handler
from packer.config import lock_path
from packer.discover import find_requirements
from packer.errors import LpackError, ManyErrors
from packer.gather import Gathered, Gatherer, Inputs, Tools
from packer.layering import Division, MadeLayer, Need, Needed, Share, divide, shared
from packer.layers import Piece
from packer.makelayer import LayerMaker, Wanted
from packer.model import Function, Tree
from packer.once import Once
from packer.options import NamedLayer
from packer.pieces import Variant, own_size, variants_of
from packer.placing import Layered
from packer.prove import Proof
from packer.record import Built, Work, record
from packer.rules import Unit
from packer.shape import Cut
from packer.state import FunctionState, LayeredState


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A function with its parts trimmed, as it goes into the plan."""

    gathered: Gathered
    restored: frozenset[Unit]
    cut: Cut
    variants: Mapping[str, Variant]

    def need(self) -> Need:
        """Give what it needs."""
        material = self.gathered.material
        distributions = {
            each.digest: Needed(name=each.name, version=each.version, variant=variant.digest, size=variant.tree.size)
            for each in material.distributions
            for variant in (self.variants[each.digest],)
        }
        return Need(distributions=distributions, own=own_size(self.cut), options=material.function.layers)


class Member:
    """A function on its way through the build; what is found out of it stays here. May be prepared from many threads."""

    def __init__(self, function: Function, tools: Tools, gatherer: Gatherer, previous: FunctionState | None) -> None:
        self.function = function
        self._tools = tools
        self._gatherer = gatherer
        self._lock = Lock()
        self._prepared: Prepared | None = None
        self.started = time.perf_counter()
        self._scan = gatherer.scan(function)
        # Taken before anything is built: what is edited meanwhile differs from it, and the next build sees that.
        self.inputs: Inputs = gatherer.inputs(function, self._scan)
        fits = previous is not None and previous.fingerprint == self.inputs.fingerprint(previous.folders)
        self.previous = previous if fits else None
        self.tight = self.known.tight if self.known else function.bytecode.mode == "only"
        self.alone = bool(self.known and self.known.alone)

    @property
    def known(self) -> LayeredState | None:
        """What is remembered of it, where all that decides it is as it was."""
        return self.previous.layered if self.previous else None

    @property
    def need(self) -> Need:
        """What it needs, as far as possible without looking at it again."""
        if self._prepared is None and self.known is not None:
            return _remembered(self.known, self.function)
        return self.prepared().need()

    def prepared(self) -> Prepared:
        """Lock it, fetch what it needs, and trim that; raises `packer.errors.LpackError`."""
        with self._lock:
            if self._prepared is None:
                gathered = self._gatherer.gather(self.function, self._scan)
                self._prepared = self._trimmed(gathered, self._tools.prover.restored(gathered.material))
            return self._prepared

    def restore(self, kept: frozenset[Unit]) -> None:
        """Trim it again, without what has turned out to be needed."""
        self._prepared = self._trimmed(self.prepared().gathered, kept)

    def state(self, layers: tuple[str, ...], held: Collection[str]) -> LayeredState:
        """Give what the next build has to know of it; ``held`` are the wheels' digests of what lies in its layers."""
        need = self.prepared().need()
        return LayeredState(
            distributions={
                digest: (each.name, each.version, each.variant, each.size) for digest, each in need.distributions.items()
            },
            own=need.own,
            stuck=tuple(sorted(need.stuck)),
            tied=tuple(tuple(sorted(group)) for group in need.tied),
            tight=self.tight,
            alone=self.alone,
            layers=layers,
            inside=tuple(sorted(need.distributions.keys() - set(held))),
        )

    def _trimmed(self, gathered: Gathered, restored: frozenset[Unit]) -> Prepared:
        cut = self._tools.shaper.cut(gathered.material, restored)
        variants = variants_of(gathered.material, cut, restored)
        return Prepared(gathered=gathered, restored=restored, cut=cut, variants=variants)


def _remembered(known: LayeredState, function: Function) -> Need:
    return Need(
        distributions={
            digest: Needed(name=name, version=version, variant=variant, size=size)
            for digest, (name, version, variant, size) in known.distributions.items()
        },
        own=known.own,
        options=function.layers,
        stuck=frozenset(known.stuck),
        tied=tuple(map(frozenset, known.tied)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a build writes: a folder for new files, and the one they are meant for; ``now`` is its start in nanoseconds."""

    staging: Path
    out: Path
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What functions of a target need, what of that may lie in layers, how large that is there, and who gets what."""

    target: Target
    needs: Mapping[str, Need]
    wanted: Mapping[str, Wanted]
    sizes: Mapping[str, Piece]
    division: Division


class Group:
    """Functions of one target that are compiled alike, and may share layers.

    ``chosen`` are those to be built; the others only take part in the plan. ``placed`` says whether a path below the output
    folder still holds what lpack wrote there.
    """

    def __init__(
        self, members: Sequence[Member], chosen: frozenset[str], parts: tuple[Tools, Gatherer], place: Place, placed: Placed
    ) -> None:
        self._members = {member.function.name: member for member in members}
        self._chosen = chosen
        self._tools, gatherer = parts
        self._gatherer = gatherer
        self._place = place
        function = members[0].function
        self._target = function.target
        like = (function.target, function.bytecode)
        self._maker = LayerMaker(self._tools, gatherer, place.staging, place.out, like, placed)
        self._named: Once[tuple[Path, str], tuple[str, ...]] = Once()
        self._done: dict[str, tuple[tuple[str, ...], frozenset[Unit], Built]] = {}

    def build(self, executor: Executor) -> dict[str, Built]:
        """Build the chosen functions; raises the one error, or `ManyErrors`, when all have ended."""
        self._prepare(executor)
        while True:
            planned = self._planned(executor)
            layers = self._made(planned, executor)
            chosen = [member for name, member in self._members.items() if name in self._chosen]
            settled = gathered_results(
                {each.function.name: executor.submit(self._settled, each, planned.division, layers) for each in chosen}
            )
            if all(settled.values()):
                for warning in planned.division.warnings:
                    self._tools.reporter.warn(warning)
                return {name: built for name, (_, _, built) in self._done.items()}

    def plan(self, executor: Executor) -> Planned:
        """Plan layers, and build nothing; raises the one error, or `ManyErrors`."""
        self._prepare(executor)
        return self._planned(executor)

    def _prepare(self, executor: Executor) -> None:
        """Prepare what has changed; one that is not asked for and fails is left out of the plan."""
        new = {name: member for name, member in self._members.items() if member.known is None}
        futures = {name: executor.submit(member.prepared) for name, member in new.items()}
        for name in [name for name in futures if name not in self._chosen]:
            try:
                futures.pop(name).result()
            except LpackError as error:
                self._tools.reporter.warn(f"{name} is left out when layers are planned: {error}")
                del self._members[name]
        gathered_results(futures)

    def _planned(self, executor: Executor) -> Planned:
        """Divide what the functions need."""
        while True:
            needs = {name: self._need(member) for name, member in self._members.items() if not member.alone}
            wanted = self._wanted(needs)
            if self._compiled(wanted, needs):
                break
        sizes = gathered_results({digest: executor.submit(self._maker.sizes, each) for digest, each in wanted.items()})
        return Planned(target=self._target, needs=needs, wanted=wanted, sizes=sizes, division=divide(needs, sizes))

    def _made(self, planned: Planned, executor: Executor) -> dict[Share, MadeLayer]:
        """Make the layers that one of the chosen has."""
        shares = [share for share in planned.division.shares if self._chosen.intersection(share.users)]
        overlaps = {
            share: tuple(dict.fromkeys(rule for user in share.users for rule in self._overlap(user))) for share in shares
        }
        return gathered_results(
            {share: executor.submit(self._maker.make, share, planned.wanted, overlaps[share]) for share in shares}
        )

    def _overlap(self, user: str) -> tuple[tuple[str, str], ...]:
        return self._members[user].function.overlap

    def _need(self, member: Member) -> Need:
        """Give what a member needs, with what the files of named layers require."""
        need = member.need
        named = tuple(
            layer if layer.requirements is None else replace(layer, distributions=self._required(member.function, layer))
            for layer in need.options.named
        )
        return replace(need, options=replace(need.options, named=named))

    def _required(self, function: Function, layer: NamedLayer) -> tuple[str, ...]:
        path = layer.requirements
        if path is None:
            return layer.distributions

        def resolved() -> tuple[str, ...]:
            requirements = find_requirements(path.parent, path, f"layers.{layer.name}")
            asking = replace(function, name=layer.name, requirements=requirements, lock_path=lock_path(path.parent, layer.name))
            return tuple(package.name for package in self._tools.resolver.lock(asking).packages)

        return self._named.get((path, layer.name), resolved)

    def _wanted(self, needs: Mapping[str, Need]) -> dict[str, Wanted]:
        """Say what a layer would hold of each distribution that may lie in one."""
        found: dict[str, Wanted] = {}
        for digest, users in shared(needs).items():
            variants = {needs[user].distributions[digest].variant: user for user in reversed(users)}
            only = any(self._members[user].tight for user in users)
            key = self._maker.key(digest, variants, only=only)
            members = [self._members[variants[each]] for each in sorted(variants)]
            found[digest] = Wanted(key=key, only=only, variants=partial(_variants, digest, members))
        return found

    def _compiled(self, wanted: Mapping[str, Wanted], needs: Mapping[str, Need]) -> bool:
        """Compile what nothing is known of; say whether what was remembered of the functions still holds."""
        unknown = [each for each in wanted.values() if not self._maker.known(each.key)]
        self._maker.compile(unknown)
        return all(self._members[name].need.distributions == need.distributions for name, need in needs.items())

    def _settled(self, member: Member, division: Division, layers: Mapping[Share, MadeLayer]) -> bool:
        """Build a function with its layers, unless it is as it was; say whether the plan still stands."""
        name = member.function.name
        mine = tuple(layers[share] for share in division.of(name))
        names = tuple(layer.name for layer in mine)
        held = {digest for layer in mine for digest in layer.pieces}
        known, previous = member.known, member.previous
        if known is not None and previous is not None and previous.is_written() and known.layers == names:
            self._tools.reporter.stage(name, "unchanged")
            self._done[name] = (
                names,
                frozenset(),
                Built(state=member.inputs.seen_again(previous, self._place.now), staged=None),
            )
            return True
        prepared = member.prepared()
        done = self._done.get(name)
        if done is not None and done[:2] == (names, prepared.restored):
            return True
        proof = self._proved(prepared, mine)
        shaped = proof.candidate.shaped
        if not member.tight and mine and shaped.bytecode.mode == "only" and member.function.bytecode.mode == "auto":
            member.tight = True
            return False
        if proof.alone or frozenset(proof.kept) != prepared.restored:
            member.alone = member.alone or proof.alone
            if not proof.alone:
                member.restore(frozenset(proof.kept))
            return False
        state = member.state(names, held)
        work = Work(
            gathered=prepared.gathered,
            inputs=member.inputs,
            fingerprint=member.inputs.fingerprint(prepared.gathered.folders),
            started=member.started,
        )
        built = record(work, proof, self._tools.reporter, self._place.now, mine, state)
        self._done[name] = (names, prepared.restored, built)
        return True

    def _proved(self, prepared: Prepared, layers: Sequence[MadeLayer]) -> Proof:
        """Shape, write and prove what the layers do not hold, with them; raises `LpackError`."""
        tools, material = self._tools, prepared.gathered.material
        held = {digest for layer in layers for digest in layer.pieces}
        layered = Layered(
            names=frozenset(each.name for each in material.distributions if each.digest in held),
            tree=lambda: Tree(tuple(entry for layer in layers for entry in layer.tree())),
            size=sum(layer.report["unzipped_bytes"] for layer in layers),
        )
        shaped = tools.shaper.finish(material, prepared.cut, prepared.restored, layered)
        check_handler(material.function, shaped.tree, layered.tree)
        path = self._place.staging / f"{material.function.name}.zip"
        candidate = tools.prover.written(shaped, prepared.restored, path, tuple(layer.archive for layer in layers))
        return tools.prover.prove(material, candidate, partial(self._gatherer.carried, material))


Placed = Callable[[str], bool]
Key = TypeVar("Key")
Value = TypeVar("Value")


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
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    return found


def _variants(digest: str, members: Sequence[Member]) -> list[Variant]:
    return [member.prepared().variants[digest] for member in members]
