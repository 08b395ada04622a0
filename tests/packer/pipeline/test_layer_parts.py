"""What a layer holds of a distribution: all that any of its users needs, and unchanged where one needs it so."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from builders.runtimes import Target
from packer.core.model import BytesContent, Distribution, Entry, Tree
from packer.core.options import BytecodeOptions
from packer.layers.assignment import LayerShare
from packer.pipeline.layer_maker import Beside, Wanted, _layer_keys
from packer.pipeline.layer_parts import LayerCompilation, Variant, combine_variants, list_removed

FOUND = Distribution(name="one", version="1.0", filename="one-1.0-py3-none-any.whl", digest="a" * 64, path=Path("one"))


def tree(**files: str) -> Tree:
    return Tree.of(
        Entry(path=f"one/{name}", mode=0o644, content=BytesContent.of(text.encode()), owner=FOUND.filename)
        for name, text in files.items()
    )


def variant(stays: tuple[str, ...] = (), **files: str) -> Variant:
    return Variant(distribution=FOUND, tree=tree(**files), stays=frozenset(stays))


def texts(found: Tree) -> dict[str, str]:
    return {entry.path.removeprefix("one/"): entry.content.read().decode() for entry in found}


ORIGINAL = tree(a="a", b="b", c="c")


def test_what_one_user_needs_is_there_for_all():
    found = combine_variants([variant(a="a", b="b"), variant(("one/c",), b="b", c="c")], ORIGINAL)
    assert texts(found.tree) == {"a": "a", "b": "b", "c": "c"}
    assert found.stays == {"one/c"}


def test_what_one_user_needs_unchanged_is_unchanged():
    changed, untouched = variant(a="stripped"), variant(a="a")
    for variants in ([changed, untouched], [untouched, changed]):
        assert texts(combine_variants(variants, ORIGINAL).tree) == {"a": "a"}


def test_the_order_of_users_is_irrelevant():
    first, second = variant(a="stub of one"), variant(a="stub of two", b="b")
    assert combine_variants([first, second], ORIGINAL) == combine_variants([second, first], ORIGINAL)


def test_a_variants_digest_has_all_that_a_layer_may_hold():
    known = {variant(a="a").digest, variant(a="b").digest, variant(b="a").digest, variant(("one/a",), a="a").digest}
    assert len(known) == 4
    assert variant(a="a").digest == variant(a="a").digest


def test_a_key_has_the_version_of_lpack_and_the_script_that_compiles(monkeypatch):
    way = LayerCompilation(options=BytecodeOptions(mode="beside"), python="3.12.1")
    keys = {way.key("d", ["v"], only=False)}
    with monkeypatch.context() as changed:
        changed.setattr("packer.pipeline.layer_parts.__version__", "0.0.0")
        keys.add(way.key("d", ["v"], only=False))
    monkeypatch.setattr("packer.pipeline.layer_parts.read_script", lambda _name: b"another script")
    keys.add(way.key("d", ["v"], only=False))
    assert len(keys) == 3


def test_a_key_has_all_that_decides_the_bytes():
    options = BytecodeOptions(mode="beside")
    way = LayerCompilation(options=options, python="3.12.1")
    keys = {
        way.key("d", ["v"], only=False),
        way.key("e", ["v"], only=False),
        way.key("d", ["w"], only=False),
        way.key("d", ["v", "w"], only=False),
        way.key("d", ["v"], only=True),
        LayerCompilation(options=options, python="3.12.2").key("d", ["v"], only=False),
        LayerCompilation(options=BytecodeOptions(mode="beside", optimize=2), python="3.12.1").key("d", ["v"], only=False),
        LayerCompilation(options=BytecodeOptions(mode="off"), python="3.12.1").key("d", ["v"], only=False),
    }
    assert len(keys) == 8
    assert way.key("d", ["w", "v", "v"], only=False) == way.key("d", ["v", "w"], only=False)


def test_the_key_of_a_layer_has_the_version_of_lpack(monkeypatch):
    target, share = Target.of("python3.12", "x86_64"), LayerShare(pieces=("d",), users=("one",), name="")
    wanted = {"d": Wanted(digest="d", key="k", only=False, versions=())}
    before = _layer_keys(target, share, wanted, Beside(digests=(), users=()))
    monkeypatch.setattr("packer.pipeline.layer_maker.__version__", "0.0.0")
    assert set(before).isdisjoint(_layer_keys(target, share, wanted, Beside(digests=(), users=())))


def test_what_is_gone_is_listed_by_the_rule_that_took_it():
    original = tree(a="a", b="library", c="c", d="dd", e="e")
    first = replace(variant(a="a", b="lib", e="e"), rules={"one/c": "documents", "one/d": "tests"})
    second = replace(variant(a="a", b="lib", c="c", e="e"), rules={"one/d": "tests"})
    combined = combine_variants([first, second], original)
    placed = Tree.of(entry for entry in combined.tree if entry.path != "one/e")
    found = {each.rule: (each.files, each.bytes) for each in list_removed(combined, original, placed)}
    assert found == {"strip": (1, 4), "tests": (1, 2), "sources": (1, 1)}
