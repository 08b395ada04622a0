"""Runs functions to measure how long they take to start, and to see which files they open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace

from builders.sandbox.emulator import find_emulator
from packer.core.bytecode_paths import pycache_path
from packer.core.errors import VerificationError
from packer.core.function_tree import locate_handler
from packer.core.model import OWN_SOURCE, Function, Tree
from packer.core.options import BytecodeOptions
from packer.formats.unpack import LayerArchive
from packer.pipeline.gatherer import Gatherer
from packer.source.layer_content import list_modules
from packer.trim.material import Material
from packer.trim.profile import Profile
from packer.verify.candidates import Candidate
from packer.verify.coldstart import ColdStart, can_drop_caches, drop_caches, read_import_times
from packer.verify.diagnosis import remedy_for
from packer.verify.proof import Prover, check_expected, say_where_handler_is
from packer.verify.runner import Outcome, UnpackedFunction, Verifier, error_text, read_events
from packer.verify.surroundings import Around

CLOCK_EMULATOR, CLOCK_IMPORT = "Runtime Interface Emulator", "import"


class Trials:
    """Runs functions in the target's Python; ``folder`` is an empty one for archives."""

    def __init__(self, prover: Prover, verifier: Verifier, gatherer: Gatherer, folder: Path) -> None:
        self._prover = prover
        self._verifier = verifier
        self._gatherer = gatherer
        self._folder = folder

    def clock(self, function: Function) -> str:
        """Return what measures starts: the emulator times the whole init phase, or else Python the import of the handler.

        Raises `VerificationError` where nothing runs the function.
        """
        plain = replace(function, verify=replace(function.verify, level="import"))
        here = self._verifier.sandbox(plain).starts_programs
        return CLOCK_EMULATOR if here and find_emulator() else CLOCK_IMPORT

    def cold_start(self, function: Function, rounds: int, report: Callable[[str], None]) -> ColdStart:
        """Measure starts in turns, of one package without layers; ``report`` gets a line for each round.

        Raises `LpackError`.
        """
        level = "rie" if self.clock(function) == CLOCK_EMULATOR else "import"
        timed = replace(function, verify=replace(function.verify, level=level))  # one of the two
        material = self._gatherer.gather_material(timed)
        before = self._prover.candidates.untrimmed(material, self._folder / f"{function.name}.before")
        after = self._prover.shape(material, self._folder / f"{function.name}.after")
        self._require_module(timed, after)
        late, layers = self._around(material)
        times: dict[str, list[float]] = {"before": [], "after": []}
        with ExitStack() as stack:
            sides = {
                "before": stack.enter_context(self._verifier.laid_out(before.path, late, layers)),
                "after": stack.enter_context(self._verifier.laid_out(after.path, late, layers)),
            }
            for number in range(rounds):
                for side, laid in sides.items():
                    if can_drop_caches():
                        drop_caches()
                    times[side].append(self._run(timed, laid).milliseconds)
                report(f"{function.name} {number + 1}/{rounds}: {times['before'][-1]:.0f} ms, {times['after'][-1]:.0f} ms")
            plain = replace(timed, verify=replace(timed.verify, level="import"))
            log = self._run(plain, sides["after"], flags=("-X", "importtime")).log
        modules = read_import_times(log, after.shaped.tree, material.owner_names())
        return ColdStart(function=function.name, before=tuple(times["before"]), after=tuple(times["after"]), modules=modules)

    def profile(self, function: Function, warn: Callable[[str], None]) -> tuple[Profile, Material, Candidate]:
        """Trace one run, of one package without layers: the import and the sample events.

        ``warn`` gets a line for each event that fails. Raises `LpackError`.
        """
        level = "events" if function.verify.events else "import"
        traced = replace(
            function,
            trim=replace(function.trim, level="safe"),
            bytecode=BytecodeOptions(mode="beside"),
            verify=replace(function.verify, level=level),  # one of the two
        )
        material = self._gatherer.gather_material(traced)
        candidate = self._prover.shape(material, self._folder / f"{function.name}.zip")
        self._require_module(traced, candidate)
        with self._verifier.laid_out(candidate.path, *self._around(material)) as laid:
            outcome = self._run(traced, laid, trace=True)
        for event, found in zip(read_events(traced), outcome.events, strict=True):
            trouble = error_text(found)
            if trouble:
                warn(
                    f"{function.name} fails for the event {event.name} ({trouble}): what it would open after that is not seen."
                )
        return _profile(traced, material, candidate, frozenset(outcome.opened)), material, candidate

    def _require_module(self, function: Function, candidate: Candidate) -> None:
        """Raise `VerificationError` where nothing here starts the handler, and `UsageError` where it is nowhere."""
        contents = self._gatherer.read_layers(function)
        place = locate_handler(function, candidate.shaped.tree, lambda: list_modules(contents))
        if place != "module":
            what = f"{function.name} cannot be started here: {say_where_handler_is(function, place).reason}."
            raise VerificationError(what, remedy="Name functions whose handler is a module of their own.")

    def _around(self, material: Material) -> tuple[Tree, tuple[LayerArchive, ...]]:
        """Return what the runtime and attached layers have of what a function needs; raises `LpackError`."""
        around = Around(self._gatherer.surroundings(material), self._verifier, material)
        return around.late, around.layers

    def _run(self, function: Function, laid: UnpackedFunction, *, flags: tuple[str, ...] = (), trace: bool = False) -> Outcome:
        events = read_events(function) if function.verify.level != "import" else ()
        verifier = self._verifier
        outcome, _ = verifier.run(function, laid, verifier.sandbox(function), events, flags=flags, trace=trace)
        if not outcome.works:
            what = f"{function.name} cannot be started here: {outcome.trouble()}."
            raise VerificationError(what, detail=outcome.trace(), remedy=remedy_for(outcome))
        return outcome


