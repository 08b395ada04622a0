"""What is known of a function in the middle of a build, and what its build changes of that, before layers are planned again."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from packer.core.errors import VerificationError
from packer.core.model import Function
from packer.layers.assignment import Need, Needed
from packer.pipeline.layer_maker import Version
from packer.pipeline.local_work import SettledFunction
from packer.pipeline.state import LayeredState
from packer.trim.rules import Unit

MOST_REVISIONS = 10
"""How often the build of one function may ask for another plan: once to drop sources, once to go without layers, and else to
keep what verification found to be needed. A second time is rare; it takes a function that never does the same twice to come
so far."""
_SHOWN = 5


class Progress(Struct, frozen=True, kw_only=True):
    """What is known of a function so far; a value: each step gives another one.

    ``need`` is what it needs, remembered or found out now. ``kept`` is what trimming leaves alone, None until the function has
    been looked at now. ``tight`` says that bytecode takes the place of sources, ``alone`` why it works without layers only.
    ``revisions`` counts how often its build has asked for another plan.
    """

    name: str
    need: Need | None = None
    kept: frozenset[Unit] | None = None
    tight: bool = False
    alone: str = ""
    revisions: int = 0

    @property
    def prepared(self) -> bool:
        """Whether it has been looked at now."""
        return self.kept is not None

    @property
    def version(self) -> Version:
        """How it is trimmed."""
        return Version(name=self.name, kept=self.kept)

    def require_need(self) -> Need:
        """Return what it needs; it has been prepared, or is remembered."""
        if self.need is None:
            raise ValueError(f"{self.name} was not prepared")
        return self.need

    def revise(self, settled: SettledFunction) -> Progress | None:
        """Return what its build has changed, None where the plan stands; raises `VerificationError` after too many times.

        Every round of a build but the last revises some function, and so a build has at most
        ``1 + MOST_REVISIONS * functions`` rounds.
        """
        if settled.cramped and not self.tight:
            new = replace(self, tight=True)
        elif settled.alone and not self.alone:
            new = replace(self, alone=settled.alone)
        elif settled.kept != settled.restored:
            new = replace(self, kept=settled.kept)
        else:
            return None
        if self.revisions >= MOST_REVISIONS:
            raise _make_unsettled_error(self.name, settled)
        return replace(new, revisions=self.revisions + 1)

    def accept(self, settled: SettledFunction) -> Progress:
        """Return what is known once it was built and the plan stands."""
        return replace(self, need=settled.need, kept=settled.restored)


def begin_progress(function: Function, known: LayeredState | None, *, believed: bool) -> Progress:
    """Return what is known of a function at first.

    ``believed`` says that what was found out is still true, as it was found out with the same neighbors: that sources must go,
    or that it works alone only.
    """
    need = recall_need(known, function) if known is not None else None
    if known is not None and believed:
        return Progress(name=function.name, need=need, tight=known.tight, alone=known.alone)
    return Progress(name=function.name, need=need, tight=function.bytecode.mode == "only")


def recall_need(known: LayeredState, function: Function) -> Need:
    """Return what a function needs, as the last build has found it."""
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


def _make_unsettled_error(name: str, settled: SettledFunction) -> VerificationError:
    """Return the error of a function whose build asks for another plan each time."""
    units = sorted(settled.kept ^ settled.restored)
    shown = ", ".join(f"{rule} of {owner}" for rule, owner in units[:_SHOWN])
    more = f" and {len(units) - _SHOWN} more" if len(units) > _SHOWN else ""
    return VerificationError(
        f"{name} was built {MOST_REVISIONS + 1} times, and each time its verification found something else to be needed; "
        f"the last time: {shown}{more}.",
        remedy=f'Write trim = "none" or layers = "none" for {name}, or see why its handler or its events do not do the same '
        "each time.",
    )
