"""Builds functions that become images: what all need is planned together, so that what they share lies in the same layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from packer.cache.store import digest_of
from packer.core.events import Reporter
from packer.core.function_tree import Part
from packer.core.futures import collect_results
from packer.core.model import OWN_SOURCE, Entry, Function, Tree, owner_label
from packer.core.names import ENGINE_FORM
from packer.core.records import BaseImageRecord, ImageLayerRecord, ImageRecord
from packer.formats.image import Base, Image
from packer.images.builder import ImageBuilder
from packer.images.layer_plan import Keys, plan_images
from packer.images.layout_writer import LayerStep
from packer.images.outputs import OUTPUTS, write_image
from packer.layers.assignment import Need
from packer.layers.planner import Piece
from packer.manifest.summary import list_removed
from packer.pipeline.layer_maker import Folders, Version
from packer.pipeline.local_work import LocalWork, SettledFunction, WholeFunction
from packer.pipeline.results import Built, finish_image_result, make_state
from packer.pipeline.state import FunctionState, ImageState
from packer.pipeline.zip_groups import GroupMember, find_failures
from packer.source.package_source import tree_digest
from packer.trim.merge import merge_trees
from packer.verify.image_start import ImageTrier


class _SharedPart(Struct, frozen=True, kw_only=True):
    """What a function has of one distribution: its files, and what a plan must know of them."""

    label: str
    tree: Tree
    piece: Piece


class _DividedFunction(Struct, frozen=True, kw_only=True):
    """A function by its distributions, by the digests of their files; ``source`` is all else."""

    parts: Mapping[str, _SharedPart]
    source: Tree


class ImageGroup:
    """Functions of one target that become images upon one base.

    ``chosen`` are those to be built; the others only take part in the plan. ``trier`` tries how they start, ``client`` returns
    what connects a handler to the runtime, ``zipped`` the bytes of a tree in an archive; ``now`` is the build's start in
    nanoseconds.
    """

    def __init__(
        self,
        members: Sequence[GroupMember],
        chosen: frozenset[str],
        work: LocalWork,
        imaging: Callable[[], ImageBuilder],
        trier: ImageTrier,
        client: Callable[[Function], Sequence[Part]],
        zipped: Callable[[Tree], int],
        reporter: Reporter,
        folders: Folders,
        now: int,
    ) -> None:
        self._members = {member.name: member for member in members}
        self._chosen = chosen
        self._work = work
        self._open_imaging = imaging
        self._trier = trier
        self._client = client
        self._zipped = zipped
        self._reporter = reporter
        self._staging, self._out = folders.staging, folders.out
        self._now = now
        self.unused: Mapping[str, str] = {}
        """Why nobody here gets a named layer: images have none."""
        self._peers = tuple(sorted(self._members))
        self._settled: dict[str, SettledFunction] = {}
        self._divided: dict[str, _DividedFunction] = {}

    def build(self, executor: Executor) -> dict[str, Built]:
        """Build the chosen functions; raises the one error, or `ManyErrors`, when all have ended."""
        imaging: ImageBuilder = self._open_imaging()
        function = next(iter(self._members.values())).function
        base = imaging.base(function)
        fresh = [name for name, member in self._members.items() if self._recall_image(member) is None]
        self._prepare_members(fresh, executor)
        pieces = {key: piece for name in self._members for key, piece in self._list_pieces(name).items()}
        plan = plan_images({name: frozenset(self._list_pieces(name)) for name in self._members}, pieces)
        standing = {name for name in self._chosen if self._is_current(self._members[name], plan[name], base)}
        self._prepare_members(
            [name for name in sorted(self._chosen) if name not in standing and name not in self._settled], executor
        )
        todo = sorted(self._chosen - standing)
        make = partial(self._make_image, imaging, base)
        futures = {name: executor.submit(make, self._members[name], plan[name]) for name in todo}
        built = collect_results(futures)
        return {**{name: self._keep_image(self._members[name]) for name in standing}, **built}

    def _recall_image(self, member: GroupMember) -> ImageState | None:
        """Return what is remembered of a function, where all that decides it is as it was."""
        return member.previous.image if member.previous else None

    def _prepare_members(self, names: Sequence[str], executor: Executor) -> None:
        """Build those that were asked for, and find out what the others are made of; one of these that fails is left out."""
        futures = {name: executor.submit(self._prepare_member, self._members[name]) for name in names}
        for name in find_failures(futures, self._chosen, self._reporter):
            del self._members[name]

    def _prepare_member(self, member: GroupMember) -> None:
        version = Version(name=member.name)
        if member.name in self._chosen:
            settled, whole = self._work.settle_whole(version)
            self._settled[member.name] = settled
            need = settled.need
        else:
            need, whole = self._work.prepare_whole(version)
        self._divided[member.name] = self._divide(need, whole)

    def _divide(self, need: Need, whole: WholeFunction) -> _DividedFunction:
        facts = {each.name: each for each in need.distributions.values()}
        entries: dict[str, list[Entry]] = {}
        for entry in whole.tree:
            entries.setdefault(whole.names.get(entry.owner, entry.owner), []).append(entry)
        zipped = self._zipped
        found: dict[str, _SharedPart] = {}
        for name, held in sorted(entries.items()):
            if name == OWN_SOURCE:
                continue
            tree, fact = Tree(tuple(held)), facts.get(name)
            piece = Piece(zipped=zipped(tree), unzipped=tree.size, weight=fact.weight if fact else 1.0)
            label = f"{name} {fact.version}".rstrip() if fact else name
            found[digest_of(name, tree_digest(tree))] = _SharedPart(label=label, tree=tree, piece=piece)
        return _DividedFunction(parts=found, source=Tree(tuple(entries.get(OWN_SOURCE, ()))))

    def _list_pieces(self, name: str) -> dict[str, Piece]:
        """Return what a function needs, for the plan."""
        if name in self._divided:
            return {key: part.piece for key, part in self._divided[name].parts.items()}
        known = self._recall_image(self._members[name])
        return {
            key: Piece(zipped=zipped, unzipped=unzipped, weight=weight)
            for key, (_, zipped, unzipped, weight) in (known.pieces if known else {}).items()
        }

    def _is_current(self, member: GroupMember, layers: Sequence[Keys], base: Base) -> bool:
        """Return whether a function's image is as it was, in the output folder."""
        known, previous = self._recall_image(member), member.previous
        return (
            member.name not in self._settled
            and known is not None
            and previous is not None
            and previous.is_written()
            and tuple(known.layers) == tuple(layers)
            and known.base == base.digest
        )

    def _keep_image(self, member: GroupMember) -> Built:
        self._reporter.stage(member.name, "unchanged")
        known, previous = self._recall_image(member), member.previous
        if known is None or previous is None:
            raise ValueError(f"{member.name} was not built")
        state = replace(member.inputs.refresh_state(previous, self._now), image=replace(known, peers=self._peers))
        return Built(state=_distrust_engine_image(member.function, state), staged=None)

    def _make_image(self, imaging: ImageBuilder, base: Base, member: GroupMember, layers: Sequence[Keys]) -> Built:
        """Make a function's image, and write down what came of it; raises `LpackError`."""
        function, settled, divided = member.function, self._settled[member.name], self._divided[member.name]
        start = imaging.start(function, base)
        parts = [(_name_parts(divided, keys), _merge_parts(divided, keys)) for keys in layers]
        if start.client:
            names = {part.label.partition(" ")[0] for part in divided.parts.values()}
            client = [part for part in self._client(function) if part[0] not in names]
            parts.insert(0, ("the runtime interface client", merge_trees(client, ())))
        image, steps = imaging.image(function, base, start, [*parts, (owner_label(OWN_SOURCE), divided.source)])
        started = self._try_start(function, base, image, settled)
        staged = write_image(
            function.name, image, function.image.write, self._staging, self._out, base_layers=function.image.base_layers
        )
        settled.staged.unlink(missing_ok=True)  # the archive that was proved is nothing that anybody asked for
        first, *more = (OUTPUTS[form].path(function.name) for form in function.image.write)
        zipped = sum(step.layer.descriptor.size for step in steps)
        record = _make_image_record(function, base, image, steps, more, started=started)
        result = finish_image_result(function, settled.result, record, first, zipped)
        state = ImageState(
            pieces={
                key: (part.label, part.piece.zipped, part.piece.unzipped, part.piece.weight)
                for key, part in divided.parts.items()
            },
            layers=tuple(layers),
            base=base.digest,
            peers=self._peers,
        )
        reporter = self._reporter
        if result.summary:
            reporter.note(f"{member.name}: {result.summary}")
            for line in list_removed(result.report):
                reporter.debug(f"{member.name}: {line}")
        reporter.stage(member.name, "done")
        fingerprint = member.inputs.fingerprint(result.folders)
        return Built(
            state=_distrust_engine_image(function, make_state(result, member.inputs, fingerprint, self._now, image=state)),
            staged=staged,
            layers={path: self._staging / path for path in more},
        )

    def _try_start(self, function: Function, base: Base, image: Image, settled: SettledFunction) -> bool:
        """Return whether an image starts, unless that cannot be tried, or its handler could not be proved either."""
        if settled.result.report.verified.level == "none":
            return False
        trial = self._trier.try_start(function, base, image)
        if trial.why:
            self._reporter.note(f"{function.name}: the start of its image is not tried: {trial.why}")
        return trial.started


