"""Runs a command and measures it: wall and CPU seconds, and the memory of its whole process tree."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

_PAGE = os.sysconf("SC_PAGE_SIZE")
_INTERVAL = 0.004
_SHARE = 20
"""PSS walks page tables, which takes milliseconds; it is read again only after this many times as long."""
_TAIL = 2_000


class Sample(Struct, frozen=True, kw_only=True):
    """What a command took: seconds and bytes.

    ``largest_process`` is the kernel's own peak resident set of the largest process (wait4's ru_maxrss). ``tree_rss`` and
    ``tree_pss`` are the peaks of the sums over all processes alive at one moment; pages that two processes share count
    twice in the first and once in the second.
    """

    wall: float
    user: float
    system: float
    largest_process: int
    tree_rss: int = 0
    tree_pss: int = 0
    steps: tuple[tuple[str, float], ...] = ()
    """The wall seconds of each command that was added up."""

    @property
    def cpu(self) -> float:
        return self.user + self.system

    @property
    def memory(self) -> int:
        """The peak of the tree; the kernel's figure stands in where the tree was too short-lived to be sampled."""
        return max(self.tree_rss, self.largest_process)

    def then(self, other: Sample) -> Sample:
        """Give the sample of both commands, one after the other."""
        return Sample(
            wall=self.wall + other.wall,
            user=self.user + other.user,
            system=self.system + other.system,
            largest_process=max(self.largest_process, other.largest_process),
            tree_rss=max(self.tree_rss, other.tree_rss),
            tree_pss=max(self.tree_pss, other.tree_pss),
            steps=(*self.steps, *other.steps),
        )

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "cpu": self.cpu, "memory": self.memory}


class CommandFailedError(Exception):
    """A command could not be started, or ended with another ``status`` than 0; the text has the end of its output."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


def measure(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, *, watch: bool = True) -> Sample:
    """Run a command to its end with its output in ``log``; ``watch`` samples the process tree's memory as well."""
    with log.open("wb") as output:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(
                list(command), cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        except OSError as error:
            raise CommandFailedError(f"{command[0]}: {error.strerror}") from error
        sampler = _Sampler(process.pid) if watch else None
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
    # Popen must not wait for a process that wait4 has already collected.
    process.returncode = os.waitstatus_to_exitcode(status)
    sample = Sample(
        wall=wall,
        user=usage.ru_utime,
        system=usage.ru_stime,
        largest_process=usage.ru_maxrss * 1024,
        steps=((Path(command[0]).name, wall),),
    )
    if sampler is not None:
        sampler.stop()
        sample = replace(sample, tree_rss=sampler.rss, tree_pss=sampler.pss)
    if process.returncode:
        tail = log.read_text(errors="replace")[-_TAIL:].strip()
        raise CommandFailedError(f"`{' '.join(command)}` ended with status {process.returncode}:\n{tail}", process.returncode)
    return sample


class _Sampler:
    """Watches a process tree in a thread until `stop`."""

    def __init__(self, root: int) -> None:
        self.rss = 0
        self.pss = 0
        self._rested = 0.0
        self._root = root
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL):
            members = tuple(tree_of(self._root))
            rss = sum(map(_rss, members))
            self.rss = max(self.rss, rss)
            # PSS is never more than RSS, so it is read only where it could be a new peak.
            if rss > self.pss and time.perf_counter() >= self._rested:
                began = time.perf_counter()
                self.pss = max(self.pss, sum(map(_pss, members)))
                self._rested = time.perf_counter() + _SHARE * (time.perf_counter() - began)


def tree_of(root: int) -> Iterator[int]:
    """Give the process ids of a process and all its descendants that are alive."""
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        with suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with suppress(OSError):
                    waiting.extend(map(int, _read(f"/proc/{pid}/task/{task}/children").split()))


def _rss(pid: int) -> int:
    with suppress(OSError):
        return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE
    return 0


def _pss(pid: int) -> int:
    with suppress(OSError):
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _read(path: str) -> bytes:
    # Half the time of open(): these files are read thousands of times while others are being measured.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 65_536)
    finally:
        os.close(descriptor)
