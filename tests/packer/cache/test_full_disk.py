"""A disk that becomes full while something is written: what it took is never kept, packed or run as if it were all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.errors import BuildError
from builders.host.strip import SandboxStrip
from builders.interpreters import find_interpreter
from builders.sandbox.host_sandbox import HostSandbox
from builders.sandbox.task import Task, TaskResult
from packer.cache.local import LocalStore
from packer.cache.store import digest_of
from packer.core.errors import StoreError
from packer.core.model import BytesContent, Entry
from tests.shaped import compiler_of
from tests.wheels import STORED, write_members

UNPACK = """\
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from packer.core.errors import StoreError
from packer.formats.unpack import unpack
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with ThreadPoolExecutor(1) as executor:
    try:
        unpack(Path(sys.argv[1]), Path(sys.argv[2]), executor)
    except StoreError as error:
        print(error)
"""
MODULE = Entry(path="one.py", mode=0o644, content=BytesContent.of(b"x = 1\n" * 2000), owner="lib-1.0-py3-none-any.whl")


def test_a_file_that_does_not_fit_is_not_unpacked_in_part(tmp_path):
    archive = write_members(tmp_path / "one.zip", {"big.bin": bytes(5000)}, method=STORED)
    done = subprocess.run(
        [sys.executable, "-c", UNPACK, archive, tmp_path / "task"], capture_output=True, text=True, check=True
    )
    assert f"Cannot write to {tmp_path / 'task'}" in done.stdout


class Small(HostSandbox):
    """A Python whose script may write ``most`` bytes to a file."""

    def __init__(self, most: int) -> None:
        found = find_interpreter(sys.version_info.minor)
        assert found is not None
        super().__init__(found)
        self._most = most

    def run(self, task: Task, work: Path) -> TaskResult:
        return super().run(replace(task, storage=0, longest=self._most), work)


@pytest.mark.parametrize("jobs", [1, 2])
def test_bytecode_that_does_not_fit_is_an_error_and_nothing_is_kept_of_it(tmp_path, jobs):
    entries = [MODULE, Entry(path="two.py", mode=0o644, content=MODULE.content, owner="other-1.0-py3-none-any.whl")]
    with pytest.raises(BuildError, match="it ended with status 1") as caught:
        compiler_of(tmp_path, jobs).compile(entries, Small(14_000), "/var/task", 0)
    assert "is the disk full?" in caught.value.detail
    made = compiler_of(tmp_path, jobs).compile(entries, Small(1 << 20), "/var/task", 0)
    assert set(made.files) == {"one.py", "two.py"}


class Cut(HostSandbox):
    """A Python whose script's answer arrives in another form."""

    def __init__(self, change: object) -> None:
        found = find_interpreter(sys.version_info.minor)
        assert found is not None
        super().__init__(found)
        self._change = change

    def run(self, task: Task, work: Path) -> TaskResult:
        done = super().run(task, work)
        assert done.answer
        return TaskResult(status=0, log=done.log, answer=self._change(done.answer))  # type: ignore[operator]


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: answer[:-1],
        lambda answer: answer[:6],
        lambda answer: answer[:100] + bytes([answer[100] ^ 1]) + answer[101:],
        lambda answer: answer + answer[:5],
    ],
    ids=["cut in the bytecode", "cut in the head", "another byte", "more"],
)
def test_an_answer_that_is_not_what_was_compiled_is_an_error(tmp_path, change):
    with pytest.raises(BuildError, match="cut short"):
        compiler_of(tmp_path, 1).compile([MODULE], Cut(change), "/var/task", 0)


class Answering:
    """A Python that gives one answer to whatever it is asked to run."""

    identity, place, path, unconfined = "one", "a place", None, ""
    starts_programs = has_packages = False
    libraries: frozenset[str] | None = None
    private: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def run(self, _task: Task, _work: Path) -> TaskResult:
        return TaskResult(status=0, log="", answer=self._answer)

    def close(self) -> None:
        pass


def record(number: int, data: bytes) -> bytes:
    return b"".join(each.to_bytes(8, "little") for each in (number, 0, len(data))) + data


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (record(0, b"abc") + record(1, b"defg")[:-1], "cut short"),
        (record(0, b"abc") + record(1, b"defg")[:20], "cut short"),
        (record(0, b"abc"), "1 of 2 files"),
    ],
)
def test_libraries_that_were_not_stripped_whole_are_not_taken(tmp_path, answer, said):
    with pytest.raises(BuildError, match=said):
        SandboxStrip(Answering(answer)).strip([b"one", b"two"], tmp_path)


@pytest.mark.parametrize("kind", ["wheel", "blob"])
def test_a_file_shorter_than_what_was_hashed_does_not_enter_the_store(tmp_path, kind):
    store = LocalStore(tmp_path)
    digest = hashlib.sha256(b"all of it").hexdigest()
    adopt = store.adopt if kind == "wheel" else store.adopt_blob
    with store.temporary() as path:
        path.write_bytes(b"all of")
        with pytest.raises(StoreError, match="6 bytes of 9"):
            adopt(path, digest, len(b"all of it"))
    assert store.wheel(digest) is None
    assert store.blob(digest) is None


def test_a_derived_file_that_was_cut_short_is_not_kept(tmp_path, monkeypatch):
    store, whole = LocalStore(tmp_path), Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: whole(path, data[:-1]))
    with pytest.raises(StoreError, match="Cannot write"):
        store.save("kind", digest_of("key"), b"payload")
    assert store.load("kind", digest_of("key")) is None
