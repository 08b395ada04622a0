"""The runtime's own file system as a sandbox: it runs there, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders.errors import UnavailableError
from builders.rootfs.runtime_files import RuntimeFiles
from builders.sandbox.runtime_sandbox import RuntimeSandbox


def files(root: Path) -> RuntimeFiles:
    return RuntimeFiles(
        root=root,
        image="host.test/runtime:1",
        digest="sha256:" + "c" * 64,
        architecture="x86_64",
        python="/var/lang/bin/python3.12",
        version="3.12.7",
        packages=(),
        environment={},
    )


def knowing(refusal: str) -> Callable[..., Any]:
    """Return what knows already why this machine allows no namespaces; empty where it does."""
    return lambda _key, _form, _find: refusal


def test_machine_without_namespaces_is_no_place_for_it(tmp_path):
    with pytest.raises(UnavailableError) as caught:
        RuntimeSandbox(files(tmp_path), knowing("unshare: Operation not permitted"))
    what = "the file system of host.test/runtime:1 cannot be used on this machine (unshare: Operation not permitted)"
    assert caught.value.what == what
    assert "user namespaces" in caught.value.remedy


def test_identity_is_the_patch_release_and_the_image_whatever_the_machine(tmp_path):
    sandbox = RuntimeSandbox(files(tmp_path), knowing(""))
    assert sandbox.identity == "3.12.7 of sha256:" + "c" * 64
    assert (sandbox.place, sandbox.unconfined) == ("Python 3.12.7 of host.test/runtime:1", "")
    sandbox.close()