def _profile(function: Function, material: Material, candidate: Candidate, found: frozenset[str]) -> Profile:
    """Return which files of each distribution were opened: modules by their bytecode, and sources that were read as text."""
    names, minor = material.owner_names(), function.target.runtime.minor
    opened: dict[str, set[str]] = {each.name: set() for each in material.distributions}
    read: dict[str, set[str]] = {each.name: set() for each in material.distributions}
    compiled = {entry.path for entry in candidate.shaped.tree if entry.path.endswith(".pyc")}
    for entry in candidate.shaped.tree:
        name, bytecode = names[entry.owner], pycache_path(entry.path, minor)
        if name == OWN_SOURCE or entry.path in compiled:
            continue
        if entry.path in found or bytecode in found:
            opened[name].add(entry.path)
        if entry.path in found and bytecode in compiled:
            read[name].add(entry.path)
    return Profile(
        function=function.name,
        runtime=function.target.runtime.name,
        architecture=function.target.architecture,
        opened={name: frozenset(paths) for name, paths in opened.items()},
        versions={each.name: each.version for each in material.distributions},
        read={name: frozenset(paths) for name, paths in read.items()},
    )


def verify_archive(
    verifier: Verifier, gatherer: Gatherer, function: Function, archive: Path, layers: Sequence[LayerArchive]
) -> Outcome:
    """Run a function from the archives that were built, with its sample events; raises `VerificationError` where it fails."""
    events = read_events(function) if function.verify.level != "import" else ()
    sandbox = verifier.sandbox(function)
    material = gatherer.gather_material(function)
    around = Around(gatherer.surroundings(material), verifier, material)
    with verifier.laid_out(archive, around.late, (*around.layers, *layers)) as laid:
        outcome, _ = verifier.run(function, laid, sandbox, events)
    if not outcome.works:
        what = f"{function.name} does not work as it was built: {outcome.trouble()}."
        raise VerificationError(what, detail=outcome.trace(), remedy=remedy_for(outcome))
    check_expected(function, events, outcome)
    return outcome
