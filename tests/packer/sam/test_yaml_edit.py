from __future__ import annotations

import json

import pytest
from ruamel.yaml import YAML

from packer.sam.yaml_edit import EditableText, EditConflict, Node


def at(text: EditableText, *keys: str) -> Node:
    node = text.root
    for key in keys:
        found = node.get(key)
        assert found is not None
        node = found
    return node


def changed(source: str, *keys: str, value: str | dict[str, str] = "x/y") -> str:
    text = EditableText.of(source)
    return text.apply([text.put(at(text, *keys[:-1]), keys[-1], value)])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A: {K: old}", "A: {K: x/y}"),
        ("A:\n  K: old   # why\n  L: 1\n", "A:\n  K: x/y   # why\n  L: 1\n"),
        ("A:\n  K: 'old'\n", "A:\n  K: x/y\n"),
        ("A:\n  K:\n  L: 1\n", "A:\n  K: x/y\n  L: 1\n"),
        ("A:\n  K: !Sub old\n", "A:\n  K: x/y\n"),
        ("A:\n  K: |\n    old\n    text\n\n  # c\n  L: 1\n", "A:\n  K: x/y\n\n  # c\n  L: 1\n"),
        ("A:\n  K: !If # a\n    - b # c\n    - d # e\n  # f\n  L: 1\n", "A:\n  K: x/y # e\n  # f\n  L: 1\n"),
        ("A:\n  K:\n    M:\n      N: # d\n# c\nL: 1\n", "A:\n  K:\n    x/y # d\n# c\nL: 1\n"),
        ("A:\n  K:\n    M:\n      N: 1\n\n# end\n", "A:\n  K:\n    x/y\n\n# end\n"),
        ("A:\n  K: {M: 1, N: [2]} # c\n", "A:\n  K: x/y # c\n"),
        ("A:\n  K: &k old\nB: *k\n", "A:\n  K: &k x/y\nB: *k\n"),
        ("A:\n  K: *k\n", "A:\n  K: x/y\n"),
        ("A:\n  # c\n  L: 1\n", "A:\n  # c\n  K: x/y\n  L: 1\n"),
        ("A: {L: 1}", "A: {K: x/y, L: 1}"),
        ("A: {}", "A: {K: x/y}"),
        ("A: # c\n", "A: {K: x/y} # c\n"),
        ("A:\n  <<: {K: old}\n", "A:\n  K: x/y\n  <<: {K: old}\n"),
        ("B: &b\n  K: old\nA: *b\n", "B: &b\n  K: old\nA: {<<: *b, K: x/y}\n"),
        ('{"A": {"K": "old"}}', '{"A": {"K": "x/y"}}'),
        ('{"A":{"L":1}}', '{"A":{"K": "x/y", "L":1}}'),
        ('{\n\t"A": {\n\t\t"L": 1\n\t}\n}', '{\n\t"A": {\n\t\t"K": "x/y", "L": 1\n\t}\n}'),
        ("A:\r\n  L: 1\r\n", "A:\r\n  K: x/y\r\n  L: 1\r\n"),
    ],
)
def test_one_value_changes_and_all_else_stays(before: str, after: str):
    source = before if "*k\n" not in before or "&k" in before else f"Z: &k old\n{before}"
    expected = after if source == before else f"Z: &k old\n{after}"
    assert changed(source, "A", "K") == expected
    assert YAML(typ="rt").load(changed(source, "A", "K"))["A"]["K"] == "x/y"


@pytest.mark.parametrize(
    "value",
    [
        "a.zip",
        "../a b/c",
        "a: b",
        "no",
        "null",
        "1.5",
        "#x",
        "é/ü",
        "-/x",
        ".",
        "~/x",
        'a"b',
        "y",
        "../no",
        "../1",
        "a.",
        "./on",
        "a/b:c",
        "1e3",
    ],
)
@pytest.mark.parametrize("source", ["A: {K: old}", "A:\n  K: old\n", '{"A": {"K": "old"}}'])
@pytest.mark.parametrize("version", [(1, 1), (1, 2)])
def test_any_text_reads_back_as_itself(source: str, value: str, version: tuple[int, int]):
    yaml = YAML(typ="safe", pure=True)
    yaml.version = version
    written = changed(source, "A", "K", value=value)
    assert yaml.load(written) == {"A": {"K": value}}
    if source.startswith("{"):
        assert json.loads(written) == {"A": {"K": value}}


def test_a_mapping_can_be_made():
    assert changed("A:\n  T: x\n", "A", "P", value={"K": "a.zip"}) == "A:\n  P: {K: a.zip}\n  T: x\n"
    assert json.loads(changed('{"A": {"T": 1}}', "A", "P", value={"K": "a.zip"})) == {"A": {"T": 1, "P": {"K": "a.zip"}}}


def test_no_edit_changes_nothing():
    source = "%YAML 1.2\n---\n# c\nA:   [1,  2]\n\n\nB: >-\n   folded\n   text\n...\n"
    assert EditableText.of(source).apply([]) == source


