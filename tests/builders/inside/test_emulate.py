from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Self

import pytest

from builders.inside import emulate

STUBBORN = """\
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def test_emulator_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(emulate, "_GRACE_SECONDS", 0.1)
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            emulate.end(process)
            assert process.returncode == -9
        finally:
            process.kill()


class Lowest:
    """A socket on a machine that gives the lowest port that is free."""

    used: set[int] = set()  # noqa: RUF012 of all

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.used.discard(self.port)

    def bind(self, _address: tuple[str, int]) -> None:
        self.port = min(set(range(5000, 5010)) - self.used)
        self.used.add(self.port)

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self.port


def test_free_ports_differ(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(emulate, "socket", SimpleNamespace(socket=Lowest))
    assert emulate.free_ports(2) == [5000, 5001]
