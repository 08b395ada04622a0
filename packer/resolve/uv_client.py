"""Asks uv: `uv pip compile` for a target, with the user's own settings and logins, and few questions at a time."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Semaphore

from builders.once import Once
from builders.runtimes import Target
from packer.core.process import ProcessResult, Run, uv_command
from packer.net.credentials import Credentials, index_urls, index_variables
from packer.resolve.declaration import Declaration
from packer.resolve.uv_settings import configured_indexes, has_settings

# uv's allocator keeps what it has freed for a while; this lets go at once: 55 MB instead of 90 for boto3's index page, in the
# same time. With two at a time a build of many functions stays under 150 MB.
_ALLOCATOR = ("_RJEM_MALLOC_CONF", "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0")
_PARALLEL = 2
# How long PyPI lets its pages and its files be kept (the Cache-Control of its answers). Proxies between often leave that out,
# and then each of many functions asks for every page again.
_KEPT = '{ api = "max-age=600", files = "max-age=365000000, immutable" }'
AS_PYLOCK = ("--format", "pylock.toml")
"""Words by which uv answers with a lock."""
# Options of a requirements file that name no place to look in.
_NO_PLACES = ("--no-binary", "--only-binary", "--pre", "--prefer-binary")
NO_SOLUTION = 1  # uv's exit status when the requirements contradict each other; 2 stands for everything else


class UvClient:
    """Runs uv's resolver; may be used from many threads.

    ``offline`` has uv use its cache alone, ``upgrade`` has it forget what it resolved and fetched before.
    """

    def __init__(self, run: Run, credentials: Credentials, *, offline: bool, upgrade: bool) -> None:
        self._run = run
        self._credentials = credentials
        self.offline = offline
        self._upgrade = upgrade
        self._running = Semaphore(_PARALLEL)
        self._default_index: Once[str, str] = Once()

    def ask(self, declaration: Declaration, target: Target, into: Path, words: tuple[str, ...] = AS_PYLOCK) -> ProcessResult:
        """Ask for the first of the target's platforms that has a solution, with more ``words`` on uv's command line.

        uv writes its answer ``into`` a file, and prefers the versions that the file already holds.
        """
        self.learn_indexes(declaration.folder, declaration.index_urls)
        for platform in target.resolver_platforms:
            finished = self.ask_for_platform(declaration, target, (*words, "--python-platform", platform), into)
            if finished.status != NO_SOLUTION:
                break
        return finished

    def ask_for_platform(self, declaration: Declaration, target: Target, words: tuple[str, ...], into: Path) -> ProcessResult:
        """Ask once; the platform is among the ``words``."""
        arguments = ["--quiet", "--no-header", "--python-version", target.python_version, *words, "--output-file", str(into)]
        # Where an answer may lie already when everything is to be upgraded, it holds what must be kept all the same.
        renewing = "--refresh" if into.is_file() else "--upgrade"
        arguments += [flag for flag, wanted in (("--offline", self.offline), (renewing, self._upgrade)) if wanted]
        arguments += [*declaration.constraint_words(into.parent), *self._page_cache_words(declaration, into.parent)]
        with declaration.input_file(into.parent) as path, self._running:
            return self._pip_compile([*arguments, *declaration.arguments, str(path)], declaration.folder)

    def _pip_compile(self, arguments: Sequence[str], folder: Path) -> ProcessResult:
        variables = index_variables(os.environ)
        variables.setdefault(*_ALLOCATOR)
        if shutil.which("keyring"):
            variables["UV_KEYRING_PROVIDER"] = os.environ.get("UV_KEYRING_PROVIDER", "subprocess")
        command = [uv_command(), "pip", "compile", "--color", "never", "--python", sys.executable, "--no-python-downloads"]
        return self._run([*command, *arguments], folder, variables)

    def _page_cache_words(self, declaration: Declaration, folder: Path) -> tuple[str, ...]:
        """Return uv's options for keeping PyPI's pages as long as PyPI allows, by means of a file in ``folder``.

        Only a configuration file can say it, and that would take the place of the user's own: where there is one, or another
        index, uv's own ways hold.
        """
        elsewhere = any(not line.startswith(_NO_PLACES) for line in declaration.option_lines)
        if self._upgrade or elsewhere or has_settings(declaration.folder, os.environ):
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

    def scrub(self, text: str) -> str:
        """Return a text without the logins that are known."""
        return self._credentials.scrub(text)

    def learn_indexes(self, folder: Path, urls: tuple[str, ...]) -> None:
        """Remember the logins of the indexes that a folder's settings, the environment and ``urls`` name."""
        for name, url in (*index_urls(os.environ), *configured_indexes(folder), *(("", url) for url in urls)):
            self._credentials.learn(url, name)
