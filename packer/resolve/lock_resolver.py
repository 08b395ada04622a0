"""The lock of one function by itself: a lock file is used as it is, and uv resolves everything else for the target."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from builders.documents import decode_text
from builders.once import Once
from packer.cache.signatures import Digests
from packer.cache.store import Store, digest_of
from packer.core.errors import NoSolutionError, ResolveError, UsageError
from packer.core.events import Reporter
from packer.core.model import Archive, Function, Lock, LockedPackage, Requirements, SourceFolder
from packer.core.options import Policy
from packer.core.process import Run, uv_version
from packer.locks.formats import LockReader, find_lock_reader
from packer.locks.pylock import parse_pylock, read_pylock_text, relocate_lock
from packer.locks.wheel_choice import choose_wheel
from packer.net.credentials import Credentials
from packer.resolve.declaration import (
    Declaration,
    allowed_packages,
    are_unchanged_projects,
    digest_links,
    digest_local_projects,
    has_own_lock,
    read_declaration,
)
from packer.resolve.lock_memory import LockMemory
from packer.resolve.uv_client import AS_PYLOCK, NO_SOLUTION, UvClient
from packer.resolve.uv_settings import settings_digest

_URL_WITH_LOGIN = re.compile(r"https?://[^\s\"'/@]+@[^\s\"']+")
_NO_DEPS = "--no-deps"


class LockResolver:
    """Gives each function its lock, whatever others have; may be used from many threads."""

    def __init__(
        self,
        run: Run,
        uv: UvClient,
        store: Store,
        credentials: Credentials,
        digests: Digests,
        reporter: Reporter,
        policy: Policy,
    ) -> None:
        self._run = run
        self._uv = uv
        self._store = store
        self._credentials = credentials
        self._digests = digests
        self._reporter = reporter
        self._policy = policy
        self._memory = LockMemory(store)
        self._texts: Once[str, str] = Once()
        self._stale_locks: Once[tuple[Path, int], bool] = Once()

    def lock(self, function: Function) -> Lock:
        """Return the function's exact packages.

        Raises `ResolveError`, or `UsageError` where a lock is missing, stale or for another target and may not be.
        """
        return self.existing_lock(function) or self.resolve(function, read_declaration(function))

    def existing_lock(self, function: Function) -> Lock | None:
        """Return the lock that a function's files make up; None where its dependencies have to be resolved.

        Raises as `lock` does.
        """
        requirements, target = function.requirements, function.target
        if has_own_lock(function):
            return self._read_own_lock(function)
        if requirements is None:
            return Lock(target=target, packages=(), origin="no dependencies")
        reader = find_lock_reader(requirements)
        if reader and reader.is_complete:
            return self._read_user_lock(function, requirements, reader)
        if self._policy.frozen and not reader:
            raise UsageError(
                f"{function.name} has no lock {function.lock_path.name}, and --frozen forbids to resolve.",
                remedy="Run `lpack lock`.",
            )
        return None  # exact versions are only located: nothing is chosen, whatever the index has by now

    def resolve(self, function: Function, declaration: Declaration) -> Lock:
        """Return the lock that was resolved for the same declaration before, or resolve now and remember."""
        text = self.lock_text(function, declaration)
        self._uv.learn_indexes(function.lock_path.parent, declaration.index_urls)
        lock = self._memory.parse(text, function.lock_path, function.target)
        return replace(lock, packages=allowed_packages(function, declaration, lock.packages), origin="resolved")

    def lock_text(self, function: Function, declaration: Declaration) -> str:
        """Return the text of the lock that a function's declaration resolves to, remembered or new; raises `ResolveError`."""
        key = self._resolution_key(function, declaration)
        if declaration.constraints:  # of the functions that share, many declare the same
            return self._texts.get(key, lambda: self._load_or_resolve(function, declaration, key))
        return self._load_or_resolve(function, declaration, key)

    def renewed_text(self, function: Function, declaration: Declaration) -> str:
        """Resolve anew, and return the text of the function's ``pylock.<function>.toml``; raises `ResolveError`."""
        if not declaration.constraints:
            return self._resolve(function, declaration)
        return self._texts.get(
            self._resolution_key(function, declaration), lambda: self._resolve_or_relax(function, declaration)
        )

    def learn(self, function: Function) -> None:
        """Remember the logins that a function's own files and the settings beside them carry."""
        declaration, requirements = read_declaration(function), function.requirements
        for folder in dict.fromkeys((declaration.folder, function.lock_path.parent)):
            self._uv.learn_indexes(folder, declaration.index_urls)
        reader = find_lock_reader(requirements)
        locks = (function.lock_path, *((requirements.path,) if requirements and reader and reader.keeps_logins else ()))
        for path in locks:
            if path.is_file():
                self._learn_logins(path)

    def _read_user_lock(self, function: Function, requirements: Requirements, reader: LockReader) -> Lock:
        """Return what a complete lock of the user's own says; raises as `lock` does."""
        path, target = requirements.path, function.target
        self._uv.learn_indexes(path.parent, ())
        if reader.keeps_logins:
            self._learn_logins(path)
        warnings: tuple[str, ...] = ()
        if self._stale_locks.get((path, target.runtime.minor), lambda: reader.is_stale(requirements, target, self._run)):
            what = f"{path.name} is stale: what {function.name} requires has changed since it was made."
            warnings = (self._stale_warning(what, reader.command),)
        packages = reader.read(requirements, target, self._run, self._memory.parse)
        located = tuple(package for package in packages if isinstance(package, LockedPackage))
        assert len(located) == len(packages)  # noqa: S101 what a complete lock means
        return Lock(target=target, packages=located, origin=path.name, warnings=warnings)

    def _stale_warning(self, what: str, command: str) -> str:
        """Return the warning that a lock is stale; raises `UsageError` where the user does not want to build from one."""
        if self._policy.frozen:
            raise UsageError(what, remedy=f"Run `{command}`.")
        return f"{what} It is used as it is; `{command}` renews it."

    def _read_own_lock(self, function: Function) -> Lock:
        text = read_pylock_text(function.lock_path)
        lock = self._memory.parse(text, function.lock_path, function.target)
        tool = self._memory.tool_table(text, function.lock_path)
        if "target" in tool and tool["target"] != str(function.target):
            raise UsageError(
                f"{function.lock_path} was made for {tool['target']}, and {function.name} is built for {function.target}.",
                remedy="Run `lpack lock` with the same runtime and architecture.",
            )
        declaration = read_declaration(function)
        warnings: tuple[str, ...] = ()
        if "inputs" in tool and not self._is_fresh(function, declaration, tool):
            what = f"{function.lock_path.name} is stale: what {function.name} requires has changed since it was made."
            warnings = (self._stale_warning(what, "lpack lock"),)
        self._uv.learn_indexes(function.lock_path.parent, declaration.index_urls)
        self._learn_logins(function.lock_path)
        return replace(lock, packages=allowed_packages(function, declaration, lock.packages), warnings=warnings)

    def _is_fresh(self, function: Function, declaration: Declaration, tool: Mapping[str, Any]) -> bool:
        base = function.lock_path.parent
        locals_ = {str(base / path): digest for path, digest in tool.get("locals", {}).items()}
        return tool["inputs"] == declaration.digest and are_unchanged_projects(locals_)

    def _resolution_key(self, function: Function, declaration: Declaration) -> str:
        return digest_of(
            f"uv {uv_version()}",
            str(function.target),
            str(function.lock_path.parent),
            declaration.digest,
            digest_links(declaration, self._digests),
            settings_digest(declaration.folder, os.environ),
            str(declaration.folder) if declaration.anchored else "",
            "shared" if declaration.constraints else "",
        )

    def _load_or_resolve(self, function: Function, declaration: Declaration, key: str) -> str:
        record = None if self._policy.upgrade else self._store.load("resolutions", key)
        text = record.payload.decode() if record else ""
        if (
            not text
            or not self._is_fresh(function, declaration, self._memory.tool_table(text, function.lock_path))
            or not _meets_constraints(text, function.lock_path.parent, declaration)
        ):
            text = self._resolve_or_relax(function, declaration)
            self._store.save("resolutions", key, text.encode())
        return text

    def _resolve_or_relax(self, function: Function, declaration: Declaration) -> str:
        """Resolve with the versions that are shared, or without them where a package is another thing to this function."""
        try:
            return self._resolve(function, declaration)
        except NoSolutionError as error:
            if not declaration.constraints:
                raise
            self._reporter.warn(
                f"{function.name} cannot have the versions that it should share, and takes others. It may know a package by "
                f"name that other functions take from a folder or a repository.\n{error.detail}"
            )
            return self._resolve(function, replace(declaration, constraints=()))

    def _learn_logins(self, path: Path) -> None:
        """Remember the logins that somebody's own lock carries in its URLs; what is read from it has none."""
        for url in _URL_WITH_LOGIN.findall(path.read_text(encoding="utf-8", errors="replace")):
            with suppress(UsageError):  # the reader of the lock says where it is wrong
                self._credentials.learn(url)

    def _resolve(self, function: Function, declaration: Declaration) -> str:
        """Run uv for the target, and give the lock's text as it must stand at ``function.lock_path``."""
        self._reporter.stage(function.name, "resolving")
        self._uv.learn_indexes(declaration.folder, declaration.index_urls)
        with self._store.workspace() as folder:
            path = folder / function.lock_path.name
            if not self._policy.upgrade and _is_lock(function.lock_path):
                shutil.copyfile(function.lock_path, path)  # uv keeps the versions that it finds in its output file
            self._run_uv(function, declaration, path)
            lock = parse_pylock(read_pylock_text(path), path, function.target)
            text = self._add_other_wheels(function, declaration, lock, path)
            lock = parse_pylock(text, path, function.target)
            allowed_packages(function, declaration, lock.packages)
            base = function.lock_path.parent
            folders = [str(package.source.path) for package in lock.packages if isinstance(package.source, SourceFolder)]
            locals_ = {os.path.relpath(path, base): digest for path, digest in digest_local_projects(folders).items()}
            tool = {"target": str(function.target), "inputs": declaration.digest, "locals": locals_}
            return relocate_lock(text, folder, base, tool)

    def _run_uv(self, function: Function, declaration: Declaration, into: Path) -> None:
        finished = self._uv.ask(declaration, function.target, into)
        if finished.status == 0:
            return
        detail = self._credentials.scrub(finished.stderr).rstrip()
        place = function.requirements.path if function.requirements else function.source
        what = f"uv could not resolve {place} for {function.target} (function {function.name})."
        remedy = "Check the network, the index's address and its credentials, then try again."
        if self._policy.offline:
            remedy = "Build once without --offline, or commit a lock (`lpack lock`): a build with one asks no index."
        if finished.status == NO_SOLUTION and not self._policy.offline:
            what = f"No set of versions satisfies {place} on {function.target} (function {function.name})."
            remedy = "Loosen the requirements that uv names, or choose another runtime."
        kind = NoSolutionError if finished.status == NO_SOLUTION else ResolveError
        raise kind(what, detail=detail, remedy=remedy)

    def _add_other_wheels(self, function: Function, declaration: Declaration, lock: Lock, path: Path) -> str:
        """Add all wheels that there are, for packages that have none that fits yet: uv leaves out those of other platforms.

        glibc 2.26 has no platform of its own in uv, and so a wheel tagged manylinux_2_24 may be among them, which fits. If none
        does, an error can tell what there is.
        """
        text = path.read_text(encoding="utf-8")
        bare = {
            package.name
            for package in lock.packages
            if isinstance(package.source, Archive) and not choose_wheel(package, function.target)
        }
        if not bare:
            return text
        pins = [f"{package.name}=={package.version}" for package in lock.packages if package.name in bare]
        with self._store.workspace() as folder:
            wider = folder / path.name
            arguments = declaration.arguments if _NO_DEPS in declaration.arguments else (_NO_DEPS,)
            pinned = replace(declaration, text="\n".join([*declaration.option_lines, *pins]), arguments=arguments)
            if self._uv.ask_for_platform(pinned, function.target, (*AS_PYLOCK, "--universal"), wider).status:
                return text
            found = {package["name"]: package for package in tomllib.loads(wider.read_text(encoding="utf-8"))["packages"]}
        document = tomllib.loads(text)
        document["packages"] = [found.get(package["name"], package) for package in document["packages"]]
        import tomli_w

        return tomli_w.dumps(document)


def _is_lock(path: Path) -> bool:
    """Return whether uv can take a file for a lock: a broken one is written anew, and not an error of uv's."""
    try:
        return "lock-version" in tomllib.loads(decode_text(path.read_bytes()))
    except (OSError, ValueError):
        return False


def _meets_constraints(text: str, folder: Path, declaration: Declaration) -> bool:
    """Return whether a lock, which lies in a folder, has no package in another version than it shares with others."""
    if not declaration.constraints:
        return True
    from packer.resolve.uv_queries import meets_constraints

    return meets_constraints(text, folder, declaration.constraints)
