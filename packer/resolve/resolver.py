"""From a function's declared dependencies to its lock: a lock file is law, and uv resolves the rest for the target."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Semaphore
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from builders.once import Once
from builders.runtimes import Target
from packer.cache.signatures import Digests
from packer.cache.store import Store, digest_of
from packer.core.errors import NoSolutionError, ResolveError, UsageError
from packer.core.events import Reporter
from packer.core.model import Archive, Function, Lock, LockedPackage, Requirements, SourceFolder
from packer.core.process import ProcessResult, Run, uv_command
from packer.locks.formats import LockReader, lock_reader
from packer.locks.pylock import parse_pylock, read_pylock, read_tool_table, relocate
from packer.locks.wheel_choice import choose_wheel
from packer.net.credentials import Credentials, index_urls, index_variables
from packer.resolve.declaration import Declaration, declare, has_own_lock, links_digest, local_digests
from packer.resolve.hash_check import allowed
from packer.resolve.shared_resolution import SharedSolve
from packer.resolve.uv_queries import is_bound
from packer.resolve.uv_settings import configured_indexes, has_settings, settings_digest

# uv's allocator keeps what it has freed for a while; this lets go at once: 55 MB instead of 90 for boto3's index page, in the
# same time. With two at a time a build of many functions stays under 150 MB.
_ALLOCATOR = ("_RJEM_MALLOC_CONF", "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0")
_PARALLEL = 2
# How long PyPI lets its pages and its files be kept (the Cache-Control of its answers). Proxies between often leave that out,
# and then each of many functions asks for every page again.
_KEPT = '{ api = "max-age=600", files = "max-age=365000000, immutable" }'
_URL_WITH_LOGIN = re.compile(r"https?://[^\s\"'/@]+@[^\s\"']+")
_NO_DEPS = "--no-deps"
_FORMAT = ("--format", "pylock.toml")
# Options of a requirements file that name no place to look in.
_NO_PLACES = ("--no-binary", "--only-binary", "--pre", "--prefer-binary")
_NO_SOLUTION = 1  # uv's exit status when the requirements contradict each other; 2 stands for everything else


class Policy(Struct, frozen=True, kw_only=True):
    """What a build may do: ``frozen`` forbids to resolve, ``upgrade`` forgets what was resolved before.

    ``strict`` forbids to pack what looks like a secret.
    """

    frozen: bool = False
    offline: bool = False
    upgrade: bool = False
    strict: bool = False


class Resolver:
    """Gives each function its lock; may be used from many threads."""

    def __init__(
        self, run: Run, store: Store, credentials: Credentials, digests: Digests, reporter: Reporter, policy: Policy
    ) -> None:
        self._run = run
        self._store = store
        self._credentials = credentials
        self._digests = digests
        self._reporter = reporter
        self._policy = policy
        self._running = Semaphore(_PARALLEL)
        self._default_index: Once[str, str] = Once()
        self._texts: Once[str, str] = Once()
        self._stale_locks: Once[tuple[Path, int], bool] = Once()
        self._shared = SharedSolve(
            self._ask,
            lambda function: self.lock(function).packages,
            store,
            digests,
            credentials.scrub,
            offline=policy.offline,
            upgrade=policy.upgrade,
        )

    def lock(self, function: Function) -> Lock:
        """Return the function's exact packages.

        Raises `ResolveError`, or `UsageError` where a lock is missing, stale or for another target and may not be.
        """
        requirements, target = function.requirements, function.target
        if has_own_lock(function):
            return self._locked(function)
        if requirements is None:
            return Lock(target=target, packages=(), origin="no dependencies")
        reader = lock_reader(requirements)
        if reader and reader.is_complete:
            return self._locked_by_user(function, requirements, reader)
        if self._policy.frozen:
            raise UsageError(
                f"{function.name} has no lock {function.lock_path.name}, and --frozen forbids to resolve.",
                remedy="Run `lpack lock`.",
            )
        declaration, warnings = self._bound(function)
        return replace(self._remembered(function, declaration), warnings=warnings)

    def group_digest(self, function: Function) -> str:
        """Return the digest of what the shared solve makes of a function's lock, and says of it; empty where it has no part.

        Raises what `lock` raises.
        """
        if not self.group_paths(function):
            return ""
        declaration, warnings = self._bound(function)
        return digest_of(self._text(function, declaration), *warnings)

    def group_paths(self, function: Function) -> tuple[str, ...]:
        """Return every path whose change, or appearance, can change a function's lock by way of the shared solve."""
        if self._policy.frozen or function.lock_path.is_file():
            return ()
        part = self._shared.part(function)
        return part.paths if part else ()

    def _bound(self, function: Function, *, relock: bool = False) -> tuple[Declaration, tuple[str, ...]]:
        """Return what a function declares, bound to the versions that it shares, and what to tell the user of that."""
        declaration, part = declare(function), self._shared.part(function, relock=relock)
        if part is None:
            return declaration, ()
        return replace(declaration, constraints=part.constraints), part.warnings

    def build_requirements(
        self, requires: Sequence[str], target: Target, function: Function, sources: Sequence[str]
    ) -> tuple[LockedPackage, ...]:
        """Return the exact packages that a build on ``target`` needs, from where the function's own come from.

        ``sources`` names those that come as sources, all others come as wheels. Raises `ResolveError`.
        """
        own = declare(function)
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
        return self._remembered(asking, declaration).packages

    def _locked_by_user(self, function: Function, requirements: Requirements, reader: LockReader) -> Lock:
        """Return what a complete lock of the user's own says; raises as `lock` does."""
        path, target = requirements.path, function.target
        self._learn_indexes(path.parent, ())
        if reader.keeps_logins:
            self._learn_logins(path)
        warnings: tuple[str, ...] = ()
        if self._stale_locks.get((path, target.runtime.minor), lambda: reader.is_stale(requirements, target, self._run)):
            what = f"{path.name} is stale: what {function.name} requires has changed since it was made."
            warnings = (self._stale(what, reader.command),)
        packages = reader.read(requirements, target, self._run)
        located = tuple(package for package in packages if isinstance(package, LockedPackage))
        assert len(located) == len(packages)  # noqa: S101 what a complete lock means
        return Lock(target=target, packages=located, origin=path.name, warnings=warnings)

    def _stale(self, what: str, command: str) -> str:
        """Return the warning that a lock is stale; raises `UsageError` where the user does not want to build from one."""
        if self._policy.frozen:
            raise UsageError(what, remedy=f"Run `{command}`.")
        return f"{what} It is used as it is; `{command}` renews it."

    def lock_text(self, function: Function) -> str:
        """Resolve, and give the text of the function's ``pylock.<function>.toml``; raises `ResolveError`."""
        declaration, warnings = self._bound(function, relock=True)
        for warning in warnings:
            self._reporter.warn(warning)
        if not declaration.constraints:
            return self._resolve(function, declaration)
        return self._texts.get(self._key(function, declaration), lambda: self._resolve_bound(function, declaration))

    def _locked(self, function: Function) -> Lock:
        lock = read_pylock(function.lock_path, function.target)
        tool = read_tool_table(function.lock_path)
        if "target" in tool and tool["target"] != str(function.target):
            raise UsageError(
                f"{function.lock_path} was made for {tool['target']}, and {function.name} is built for {function.target}.",
                remedy="Run `lpack lock` with the same runtime and architecture.",
            )
        declaration = declare(function)
        warnings: tuple[str, ...] = ()
        if "inputs" in tool and not self._is_fresh(function, declaration, tool):
            what = f"{function.lock_path.name} is stale: what {function.name} requires has changed since it was made."
            warnings = (self._stale(what, "lpack lock"),)
        self._learn_indexes(function.lock_path.parent, declaration.index_urls)
        self._learn_logins(function.lock_path)
        return replace(lock, packages=allowed(function, declaration, lock.packages), warnings=warnings)

    def _is_fresh(self, function: Function, declaration: Declaration, tool: Mapping[str, Any]) -> bool:
        base = function.lock_path.parent
        locals_ = {str(base / path): digest for path, digest in tool.get("locals", {}).items()}
        return tool["inputs"] == declaration.digest and local_digests(locals_) == locals_

    def _remembered(self, function: Function, declaration: Declaration) -> Lock:
        """Return the lock that was resolved for the same declaration before, or resolve now and remember."""
        text = self._text(function, declaration)
        self._learn_indexes(function.lock_path.parent, declaration.index_urls)
        lock = parse_pylock(text, function.lock_path, function.target)
        return replace(lock, packages=allowed(function, declaration, lock.packages), origin="resolved")

    def _text(self, function: Function, declaration: Declaration) -> str:
        key = self._key(function, declaration)
        if declaration.constraints:  # of the functions that share, many declare the same
            return self._texts.get(key, lambda: self._resolved(function, declaration, key))
        return self._resolved(function, declaration, key)

    def _key(self, function: Function, declaration: Declaration) -> str:
        return digest_of(
            _resolver_version(),
            str(function.target),
            str(function.lock_path.parent),
            declaration.digest,
            links_digest(declaration, self._digests),
            settings_digest(declaration.folder, os.environ),
            str(declaration.folder) if declaration.anchored else "",
            "shared" if declaration.constraints else "",
        )

    def _resolved(self, function: Function, declaration: Declaration, key: str) -> str:
        record = None if self._policy.upgrade else self._store.load("resolutions", key)
        text = record.payload.decode() if record else ""
        if (
            not text
            or not self._is_fresh(function, declaration, tomllib.loads(text)["tool"]["lpack"])
            or not is_bound(text, function.lock_path.parent, declaration.constraints)
        ):
            text = self._resolve_bound(function, declaration)
            self._store.save("resolutions", key, text.encode())
        return text

    def _resolve_bound(self, function: Function, declaration: Declaration) -> str:
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

    def learn(self, function: Function) -> None:
        """Remember the logins that a function's own files and the settings beside them carry."""
        declaration, requirements = declare(function), function.requirements
        for folder in dict.fromkeys((declaration.folder, function.lock_path.parent)):
            self._learn_indexes(folder, declaration.index_urls)
        reader = lock_reader(requirements)
        locks = (function.lock_path, *((requirements.path,) if requirements and reader and reader.keeps_logins else ()))
        for path in locks:
            if path.is_file():
                self._learn_logins(path)

    def _learn_logins(self, path: Path) -> None:
        """Remember the logins that somebody's own lock carries in its URLs; what is read from it has none."""
        for url in _URL_WITH_LOGIN.findall(path.read_text(encoding="utf-8", errors="replace")):
            self._credentials.learn(url)

    def _learn_indexes(self, folder: Path, urls: tuple[str, ...]) -> None:
        for name, url in (*index_urls(os.environ), *configured_indexes(folder), *(("", url) for url in urls)):
            self._credentials.learn(url, name)

    def _resolve(self, function: Function, declaration: Declaration) -> str:
        """Run uv for the target, and give the lock's text as it must stand at ``function.lock_path``."""
        self._reporter.stage(function.name, "resolving")
        self._learn_indexes(declaration.folder, declaration.index_urls)
        with self._store.workspace() as folder:
            path = folder / function.lock_path.name
            if function.lock_path.is_file() and not self._policy.upgrade:
                shutil.copyfile(function.lock_path, path)  # uv keeps the versions that it finds in its output file
            self._compile(function, declaration, path)
            lock = read_pylock(path, function.target)
            path.write_text(self._widened(function, declaration, lock, path), encoding="utf-8")
            lock = read_pylock(path, function.target)
            allowed(function, declaration, lock.packages)
            base = function.lock_path.parent
            folders = [str(package.source.path) for package in lock.packages if isinstance(package.source, SourceFolder)]
            locals_ = {os.path.relpath(path, base): digest for path, digest in local_digests(folders).items()}
            tool = {"target": str(function.target), "inputs": declaration.digest, "locals": locals_}
            return relocate(path.read_text(encoding="utf-8"), folder, base, tool)

    def _compile(self, function: Function, declaration: Declaration, into: Path) -> None:
        finished = self._ask(declaration, function.target, into)
        if finished.status == 0:
            return
        detail = self._credentials.scrub(finished.stderr).rstrip()
        place = function.requirements.path if function.requirements else function.source
        what = f"uv could not resolve {place} for {function.target} (function {function.name})."
        remedy = "Check the network, the index's address and its credentials, then try again."
        if self._policy.offline:
            remedy = "Build once without --offline, or commit a lock (`lpack lock`): a build with one asks no index."
        if finished.status == _NO_SOLUTION and not self._policy.offline:
            what = f"No set of versions satisfies {place} on {function.target} (function {function.name})."
            remedy = "Loosen the requirements that uv names, or choose another runtime."
        kind = NoSolutionError if finished.status == _NO_SOLUTION else ResolveError
        raise kind(what, detail=detail, remedy=remedy)

    def _ask(self, declaration: Declaration, target: Target, into: Path, words: tuple[str, ...] = _FORMAT) -> ProcessResult:
        """Run uv for the first of the target's platforms that has a solution."""
        self._learn_indexes(declaration.folder, declaration.index_urls)
        for platform in target.resolver_platforms:
            finished = self._uv(declaration, target, (*words, "--python-platform", platform), into)
            if finished.status != _NO_SOLUTION:
                break
        return finished

    def _uv(self, declaration: Declaration, target: Target, words: tuple[str, ...], into: Path) -> ProcessResult:
        arguments = ["--quiet", "--no-header", "--python-version", target.python_version, *words, "--output-file", str(into)]
        # Where an answer may lie already when everything is to be upgraded, it holds what must be kept all the same.
        renewing = "--refresh" if into.is_file() else "--upgrade"
        arguments += [
            flag for flag, wanted in (("--offline", self._policy.offline), (renewing, self._policy.upgrade)) if wanted
        ]
        arguments += [*declaration.constraint_words(into.parent), *self._page_keeping(declaration, into.parent)]
        with declaration.input_file(into.parent) as path, self._running:
            return self._pip_compile([*arguments, *declaration.arguments, str(path)], declaration.folder)

    def _pip_compile(self, arguments: Sequence[str], folder: Path) -> ProcessResult:
        variables = index_variables(os.environ)
        variables.setdefault(*_ALLOCATOR)
        if shutil.which("keyring"):
            variables["UV_KEYRING_PROVIDER"] = os.environ.get("UV_KEYRING_PROVIDER", "subprocess")
        command = [uv_command(), "pip", "compile", "--color", "never", "--python", sys.executable, "--no-python-downloads"]
        return self._run([*command, *arguments], folder, variables)

    def _page_keeping(self, declaration: Declaration, folder: Path) -> tuple[str, ...]:
        """Return uv's options for keeping PyPI's pages as long as PyPI allows, by means of a file in ``folder``.

        Only a configuration file can say it, and that would take the place of the user's own: where there is one, or another
        index, uv's own ways hold.
        """
        elsewhere = any(not line.startswith(_NO_PLACES) for line in declaration.option_lines)
        if self._policy.upgrade or elsewhere or has_settings(declaration.folder, os.environ):
            return ()
        index = self._default_index.get("", lambda: self._ask_default_index(folder))
        if not index:
            return ()
        path = folder / "uv.toml"
        path.write_text(f'[[index]]\nurl = "{index}"\ndefault = true\ncache-control = {_KEPT}\n', encoding="utf-8")
        return ("--config-file", str(path))

    def _ask_default_index(self, folder: Path) -> str:
        """Return the address of the index that uv uses by itself; an empty string where uv does not say it."""
        nothing = folder / "nothing.txt"
        nothing.write_text("", encoding="utf-8")
        finished = self._pip_compile(["--quiet", "--no-header", "--emit-index-url", str(nothing)], folder)
        option, _, address = finished.stdout.strip().partition(" ")
        return address if option == "--index-url" and finished.status == 0 else ""

    def _widened(self, function: Function, declaration: Declaration, lock: Lock, path: Path) -> str:
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
            if self._uv(pinned, function.target, (*_FORMAT, "--universal"), wider).status:
                return text
            found = {package["name"]: package for package in tomllib.loads(wider.read_text(encoding="utf-8"))["packages"]}
        document = tomllib.loads(text)
        document["packages"] = [found.get(package["name"], package) for package in document["packages"]]
        import tomli_w

        return tomli_w.dumps(document)


def _resolver_version() -> str:
    from importlib.metadata import version

    return f"uv {version('uv')}"
