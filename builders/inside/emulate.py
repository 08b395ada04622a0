"""Runs a handler in AWS's Runtime Interface Emulator: ``python emulate.py REQUEST.json ANSWER.json ROOT LATE LAYERS PROGRAM``.

Request and answer are those of probe.py, but for ``milliseconds``: those of the whole init phase, as the emulator reports them.
PROGRAM is the emulator. LATE has the runtime interface client; where the request has a ``command``,
that is what the emulator starts instead, as an image would, with the image's own ``variables``. Without events, an empty one is
sent for there to be an init phase, and its outcome is not told.
"""

from __future__ import annotations

import contextlib
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

TASK, LAYERS = "/var/task", "/opt"
_REPORT = re.compile(rb"INIT REPORT\(durationMs: ([0-9.]+)")
_STATUS = re.compile(rb"INIT RTDONE\(status: (\w+)")
_NOT_STARTED = "Runtime.InvalidEntrypoint"
_REQUEST = re.compile(r"^RequestId: \S+ Error: ")
"""What the emulator puts before its own messages: another one each time."""
_IMPORT_ERRORS = ("Runtime.ImportModuleError", "Runtime.HandlerNotFound", "Runtime.UserCodeSyntaxError")
_PATH = "/2015-03-31/functions/function/invocations"
_GRACE_SECONDS = 20.0
_LONGEST = 600.0


def main(request_path: str, answer_path: str, root: str, late: str, layers: str, program: str) -> int:
    """Start the emulator, send the events, and write down what came of them."""
    with open(request_path, encoding="utf-8") as file:
        request = json.load(file)
    port, other = free_ports(2)
    addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{other}"]
    runtime = request.get("command") or [sys.executable, "-s", "-S", "-B", "-m", "awslambdaric", request["handler"]]
    folders = [f"{layers}/{each}" for each in request["packages"] if layers]
    own = request["variables"] if "command" in request else {"PYTHONPATH": os.pathsep.join((*folders, late))}
    environment = {name: value for name, value in {**os.environ, **own}.items() if name not in request.get("unset", ())}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [program, *addresses, *runtime], cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            events = request["events"]
            outcomes = [outcome(port, process, event, request["longest"]) for event in events or [{}]]
        finally:
            end(process)
        log.seek(0)
        told = log.read()
    sys.stdout.write(told.decode("utf-8", "replace"))
    found = _REPORT.search(told)
    error = init_error(outcomes[0].get("error"), told)
    if not error and not found:
        error = {"type": "Runtime.NoReport", "message": "the emulator does not say how long the init phase took", "trace": ""}
    answer = {
        "import": {"error": error} if error else {"result": None},
        "events": outcomes if events and not error else [],
        "milliseconds": float(found.group(1)) if found else 0.0,
    }
    with open(answer_path, "w", encoding="utf-8") as file:
        file.write(as_on_lambda(json.dumps(answer), root, layers))
    return 0


def as_on_lambda(text: str, root: str, layers: str) -> str:
    """Return a text in JSON with Lambda's paths in the place of the folders that stand for them, as probe.py does."""
    places = [(root, TASK), *([(layers, LAYERS)] if layers else [])]
    for folder, place in sorted(places, key=lambda each: -len(each[0])):
        text = text.replace(json.dumps(folder)[1:-1], place)
    return text


def init_error(first: dict[str, str] | None, told: bytes) -> dict[str, str] | None:
    """Return what ended the init phase; None where it went well. ``first`` is the error of the first event, if any.

    An init phase that fails is begun again with the first event, and if that fails too, the emulator answers with nothing.
    """
    if first and first["type"] in _IMPORT_ERRORS:
        return first
    statuses = _STATUS.findall(told)
    if not statuses or statuses[-1] == b"success":
        return None
    kind, message = "Runtime.ExitError", "the runtime ended before the handler was there"
    if _NOT_STARTED.encode() in told:
        kind, message = _NOT_STARTED, "what is to start the runtime cannot be started"
    return first or {"type": kind, "message": message, "trace": told.decode("utf-8", "replace")}


def free_ports(count: int) -> list[int]:
    """Return different ports of this machine that nothing listens to."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and kill it if it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def outcome(port: int, process: subprocess.Popen[bytes], event: Any, longest: int) -> dict[str, Any]:
    """Send an event as soon as the emulator listens, and return the outcome; a result has at most ``longest`` bytes."""
    deadline = time.monotonic() + _GRACE_SECONDS
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
    if len(text) > longest:
        message = f"a result of {len(text):,} bytes"
        return {"error": {"type": "Function.ResponseSizeTooLarge", "message": message, "trace": ""}}
    try:
        result = json.loads(text) if text else None
    except ValueError:
        return {"error": {"type": "Emulator", "message": text.decode("utf-8", "replace"), "trace": ""}}
    if isinstance(result, dict) and {"errorType", "errorMessage"} <= set(result):
        trace = "".join(result.get("stackTrace") or [])
        message = _REQUEST.sub("", result["errorMessage"])
        return {"error": {"type": result["errorType"], "message": message, "trace": trace}}
    return {"result": result}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
