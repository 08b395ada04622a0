from __future__ import annotations

from pathlib import Path

import pytest

from packer.core.errors import UsageError
from packer.sam.document import line_of, parse_template, read_text

HERE = Path("template.yaml")


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("A: 1\n B: 2\n", "template.yaml:2:3", "mapping values are not allowed"),
        ("A: [1, 2\nB: 3", "template.yaml:2:2", "expected ',' or ']'"),
        ("A: *x\n", "template.yaml:1:4", "undefined alias"),
        ("A: 1\n---\nB: 2\n", "template.yaml:2:1", "another document"),
        ("A: \x01\n", "template.yaml", "special characters"),
        ("", "template.yaml", "not a mapping"),
        ("- A\n", "template.yaml", "not a mapping"),
    ],
)
def test_broken_texts_are_refused_with_their_place(text: str, place: str, reason: str):
    with pytest.raises(UsageError) as caught:
        parse_template(text, HERE)
    assert caught.value.what.startswith(place)
    assert reason in caught.value.what


def test_last_of_equal_keys_counts_and_is_reported():
    found: list[tuple[int, str]] = []
    document = parse_template("A: 1\nB: {x: 1, y: 2, x: 3}\nA: 3\n", HERE, lambda line, key: found.append((line, key)))
    assert document == {"A": "3", "B": {"x": "3", "y": "2"}}
    assert found == [(2, "x"), (3, "A")]


def test_last_of_equal_keys_counts_in_json():
    assert parse_template('{"A": 1,\n "A": 2}', HERE) == {"A": "2"}


def test_scalars_stay_text():
    document = parse_template("A: 3.10\nB: 2012-10-17\nC: 012345678901\nD: yes\nE:\nF: ~\nG: true\n", HERE)
    assert dict(document) == {
        "A": "3.10",
        "B": "2012-10-17",
        "C": "012345678901",
        "D": "yes",
        "E": None,
        "F": None,
        "G": "true",
    }


def test_json_is_read_with_lines_and_tabs():
    document = parse_template('{\n\t"A": {\n\t\t"B": "x\\/y",\n\t\t"C": 1}\n}', HERE)
    assert document == {"A": {"B": "x/y", "C": "1"}}
    assert line_of(document["A"], "C") == 4


def test_lines_of_merged_keys_are_those_of_their_mapping():
    document = parse_template("A: &a\n  B: 1\nC:\n  <<: *a\n  D: 2\n", HERE)
    assert line_of(document["C"], "D") == 5
    assert line_of(document["C"], "B") == 4


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path):
    path = tmp_path / "template.yaml"
    path.write_bytes(b"\xef\xbb\xbfA: 1\r\n")
    assert read_text(path) == "A: 1\r\n"


def test_what_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "latin").write_bytes(b"A: \xe9\n")
    for name, reason in (("none.yaml", "does not exist"), ("latin", "not UTF-8 text (byte 3)"), (".", "cannot be read")):
        with pytest.raises(UsageError, match=reason.replace("(", r"\(").replace(")", r"\)")):
            read_text(tmp_path / name)
