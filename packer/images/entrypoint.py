"""Checks the program and the user that an image starts with against what its base and the function have."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from builders.rootfs.record import DEFAULT_PATH
from builders.runtimes import TASK_FOLDER
from packer.core.errors import UsageError
from packer.core.model import Function, Tree
from packer.formats.image import Base
from packer.images.base_check import CheckedLayers, LayerFacts, resolve_link

_PASSWD, _GROUP = "etc/passwd", "etc/group"
_TOLD = 8
"""How many users of a base are named."""


def check_start(function: Function, base: Base, own: Iterable[tuple[str, Tree]]) -> None:
    """Check that the entrypoint and the user of the configuration exist; ``own`` are trees with the folders that they lie in.

    A base whose layers are not brought here is not looked into. Raises `UsageError`.
    """
    options, blobs = function.image, base.blobs
    brought = options.base_layers or base.home is None
    if not (options.user or options.entrypoint) or not brought or not isinstance(blobs, CheckedLayers):
        return
    layers = [blobs.seen(layer) for layer in base.manifest.layers]
    _check_user(function, base, layers)
    if options.entrypoint:
        _check_program(function, base, layers, own)


def _check_user(function: Function, base: Base, layers: Iterable[LayerFacts]) -> None:
    names = {path: known for layer in layers for path, known in layer.names.items()}  # the uppermost file is the one
    user, _, group = function.image.user.partition(":")
    for word, kind, path in ((user, "user", _PASSWD), (group, "group", _GROUP)):
        if not word or word.isdecimal() or word in names.get(path, ()):
            continue
        what = f"The image of {function.name} is to run as {function.image.user}, and its base {base.named}"
        listed = ", ".join(names.get(path, ())[:_TOLD]) or "none"
        raise UsageError(
            f"{what} has no {word} in /{path}.", remedy=f"Name a {kind} that it has ({listed}), or a number: oci.user."
        )


def _check_program(function: Function, base: Base, layers: Iterable[LayerFacts], own: Iterable[tuple[str, Tree]]) -> None:
    links: dict[str, str] = {}
    programs: set[str] = set()
    for layer in layers:
        programs |= layer.programs
        links = {**{path: to for path, to in links.items() if path not in layer.programs}, **layer.links}
    for folder, tree in own:
        programs |= {posixpath.join(folder, entry.path) for entry in tree if entry.mode & 0o111}
    word = function.image.entrypoint[0]
    if not any(resolve_link(path.strip("/"), links) in programs for path in _places(word, function, base)):
        what = f"The image of {function.name} is to start {word}, which is no program of its base {base.named} or its own."
        raise UsageError(what, remedy=f"Name one that exists (oci.entrypoint); the function's files lie in {TASK_FOLDER}.")


def _places(word: str, function: Function, base: Base) -> list[str]:
    """Return the paths where an engine looks for a program."""
    if "/" in word:
        folder = function.image.working_dir or str(base.config.run.get("WorkingDir") or TASK_FOLDER)
        return [posixpath.normpath(posixpath.join(folder, word))]
    variables = {**base.config.environment, **dict(function.image.environment)}
    return [posixpath.join(folder, word) for folder in variables.get("PATH", DEFAULT_PATH).split(":")]
