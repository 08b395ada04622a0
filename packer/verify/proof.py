"""Proves that a function works as it was written: it behaves as it does untrimmed. Finds which rule is to blame where not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from builders.runtimes import is_native
from builders.sandbox.task import Sandbox
from packer import __version__
from packer.cache.store import Store, digest_of
from packer.core.bisect import find_culprits
from packer.core.errors import ToolError, VerificationError
from packer.core.events import Reporter
from packer.core.fingerprint import fingerprint
from packer.core.function_tree import HandlerPlace
from packer.core.model import OWN_SOURCE, Function
from packer.core.options import VerifyLevel
from packer.core.records import UnverifiedRecord
from packer.formats.unpack import LayerArchive
from packer.source.layer_content import list_modules
from packer.trim.material import Material
from packer.trim.rules import DROP, PROFILE, SOURCES, Unit
from packer.verify.candidates import Candidate, CandidateWriter
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
from packer.verify.surroundings import Around, Surroundings, lacking_modules

_KIND = "repairs"


class Unverified(Struct, frozen=True, kw_only=True):
    """Why a function could not be verified, with what to do about it, the error itself, and its traceback."""

    record: UnverifiedRecord
    remedy: str = ""
    trouble: str = ""
    detail: str = ""

    def warning(self, function: Function) -> str:
        """Return the warning that says so."""
        reason = self.record.reason
        if self.trouble:
            why = f"({reason})" if reason.startswith(self.trouble) else f"({self.trouble}): {reason}"
            reason = f"it cannot be run here, trimmed or not {why}"
        reason = " ".join(reason.split()).removesuffix(".")
        return f"{function.name} was not verified: {reason}. {self.remedy}".rstrip()


class Proof(Struct, frozen=True, kw_only=True):
    """What was proved of a candidate; ``level`` is ``none`` where nothing was. ``kept`` is what a repair has left alone.

    ``raised`` is how many of the ``events`` end with an error, trimmed or not. ``alone`` says why it
    is packed without layers, if it must be; ``unverified`` why it could not be verified, if it was to be;
    ``unconfined`` why it could reach this machine, if it could.
    """

    candidate: Candidate
    level: VerifyLevel = "none"
    place: str = ""
    unconfined: str = ""
    milliseconds: float = 0.0
    events: int = 0
    raised: int = 0
    kept: tuple[Unit, ...] = ()
    alone: str = ""
    warnings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unverified: UnverifiedRecord | None = None


class Repairs:
    """Remembers in the store which changes earlier repairs had to leave out."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def is_known(self, material: Material) -> bool:
        """Return whether a repair of exactly this was remembered."""
        return self._load(self._key(material)) is not None

    def load(self, material: Material) -> frozenset[Unit]:
        """Return what the last build of the same left out, or else that of the same distributions; nothing for neither."""
        exact = self._load(self._key(material))
        found = self._load(self._loose_key(material)) if exact is None else exact
        return found or frozenset()

    def save(self, material: Material, kept: frozenset[Unit]) -> None:
        """Remember what had to be left out."""
        for key in (self._key(material), self._loose_key(material)):
            self._store.save(_KIND, key, json.dumps(sorted(kept)).encode())

    def _key(self, material: Material) -> str:
        """Return the digest of all that decides what a repair finds."""
        function = material.function
        own = (part for entry in dict(material.parts)[OWN_SOURCE] for part in (entry.path, entry.content.digest))
        events = (digest_of(path.read_text(errors="replace")) for path in event_files(function) if path.is_file())
        named = (__version__, str(function.target), function.name, function.handler)
        options = fingerprint(function.trim, function.bytecode, function.verify, function.execution)
        return digest_of(*named, options, *events, "", *(each.digest for each in material.distributions), "", *own)

    @staticmethod
    def _loose_key(material: Material) -> str:
        """Return the key of what was found last for the same distributions, which another source may not need."""
        function = material.function
        named = (__version__, str(function.target), function.name)
        return digest_of(*named, fingerprint(function.trim), *(each.digest for each in material.distributions))

    def _load(self, key: str) -> frozenset[Unit] | None:
        record = self._store.load(_KIND, key)
        return None if record is None else frozenset((rule, name) for rule, name in json.loads(record.payload))


