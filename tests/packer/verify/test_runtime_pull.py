"""Runtimes come from a real registry into the store: whole or not at all, as they are locked, and each once."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.errors import LpackError
from builders.rootfs.runtime_files import RuntimeFiles
from builders.runtimes import RuntimeImage, Target
from packer.cache.local import LocalStore
from packer.cache.unpacked_images import unpacked_folders
from packer.cli.image_wiring import open_registries
from packer.core.errors import ImageError, RegistryError
from packer.core.events import Reporter
from packer.net.retry import RetryPolicy
from packer.verify.runtime_images import find_runtime_files
from packer.verify.runtime_pull import RuntimePuller
from tests.images import special, tar_of
from tests.registry import Fault, FaultProxy, Registry, running_registry
from tests.runtimes import push_layout, write_runtime

UPPER = tar_of(
    ("etc/.wh.os-release", b""),
    ("var/runtime/.wh..wh..opq", b""),
    ("var/runtime/bootstrap", b"#!/bin/sh\n"),
    special("var/lang/bin/python3", tarfile.LNKTYPE, "var/lang/bin/python3.12"),
    special("usr/lib64", tarfile.DIRTYPE, ""),
    ("lib64/libz.so.1", b"z"),
    special("etc/mtab", tarfile.SYMTYPE, "/proc/self/mounts"),
)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setattr("packer.registry.endpoint._RETRIES", RetryPolicy(attempts=3, first_pause=0.001))
    with running_registry(tmp_path / "registry") as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def target_of(image: str, architecture: str = "x86_64", digest: str = "") -> Target:
    return replace(Target.of("python3.12", architecture), image=RuntimeImage(name=image, digest=digest))


def pull(store: LocalStore, target: Target, *, upgrade: bool = False, offline: bool = False) -> RuntimeFiles:
    with ExitStack() as closing:
        registries = open_registries(store, Reporter(), closing, offline=offline)
        return RuntimePuller(store, registries.resolve, Reporter(), upgrade=upgrade).pull(target)


def content(root: Path) -> dict[str, str]:
    """Give what a tree holds: where links lead, and modes and contents of files."""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[name] = "/"
        else:
            found[name] = f"{stat.S_IMODE(path.stat().st_mode):o} {path.read_bytes()!r}"
    return found


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_runtime_is_unpacked_as_umoci_does(tmp_path, registry, store, compression):
    layout = write_runtime(tmp_path / "layout", UPPER)
    files = pull(store, target_of(push_layout(layout, f"{registry.host}/runtime:3.12", compression)))
    assert (files.python, files.version, files.packages) == ("/var/lang/bin/python3.12", "3.12.7", ("/var/runtime",))
    assert files.environment["LANG"] == "en_US.UTF-8"
    if shutil.which("umoci") is None:
        pytest.skip("needs umoci")
    subprocess.run(["skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{layout}", f"oci:{tmp_path}/tagged:it"], check=True)
    command = ["umoci", "unpack", "--rootless", "--image", f"{tmp_path}/tagged:it", str(tmp_path / "bundle")]
    subprocess.run(command, check=True, capture_output=True)
    oracle = content(tmp_path / "bundle" / "rootfs")
    assert content(files.root) == oracle
    assert "etc/os-release" not in oracle


def test_found_runtime_is_the_one_that_was_pulled_in_less_than_two_milliseconds(tmp_path, registry, store):
    target = target_of(push_layout(write_runtime(tmp_path / "layout"), f"{registry.host}/runtime:3.12"))
    assert find_runtime_files(target, store) is None
    files = pull(store, target)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        assert find_runtime_files(target, store) == files
        times.append(time.perf_counter() - began)
    assert min(times) < 0.002
    assert find_runtime_files(replace(target, architecture="arm64"), store) is None
    assert find_runtime_files(replace(target, image=RuntimeImage(name="other/image:1")), store) is None


def test_locked_digest_decides_until_it_is_upgraded(tmp_path, registry, store):
    name = f"{registry.host}/runtime:3.12"
    push_layout(write_runtime(tmp_path / "old", version="3.12.6"), name)
    old = pull(store, target_of(name))
    push_layout(write_runtime(tmp_path / "new", version="3.12.8"), name)
    locked = target_of(name, digest=old.digest)
    assert pull(store, locked).version == "3.12.6"
    assert pull(store, locked, upgrade=True).version == "3.12.8"
    found = find_runtime_files(locked, store)
    assert found
    assert found.version == "3.12.6"


def test_locked_digest_that_was_not_pulled_is_not_replaced_by_another(tmp_path, registry, store):
    name = push_layout(write_runtime(tmp_path / "layout"), f"{registry.host}/runtime:3.12")
    pull(store, target_of(name))
    locked = target_of(name, digest="sha256:" + "0" * 64)
    assert find_runtime_files(locked, store) is None
    with pytest.raises(RegistryError, match=r"The runtime image .*runtime:3\.12: .*"):
        pull(store, locked)


def test_manifest_with_another_digest_than_the_locked_one_is_refused(tmp_path, registry, store):
    old, new = (write_runtime(tmp_path / version, version=version) for version in ("3.12.6", "3.12.8"))
    first = pull(store, target_of(push_layout(old, f"{registry.host}/runtime:old"))).digest
    second = pull(store, target_of(push_layout(new, f"{registry.host}/runtime:new"))).digest
    shutil.rmtree(store.root)

    def rule(_method: str, path: str, _number: int) -> Fault | None:
        with_other = (registry.data / "docker/registry/v2/blobs/sha256" / second[7:9] / second[7:] / "data").read_bytes()
        return Fault(spoil=lambda _: with_other) if path.endswith(first) else None

    with FaultProxy(registry.host, rule) as proxy, pytest.raises(RegistryError, match=r"sends a manifest .* with the digest"):
        pull(store, target_of(f"{proxy.host}/runtime:old", digest=first))
    assert list(unpacked_folders(store)) == []


def test_index_gives_the_image_of_the_architecture(tmp_path, registry, store):
    name = push_layout(write_runtime(tmp_path / "arm", architecture="arm64"), f"{registry.host}/runtime:arm")
    assert pull(store, target_of(name, "arm64")).architecture == "arm64"
    with pytest.raises(ImageError, match="it is for linux/arm64"):
        pull(store, target_of(name))


HOSTILE = {
    "a path above": (tar_of(("../../pwned", b"x")), "leads out of it"),
    "a link, then a file through it": (
        tar_of(special("x", tarfile.SYMTYPE, "/etc/os-release"), ("x/y", b"x")),
        "which is not a folder",
    ),
    "a whiteout of what is above": (tar_of(("usr/.wh...", b"")), "leads out of its folder"),
    "a hard link to nothing": (tar_of(special("x", tarfile.LNKTYPE, "absent")), "which is no file of it"),
    "a name that no disk takes": (tar_of(("n" * 300, b"x")), "cannot be written"),
    "no tar": (b"no tar" * 1000, "it is no whole tar"),
}


@pytest.mark.parametrize(("layer", "told"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_layer_is_refused_and_leaves_nothing(tmp_path, registry, store, layer, told):
    name = push_layout(write_runtime(tmp_path / "layout", layer), f"{registry.host}/runtime:bad")
    with pytest.raises(ImageError, match=told) as caught:
        pull(store, target_of(name))
    assert "runtime-image" in caught.value.remedy
    assert list(unpacked_folders(store)) == []
    assert list((store.root / "tmp").iterdir()) == []
    assert find_runtime_files(target_of(name), store) is None


def test_image_with_another_python_is_refused_with_what_it_has(tmp_path, registry, store):
    name = push_layout(write_runtime(tmp_path / "layout", version="3.11.6"), f"{registry.host}/runtime:3.11")
    with pytest.raises(ImageError, match=r"it has no Python 3\.12 for x86_64 \(found: 3\.11\.6\)"):
        pull(store, target_of(name))


def test_half_a_download_is_no_runtime_and_the_next_pull_is_whole(tmp_path, registry, store):
    layout = write_runtime(tmp_path / "layout", tar_of(("big", os.urandom(1 << 20))))
    push_layout(layout, f"{registry.host}/runtime:3.12")

    def rule(_method: str, path: str, _number: int) -> Fault | None:
        return Fault(spoil=lambda body: body[: len(body) // 2]) if "/blobs/" in path else None

    with FaultProxy(registry.host, rule) as proxy:
        target = target_of(f"{proxy.host}/runtime:3.12")
        with pytest.raises(LpackError):
            pull(store, target)
        assert find_runtime_files(target, store) is None
        proxy.rule = lambda _method, _path, _number: None
        assert pull(store, target) == find_runtime_files(target, store)


def test_changed_runtime_is_not_used_and_is_unpacked_again(tmp_path, registry, store):
    target = target_of(push_layout(write_runtime(tmp_path / "layout"), f"{registry.host}/runtime:3.12"))
    files = pull(store, target)
    (files.root / "var/lang/bin/python3.12").write_bytes(b"another program")
    assert find_runtime_files(target, store) is None
    assert content(pull(store, target).root)["var/lang/bin/python3.12"].startswith("755 b'\\x7fELF")
    elsewhere = files.root / "var/runtime/boto3/__init__.py"
    elsewhere.write_bytes(b"evil = 1\n")
    assert content(pull(store, target).root)["var/runtime/boto3/__init__.py"].endswith("b''")


def test_two_pulls_at_once_unpack_once(tmp_path, registry, store):
    target = target_of(push_layout(write_runtime(tmp_path / "layout"), f"{registry.host}/runtime:3.12"))
    with ThreadPoolExecutor(2) as executor:
        stores = [store, LocalStore(store.root)]
        first, second = executor.map(lambda each: pull(each, target), stores)
    assert first == second
    assert len(list(unpacked_folders(store))) == 1


def test_registry_is_not_asked_offline(tmp_path, registry, store):
    target = target_of(push_layout(write_runtime(tmp_path / "layout"), f"{registry.host}/runtime:3.12"))
    with pytest.raises(RegistryError, match="--offline forbids using the registry"):
        pull(store, target, offline=True)
