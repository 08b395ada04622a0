"""Predicts what a build would write, to the byte where wheels are in the store, without writing or running anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from builders.errors import LpackError
from packer.core.events import Reporter
from packer.core.model import Function
from packer.core.names import ENGINE_FORM
from packer.core.records import BaseImageRecord, ImageRecord
from packer.formats.wheel_outline import NOTHING, SIZE
from packer.inspect.advice import ways_to_save
from packer.layers.assignment import LayerShare, MadeLayer, Need
from packer.layers.planner import Piece
from packer.manifest.budget import function_measures
from packer.pipeline.functions import Selection, make_local_work, make_preparation
from packer.pipeline.gatherer import Tools, make_gatherer
from packer.pipeline.layer_maker import Beside, Folders, Version, Wanted
from packer.pipeline.local_work import AppraisedFunction, Files, LocalWork, SettledFunction
from packer.pipeline.preparation import Order
from packer.pipeline.results import Result, make_image_result
from packer.pipeline.state import Estimate, FunctionState
from packer.pipeline.zip_groups import GroupMember, ZipGroup, scan_members
from packer.trim.rules import Unit

if TYPE_CHECKING:
    from packer.images.builder import ImageBuilder

_NOWHERE = Path()


class Appraiser:
    """Does the work of a build without writing anything; may be called from many threads."""

    def __init__(self, work: LocalWork, imaging: Callable[[], ImageBuilder]) -> None:
        self._work = work
        self._imaging = imaging
        self._files: dict[str, Callable[[], Files]] = {}

    def prepare(self, version: Version) -> tuple[Need, frozenset[Unit]]:
        """Lock a function and trim what it needs; raises `LpackError`."""
        return self._work.prepare(version)

    def warm(self, wanted: Sequence[Wanted]) -> None:
        """Compile many distributions at once; raises `LpackError`."""
        self._work.warm(wanted)

    def size(self, wanted: Wanted) -> Piece:
        """Return the bytes of a distribution in a layer; raises `LpackError`."""
        return self._work.size(wanted)

    def make(self, share: LayerShare, wanted: Mapping[str, Wanted], beside: Beside) -> MadeLayer:
        """Return what a layer would be; raises `LpackError`."""
        layer = self._work.maker.outline(share, wanted, beside)
        self._files[layer.name] = partial(self._work.maker.files, share, wanted, beside)
        return layer

    def ready(self, todo: Mapping[str, Sequence[MadeLayer]]) -> None:
        """Compile at once what functions have beside these layers; raises `LpackError`."""
        self._work.ready(todo)

    def settle(self, version: Version, layers: Sequence[MadeLayer]) -> SettledFunction:
        """Return what a function would be; raises `LpackError`."""
        found = self._work.appraise(version, layers, lambda layer: self._files[layer.name]())
        result, function = found.result, found.gathered.function
        if function.image.wanted:
            result = self._image(function, result)
        result = replace(result, summary="", estimate=_estimate(found, result))
        return SettledFunction(
            result=result,
            staged=_NOWHERE,
            need=found.need,
            restored=found.restored,
            kept=found.restored,
            alone="",
            cramped=bool(layers) and function.bytecode.mode == "auto" and found.shaped.bytecode.mode == "only",
        )

    def _image(self, function: Function, result: Result) -> Result:
        """Return the same for a function that becomes an image, whose layers are only compressed when they are written."""
        from packer.images.outputs import OUTPUTS

        base, why = BaseImageRecord(name=function.base_name, digest="", bytes=0, layers=0), ""
        if function.base_name.startswith(ENGINE_FORM):
            why = "the engine would have to save all of it"
        else:
            try:
                found = self._imaging().base(function)
                layers = found.manifest.layers
                size = sum(each.size for each in layers)
                base = replace(base, digest=found.digest, bytes=size, layers=len(layers))
            except LpackError as error:
                why = error.what.rstrip(".")
        if why:
            what = f"{function.name}: its base {function.base_name} is not counted ({why}), and no limit of images is checked."
            result = replace(result, warnings=(*result.warnings, what))
        image = ImageRecord(digest="", platform="", base=base, layers=())
        return make_image_result(result, image, OUTPUTS[function.image.write[0]].path(function.name), result.artifact.zipped)


def _estimate(found: AppraisedFunction, result: Result) -> Estimate:
    """Return how distributions are known that are not in the store, and what would help where something is too large."""
    name, budget = found.gathered.function.name, found.gathered.function.budget
    over = [each.key for each in function_measures(name, result.report, budget) if each.over]
    outlined = {
        each.distribution.name: each.distribution.outlined for each in found.gathered.made if each.distribution.outlined
    }
    advice = ways_to_save(found.gathered, found.shaped, result.report, over=over) if over else ()
    return Estimate(known_by=outlined, advice=advice)


class ToAppraise:
    """Functions that are only appraised: their artifacts need not exist, and being over a limit is no error yet."""

    def is_current(self, previous: FunctionState) -> bool:
        """Return True: what was said of a function still holds."""
        del previous
        return True

    def limit_warnings(self, function: Function, result: Result, layers: Sequence[MadeLayer]) -> tuple[str, ...]:
        """Return no warnings: whoever asked looks at the sizes."""
        del function, result, layers
        return ()


class Appraisal:
    """Appraises functions; ``out`` is the folder that a build would write to, ``now`` the start in nanoseconds.

    ``offline`` says that nothing could be asked of any server.
    """

    def __init__(self, tools: Tools, reporter: Reporter, out: Path, now: int, *, offline: bool) -> None:
        self._tools = tools
        self._reporter = reporter
        self._offline = offline
        self._folders = Folders(staging=_NOWHERE, out=out)
        self._now = now
        self._gatherer = make_gatherer(tools, reporter, out)

    def states(self, selection: Selection, executor: Executor) -> dict[str, FunctionState]:
        """Return what functions would become; raises the one error, or `ManyErrors`, when all have ended."""
        found: dict[str, FunctionState] = {}
        for alike, names in selection.groups(lambda each: each.layers.wanted):
            found |= self._appraise_group(alike, names, selection.previous, executor)
        return {function.name: found[function.name] for function in selection.functions}

    def _appraise_group(
        self,
        functions: Sequence[Function],
        chosen: frozenset[str],
        previous: Callable[[str], FunctionState | None],
        executor: Executor,
    ) -> dict[str, FunctionState]:
        members = scan_members(functions, chosen, self._gatherer, previous, executor, self._reporter)
        found = {name: self._seen_again(each) for name, each in members.items() if each.function.image.wanted and each.previous}
        rest = [each for name, each in members.items() if name not in found]
        if not rest:
            return {name: state for name, state in found.items() if state}
        orders = [Order(function=member.function, scan=member.scan) for member in rest]
        preparation = make_preparation(orders, self._tools, self._gatherer)
        here = make_local_work(
            functions[0], preparation, preparation, self._tools, self._gatherer, self._folders, lambda _: False
        )
        work, asked = Appraiser(here, self._tools.imaging), chosen - found.keys()
        group = ZipGroup(
            rest, asked, work, here.maker.compilation, here.maker.is_known, self._reporter, self._now, ToAppraise()
        )
        built = {name: self._until_known(name, each.state) for name, each in group.build(executor).items()}
        return built | {name: state for name, state in found.items() if state}

    def _seen_again(self, member: GroupMember) -> FunctionState | None:
        """Return the state of a function that has not changed."""
        return member.inputs.refresh_state(member.previous, self._now) if member.previous else None

    def _until_known(self, name: str, state: FunctionState) -> FunctionState:
        """Return a state that is valid until a missing wheel is in the store, with warnings of sizes that are hardly known.

        A server that did not answer is asked again the next time.
        """
        outlined = state.estimate.known_by if state.estimate else {}
        digests = [each.sha256 for each in state.report.distributions if each.name in outlined]
        paths = [self._tools.sources.store.wheel_path(digest) for digest in digests]
        rough = sorted(each for each, how in outlined.items() if how == SIZE and not self._offline)
        unknown = sorted(each for each, how in outlined.items() if how == NOTHING)
        unsure = [f"{name}: no server says what is in {', '.join(rough)}: sizes are rough."] if rough else []
        unsure += [f"{name}: nothing says the size of {', '.join(unknown)}, which counts as none." for _ in unknown[:1]]
        state = replace(state, warnings=(*state.warnings, *unsure))
        base = state.report.image.base if state.report.image else None
        missed = base is not None and not base.digest and not base.name.startswith(ENGINE_FORM)
        return state.distrust() if rough or missed else state.rebuild_on_change(paths, ()) if paths else state
