"""What starts a runtime waits for no client: it takes in what there is, whoever else is connected and says nothing."""

from __future__ import annotations

import sys

import pytest
from msgspec.structs import replace

from tests.builders.sandbox.test_isolation import isolation, order  # noqa: F401 a fixture

START = """\
import socket, time
connect = lambda: socket.create_connection(("127.0.0.1", 9001))
silent = [connect() for _ in range(40)]
silent[-1].send(b"GET /2018-06-01/run")
one = connect()
for part in PARTS:
    one.send(part)
    time.sleep(0.05)
time.sleep(60)
"""
NEXT = [b"GET /2018-06-01/runtime/invocation", b"/next HTTP/1.1\r\nHost: x\r\n", b"\r\n"]
REPORT = [b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-", b"Length: 9\r\n\r\nit ", b"failed"]


@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize(("parts", "answer"), [(NEXT, None), (REPORT, b"it failed")], ids=["asks", "reports"])
def test_request_in_pieces_is_read_while_others_are_silent(tmp_path, isolation, parts, answer):  # noqa: F811
    python = f"/var/lang/bin/python3.{sys.version_info.minor}"
    one = order(tmp_path, "")
    ended = isolation.run(
        replace(one, command=[python, "-S", "-c", START.replace("PARTS", str(parts))], runtime=True, storage=1 << 24), 20
    )
    assert ended is not None
    assert (ended.asked, ended.late, ended.answer) == (True, False, answer), ended.output
