"""Ctrl-C while a server has lpack wait for another attempt: nobody sleeps on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from tests.index import Fault
from tests.monorepo import Monorepo
from tests.packer.cli.test_images import configure
from tests.packer.cli.test_interrupted import MAIN
from tests.wheels import make_wheel

PATIENCE = 10


def interrupted(repo: Monorepo, command: str, asked: Callable[[], bool]) -> str:
    """Interrupt a command when ``asked`` says that it must be waiting; give what it printed."""
    log = repo.folder / "log"
    with log.open("wb") as file:
        words = [sys.executable, "-c", MAIN, command, "-v"]
        process = subprocess.Popen(words, cwd=repo.folder, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not asked() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        assert asked(), log.read_text()
        time.sleep(1)  # until it sleeps
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    finally:
        process.kill()
        process.wait()
    return log.read_text()


def test_build_does_not_wait_for_an_index_after_ctrl_c(repo, index):
    make_wheel(index.folder, "busy", "1.0", {"busy/__init__.py": b""})
    name = "busy-1.0-py3-none-any.whl"
    index.fault(name, Fault(status=503, retry_after=60.0))
    repo.function("one", "busy")
    repo.configure("one")
    assert "Traceback" not in interrupted(repo, "build", lambda: bool(index.requests_for(name)))


@pytest.fixture
def registry() -> Iterator[tuple[str, Event]]:
    """Give a registry that has everybody come again much later, and what tells that somebody has come."""
    asked = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.send_header("Retry-After", "60")
            self.send_header("Content-Length", "0")
            self.end_headers()
            asked.set()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the parent's name for it
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_check_does_not_wait_for_a_registry_after_ctrl_c(repo, registry):
    host, asked = registry
    for name in ("one", "two"):
        repo.function(name)
    configure(repo, "one", "two", base=f"{host}/base:1")
    assert "Traceback" not in interrupted(repo, "check", asked.is_set)
