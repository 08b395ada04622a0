"""The figures of a plan, and how they are told."""

from __future__ import annotations

from msgspec.structs import replace

from builders.runtimes import Target
from packer.core.options import LayerOptions
from packer.inspect.plan_document import plan_document, plan_table
from packer.layers.assignment import Division, LayerShare, Need, Needed
from packer.layers.planner import Piece
from packer.pipeline.layer_maker import Wanted
from packer.pipeline.zip_groups import GroupPlan
from tests.counting import Passes, count_hashes

DIGEST, SIZE = "a" * 64, 50_000


def planned(runtime: str, users: tuple[str, ...], key: str, name: str = "") -> GroupPlan:
    """Give a plan in which functions share a layer of one distribution."""
    needed = Needed(name="common", version="1.0", variant="v", size=3 * SIZE, weight=1.0, requires=())
    need = Need(
        distributions={DIGEST: needed}, own=0, options=LayerOptions(mode="auto"), stuck=frozenset(), tied=(), libraries=()
    )
    return GroupPlan(
        target=Target.of(runtime, "x86_64"),
        needs=dict.fromkeys(users, need),
        wanted={DIGEST: Wanted(digest=DIGEST, key=key, only=False, versions=())},
        sizes={DIGEST: Piece(zipped=SIZE, unzipped=3 * SIZE)},
        division=Division(shares=(LayerShare(pieces=(DIGEST,), users=users, name=name),)),
    )


def test_a_layer_that_is_the_same_for_two_targets_is_stored_once():
    old, new = planned("python3.12", ("one", "two"), "k"), planned("python3.13", ("three", "four"), "k")
    found = plan_document([old, new])
    assert (found.separate_bytes, found.stored_bytes, found.saved_bytes) == (4 * SIZE, SIZE, 3 * SIZE)
    assert [each.runtime for each in found.layers] == ["python3.12", "python3.13"]


def test_layers_that_differ_in_content_or_name_are_each_stored():
    old = planned("python3.12", ("one", "two"), "k", "lib")
    for other in (planned("python3.13", ("three", "four"), "l", "lib"), planned("python3.13", ("three", "four"), "k", "other")):
        assert plan_document([old, other]).stored_bytes == 2 * SIZE


def test_one_user_of_a_layer_is_counted_in_the_singular_and_saves_nothing():
    document = plan_document([planned("python3.12", ("one",), "k")])
    [layer] = document.layers
    assert "; 1 function, saves 0.0 KB\n" in plan_table(document)
    costly = replace(document, layers=(replace(layer, saved_bytes=-SIZE),))
    assert "; 1 function, takes 48.8 KB more\n" in plan_table(costly)


def test_a_function_outside_the_plan_is_told_as_such():
    lines = plan_table(plan_document([planned("python3.12", ("one", "two"), "k")], ["apart"])).splitlines()
    assert [line.split(None, 1)[1] for line in lines if line.startswith("apart")] == ["takes part in no plan"]
    assert [line.split(None, 1)[1] for line in lines if line.startswith("one")] == ["common; 0 distributions inside"]


def with_layers(count: int) -> GroupPlan:
    """Give a plan in which two functions share so many layers of one distribution each."""
    digests = [f"{number:064}" for number in range(count)]
    distributions = {
        digest: Needed(name=f"d{number}", version="1", variant="v", size=SIZE) for number, digest in enumerate(digests)
    }
    need = Need(distributions=Passes(distributions), own=0, options=LayerOptions(mode="auto"))
    return GroupPlan(
        target=Target.of("python3.12", "x86_64"),
        needs={"one": need, "two": need},
        wanted={digest: Wanted(digest=digest, key=digest, only=False, versions=()) for digest in digests},
        sizes={digest: Piece(zipped=SIZE, unzipped=SIZE) for digest in digests},
        division=Division(shares=tuple(LayerShare(pieces=(digest,), users=("one", "two")) for digest in digests)),
    )


def test_functions_are_gone_through_as_often_for_ten_layers_as_for_one():
    counts = []
    for plan in (with_layers(1), with_layers(10)):
        before = Passes.gone_through
        plan_document([plan])
        counts.append(Passes.gone_through - before)
    assert counts[0] == counts[1] > 0


def test_layers_are_not_hashed_with_all_their_users(monkeypatch):
    hashed = count_hashes(monkeypatch, LayerShare)
    found = plan_document([with_layers(3)])
    assert found.functions["one"].layers == ("d0", "d1", "d2")
    assert hashed == {}
