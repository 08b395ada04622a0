"""AWS's Runtime Interface Emulator in tests: the SAM CLI's own program, and a small client in the place of awslambdaric."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builders.sandbox.emulator import VARIABLE
from tests.samcli import sam_command
from tests.shaped import ARCHITECTURE
from tests.wheels import make_wheel

_CLIENT = b'''\
"""Speaks Lambda's runtime API (AWS "Using the Lambda runtime API for custom runtimes")."""

import http.client, importlib, json, os, sys, traceback


def call(method, path, document=None):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, "/2018-06-01/runtime/" + path, None if document is None else json.dumps(document))
    response = connection.getresponse()
    return response.headers, response.read()


def error(kind):
    found = sys.exc_info()
    trace = traceback.format_tb(found[2])
    return {"errorType": kind or found[0].__name__, "errorMessage": str(found[1]), "stackTrace": trace}


module, _, name = sys.argv[1].rpartition(".")
try:
    handler = getattr(importlib.import_module(module.replace("/", ".")), name)
except ImportError:
    call("POST", "init/error", error("Runtime.ImportModuleError"))
    sys.exit(1)
while True:
    headers, event = call("GET", "invocation/next")
    place = "invocation/" + headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        result = handler(json.loads(event), None)
    except Exception:
        call("POST", place + "/error", error(""))
    else:
        call("POST", place + "/response", result)
'''


def find_sams_emulator() -> Path:
    """Give the emulator that the SAM CLI carries; skips the test where there is no SAM CLI."""
    sam = sam_command()
    environment = Path(os.path.realpath(sam)).parent.parent
    found = sorted(environment.glob(f"lib/python3.*/site-packages/samcli/local/rapid/aws-lambda-rie-{ARCHITECTURE}"))
    assert found, f"{sam} carries no emulator"
    return found[0]


def use_emulator(monkeypatch: pytest.MonkeyPatch, index_folder: Path) -> None:
    """Name the emulator that the SAM CLI carries, and add the client to an index."""
    monkeypatch.setenv(VARIABLE, str(find_sams_emulator()))
    _write_client(index_folder)


def use_no_emulator(monkeypatch: pytest.MonkeyPatch, index_folder: Path) -> None:
    """Have none be found, whatever the machine has."""
    monkeypatch.setenv(VARIABLE, "/nowhere/aws-lambda-rie")
    _write_client(index_folder)


def client_files() -> dict[str, bytes]:
    """Give the client's files."""
    return {"awslambdaric/__init__.py": b"", "awslambdaric/__main__.py": _CLIENT}


def _write_client(index_folder: Path) -> None:
    make_wheel(index_folder, "awslambdaric", "3.0.0", client_files())
