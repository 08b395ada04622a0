"""This machine's Python where it allows private namespaces, and where it does not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from builders.sandbox.host_sandbox import HostSandbox
from tests.probing import host, probe, refuse_namespaces


@pytest.fixture(scope="session")
def confined() -> None:
    """Skip a test where the machine does not allow private namespaces."""
    with tempfile.TemporaryDirectory() as folder:
        python = host()
        probe(python, Path(folder))
        if python.unconfined:
            pytest.skip("needs a machine that allows private namespaces")


@pytest.fixture(params=["confined", "plain"])
def either(request, monkeypatch) -> HostSandbox:
    """A Python on a machine that allows namespaces, and on one that does not."""
    if request.param == "confined":
        request.getfixturevalue("confined")
    else:
        refuse_namespaces(monkeypatch)
    return host()
