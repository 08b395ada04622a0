"""The seam of stores: one from outside works wherever the local one does, alone and under the remote one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from packer.cache.breaker import CircuitBreaker
from packer.cache.deflate import Deflater
from packer.cache.local import LocalStore
from packer.cache.objects import RemoteObjects, read_address
from packer.cache.remote import RemoteStore
from packer.cache.store import DerivedFile, SharedStore, Store
from packer.cache.wrapper import StoreWrapper
from packer.core.model import FILE_MODE, BytesContent, Entry, Tree
from packer.formats.zip_writer import write_zip
from tests.packer.sharing import KEY, Told


class RecordingStore(StoreWrapper):
    """Keeps the kinds of derived files that were asked for and not found."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.missed: list[str] = []

    def load(self, kind: str, key: str) -> DerivedFile | None:
        record = super().load(kind, key)
        if record is None:
            self.missed.append(kind)
        return record


def archive_digest(store: Store, path: Path) -> str:
    files = {"app.py": b"answer = 42\n", "data.txt": b"text " * 1000}
    tree = Tree.of(
        Entry(path=name, mode=FILE_MODE, content=BytesContent.of(data), owner="test") for name, data in files.items()
    )
    with path.open("wb") as file:
        return write_zip(tree, file, Deflater(store).span).sha256


def test_recording_store_shows_what_an_archive_compresses_anew(tmp_path):
    store = RecordingStore(LocalStore(tmp_path / "store"))
    first = archive_digest(store, tmp_path / "first.zip")
    assert store.missed == ["deflated", "deflated"]
    assert archive_digest(store, tmp_path / "second.zip") == first
    assert len(store.missed) == 2


def test_remote_store_wraps_a_store_from_outside(tmp_path):
    (tmp_path / "shared").mkdir()
    stores = [RecordingStore(LocalStore(tmp_path / name)) for name in ("one", "two")]
    payload = b"bytecode"
    for store in stores:
        line = CircuitBreaker(RemoteObjects(read_address(str(tmp_path / "shared"), tmp_path)), Told())
        with RemoteStore(store, line) as remote:
            found = remote.load("bytecode", KEY) or remote.save("bytecode", KEY, payload)
        assert hashlib.sha256(found.payload).digest() == hashlib.sha256(payload).digest()
    assert [store.missed for store in stores] == [["bytecode"], ["bytecode"]]
    # The second one found it there, and keeps it.
    assert stores[1].load("bytecode", KEY) is not None


@pytest.mark.parametrize("shared", [False, True])
def test_only_a_remote_store_exchanges_files(tmp_path, shared):
    local = RecordingStore(LocalStore(tmp_path / "store"))
    remote = RemoteStore(local, CircuitBreaker(RemoteObjects(read_address(str(tmp_path), tmp_path)), Told()))
    assert isinstance(remote if shared else local, SharedStore) is shared
    remote.close(0)
