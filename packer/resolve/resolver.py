"""From a function's declared dependencies to its lock, with the versions that it shares with others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from builders.once import Once
from builders.runtimes import Target
from packer.cache.signatures import Digests
from packer.cache.store import Store, digest_of
from packer.core.events import Reporter
from packer.core.model import Function, Lock, LockedPackage
from packer.core.options import Policy
from packer.core.process import Run
from packer.net.credentials import Credentials
from packer.resolve.declaration import Declaration, read_declaration
from packer.resolve.lock_resolver import LockResolver
from packer.resolve.uv_client import UvClient

if TYPE_CHECKING:
    from packer.resolve.shared_resolution import SharedPart, SharedResolver


class Resolver:
    """Gives each function its lock; may be used from many threads."""

    def __init__(
        self, run: Run, store: Store, credentials: Credentials, digests: Digests, reporter: Reporter, policy: Policy
    ) -> None:
        self._reporter = reporter
        self._policy = policy
        uv = UvClient(run, credentials, offline=policy.offline, upgrade=policy.upgrade)
        self._own = LockResolver(run, uv, store, credentials, digests, reporter, policy)

        def make_shared() -> SharedResolver:
            from packer.resolve.shared_resolution import SharedResolver

            return SharedResolver(uv, self._own.lock, store, digests, upgrade=policy.upgrade)

        self._make_shared = make_shared
        self._shared: Once[None, SharedResolver] = Once()

    def lock(self, function: Function) -> Lock:
        """Return the function's exact packages.

        Raises `ResolveError`, or `UsageError` where a lock is missing, stale or for another target and may not be.
        """
        known = self._own.existing_lock(function)
        if known is not None:
            return known
        declaration, warnings = self._declare_bound(function)
        return replace(self._own.resolve(function, declaration), warnings=(*declaration.warnings, *warnings))

    def lock_text(self, function: Function) -> str:
        """Resolve, and give the text of the function's ``pylock.<function>.toml``; raises `ResolveError`."""
        declaration, warnings = self._declare_bound(function, relock=True)
        for warning in warnings:
            self._reporter.warn(warning)
        return self._own.renewed_text(function, declaration)

    def group_digest(self, function: Function) -> str:
        """Return the digest of what the shared solve makes of a function's lock, and says of it; empty where it has no part.

        Raises what `lock` raises.
        """
        if not self.group_paths(function):
            return ""
        declaration, warnings = self._declare_bound(function)
        return digest_of(self._own.lock_text(function, declaration), *warnings)

    def group_paths(self, function: Function) -> tuple[str, ...]:
        """Return every path whose change, or appearance, can change a function's lock by way of the shared solve."""
        if self._policy.frozen or function.lock_path.is_file():
            return ()
        part = self._shared_part(function)
        return part.paths if part else ()

    def build_requirements(
        self, requires: Sequence[str], target: Target, function: Function, sources: Sequence[str]
    ) -> tuple[LockedPackage, ...]:
        """Return the exact packages that a build on ``target`` needs, from where the function's own come from.

        ``sources`` names those that come as sources, all others come as wheels. Raises `ResolveError`.
        """
        own = read_declaration(function)
        options = [line for line in own.option_lines if not line.startswith(("--no-binary", "--only-binary"))]
        options += ["--only-binary :all:", *(f"--no-binary {name}" for name in sources)]
        declaration = Declaration(
            folder=own.folder,
            path=own.folder,
            digest=digest_of("build", *options, "", *requires),
            files=(),
            text="\n".join([*options, *requires]),
            index_urls=own.index_urls,
            option_lines=tuple(options),
            links=own.links,
        )
        # No function can have this name, and so no lock of anybody's lies there.
        asking = replace(function, target=target, requirements=None, lock_path=own.folder / "pylock.-.toml")
        return self._own.resolve(asking, declaration).packages

    def learn(self, function: Function) -> None:
        """Remember the logins that a function's own files and the settings beside them carry."""
        self._own.learn(function)

    def _shared_part(self, function: Function, *, relock: bool = False) -> SharedPart | None:
        """Return a function's part of the shared solve, None where it shares with nobody; most projects have no such solve."""
        if not function.sharing:
            return None
        return self._shared.get(None, self._make_shared).part(function, relock=relock)

    def _declare_bound(self, function: Function, *, relock: bool = False) -> tuple[Declaration, tuple[str, ...]]:
        """Return what a function declares, bound to the versions that it shares, and what to tell the user of that."""
        declaration, part = read_declaration(function), self._shared_part(function, relock=relock)
        if part is None:
            return declaration, ()
        return replace(declaration, constraints=part.constraints), part.warnings