class Prover:
    """Proves functions; may be used from many threads. ``candidates`` writes what is run."""

    def __init__(
        self,
        repairs: Repairs,
        candidates: CandidateWriter,
        verifier: Verifier,
        reporter: Reporter,
        *,
        strict: bool = False,
    ) -> None:
        """With ``strict``, what cannot be verified is an error."""
        self._strict = strict
        self._repairs = repairs
        self._verifier = verifier
        self._reporter = reporter
        self.candidates = candidates

    def shape(self, material: Material, path: Path) -> Candidate:
        """Shape a function, without what an earlier repair had to leave out, and write it."""
        return self.candidates.trimmed(material, self.restored(material), path)

    def restored(self, material: Material) -> frozenset[Unit]:
        """Return the changes that an earlier repair had to leave out; none where the user wants no repairs."""
        options = material.function
        repairs = options.trim.repair and options.verify.level != "none"
        return self._repairs.load(material) if repairs else frozenset()

    def prove(
        self, material: Material, candidate: Candidate, surroundings: Surroundings, handler: HandlerPlace = "module"
    ) -> Proof:
        """Prove a candidate, or repair it; ``surroundings`` are what it needs beside it, ``handler`` is where that lies.

        Raises `VerificationError`, or `ToolError` where nothing here runs a function that the user wants verified.
        """
        function = material.function
        options = function.verify
        if not candidate.needs_proof(function):
            return Proof(candidate=candidate, kept=tuple(sorted(candidate.restored)))
        if handler != "module":
            return self._not_proved(function, candidate, say_where_handler_is(function, handler))
        try:
            sandbox = self._verifier.sandbox(function)
        except ToolError as error:
            self._look_at_source(material, surroundings)
            if options.demanded:
                raise
            why = UnverifiedRecord(cause="interpreter", reason=f"no {_python_of(function)} is here")
            return self._not_proved(function, candidate, why, missing=(str(error),))
        self._reporter.stage(function.name, "verifying")
        trial = _Trial(self.candidates, self._verifier, self._reporter, material, candidate, surroundings)
        certain = not candidate.restored or self._repairs.is_known(material)
        kept, unverified = trial.settle(candidate.restored if certain else trial.still_needed(candidate.restored))
        if kept != candidate.restored or not certain:
            self._repairs.save(material, kept)
        if unverified is not None:
            self._refuse(function, unverified.record, unverified.remedy, unverified.detail)
        return self._proof_of(function, trial, kept, sandbox, unverified)

    @staticmethod
    def _proof_of(
        function: Function, trial: _Trial, kept: frozenset[Unit], sandbox: Sandbox, unverified: Unverified | None
    ) -> Proof:
        """Return what a trial has proved."""
        options = function.verify
        level = "import" if options.level == "events" and not options.events else options.level
        return Proof(
            candidate=trial.candidate,
            level=level if trial.after.works else "none",
            place=sandbox.place if trial.after.works else "",
            unconfined=sandbox.unconfined,
            milliseconds=trial.after.milliseconds,
            events=len(trial.after.events),
            raised=sum("error" in each for each in trial.after.events),
            kept=tuple(sorted(kept)),
            alone=trial.alone,
            warnings=(unverified.warning(function),) if unverified else (),
            unverified=unverified.record if unverified else None,
        )

    def _not_proved(
        self, function: Function, candidate: Candidate, why: UnverifiedRecord, missing: tuple[str, ...] = ()
    ) -> Proof:
        """Return the proof of a function that cannot be run; raises `VerificationError` where the user is strict."""
        self._refuse(function, why, "", "")
        return Proof(
            candidate=candidate,
            kept=tuple(sorted(candidate.restored)),
            warnings=() if missing else (Unverified(record=why).warning(function),),
            missing=missing,
            unverified=why,
        )

    def _refuse(self, function: Function, why: UnverifiedRecord, remedy: str, detail: str) -> None:
        """Raise `VerificationError` for what is not verified, where the user is strict."""
        if self._strict:
            what = f"{function.name} was not verified, and --strict asks for that: {why.reason}."
            raise VerificationError(
                what, detail=detail, remedy=remedy or f'Write verify = "none" for {function.name} if that is fine.'
            )

    def _look_at_source(self, material: Material, surroundings: Surroundings) -> None:
        """Raise `VerificationError` for what fails wherever the handler is imported, as far as its source says so."""
        from packer.verify.failed_import import diagnose_fault
        from packer.verify.handler_source import find_fault

        fault = find_fault(material, list_modules(surroundings.layers()))
        if fault is not None:
            found = diagnose_fault(fault, material)
            if found.broken:
                raise VerificationError(f"{material.function.name} cannot be imported: {found.reason}.", remedy=found.remedy)


