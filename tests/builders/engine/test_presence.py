"""Asking a local engine for an image without its client: what cannot be there is said at once, and nothing else is decided."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from builders.engine.presence import check_presence
from builders.errors import UnavailableError
from builders.runtimes import Target
from tests.engine import RUNTIME_IMAGE, need_engine

TARGET = Target.of("python3.11", "x86_64")


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """Answer one request on a socket, whatever it is; gives what was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(1 << 16))
                connection.sendall(answer)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        thread.join(10)


@pytest.mark.parametrize(
    ("status", "missing"), [("200 OK", False), ("404 Not Found", True), ("500 Oh", False), ("garbage", False)]
)
def test_only_an_answer_that_there_is_none_counts(tmp_path, monkeypatch, status, missing):
    path = tmp_path / "engine.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with answering(path, f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as asked:
        if missing:
            with pytest.raises(UnavailableError, match=r"the engine does not have the image a/b:1 for x86_64"):
                check_presence("a/b:1", TARGET)
        else:
            check_presence("a/b:1", TARGET)
    assert asked[0].startswith(b"GET /images/a/b%3A1/json HTTP/1.0\r\n")


def test_engine_that_is_away_is_an_error_of_the_same_words_as_the_clients(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(UnavailableError, match=r"no container engine answers at unix://.*none\.sock \(No such file"):
        check_presence("a/b:1", TARGET)


@pytest.mark.parametrize(
    "variables", [{"DOCKER_HOST": "tcp://host.test:2375"}, {"DOCKER_HOST": "", "DOCKER_CONTEXT": "elsewhere"}]
)
def test_engine_elsewhere_is_left_to_the_client(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check_presence("a/b:1", TARGET)


def test_context_of_dockers_settings_is_left_to_the_client(tmp_path, monkeypatch):
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text('{"currentContext": "elsewhere"}')
    check_presence("a/b:1", TARGET)


def test_user_without_a_home_folder_has_no_context(monkeypatch):
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    monkeypatch.setattr("builders.engine.presence.ENGINE_SOCKETS", ("/nowhere/engine.sock",))
    with pytest.raises(UnavailableError, match="no container engine answers"):
        check_presence("a/b:1", TARGET)


@pytest.mark.docker
def test_image_of_the_real_engine_is_there_and_another_is_not():
    need_engine(RUNTIME_IMAGE)
    check_presence(RUNTIME_IMAGE, TARGET)
    with pytest.raises(UnavailableError):
        check_presence("lpack-test/absent:1", TARGET)
