from __future__ import annotations

from packer.cache.local import LocalStore
from packer.registry.blob_locations import BlobLocations


def kept(tmp_path, *digests: str) -> set[str]:
    """Add blobs in turn, save the locations, and return those that the next push knows."""
    store = LocalStore(tmp_path)
    locations = BlobLocations(store)
    for number, digest in enumerate(digests):
        locations.add("registry.example", digest, f"shop/{number}")
    locations.keep()
    return {digest for digest in digests if BlobLocations(store).find("registry.example", digest)}


def test_newest_blobs_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("packer.registry.blob_locations._MOST", 2)
    assert kept(tmp_path, "old", "middle", "new") == {"middle", "new"}


def test_blob_that_is_added_again_is_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr("packer.registry.blob_locations._MOST", 2)
    assert kept(tmp_path, "base", "one", "two", "base") == {"two", "base"}


def test_blob_that_is_seen_again_where_it_was_is_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr("packer.registry.blob_locations._MOST", 2)
    store = LocalStore(tmp_path)
    locations = BlobLocations(store)
    for digest in ("base", "one", "base", "two"):
        locations.add("registry.example", digest, "shop/one")
    locations.keep()
    later = BlobLocations(store)
    assert [later.find("registry.example", digest) for digest in ("base", "one", "two")] == ["shop/one", "", "shop/one"]
