"""The runtime's own file system as a sandbox: it runs there, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from builders.errors import BuildError, UnavailableError
from builders.rootfs.record import RECORD, ROOT, describe_root
from builders.rootfs.runtime_files import RuntimeFiles
from builders.sandbox.runtime_sandbox import RuntimeSandbox
from builders.sandbox.task import Task


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
    """Return what knows already why this machine allows no namespaces, empty where it does, and finds out all else anew."""
    return lambda key, _form, find: refusal if key.startswith("overlay") else find()


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


def unpacked(folder: Path) -> RuntimeFiles:
    """Lay out an unpacked image with its record."""
    found = files(folder / ROOT)
    (found.root / "usr/lib").mkdir(parents=True)
    (found.root / "usr/lib/module.py").write_text("one")
    (folder / RECORD).write_bytes(describe_root(found.root, found.digest, "x86_64", {}).encode())
    return found


def test_nothing_runs_in_a_file_system_that_has_changed_however_its_times_look(tmp_path):
    found = unpacked(tmp_path)
    changed = found.root / "usr/lib/module.py"
    before = changed.stat()
    changed.write_text("two")
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    sandbox = RuntimeSandbox(found, knowing(""))
    with pytest.raises(BuildError, match="is no longer what was pulled") as caught:
        sandbox.run(Task(script="probe.py", arguments=(), inputs=tmp_path), tmp_path / "work")
    assert "`lpack runtime pull`" in caught.value.remedy
    sandbox.close()


def test_all_of_a_file_system_is_read_once_and_again_after_a_change(tmp_path):
    found, known, read = unpacked(tmp_path), dict[str, str](), list[str]()

    def remember(key: str, _form: type, find: Callable[[], Any]) -> Any:
        if key.startswith("overlay"):
            return ""
        if key not in known:
            read.append(key)
            known[key] = find()
        return known[key]

    def check() -> int:
        sandbox = RuntimeSandbox(found, remember)
        sandbox._check()
        sandbox.close()
        return len(read)

    assert (check(), check()) == (1, 1)
    os.utime(found.root / "usr/lib/module.py")  # another time in nanoseconds, of the same second or not
    with suppress(BuildError):
        check()
    assert len(read) == 2
