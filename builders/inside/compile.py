"""Compiles sources to bytecode: ``python compile.py INPUT ANSWER JOBS``, run by the target's Python with PYTHONHASHSEED=0.

INPUT is a folder with ``sources``, the files one after the other, and ``index``: a line with the optimisation level, then for
each file its size, a space, and its path at run time; and perhaps with ``before`` and ``after``, statements that stand in the
bytecode around those of each file. ANSWER gets, in any order, for each file its number and length (four
bytes each, little-endian) and the .pyc file (an unchecked hash-based one, PEP 552), empty where the source does not compile.

The bytes depend on nothing but source, path and Python. marshal writes an object in another way when something else in the
process refers to it, or has interned it: so each file is compiled in a fork of the same clean process, and every constant is
referred to. As little as can be is imported here, for each fork copies it.
"""

from __future__ import annotations

import _imp
import gc
import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
"""As in `typing`, which is too much to copy."""
if TYPE_CHECKING:
    import ast

CODE = type((lambda: None).__code__)
_UNCHECKED = b"\1\0\0\0"
_MAGIC = int.from_bytes(MAGIC_NUMBER, "little")
_PLAIN = (str, bytes, int, float, complex)
_CRASHES = (6, 7, 11)
"""Signals of a file that crashes the compiler itself: SIGABRT, SIGBUS, SIGSEGV."""


def main(folder: str, answer: str, jobs: int) -> int:
    """Compile everything that the index lists; give the exit status."""
    with open(folder + "/index", encoding="utf-8") as file:
        optimize = int(file.readline())
        files = [(int(size), path) for size, _, path in (line[:-1].partition(" ") for line in file)]
    around = text_of(folder + "/before"), text_of(folder + "/after")
    source = os.open(folder + "/sources", os.O_RDONLY)
    to = os.open(answer, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    compile("", "", "exec")  # the compiler's own tables, once and not in every fork
    gc.disable()
    gc.freeze()
    offset = 0
    running: dict[int, int] = {}
    for number, (size, path) in enumerate(files):
        if len(running) >= jobs:
            wait(running, to)
        process = os.fork()
        if process == 0:
            try:
                data = compiled(os.pread(source, size, offset), path, optimize, around)
            except Exception:  # noqa: BLE001 what does not compile stays as it is, whatever the reason
                data = b""
            os.write(to, head(number, len(data)) + data)
            os._exit(0)
        running[process] = number
        offset += size
    while running:
        wait(running, to)
    return 0


def text_of(path: str) -> str:
    """Read a file, which may be missing."""
    if not os.access(path, os.R_OK):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def head(number: int, length: int) -> bytes:
    """Give what stands before a file's bytecode."""
    return number.to_bytes(4, "little") + length.to_bytes(4, "little")


def wait(running: dict[int, int], to: int) -> None:
    """Wait for one fork; a file that crashes the compiler itself does not compile either."""
    process, status = os.wait()
    number = running.pop(process)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in _CRASHES:
        os.write(to, head(number, 0))


def compiled(source: bytes, path: str, optimize: int, around: tuple[str, str] = ("", "")) -> bytes:
    """Give the .pyc file of a source, empty where its bytes could not be the same twice."""
    form = surrounded(source, path, *around) if any(around) else source
    code = compile(form, path, "exec", dont_inherit=True, optimize=optimize)
    held: list[object] = []
    if not hold(code, held):
        return b""
    return MAGIC_NUMBER + _UNCHECKED + _imp.source_hash(_MAGIC, source) + marshal.dumps(code)


def surrounded(source: bytes, path: str, before: str, after: str) -> ast.Module:
    """Give a module with statements before and after its own; a docstring and future imports stay first."""
    import ast

    module = ast.parse(source, path)
    first = 0
    while first < len(module.body):
        node = module.body[first]
        docstring = not first and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not docstring and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        first += 1
    last = module.body[-1].end_lineno or 1 if module.body else 1
    added = []
    for text, line in ((before, module.body[first].lineno if first < len(module.body) else last), (after, last)):
        statements = ast.parse(text).body
        for statement in statements:
            for each in ast.walk(statement):
                vars(each).update({name: line for name in ("lineno", "end_lineno") if hasattr(each, name)})
        added.append(statements)
    module.body = [*module.body[:first], *added[0], *module.body[first:], *added[1]]
    return module


def hold(value: object, held: list[object]) -> bool:
    """Refer to all that a value holds; False where its order is an accident (sets with None, before Python 3.11)."""
    held.append(value)
    if isinstance(value, CODE):
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars, value.co_consts)
        held += [value.co_filename, value.co_name, getattr(value, "co_qualname", None)]
        # Not all(…) of a generator: every part must be held.
        return all([hold(each, held) for part in names for each in part])  # noqa: C419
    if isinstance(value, frozenset):
        ordered = sys.version_info >= (3, 11) or len(value) < 2 or all(isinstance(each, _PLAIN) for each in value)
        return ordered and all([hold(each, held) for each in value])  # noqa: C419
    if isinstance(value, tuple):
        return all([hold(each, held) for each in value])  # noqa: C419
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
