"""Packs: what lpack made itself, ready compressed in the store, read by zlib as by lpack."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packer.cache.bundles import PackedContent, load_pack, save_pack
from packer.cache.local import LocalStore
from packer.cache.store import Store, digest_of
from packer.core.errors import StoreError
from packer.core.model import DEFLATED, Span

KEY = digest_of("one")


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Store:
    return LocalStore(tmp_path_factory.mktemp("packs"))


def bytes_at(span: Span) -> bytes:
    return span.path.read_bytes()[span.offset : span.offset + span.length]


@settings(max_examples=100, deadline=None)
@given(
    files=st.dictionaries(st.text(), st.binary(max_size=2000) | st.binary(max_size=10).map(lambda data: data * 500), max_size=6)
)
def test_what_is_packed_comes_back_and_is_a_stream_that_zlib_reads(shared, files):
    saved = save_pack(shared, "demo", KEY, files.items())
    assert load_pack(shared, "demo", KEY) == saved
    assert {name: content.read() for name, content in saved.items()} == files
    for name, content in saved.items():
        data, span = files[name], content.span()
        assert span is not None
        assert (span.method, span.size, span.crc32) == (DEFLATED, len(data), zlib.crc32(data))
        reader = zlib.decompressobj(-15)
        assert reader.decompress(bytes_at(span)) + reader.flush() == data
        assert (reader.eof, reader.unused_data) == (True, b"")
        assert (content.size, content.digest) == (len(data), hashlib.sha256(data).hexdigest())


def test_the_same_files_give_the_same_bytes(tmp_path):
    records = []
    for name in ("a", "b"):
        store = LocalStore(tmp_path / name)
        save_pack(store, "demo", KEY, [("one", b"1" * 100), ("two", b"2" * 100)])
        record = store.load("demo", KEY)
        assert record is not None
        records.append(record.payload)
    assert records[0] == records[1]


def test_empty_pack_is_found(tmp_path):
    store = LocalStore(tmp_path)
    assert load_pack(store, "demo", KEY) is None
    assert save_pack(store, "demo", KEY, []) == {}
    assert load_pack(store, "demo", KEY) == {}


def test_packs_differ_by_kind_and_key(tmp_path):
    store = LocalStore(tmp_path)
    save_pack(store, "demo", KEY, [("one", b"1")])
    assert load_pack(store, "other", KEY) is None
    assert load_pack(store, "demo", digest_of("two")) is None


@pytest.mark.parametrize("at", [0, 70, -1])
def test_a_pack_that_was_damaged_is_not_found(tmp_path, at):
    store = LocalStore(tmp_path)
    save_pack(store, "demo", KEY, [("one", b"one" * 50)])
    path = store.derived_path("demo", KEY)
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    assert load_pack(LocalStore(tmp_path), "demo", KEY) is None
    assert not path.exists()


def packed(store: Store) -> PackedContent:
    content = save_pack(store, "demo", KEY, [("one", bytes(range(256)))])["one"]
    assert isinstance(content, PackedContent)
    return content


@pytest.mark.parametrize("at", [0, 20, -1])
def test_content_that_is_damaged_later_is_an_error(tmp_path, at):
    content = packed(LocalStore(tmp_path))
    data = bytearray(content.path.read_bytes())
    data[at if at < 0 else content.offset + at] ^= 0xFF
    content.path.write_bytes(data)
    with pytest.raises(StoreError, match="is broken") as caught:
        content.read()
    assert "lpack cache verify" in caught.value.remedy


def test_missing_content_is_an_error(tmp_path):
    content = packed(LocalStore(tmp_path))
    content.path.unlink()
    with pytest.raises(StoreError, match="Cannot read"):
        content.read()
