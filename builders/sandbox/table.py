"""The table of sandboxes: opens one for each target, the first that is available."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence

from msgspec import Struct

from builders.errors import BuildError, UnavailableError, interruption_error
from builders.once import Once
from builders.runtimes import Target, is_native
from builders.sandbox.task import Sandbox


def runs_here(target: Target) -> bool:
    """Return whether this machine loads the target's native code."""
    return platform.system() == "Linux" and is_native(target.architecture)


class SandboxKind(Struct, frozen=True, kw_only=True):
    """One row of the table; ``name`` is the value of ``where`` in the configuration.

    ``open`` takes the target, and whether the user named this kind, in which case it may take long (pull an image); it raises
    `UnavailableError`. ``runs`` returns whether this kind runs the target's native code; every kind compiles.
    """

    name: str
    open: Callable[[Target, bool], Sandbox]
    runs: Callable[[Target], bool] = lambda _: True


class Sandboxes:
    """Opens sandboxes, one for each target and kind; ``kinds`` are in order of preference. May be used from many threads.

    ``notice`` is called with each sandbox that is not confined, before it is returned; it may raise an error instead.
    ``stood_in`` is called where something is to be run, and not by the first kind, with the target, the sandbox that stands in,
    and why the first kind does not run it.
    """

    def __init__(
        self,
        kinds: Sequence[SandboxKind],
        notice: Callable[[Sandbox], None] = lambda _: None,
        stood_in: Callable[[Target, Sandbox, UnavailableError], None] = lambda *_: None,
    ) -> None:
        self._kinds = {kind.name: kind for kind in kinds}
        self._notice = notice
        self._stood_in = stood_in
        self._opened: Once[tuple[str, Target, bool], Sandbox] = Once()
        self._closed = False

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        self._closed = True
        for each in self._opened.values():
            each.close()

    def find(self, target: Target, place: str, purpose: str) -> Sandbox:
        """Return a sandbox for a purpose (``compile``, or ``run`` for native code); ``place`` is a kind's name or ``auto``.

        ``auto`` takes the first kind that is available and confined, or else the first one that is available. Raises
        `UnavailableError`, with the reasons of all kinds that were asked.
        """
        names = tuple(self._kinds) if place == "auto" else (place,)
        refusals, found = [], []
        for name in names:
            try:
                found.append(self._get(self._kinds[name], target, purpose, asked=place == name))
            except UnavailableError as refusal:
                refusals.append(refusal)
                continue
            if not found[-1].unconfined:
                return self._chosen(target, purpose, found[-1], refusals)
        if found:
            self._notice(found[0])
            return self._chosen(target, purpose, found[0], refusals)
        reasons, remedies = (dict.fromkeys(getattr(each, name) for each in refusals) for name in ("what", "remedy"))
        raise UnavailableError("; ".join(reasons), remedy=" Or: ".join(filter(None, remedies)))

    def _chosen(self, target: Target, purpose: str, found: Sandbox, refusals: Sequence[UnavailableError]) -> Sandbox:
        if refusals and purpose == "run":
            self._stood_in(target, found, refusals[0])
        return found

    def _get(self, kind: SandboxKind, target: Target, purpose: str, *, asked: bool) -> Sandbox:
        if purpose == "run" and not kind.runs(target):
            what = f"this machine cannot run native code for {target.architecture}"
            raise UnavailableError(what, remedy="Start a container engine with emulation, or build on such a machine.")
        try:
            found = self._opened.get((kind.name, target, asked), lambda: _open(kind, target, asked=asked))
        except UnavailableError:
            if self._closed:
                raise interruption_error() from None
            raise
        if self._closed:  # perhaps while it was opened
            found.close()
            raise interruption_error()
        return found


def _open(kind: SandboxKind, target: Target, *, asked: bool) -> Sandbox:
    """Open a sandbox; raises `UnavailableError`."""
    try:
        return kind.open(target, asked)
    except BuildError as error:
        raise UnavailableError(error.what, remedy=error.remedy or "Fix the container engine.") from None
