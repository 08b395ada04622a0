"""What is known of an unpacked image: its Pythons with their exact releases, and whether it is still what it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builders.rootfs.record import RECORD, ROOT, UnpackedImage, describe_root, is_whole, read_root
from builders.rootfs.runtime_files import RuntimeFiles
from builders.runtimes import Target

DIGEST = "sha256:" + "1" * 64
X86_64, ARM64 = (b"\x7fELF" + bytes(14) + machine + bytes(12) for machine in (b"\x3e\x00", b"\xb7\x00"))
LAMBDA_PATH = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def image(folder: Path, files: dict[str, bytes], path: str = LAMBDA_PATH) -> UnpackedImage:
    """Lay out an unpacked image with its record."""
    write(folder / ROOT, files)
    record = describe_root(folder / ROOT, DIGEST, "x86_64", {"PATH": path})
    (folder / RECORD).write_bytes(record.encode())
    found = read_root(folder, DIGEST)
    assert found
    return found


HEADER = b'/* Version as a string */\n#define PY_VERSION      \t"3.12.7"\n'


def test_the_python_of_the_runtime_is_found_with_its_release_and_its_packages(tmp_path):
    files = {
        "var/lang/bin/python3.12": X86_64,
        "var/lang/include/python3.12/patchlevel.h": HEADER,
        "var/lang/lib/python3.12/site-packages/boto3/__init__.py": b"",
        "var/runtime/bootstrap": b"",
        "usr/bin/python3.12": X86_64 + b"\x003.12.1\x00",
        "usr/bin/python3.9": X86_64 + b"\x003.9.16\x00",
    }
    found = image(tmp_path / "image", files)
    assert {python.minor: (python.path, python.version) for python in found.record.pythons} == {
        12: ("/var/lang/bin/python3.12", "3.12.7"),
        9: ("/usr/bin/python3.9", "3.9.16"),
    }
    files_found = RuntimeFiles.of(found, Target.of("python3.12", "x86_64"))
    assert files_found
    assert files_found.packages == ("/var/runtime", "/var/lang/lib/python3.12/site-packages")
    assert files_found.identity == f"3.12.7 of {DIGEST}"


def test_a_python_behind_links_without_headers_tells_its_release_itself(tmp_path):
    (tmp_path / "image" / ROOT / "var/lang/bin").mkdir(parents=True)
    (tmp_path / "image" / ROOT / "var/lang/bin/python3.11").symlink_to("/usr/bin/python3.11")
    program = X86_64 + b"\x003.11.2\x003.11\x00"
    [python] = image(tmp_path / "image", {"usr/bin/python3.11": program}).record.pythons
    assert (python.path, python.version) == ("/var/lang/bin/python3.11", "3.11.2")


@pytest.mark.parametrize(
    "files",
    [
        {"var/lang/bin/python3.12": ARM64 + b"\x003.12.7\x00"},  # for another machine
        {"var/lang/bin/python3.12": b"#!/bin/sh\n3.12.7"},
        {"var/lang/bin/python3.12": X86_64},  # of an unknown release
        {"var/lang/bin/python3.12-config": X86_64},
    ],
)
def test_what_is_no_python_for_the_machine_is_not_found(tmp_path, files):
    found = image(tmp_path / "image", files)
    assert found.record.pythons == ()
    assert RuntimeFiles.of(found, Target.of("python3.12", "x86_64")) is None


def test_a_python_that_is_a_link_out_of_the_image_is_not_read(tmp_path):
    (tmp_path / "outside").write_bytes(X86_64 + b"\x003.12.9\x00")
    bin_folder = tmp_path / "image" / ROOT / "var/lang/bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python3.12").symlink_to(os.path.relpath(tmp_path / "outside", bin_folder))
    assert image(tmp_path / "image", {}).record.pythons == ()


def test_a_changed_image_is_found_out_at_once_where_it_matters_first_and_in_full_everywhere(tmp_path):
    folder = tmp_path / "image"
    image(folder, {"var/lang/bin/python3.12": X86_64 + b"\x003.12.7\x00", "usr/lib/libz.so.1": b"z"})
    assert is_whole(folder, DIGEST)
    (folder / ROOT / "usr/lib/libz.so.1").write_bytes(b"y")
    assert not is_whole(folder, DIGEST)
    assert read_root(folder, DIGEST) is not None
    (folder / ROOT / "var/lang/bin/python3.12").write_bytes(b"other")
    assert read_root(folder, DIGEST) is None


@pytest.mark.parametrize("record", [b"", b"{}", b"[]", b'{"form": 1}', b"\xff"])
def test_a_record_that_cannot_be_read_stands_for_no_image(tmp_path, record):
    image(tmp_path / "image", {"a": b""})
    (tmp_path / "image" / RECORD).write_bytes(record)
    assert read_root(tmp_path / "image", DIGEST) is None


def test_an_image_of_another_digest_is_not_taken_for_it(tmp_path):
    image(tmp_path / "image", {"a": b""})
    assert read_root(tmp_path / "image", "sha256:" + "2" * 64) is None
