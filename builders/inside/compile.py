"""Compiles sources to bytecode: ``python compile.py INPUT ANSWER JOBS``, run by the target's Python with PYTHONHASHSEED=0.

INPUT is a folder with ``sources``, the files one after the other, and ``index``: a line with the optimization level, then for
each file its size, a space, and its path at run time; and perhaps with ``before`` and ``after``, statements that stand in the
bytecode around those of each file. ANSWER gets, in any order, for each file its number, length and CRC-32 (four bytes each,
little-endian) and the .pyc file (an unchecked hash-based one, PEP 552), empty where the source does not compile.

The bytes depend on nothing but source, path and Python, whatever was compiled before by the same process. marshal writes an
object in another way when something else refers to it, or has interned it: so every constant is referred to, the strings that
all code shares are interned beforehand, and sets, which a code object copies where a string in them is interned already, are
made anew in one order, equal ones once.
"""

from __future__ import annotations

import _imp
import gc
import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER
from binascii import crc32
from itertools import accumulate

TYPE_CHECKING = False
"""As in `typing`, which is too much to copy."""
if TYPE_CHECKING:
    import ast
    from types import CodeType

CODE = type((lambda: None).__code__)
_UNCHECKED = b"\1\0\0\0"
_MAGIC = int.from_bytes(MAGIC_NUMBER, "little")
_PLAIN = (str, bytes, int, float, complex)
_NUMBER = 4
"""Bytes of a number."""
_CRASHES = (6, 7, 11)
"""Signals of a file that crashes the compiler itself: SIGABRT, SIGBUS, SIGSEGV."""


def main(folder: str, answer: str, jobs: int) -> int:
    """Compile everything that the index lists, and return the exit status."""
    with open(folder + "/index", encoding="utf-8") as file:
        optimize = int(file.readline())
        files = [(int(size), path) for size, _, path in (line[:-1].partition(" ") for line in file)]
    around = text_of(folder + "/before"), text_of(folder + "/after")
    for single in ("", *map(chr, range(256))):
        sys.intern(single)
    gc.disable()
    job = Job(folder, answer, files, optimize, around)
    return job.run(min(jobs, len(files)))


class Job:
    """Files to compile: workers, which are forks, read numbers from one queue, and each notes the last in a slot of its own."""

    def __init__(self, folder: str, answer: str, files: list[tuple[int, str]], optimize: int, around: tuple[str, str]) -> None:
        self.files = files
        self.optimize = optimize
        self.around = around
        self.offsets = list(accumulate((size for size, _ in files), initial=0))
        self.source = os.open(folder + "/sources", os.O_RDONLY)
        self.to = os.open(answer, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        notes = "/tmp/compile" if answer.startswith("/proc/") else answer  # noqa: S108 where nobody else writes
        self.slots = os.open(notes + ".slots", os.O_RDWR | os.O_CREAT, 0o644)
        largest_first = sorted(range(len(files)), key=lambda number: -files[number][0])
        with open(notes + ".queue", "wb") as queue:
            queue.write(b"".join(map(number_of, largest_first)))
        self.queue = os.open(notes + ".queue", os.O_RDONLY)

    def run(self, workers: int) -> int:
        """Compile all files, and return the exit status."""
        running = {self.fork(slot): slot for slot in range(workers)}
        failed = 0
        while running:
            process, status = os.wait()
            slot = running.pop(process)
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) in _CRASHES:
                self.answer(os.pread(self.slots, _NUMBER, slot * _NUMBER), b"")
                running[self.fork(slot)] = slot
            elif status:
                failed = 1
        return failed

    def fork(self, slot: int) -> int:
        """Start a worker, and return its process."""
        process = os.fork()
        if process == 0:
            try:
                self.work(slot)
            except OSError as error:
                sys.stderr.write(f"{error}\n")
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        return process

    def work(self, slot: int) -> None:
        """Compile files until none is left; raises ``OSError`` where they cannot be read, or the answer not be written."""
        while taken := os.read(self.queue, _NUMBER):  # forks share the place that they read at
            check_length("the number of a file", os.pwrite(self.slots, taken, slot * _NUMBER), _NUMBER)
            number = int.from_bytes(taken, "little")
            size, path = self.files[number]
            source = os.pread(self.source, size, self.offsets[number])
            check_length("the sources", len(source), size)
            try:
                data = compile_source(source, path, self.optimize, self.around)
            except Exception:  # noqa: BLE001 what does not compile stays as it is, whatever the reason
                data = b""
            self.answer(taken, data)

    def answer(self, number: bytes, data: bytes) -> None:
        """Write the bytecode of one file at once; raises ``OSError`` where not all of it is taken.

        The rest cannot follow later: other workers write to the same end.
        """
        record = number + number_of(len(data)) + number_of(crc32(data)) + data
        check_length("the answer", os.write(self.to, record), len(record))


def check_length(what: str, found: int, length: int) -> None:
    """Check how many bytes were read or written; raises ``OSError``: a full disk may take a part without saying so."""
    if found != length:
        raise OSError(f"{what}: {found} of {length} bytes; is the disk full?")


def number_of(value: int) -> bytes:
    """Return a number as all files here hold it."""
    return value.to_bytes(_NUMBER, "little")


def text_of(path: str) -> str:
    """Read a file, which may be missing."""
    if not os.access(path, os.R_OK):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def compile_source(source: bytes, path: str, optimize: int, around: tuple[str, str] = ("", "")) -> bytes:
    """Return the .pyc file of a source, empty where its bytes could not be the same twice."""
    form = surround_module(source, path, *around) if any(around) else source
    code = replace_sets(compile(form, path, "exec", dont_inherit=True, optimize=optimize), {})
    held: list[object] = []
    if not hold_references(code, held):
        return b""
    return MAGIC_NUMBER + _UNCHECKED + _imp.source_hash(_MAGIC, source) + marshal.dumps(code)


def surround_module(source: bytes, path: str, before: str, after: str) -> ast.Module:
    """Return a module with statements before and after its own; a docstring and future imports stay first."""
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


def replace_sets(code: CodeType, made: dict[tuple[str, ...], frozenset[object]]) -> CodeType:
    """Return code whose sets are made in one order, equal ones once."""
    constants = tuple(canonical(each, made) for each in code.co_consts)
    changed = any(constants[place] is not before for place, before in enumerate(code.co_consts))
    return code.replace(co_consts=constants) if changed else code


def canonical(value: object, made: dict[tuple[str, ...], frozenset[object]]) -> object:
    """Return a constant as `replace_sets` needs it."""
    if isinstance(value, CODE):
        return replace_sets(value, made)
    if isinstance(value, frozenset):
        return made.setdefault(tuple(sorted(map(repr, value))), frozenset(sorted(value, key=repr)))
    return value


def hold_references(value: object, held: list[object]) -> bool:
    """Refer to all that a value holds; False where its order is an accident (sets with None, before Python 3.11)."""
    held.append(value)
    if isinstance(value, CODE):
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars, value.co_consts)
        held += [value.co_filename, value.co_name, getattr(value, "co_qualname", None)]
        # Not all(…) of a generator: every part must be held.
        return all([hold_references(each, held) for part in names for each in part])  # noqa: C419
    if isinstance(value, frozenset):
        ordered = sys.version_info >= (3, 11) or len(value) < 2 or all(isinstance(each, _PLAIN) for each in value)
        return ordered and all([hold_references(each, held) for each in value])  # noqa: C419
    if isinstance(value, tuple):
        return all([hold_references(each, held) for each in value])  # noqa: C419
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
