"""Runs a handler in AWS's Runtime Interface Emulator: ``python emulate.py REQUEST.json ANSWER.json ROOT LATE``.

Request and answer are those of probe.py, but for ``emulator``, the path of the program, and ``milliseconds``, which are those
of the whole init phase as the emulator tells them. LATE has the runtime interface client. Without events, an empty one is sent
for there to be an init phase, and its outcome is not told.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

_REPORT = re.compile(rb"INIT REPORT\(durationMs: ([0-9.]+)")
_IMPORT_ERRORS = ("Runtime.ImportModuleError", "Runtime.HandlerNotFound", "Runtime.UserCodeSyntaxError")
_PATH = "/2015-03-31/functions/function/invocations"
_PATIENCE = 20.0
_LONGEST = 600.0


def main(request_path: str, answer_path: str, root: str, late: str) -> int:
    """Start the emulator, send the events, and write down what came of them."""
    with open(request_path, encoding="utf-8") as file:
        request = json.load(file)
    port, other = free_port(), free_port()
    addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{other}"]
    runtime = [sys.executable, "-s", "-S", "-B", "-m", "awslambdaric", request["handler"]]
    environment = {**os.environ, "PYTHONPATH": late}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [request["emulator"], *addresses, *runtime], cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            events = request["events"]
            outcomes = [outcome(port, process, event) for event in events or [{}]]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_PATIENCE)
        log.seek(0)
        told = log.read()
    sys.stdout.write(told.decode("utf-8", "replace"))
    found = _REPORT.search(told)
    error = outcomes[0].get("error", {})
    answer = {
        "import": {"error": error} if error.get("type") in _IMPORT_ERRORS else {"result": None},
        "events": outcomes if events and error.get("type") not in _IMPORT_ERRORS else [],
        "milliseconds": float(found.group(1)) if found else 0.0,
    }
    with open(answer_path, "w", encoding="utf-8") as file:
        json.dump(answer, file)
    return 0


def free_port() -> int:
    """Give a port of this machine that nothing listens to."""
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        port: int = any_socket.getsockname()[1]
        return port


def outcome(port: int, process: subprocess.Popen[bytes], event: Any) -> dict[str, Any]:
    """Send an event, as soon as the emulator listens; give what came of it."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LONGEST)
        try:
            connection.request("POST", _PATH, json.dumps(event).encode())
            text = connection.getresponse().read()
            break
        except (ConnectionRefusedError, ConnectionResetError):
            if process.poll() is not None or time.monotonic() > deadline:
                return {"error": {"type": "Emulator", "message": "the emulator does not answer", "trace": ""}}
            time.sleep(0.01)
        finally:
            connection.close()
    try:
        result = json.loads(text) if text else None
    except ValueError:
        return {"error": {"type": "Emulator", "message": text.decode("utf-8", "replace"), "trace": ""}}
    if isinstance(result, dict) and {"errorType", "errorMessage"} <= set(result):
        trace = "".join(result.get("stackTrace") or [])
        return {"error": {"type": result["errorType"], "message": result["errorMessage"], "trace": trace}}
    return {"result": result}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