def _distrust_engine_image(function: Function, state: FunctionState) -> FunctionState:
    """Return a state as it is to be remembered: only an engine knows whether an image of its own is another one by now."""
    return replace(state, seen_at=0) if function.base_name.startswith(ENGINE_FORM) else state


def _name_parts(divided: _DividedFunction, keys: Keys) -> str:
    return ", ".join(sorted(divided.parts[key].label for key in keys))


def _merge_parts(divided: _DividedFunction, keys: Keys) -> Tree:
    return Tree.of(entry for key in keys for entry in divided.parts[key].tree)


def _make_image_record(
    function: Function, base: Base, image: Image, steps: Sequence[LayerStep], also: Sequence[str], *, started: bool
) -> ImageRecord:
    """Return the record of an image; sizes are bytes as they are stored."""
    return ImageRecord(
        digest=image.descriptor.digest,
        platform=str(image.platform),
        base=BaseImageRecord(
            name=function.base_name,
            digest=base.digest,
            bytes=sum(layer.size for layer in base.manifest.layers),
            layers=len(base.manifest.layers),
        ),
        layers=tuple(
            ImageLayerRecord(digest=step.layer.descriptor.digest, bytes=step.layer.descriptor.size, holds=step.history)
            for step in steps
        ),
        also=tuple(also),
        started=started,
    )