def test_edits_are_made_whatever_their_order():
    text = EditableText.of("A: {K: 1, L: 2}\n")
    edits = [text.put(at(text, "A"), key, "v/w") for key in ("L", "N", "K", "M")]
    assert text.apply(edits) == text.apply(reversed(edits)) == "A: {M: v/w, N: v/w, K: v/w, L: v/w}\n"


def test_what_lies_within_a_replaced_value_is_left_out():
    text = EditableText.of("A:\n  K: {M: {N: 1}}\n")
    outer, inner = text.put(at(text, "A"), "K", "a/b"), text.put(at(text, "A", "K", "M"), "N", "c/d")
    assert text.apply([inner, outer]) == "A:\n  K: a/b\n"


def test_one_place_cannot_have_two_values():
    text = EditableText.of("A: &a {P: {K: 1}}\nB: *a\n")
    edits = [text.put(at(text, name, "P"), "K", f"{name}.zip") for name in "AB"]
    with pytest.raises(EditConflict) as caught:
        text.apply(edits)
    assert caught.value.line == 1
    assert text.apply([edits[0], edits[0]]) == "A: &a {P: {K: A.zip}}\nB: *a\n"


def test_merge_keys_are_looked_through_in_their_order():
    text = EditableText.of("A: &a {K: 1, L: 1}\nB: &b {K: 2, M: 2}\nC: {<<: [*a, *b], L: 3}\n")
    assert [at(text, "C", key).text for key in "KLM"] == ["1", "3", "2"]
    assert at(text, "C").get("N") is None


def test_an_alias_and_a_value_to_come_take_all_pairs_that_are_wanted():
    text = EditableText.of("A: &a {K: 1}\nB: *a\nC:\nD: &d\n")
    edits = [text.put(at(text, name), key, "v/w") for name in "BCD" for key in "LK"]
    expected = "A: &a {K: 1}\nB: {<<: *a, K: v/w, L: v/w}\nC: {K: v/w, L: v/w}\nD: &d {K: v/w, L: v/w}\n"
    assert text.apply(edits) == text.apply(reversed(edits)) == expected
    with pytest.raises(EditConflict):
        text.apply([*edits, text.put(at(text, "B"), "K", "other.zip")])


def test_no_edit_of_a_place_is_lost():
    text = EditableText.of("Z: &a {L: 1}\nA:\n  K: *a\n")
    with pytest.raises(EditConflict) as caught:
        text.apply([text.put(at(text, "A"), "K", "v/w"), text.put(at(text, "A", "K"), "L", "v/w")])
    assert caught.value.line == 3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A:\n  - a # c\nB: 1\n", "A:\n  - a # c\n  - x/y\nB: 1\n"),
        ("A:\n- a\n- b # c\n# d\nB: 1\n", "A:\n- a\n- b # c\n- x/y\n# d\nB: 1\n"),
        ("A:\n  - a   # c", "A:\n  - a   # c\n  - x/y"),
        ("A:\r\n  - a # c\r\nB: 1\r\n", "A:\r\n  - a # c\r\n  - x/y\r\nB: 1\r\n"),
        ("A:\n  -\n    a # c\n", "A:\n  -\n    a # c\n  - x/y\n"),
        ("A:\n  - >-\n    a\n    b\n\nB: 1\n", "A:\n  - >-\n    a\n    b\n  - x/y\n\nB: 1\n"),
        ("A:\n  - Ref: a # c\n", "A:\n  - Ref: a # c\n  - x/y\n"),
        ("A:\n  - !If # c\n    - a-b\n    - d # e\n", "A:\n  - !If # c\n    - a-b\n    - d # e\n  - x/y\n"),
        ("A:\n  - # c-d\n    a\n", "A:\n  - # c-d\n    a\n  - x/y\n"),
        ("A: [a] # c\n", "A: [a, x/y] # c\n"),
        ("A: [\n  a # c\n]\n", "A: [\n  a, x/y # c\n]\n"),
        ("A: []\n", "A: [x/y]\n"),
    ],
)
def test_lists_grow_at_their_end_and_comments_stay_beside_their_items(before: str, after: str):
    text = EditableText.of(before)
    written = text.apply([text.extend(at(text, "A"), "K", ["x/y"])])
    assert written == after
    assert len(YAML(typ="rt").load(written)["A"]) == len(at(text, "A").items) + 1


@pytest.mark.parametrize("value", ["!If [c, [a], []]", "!Ref a", "{Fn::If: [c, [a], []]}", "a", "*l", "\n  - a\n  -", ""])
def test_what_is_no_list_cannot_grow(value: str):
    text = EditableText.of(f"L: &l [a]\nA: {value}\nB: 1\n")
    with pytest.raises(EditConflict) as caught:
        text.extend(at(text, "A"), "K", ["x/y"])
    assert caught.value.line in (2, 3)
