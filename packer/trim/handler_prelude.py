"""What stands in the handler module's bytecode around its own code, so that the init phase takes less time.

Importing makes hundreds of thousands of objects that stay, and Python's cyclic garbage collector looks through them again and
again: it is paused until the module has been imported, and then ignores what exists by then (gc.freeze). Where a profile
says which files will be opened, a thread has the kernel read them from now on, so that the disk works while Python does.
The source is not touched, and lines of tracebacks are those of the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from builders.runtimes import TASK_FOLDER
from packer.core.bytecode_paths import pycache_path, sourceless_path
from packer.core.model import Entry, handler_sources

# By expressions alone: a name that an import leaves behind could be one of the module's own. A threshold of 0 pauses the
# collector (CPython documentation, gc.set_threshold), and leaves gc.enable and gc.disable to the function.
_PAUSE = '__lpack_threshold__ = __import__("gc").get_threshold(); __import__("gc").set_threshold(0)\n'
_RESUME = """\
if __import__("gc").get_threshold()[0] == 0:
    __import__("gc").freeze(); __import__("gc").set_threshold(*__lpack_threshold__)
del __lpack_threshold__
"""
_PREFETCH = """\
def __lpack_prefetch__(names):
    import os
    for name in names.splitlines():
        try:
            file = os.open({root!r} + name, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
        except OSError:
            pass
        finally:
            os.close(file)
__import__("_thread").start_new_thread(__lpack_prefetch__, ({names!r},))
del __lpack_prefetch__
"""


class HandlerPrelude(Struct, frozen=True, kw_only=True):
    """Statements to run before a module's own, after its docstring and future imports, and after all of its own."""

    before: str = ""
    after: str = ""

    def __bool__(self) -> bool:
        return bool(self.before or self.after)


def make_prelude(*, pause: bool, prefetch: Iterable[str]) -> HandlerPrelude:
    """Return what was asked for; ``prefetch`` are paths below the function's folder, in the order in which they are read."""
    names = "\n".join(prefetch)
    reading = _PREFETCH.format(root=f"{TASK_FOLDER}/", names=names) if names else ""
    return HandlerPrelude(before=reading + (_PAUSE if pause else ""), after=_RESUME if pause else "")


def files_to_prefetch(sizes: Mapping[str, int], opened: frozenset[str], minor: int) -> list[str]:
    """Return the files to read ahead, the largest first: what was opened, and bytecode where it was a source.

    ``sizes`` has the bytes of all files, by path.
    """
    wanted = opened | {pycache_path(path, minor) for path in opened} | {sourceless_path(path) for path in opened}
    found = [path for path in sizes if path in wanted and pycache_path(path, minor) not in sizes]
    return sorted(found, key=lambda path: (-sizes[path], path))


def handler_module(handler: str, tree: Iterable[Entry]) -> Entry | None:
    """Find the source of a handler's module; None where it is none in Python."""
    wanted = handler_sources(handler)
    return next((entry for entry in tree if entry.path in wanted), None)