def _python_of(function: Function) -> str:
    return f"Python 3.{function.target.runtime.minor}"


def say_where_handler_is(function: Function, handler: HandlerPlace) -> UnverifiedRecord:
    """Return why a handler that is no module of the function's cannot be run."""
    if handler == "script":
        return UnverifiedRecord(cause="script", reason="its handler is a script", handler_elsewhere=True)
    layers = " or ".join(function.layers.unknown)
    return UnverifiedRecord(cause="layer", reason=f"its handler lies in a layer ({layers})", handler_elsewhere=True)


class _Trial:
    """One function's proof: what it does untrimmed is found out only where that is needed."""

    def __init__(
        self,
        candidates: CandidateWriter,
        verifier: Verifier,
        reporter: Reporter,
        material: Material,
        candidate: Candidate,
        surroundings: Surroundings,
    ) -> None:
        self._candidates = candidates
        self._verifier = verifier
        self._reporter = reporter
        self._material = material
        self._events = read_events(material.function) if material.function.verify.level != "import" else ()
        self._around = Around(surroundings, verifier, material)
        self._trial_path = candidate.path.with_suffix(".trial")
        self._before: Outcome | None = None
        self._runs_as = material.function
        self._loosely = False
        self.alone = ""
        self.candidate = candidate
        self.after = self._outcome(candidate)

    @property
    def _function(self) -> Function:
        return self._material.function

    def _outcome(self, candidate: Candidate) -> Outcome:
        """Run a candidate, again where it lacks what the runtime has."""
        run = partial(self._verifier.outcome, self._runs_as, candidate.path, candidate.written.sha256, self._events)
        outcome = run(self._around.late, self._layers(candidate))
        while self._around.add(lacking_modules(outcome)):
            outcome = run(self._around.late, self._layers(candidate))
        return outcome

    def _layers(self, candidate: Candidate) -> tuple[LayerArchive, ...]:
        return (*self._around.layers, *candidate.layers)

    def still_needed(self, kept: frozenset[Unit]) -> frozenset[Unit]:
        """Return what was left alone for another source, if this one needs each of it too; else nothing, and begin without."""
        for unit in sorted(kept):
            tried = self._candidates.trimmed(self._material, kept - {unit}, self._trial_path)
            if self._agrees(tried, self._outcome(tried)):
                self.candidate = self._candidates.trimmed(self._material, frozenset(), self.candidate.path)
                self.after = self._outcome(self.candidate)
                return frozenset()
        return kept

    def settle(self, kept: frozenset[Unit]) -> tuple[frozenset[Unit], Unverified | None]:
        """Return what has to be left alone for the function to work, and why that is not verified, if so.

        Raises `VerificationError`.
        """
        if self._events or not self.after.works:
            before = self._untrimmed_outcome()
            if not self._agrees(self.candidate, self.after) and not (self.candidate.layers and self._take_whole(before)):
                kept = self._repair(before, kept)
            if not self.after.works:
                return kept, self._judge()
        check_expected(self._function, self._events, self.after)
        return kept, self._judge_events()

    def _judge_events(self) -> Unverified | None:
        """Return why no event shows that the function works, if so: each of them ends with an error."""
        errors = [error_text(each) for each in self.after.events if "error" in each]
        if not errors or len(errors) < len(self.after.events):
            return None
        reason = f"each of its events ends with an error ({errors[0][:_SHOWN]})"
        remedy = "Give it an event that it can handle; what is expected of one may stand beside it (README.md, verify)."
        return Unverified(record=UnverifiedRecord(cause="event", reason=reason), remedy=remedy)

    def _untrimmed_outcome(self) -> Outcome:
        if self._before is None:
            self._before = self._after_lateness() if self.after.late else self._outcome(self._plain())
        return self._before

    def _after_lateness(self) -> Outcome:
        """Run a function untrimmed that was stopped for time when trimmed, unless both are the same; it gets less time now."""
        plain, candidate = self._plain(), self.candidate
        if plain.written.sha256 == candidate.written.sha256 and not candidate.layers:
            return self.after
        verify = self._function.verify
        self._runs_as = replace(self._function, verify=replace(verify, seconds=min(verify.seconds, _SECOND_TRY)))
        most = f"at most {self._runs_as.verify.seconds:g} s"
        self._reporter.note(f"{self._function.name}: {self.after.failure}; running it untrimmed to compare, for {most}")
        return self._outcome(plain)

    def _plain(self) -> Candidate:
        return self._candidates.untrimmed(self._material, self._trial_path.with_suffix(".plain"))

    def _agrees(self, candidate: Candidate, outcome: Outcome) -> bool:
        """Return whether a candidate's outcome is the untrimmed one; where that is not steady, whether it is of its kind."""
        before = self._untrimmed_outcome()
        if outcome.essence() == before.essence():
            return True
        if not self._loosely and self._kinds(outcome) == self._kinds(before):
            # Clocks and chance: both sides once more, one right after the other.
            again, plain = self._once_more(candidate), self._once_more(self._plain())
            self._loosely = again.essence() != outcome.essence() or plain.essence() != before.essence()
        return self._loosely and self._kinds(outcome) == self._kinds(before)

    def _once_more(self, candidate: Candidate) -> Outcome:
        sandbox = self._verifier.sandbox(self._function)
        with self._verifier.laid_out(candidate.path, self._around.late, self._layers(candidate)) as laid:
            return self._verifier.run(self._function, laid, sandbox, self._events)[0]

    @staticmethod
    def _kinds(outcome: Outcome) -> list[str]:
        """Return the type of each error, and an empty word for each result."""
        found = (outcome.imported, *outcome.events)
        return [outcome.kind_of_failure, *(each["error"]["type"] if "error" in each else "" for each in found)]

    def _take_whole(self, before: Outcome) -> bool:
        """Return whether a function that fails with layers works in one package, and take that; raises `VerificationError`."""
        differing = self._differing(before)
        whole = self._candidates.trimmed(self._material, self.candidate.restored, self._trial_path)
        outcome = self._outcome(whole)
        if not self._agrees(whole, outcome):
            return False
        self._accept_whole(whole, outcome, differing)
        return True

    def _accept_whole(self, whole: Candidate, outcome: Outcome, differing: tuple[str, str, str]) -> None:
        """Take the package without layers, which works; raises `VerificationError` where the user wants no repairs."""
        name, (trouble, trace, was) = self._function.name, differing
        what = f"{name} does not behave with layers as it does in one package: {trouble}{was}"
        if not self._function.trim.repair:
            raise VerificationError(f"{what}.", detail=trace, remedy=f'Write layers = "none" for {name}, or trim = "auto".')
        self.candidate, self.after, self.alone = whole, outcome, f"{what}; it is packed whole"

    def _settle_layers(self, kept: frozenset[Unit], differing: tuple[str, str, str]) -> None:
        """Keep the layers of a function that works in one package, if it works with them now; else take the one package."""
        outcome = self._outcome(self.candidate)
        if self._agrees(self.candidate, outcome):
            self.after = outcome
        else:
            whole = self._candidates.trimmed(self._material, kept, self._trial_path)
            self._accept_whole(whole, self.after, differing)

    def _repair(self, before: Outcome, kept: frozenset[Unit]) -> frozenset[Unit]:
        units = tuple(unit for unit in self.candidate.shaped.units() if unit not in kept)
        trouble, trace, was = differing = self._differing(before)

        def works(restored: frozenset[Unit]) -> bool:
            tried = self._candidates.trimmed(self._material, kept | restored, self._trial_path)
            outcome = self._outcome(tried)
            if not restored:
                self.after = outcome
            return self._agrees(tried, outcome)

        self._reporter.note(f"{self._function.name} fails when it is trimmed; looking for what it needs")
        found = find_culprits(units, works)
        name = self._function.name
        if found == ():  # it works now: it was stopped for time, or by chance
            if self.candidate.layers:
                self._settle_layers(kept, differing)
            return kept
        if not found:
            what = f"{name} does not behave as it does untrimmed, and no rule is to blame: {trouble}{was}."
            raise VerificationError(what, detail=trace, remedy='Write trim = "none" and bytecode = "off", and report it.')
        named = ", ".join(f"{rule} of {owner}" for rule, owner in found)
        if not self._function.trim.repair:
            what = f"{name} needs what trimming removes ({named}): {trouble}{was}."
            raise VerificationError(what, detail=trace, remedy=_remedy(name, found[0][0]))
        kept |= frozenset(found)
        self.candidate = self._candidates.trimmed(self._material, kept, self.candidate.path)
        self.after = self._outcome(self.candidate)
        self._reporter.warn(f"{name} needs what trimming would remove, which is kept: {named} ({trouble})")
        return kept

    def _differing(self, before: Outcome) -> tuple[str, str, str]:
        """Return what is the first thing that comes out in another way, with the traceback, and how it does untrimmed."""
        pairs = [("", before.imported, self.after.imported)]
        names = [f", for the event {event.name}" for event in self._events]
        pairs += zip(names, before.events, self.after.events, strict=False)  # the one that cannot be imported has none
        for name, was, now in pairs:
            if outcome_essence(was) != outcome_essence(now):
                return f"{error_text(now) or 'another result'}{name}", error_trace(now), _untrimmed_too(error_text(was))
        return self.after.trouble() or "another result", self.after.trace(), _untrimmed_too(before.trouble())

    def _judge(self) -> Unverified:
        """Return why it cannot be imported here, trimmed or not.

        Raises `VerificationError` where it cannot be on Lambda either, and where the user has asked for a proof that the
        deployment alone could give.
        """
        from packer.verify.failed_import import diagnose

        exact = is_exact(self._verifier.sandbox(self._function), self._function)
        found = diagnose(self.after, self._material, self._around.unfetched, self._around.contents, exact=exact)
        name = self._function.name
        trouble = self.after.trouble()
        if found.broken or (self._function.verify.demanded and found.cause == "deployment"):
            how = "cannot be run here, trimmed or not" if found.reason == trouble else "cannot be imported, trimmed or not"
            what = f"{name} {how}: {found.reason.removesuffix('.')}."
            raise VerificationError(what, detail=self.after.trace(), remedy=found.remedy)
        record = UnverifiedRecord(cause=found.cause, reason=found.reason)
        return Unverified(record=record, remedy=found.remedy, trouble=trouble, detail=self.after.trace())


