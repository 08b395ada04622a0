"""Proves that a function works as it was written: it behaves as it does untrimmed. Finds which rule is to blame where not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct

from builders.runtimes import RUNTIME_DISTRIBUTIONS
from packer.cache.store import Store, digest_of
from packer.core.bisect import culprits
from packer.core.errors import ToolError, VerificationError
from packer.core.events import Reporter
from packer.core.fingerprint import fingerprint
from packer.core.function_tree import merge
from packer.core.model import OWN_SOURCE, Function, Tree
from packer.formats.unpack import LayerArchive
from packer.formats.zip_writer import WrittenArchive
from packer.trim.material import Material
from packer.trim.rules import DROP, PROFILE, SOURCES, Unit
from packer.trim.shape import Shaped, Shaper
from packer.verify.diagnosis import is_broken, remedy
from packer.verify.runner import (
    Event,
    Outcome,
    Verifier,
    error_text,
    error_trace,
    event_files,
    outcome_essence,
    read_events,
)

_KIND = "repairs"
_NOT_WRITTEN = WrittenArchive(sha256="", length=0)


class Candidate(Struct, frozen=True, kw_only=True):
    """A way to shape a function, written to an archive; ``restored`` is what an earlier repair has left alone.

    ``layers`` are the archives of its layers, in order.
    """

    shaped: Shaped
    restored: frozenset[Unit] = frozenset()
    path: Path
    written: WrittenArchive
    layers: tuple[LayerArchive, ...] = ()


class Proof(Struct, frozen=True, kw_only=True):
    """What was proved of a candidate; ``level`` is ``none`` where nothing was. ``kept`` is what a repair has left alone.

    ``raised`` is how many of the ``events`` end with an error, trimmed or not. ``alone`` says why it
    is packed without layers, if it must be.
    """

    candidate: Candidate
    level: str = "none"
    place: str = ""
    milliseconds: float = 0.0
    events: int = 0
    raised: int = 0
    kept: tuple[Unit, ...] = ()
    alone: str = ""
    warnings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def _is_wanted(function: Function, shaped: Shaped, layers: Sequence[LayerArchive]) -> bool:
    """Say whether a function is to be run: what is as its wheels have it needs no proof, unless the user asks for one."""
    changed = shaped.units() or shaped.bytecode.mode != "off" or layers
    return function.verify.level != "none" and bool(changed or function.verify.demanded)


class Prover:
    """Proves functions; may be used from many threads. ``write`` writes a tree as an archive."""

    def __init__(
        self,
        store: Store,
        shaper: Shaper,
        verifier: Verifier,
        reporter: Reporter,
        write: Callable[[Tree, Path], WrittenArchive],
    ) -> None:
        self._store = store
        self._shaper = shaper
        self._verifier = verifier
        self._reporter = reporter
        self.write = write

    def shape(self, material: Material, path: Path) -> Candidate:
        """Shape a function, with what an earlier repair has found to be needed, and write it."""
        return self.candidate(material, self.restored(material), path)

    def restored(self, material: Material) -> frozenset[Unit]:
        """Give what an earlier repair has found to be needed."""
        options = material.function
        repairs = options.trim.repair and options.verify.level != "none"
        return (self._remembered(material) or frozenset()) if repairs else frozenset()

    def prove(self, material: Material, candidate: Candidate, carried: Callable[[], Tree]) -> Proof:
        """Prove a candidate, or repair it; ``carried`` gives what the runtime has of what the function leaves out.

        Raises `VerificationError`.
        """
        function = material.function
        options = function.verify
        if not _is_wanted(function, candidate.shaped, candidate.layers):
            return Proof(candidate=candidate, kept=tuple(sorted(candidate.restored)))
        try:
            place = self._verifier.sandbox(function).place
        except ToolError as error:
            if options.demanded:
                raise
            return Proof(candidate=candidate, kept=tuple(sorted(candidate.restored)), missing=(str(error),))
        self._reporter.stage(function.name, "verifying")
        late = carried()
        trial = _Trial(self, self._verifier, self._reporter, material, candidate, late)
        certain = not candidate.restored or self._load(self._key(material)) is not None
        kept, warnings = trial.settle(candidate.restored if certain else trial.still_needed(candidate.restored))
        proved = trial.candidate
        if kept != candidate.restored or not certain:
            for key in (self._key(material), self._loose_key(material)):
                self._store.save(_KIND, key, json.dumps(sorted(kept)).encode())
        level = "import" if options.level == "events" and not options.events else options.level
        return Proof(
            candidate=proved,
            level=level if trial.after.works else "none",
            place=place if trial.after.works else "",
            milliseconds=trial.after.milliseconds,
            events=len(trial.after.events),
            raised=sum("error" in each for each in trial.after.events),
            kept=tuple(sorted(kept)),
            alone=trial.alone,
            warnings=warnings,
        )

    def untrimmed(self, material: Material, path: Path) -> Candidate:
        """Write a function as it is without any shaping."""
        shaped = self._shaper.plain(material)
        return Candidate(shaped=shaped, path=path, written=self.write(shaped.tree, path))

    def candidate(self, material: Material, restored: frozenset[Unit], path: Path) -> Candidate:
        """Shape a function without some of the changes, and write it."""
        return self.written(self._shaper.shape(material, restored), restored, path)

    def written(
        self, shaped: Shaped, restored: frozenset[Unit], path: Path, layers: tuple[LayerArchive, ...] = ()
    ) -> Candidate:
        """Write a shaped function, what its layers do not hold."""
        written = self.write(shaped.tree, path)
        return Candidate(shaped=shaped, restored=restored, path=path, written=written, layers=layers)

    def for_image(self, function: Function, shaped: Shaped, restored: frozenset[Unit], path: Path) -> Candidate:
        """Write a shaped function that becomes an image: an archive is only for its proof, and not wanted without one."""
        if _is_wanted(function, shaped, ()):
            return self.written(shaped, restored, path)
        return Candidate(shaped=shaped, restored=restored, path=path, written=_NOT_WRITTEN)

    def _key(self, material: Material) -> str:
        """Give the digest of all that decides what a repair finds."""
        function = material.function
        own = (part for entry in dict(material.parts)[OWN_SOURCE] for part in (entry.path, entry.content.digest))
        events = (digest_of(path.read_text(errors="replace")) for path in event_files(function) if path.is_file())
        options = fingerprint(function.trim, function.bytecode, function.verify)
        return digest_of(
            function.name, function.handler, options, *events, "", *(each.digest for each in material.distributions), "", *own
        )

    @staticmethod
    def _loose_key(material: Material) -> str:
        """Give the key of what was found last for the same distributions, which another source may not need."""
        function = material.function
        return digest_of(function.name, fingerprint(function.trim), *(each.digest for each in material.distributions))

    def _remembered(self, material: Material) -> frozenset[Unit] | None:
        """Give what the last build of the same had to leave alone, or else that of the same distributions."""
        exact = self._load(self._key(material))
        return self._load(self._loose_key(material)) if exact is None else exact

    def _load(self, key: str) -> frozenset[Unit] | None:
        record = self._store.load(_KIND, key)
        return None if record is None else frozenset((rule, name) for rule, name in json.loads(record.payload))


class _Trial:
    """One function's proof: what it does untrimmed is found out only where that is needed."""

    def __init__(
        self,
        prover: Prover,
        verifier: Verifier,
        reporter: Reporter,
        material: Material,
        candidate: Candidate,
        late: Tree,
    ) -> None:
        self._prover = prover
        self._verifier = verifier
        self._reporter = reporter
        self._material = material
        self._events = read_events(material.function) if material.function.verify.level != "import" else ()
        self._late = late
        self._trial_path = candidate.path.with_suffix(".trial")
        self._before: Outcome | None = None
        self._loosely = False
        self.alone = ""
        self.candidate = candidate
        self.after = self._outcome(candidate)

    @property
    def _function(self) -> Function:
        return self._material.function

    def _outcome(self, candidate: Candidate) -> Outcome:
        run = partial(self._verifier.outcome, self._function, candidate.path, candidate.written.sha256)
        return run(self._events, self._late, candidate.layers)

    def still_needed(self, kept: frozenset[Unit]) -> frozenset[Unit]:
        """Give what was left alone for another source, if this one needs each of it too; else nothing, and begin without."""
        for unit in sorted(kept):
            tried = self._prover.candidate(self._material, kept - {unit}, self._trial_path)
            if self._agrees(tried, self._outcome(tried)):
                self.candidate = self._prover.candidate(self._material, frozenset(), self.candidate.path)
                self.after = self._outcome(self.candidate)
                return frozenset()
        return kept

    def settle(self, kept: frozenset[Unit]) -> tuple[frozenset[Unit], tuple[str, ...]]:
        """Give what has to be left alone for the function to work, with warnings; raises `VerificationError`."""
        if self._events or not self.after.works:
            before = self._untrimmed()
            if not self._agrees(self.candidate, self.after) and not (self.candidate.layers and self._works_whole(before)):
                kept = self._repaired(before, kept)
            if not self.after.works and (self._function.verify.demanded or is_broken(self.after)):
                what = f"{self._function.name} cannot be run here, trimmed or not: {self.after.trouble()}."
                raise VerificationError(what, detail=self.after.trace(), remedy=remedy(self.after))
            if not self.after.works:
                return kept, (self._inconclusive(),)
        check_expected(self._function, self._events, self.after)
        return kept, ()

    def _untrimmed(self) -> Outcome:
        if self._before is None:
            self._before = self._outcome(self._plain())
        return self._before

    def _plain(self) -> Candidate:
        return self._prover.untrimmed(self._material, self._trial_path.with_suffix(".plain"))

    def _agrees(self, candidate: Candidate, outcome: Outcome) -> bool:
        """Say whether a candidate's outcome is the untrimmed one; where that is not steady, whether it is of its kind."""
        before = self._untrimmed()
        if outcome.essence() == before.essence():
            return True
        if not self._loosely and self._kinds(outcome) == self._kinds(before):
            # Clocks and chance: both sides once more, one right after the other.
            again, plain = self._once_more(candidate), self._once_more(self._plain())
            self._loosely = again.essence() != outcome.essence() or plain.essence() != before.essence()
        return self._loosely and self._kinds(outcome) == self._kinds(before)

    def _once_more(self, candidate: Candidate) -> Outcome:
        sandbox = self._verifier.sandbox(self._function)
        with self._verifier.laid_out(candidate.path, self._late, candidate.layers) as laid:
            return self._verifier.run(self._function, laid, sandbox, self._events)[0]

    @staticmethod
    def _kinds(outcome: Outcome) -> list[str]:
        """Give the type of each error, and an empty word for each result."""
        found = (outcome.imported, *outcome.events)
        return [outcome.failure, *(each["error"]["type"] if "error" in each else "" for each in found)]

    def _works_whole(self, before: Outcome) -> bool:
        """Say whether a function that fails with layers works in one package, which it then is; raises `VerificationError`."""
        name, (trouble, trace, was) = self._function.name, self._differing(before)
        whole = self._prover.candidate(self._material, self.candidate.restored, self._trial_path)
        outcome = self._outcome(whole)
        if not self._agrees(whole, outcome):
            return False
        what = f"{name} does not behave with layers as it does in one package: {trouble}{was}"
        if not self._function.trim.repair:
            raise VerificationError(f"{what}.", detail=trace, remedy=f'Write layers = "none" for {name}, or trim = "auto".')
        self.candidate, self.after, self.alone = whole, outcome, f"{what}; it is packed whole"
        return True

    def _repaired(self, before: Outcome, kept: frozenset[Unit]) -> frozenset[Unit]:
        units = tuple(unit for unit in self.candidate.shaped.units() if unit not in kept)
        trouble, trace, was = self._differing(before)

        def works(restored: frozenset[Unit]) -> bool:
            tried = self._prover.candidate(self._material, kept | restored, self._trial_path)
            outcome = self._outcome(tried)
            if not restored:
                self.after = outcome
            return self._agrees(tried, outcome)

        self._reporter.note(f"{self._function.name} fails when it is trimmed; looking for what it needs")
        found = culprits(units, works)
        name = self._function.name
        if found == ():
            return kept  # it does now: it was stopped for time, or by chance
        if not found:
            what = f"{name} does not behave as it does untrimmed, and no rule is to blame: {trouble}{was}."
            raise VerificationError(what, detail=trace, remedy='Write trim = "none" and bytecode = "off", and report it.')
        named = ", ".join(f"{rule} of {owner}" for rule, owner in found)
        if not self._function.trim.repair:
            what = f"{name} needs what trimming removes ({named}): {trouble}{was}."
            raise VerificationError(what, detail=trace, remedy=_remedy(name, found[0][0]))
        kept |= frozenset(found)
        self.candidate = self._prover.candidate(self._material, kept, self.candidate.path)
        self.after = self._outcome(self.candidate)
        self._reporter.warn(f"{name} needs what trimming would remove, which is kept: {named} ({trouble})")
        return kept

    def _differing(self, before: Outcome) -> tuple[str, str, str]:
        """Say what is the first thing that comes out in another way, with the traceback, and how it does untrimmed."""
        pairs = [("", before.imported, self.after.imported)]
        names = [f", for the event {event.name}" for event in self._events]
        pairs += zip(names, before.events, self.after.events, strict=False)  # the one that cannot be imported has none
        for name, was, now in pairs:
            if outcome_essence(was) != outcome_essence(now):
                return f"{error_text(now) or 'another result'}{name}", error_trace(now), _untrimmed_too(error_text(was))
        return self.after.trouble() or "another result", self.after.trace(), _untrimmed_too(before.trouble())

    def _inconclusive(self) -> str:
        found = f"{self._function.name} cannot be run here, trimmed or not ({self.after.trouble()}), which proves little."
        return f"{found} {remedy(self.after)}"


