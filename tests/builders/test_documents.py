"""Reading files that others wrote: each fault is one error that names the file and says what to do."""

from __future__ import annotations

import pytest

from builders.documents import parse_json, read_text, read_toml
from builders.errors import BuildError, LpackError


def test_document_is_read(tmp_path):
    path = tmp_path / "one.toml"
    path.write_text("key = 'é'\n", encoding="utf-8")
    assert read_toml(path, LpackError, "Fix it.") == {"key": "é"}
    assert parse_json('{"key": 1}', path, LpackError, "Fix it.") == {"key": 1}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_document_with_a_byte_order_mark_is_read_by_it(tmp_path, encoding):
    path = tmp_path / "one.toml"
    path.write_bytes("key = 'é'\r\n".encode(encoding))
    assert read_toml(path, LpackError, "Fix it.") == {"key": "é"}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (None, "Cannot read {}: No such file or directory."),
        (b"\xff", "{} is not valid UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte."),
        (b"key =", "{} is not valid TOML: Invalid value (at end of document)."),
    ],
)
def test_fault_is_an_error_of_the_callers_class(tmp_path, data, what):
    path = tmp_path / "one.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BuildError) as caught:
        read_toml(path, BuildError, "Fix it.")
    assert (caught.value.what, caught.value.remedy) == (what.format(path), "Fix it.")


def test_error_says_what_the_file_is(tmp_path):
    path = tmp_path / "one.lock"
    with pytest.raises(LpackError, match=f"^Cannot read the lock {path}: "):
        read_text(path, LpackError, "Lock again.", noun="the lock")
    with pytest.raises(LpackError, match=f"^The lock {path} is not valid JSON: "):
        parse_json("{", path, LpackError, "Lock again.", noun="the lock")
