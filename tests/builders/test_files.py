"""Writing files whole: what a disk that becomes full takes of them is never taken for all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from builders.files import check_length, file_digest, place_file, stream_digest, write_file, write_whole

LIMITED = """\
import os, resource, sys
from builders.files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
to = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
try:
    write_whole(to, bytes(1500))
except OSError as error:
    print(error.errno)
"""


def test_bytes_that_do_not_fit_are_an_error(tmp_path):
    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path / "file"], capture_output=True, text=True, check=True)
    assert (tmp_path / "file").stat().st_size == 1000
    assert done.stdout.strip() == str(errno.EFBIG)


def test_short_writes_are_continued(tmp_path, monkeypatch):
    whole = os.write
    monkeypatch.setattr(os, "write", lambda to, data: whole(to, data[:7]))
    to = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    write_whole(to, bytes(range(100)))
    os.close(to)
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


def test_a_disk_that_takes_nothing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda _to, _data: 0)
    to = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="3 of 3 bytes"):
        write_whole(to, b"abc")
    os.close(to)


def test_a_file_of_another_length_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    check_length(tmp_path / "file", 3)
    with pytest.raises(OSError, match="3 bytes of 4"):
        check_length(tmp_path / "file", 4)


def test_file_appears_whole_with_its_mode(tmp_path):
    path = tmp_path / "report.html"
    path.write_bytes(b"an earlier, longer one")
    write_file(path, b"all of it", mode=0o644)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"all of it", 0o644)
    assert list(tmp_path.iterdir()) == [path]


def test_write_that_fails_leaves_the_earlier_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "elsewhere")))
    with pytest.raises(OSError, match="elsewhere"):
        write_file(path, b"all of it")
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_was_cut_short_is_not_placed(tmp_path):
    temporary, path = tmp_path / "temporary", tmp_path / "folder" / "file"
    temporary.write_bytes(b"all of")
    with pytest.raises(OSError, match="6 bytes of 9"):
        place_file(temporary, path, 9)
    assert not path.exists()
    place_file(temporary, path, 6)
    assert path.read_bytes() == b"all of"


def test_digests_are_of_all_content_wherever_a_file_stands(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        file.read(2)
        assert stream_digest(file) == file_digest(path) == sha256(b"abc").hexdigest()