_NO_RESULT = object()


def check_expected(function: Function, events: Sequence[Event], found: Outcome) -> None:
    """Hold the results of events against the user's own; raises `VerificationError`."""
    for event, outcome in zip(events, found.events, strict=True):
        if event.expected is not None and list(event.expected) != [outcome.get("result", _NO_RESULT)]:
            came = error_text(outcome) or json.dumps(outcome["result"], ensure_ascii=False)
            what = f"{function.name} does not give what is expected for the event {event.name}: {came[:500]}."
            wanted = json.dumps(event.expected[0], ensure_ascii=False)[:500]
            raise VerificationError(
                what,
                detail=f"{error_trace(outcome)}\nExpected, as a result: {wanted}".lstrip(),
                remedy="Mend the function, or the expected result (none where it is to raise); trimming has no part in it.",
            )


def _untrimmed_too(trouble: str) -> str:
    return f" (untrimmed {trouble})" if trouble else ""


def _remedy(name: str, rule: str) -> str:
    """Say what to do about a rule that breaks a function."""
    others = {
        SOURCES: 'bytecode = "beside"',
        PROFILE: f"run `lpack profile {name}` anew with an event that needs it",
        DROP: "drop less",
    }
    return f'Write trim = "auto" to keep that, or {others.get(rule, f"trim = {{ without = [{json.dumps(rule)}] }}")}.'


def carried_names(function: Function) -> frozenset[str]:
    """Give the distributions that the runtime has and the function may leave to it."""
    asked = RUNTIME_DISTRIBUTIONS if "runtime" in function.trim.rules else ()
    return frozenset(asked) | (frozenset(function.exclude) & frozenset(RUNTIME_DISTRIBUTIONS))


def merged(trees: Sequence[tuple[str, Tree]]) -> Tree:
    """Give the packages of the runtime as one tree."""
    return merge(trees, ())
