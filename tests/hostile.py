"""Functions that do what harms a machine, each run in a sandbox with small limits. Without pytest: any Python may run them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from msgspec import Struct

from builders.runtimes import MEGABYTE
from builders.sandbox.task import Sandbox
from tests.probing import ONE_USER_FOR_ALL, is_running, probe

_MEMORY = 96 * MEGABYTE
_STORAGE = 8 * MEGABYTE
_IMPORTS = "import ctypes, errno, mmap, os, resource, signal, subprocess, sys, time\nlibc = ctypes.CDLL(None)\n"
_FILL = "[{0}.__setitem__(at, 1) for at in range(0, 300 << 20, 4096)]\ntime.sleep(30)\n"
_REFUSED = """\
result = []
try:
    {0}
except OSError as error:
    result = [errno.errorcode[error.errno], len(made)]
"""

MEMORY_FILLERS = {
    "of its own": "it = bytearray(300 << 20)\ntime.sleep(30)\n",
    "of a process that hides": "libc.prctl(4, 0)\nit = bytearray(300 << 20)\ntime.sleep(30)\n",
    "that is shared": "it = mmap.mmap(-1, 300 << 20)\n" + _FILL.format("it"),
    "in files without names": "files = [os.memfd_create('it') for _ in range(30)]\nwhole = bytes(10 << 20)\n"
    "for file in files: os.write(file, whole)\ntime.sleep(30)\n",
    "in files without names of a process that hides": "libc.prctl(4, 0)\nfiles = [os.memfd_create('it') for _ in range(30)]\n"
    "whole = bytes(10 << 20)\nfor file in files: os.write(file, whole)\ntime.sleep(30)\n",
    "in segments that nobody has mapped": "libc.shmat.restype = ctypes.c_void_p\nfor _ in range(30):\n"
    "    place = libc.shmat(libc.shmget(0, ctypes.c_size_t(10 << 20), 0o1600), None, 0)\n"
    "    ctypes.memset(place, 1, 10 << 20); libc.shmdt(ctypes.c_void_p(place))\ntime.sleep(30)\n",
    "of many processes": "for _ in range(30):\n    if not os.fork(): it = bytearray(10 << 20); break\nsignal.pause()\n",
}
HANDLERS = {
    **{f"memory {name}": code for name, code in MEMORY_FILLERS.items()},
    "disk": "made = []\n"
    + _REFUSED.format("while True: made.append(open(f'/tmp/{len(made)}', 'wb', 0).write(bytes(1 << 20)))"),
    "names": "made = []\n" + _REFUSED.format("while True: os.mkdir(f'/tmp/{len(made)}'); made.append(0)"),
    "processes": "made = []\n"
    + _REFUSED.format("while True: made.append(os.posix_spawn('/bin/sleep', ['sleep', 'MARK'], {}))"),
    "daemon": "result = 'left'\nread, write = os.pipe()\nif not os.fork():\n    os.setsid()\n    if not os.fork():\n"
    "        for each in range(1, 32): each in (9, 19) or signal.signal(each, signal.SIG_IGN)\n"
    "        os.chdir('/'); os.set_inheritable(write, True); os.closerange(0, write)\n"
    "        os.execv(sys.executable, [sys.executable, '-c', f'import os, time; os.close({write}); time.sleep(MARK)'])\n"
    "    os._exit(0)\nos.close(write); os.read(read, 1)\n",
    "stops others": "result = 'went on'\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(MARK)'])\n"
    "for each in range(1, 100):\n    if each != os.getpid():\n        try: os.kill(each, signal.SIGSTOP)\n"
    "        except ProcessLookupError: pass\n",
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)\n",
    "never ends": "[signal.signal(each, signal.SIG_IGN) for each in (1, 2, 15)]\nwhile True: pass\n",
    "computes beside": "if not os.fork():\n    os.setsid()\n    while True: pass\ntime.sleep(MARK)\n",
    "prints": "result = 'printed'\nfor _ in range(100): os.write(1, bytes(1 << 20))\n",
    "closes its answer": "os.close(3)\n",
    "answers elsewhere": "read, write = os.pipe(); os.dup2(write, 3)\n",
}
TIMELESS = ("stops itself", "never ends", "computes beside")
LIMITS: dict[str, dict[str, Any]] = {
    **{f"memory {name}": {"memory": _MEMORY, "seconds": 20.0} for name in MEMORY_FILLERS},
    **{name: {"seconds": 0.6} for name in TIMELESS},
}


class Ending(Struct, frozen=True, kw_only=True):
    """How a run has ended: as its `TaskResult` says, by the length of its log, and whether something of it runs on."""

    status: int
    late: bool
    memory: int
    answer: str
    log: int
    left: bool


def run_all(python: Sandbox, folder: Path) -> dict[str, Ending]:
    """Run all of them, one after the other, and return how each has ended."""
    found = {}
    for number, (name, code) in enumerate(HANDLERS.items()):
        if name == "processes" and ONE_USER_FOR_ALL:
            continue
        mark = f"7{random.randrange(10**9)}"  # noqa: S311 seconds to sleep, in the command line of what should have ended
        handler = f"{_IMPORTS}result = None\n{code}def handler(event, context): return result\n".replace("MARK", mark)
        limits = {"storage": _STORAGE, "memory": 1 << 30, "seconds": 30.0, **LIMITS.get(name, {})}
        done = probe(python, folder / str(number), "", handler=handler, **limits)
        found[name] = Ending(
            status=done.status,
            late=done.late,
            memory=done.memory,
            answer=(done.answer or b"").decode(),
            log=len(done.log),
            left=is_running(mark),
        )
    return found