def is_exact(sandbox: Sandbox, function: Function) -> bool:
    """Return whether a function runs by the files of its runtime, unpacked or in a container, on no emulated processor."""
    return sandbox.path is None and is_native(function.target.architecture)


_SECOND_TRY = 20.0
"""Seconds that a function gets once it was stopped for time: twice those of Lambda's init phase."""
_NO_RESULT = object()
_SHOWN = 200
"""Letters of an error that a verdict shows."""


def check_expected(function: Function, events: Sequence[Event], found: Outcome) -> None:
    """Check the results of events against those that the user expects; raises `VerificationError`."""
    for event, outcome in zip(events, found.events, strict=True):
        if event.expected is not None and list(event.expected) != [outcome.get("result", _NO_RESULT)]:
            came = error_text(outcome) or json.dumps(outcome["result"], ensure_ascii=False)
            what = f"{function.name} does not give what is expected for the event {event.name}: {came[:500]}."
            wanted = json.dumps(event.expected[0], ensure_ascii=False)[:500]
            raise VerificationError(
                what,
                detail=f"{error_trace(outcome)}\nExpected, as a result: {wanted}".lstrip(),
                remedy="Fix the function, or the expected result (none where it should raise); trimming is not the cause.",
            )


def _untrimmed_too(trouble: str) -> str:
    return f" (untrimmed {trouble})" if trouble else ""


def _remedy(name: str, rule: str) -> str:
    """Return what to do about a rule that breaks a function."""
    others = {
        SOURCES: 'bytecode = "beside"',
        PROFILE: f"run `lpack profile {name}` again with an event that needs it",
        DROP: "drop less",
    }
    return f'Write trim = "auto" to keep that, or {others.get(rule, f"trim = {{ without = [{json.dumps(rule)}] }}")}.'
