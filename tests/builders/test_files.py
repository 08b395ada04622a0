"""Writing files whole: what a disk that becomes full takes of them is never taken for all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from builders.files import check_length, write_whole

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
