"""Programs that distributions declare as console scripts, as installers make them (PyPA, "Entry points specification")."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from posixpath import relpath

from msgspec import Struct

from builders.runtimes import LANG_FOLDER, LAYERS_MOUNT, LAYERS_PYTHON, TASK_FOLDER, Target
from packer.core.function_tree import Part
from packer.core.model import EXECUTABLE_MODE, OWN_SOURCE, BytesContent, Entry, Function

PROGRAMS = "bin"
"""The folder of programs in a function, and in a layer, where it is on PATH (AWS, "Packaging your layer content")."""
_ENTRY_POINTS = re.compile(r"^[^/]+\.dist-info/entry_points\.txt$")
_SECTION = re.compile(r"^\[\s*(.+?)\s*\]$")
_SCRIPT = re.compile(
    r"^(?P<name>\w[\w.-]*)\s*=\s*(?P<module>[A-Za-z_][\w.]*)\s*:\s*(?P<attribute>[A-Za-z_][\w.]*)\s*(?:\[.*\])?$"
)
_TEXT = """\
#!{python}
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "{packages}")))
from {module} import {name}

if __name__ == "__main__":
    sys.exit({attribute}())
"""


class LauncherStyle(Struct, frozen=True, kw_only=True):
    """How launchers find what they run: the interpreter, and the folder of packages as seen from that of the programs."""

    python: str
    packages: str

    @classmethod
    def of_function(cls, function: Function) -> LauncherStyle:
        """Return the style of launchers in a function's own package; an image may have its Python anywhere on PATH."""
        name = function.target.runtime.name
        python = f"/usr/bin/env {name}" if function.image.wanted and function.image.base else _interpreter(function.target)
        return cls(python=python, packages=relpath(TASK_FOLDER, f"{TASK_FOLDER}/{PROGRAMS}"))

    @classmethod
    def of_layer(cls, target: Target) -> LauncherStyle:
        """Return the style of launchers in a layer, whose programs lie beside its folder of packages."""
        return cls(python=_interpreter(target), packages=relpath(LAYERS_PYTHON, f"{LAYERS_MOUNT}/{PROGRAMS}"))


def _interpreter(target: Target) -> str:
    return f"{LANG_FOLDER}/bin/{target.runtime.name}"


def make_launchers(parts: Sequence[Part], style: LauncherStyle, taken: Collection[str] = ()) -> tuple[Entry, ...]:
    """Return the launchers of all parts but the function's own source, at paths that are not ``taken``.

    Where two declare one program, the first one has it. Raises what reading an entry raises.
    """
    held = set(taken)
    if PROGRAMS in held:  # a file
        return ()
    made: list[Entry] = []
    for name, tree in parts:
        for entry in tree if name != OWN_SOURCE else ():
            for program, content in _launchers(entry, style):
                path = f"{PROGRAMS}/{program}"
                if path not in held:
                    held.add(path)
                    made.append(Entry(path=path, mode=EXECUTABLE_MODE, content=content, owner=entry.owner))
    return tuple(made)


def _launchers(entry: Entry, style: LauncherStyle) -> Iterator[tuple[str, BytesContent]]:
    """Return the programs that a file of entry points declares, and the text of each."""
    if not _ENTRY_POINTS.match(entry.path):
        return
    section = ""
    for line in entry.content.read().decode("utf-8", "replace").splitlines():
        head = _SECTION.match(line.strip())
        section = head[1] if head else section
        found = _SCRIPT.match(line.strip()) if section == "console_scripts" else None
        if found:
            module, attribute = found["module"], found["attribute"]
            text = _TEXT.format(
                python=style.python,
                packages=style.packages,
                module=module,
                name=attribute.partition(".")[0],
                attribute=attribute,
            )
            yield found["name"], BytesContent.of(text.encode())
