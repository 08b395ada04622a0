"""Dividing what cannot agree, and the way from a package up to who requires it."""

from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from builders.runtimes import Target
from packer.core.model import Function
from packer.resolve.conflicts import (
    SolvedPackage,
    describe_need,
    divide_by_agreement,
    find_opponents,
    find_shortest_chain,
    read_annotated,
)
from packer.resolve.declaration import Declaration
from packer.resolve.joint_declaration import JointMember, Place

NAMES = tuple("abcdefgh")
CONFLICTS = st.sets(st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=3), max_size=6)


def agreeing(conflicts: set[frozenset[str]]) -> Callable[[frozenset[str]], bool]:
    return lambda names: not any(conflict <= names for conflict in conflicts)


@given(CONFLICTS)
def test_every_name_is_in_one_set_that_agrees_and_that_no_later_name_could_join(conflicts):
    agree = agreeing(conflicts)
    sets = divide_by_agreement(NAMES, agree)
    assert sorted(name for each in sets for name in each) == sorted(NAMES)
    hopeless = {name for name in NAMES if not agree(frozenset({name}))}
    for number, each in enumerate(sets):
        if hopeless & set(each):
            assert len(each) == 1
            continue
        assert agree(frozenset(each))
        for later in sets[number + 1 :]:
            assert not any(agree(frozenset((*each, name))) for name in later)


@given(CONFLICTS, st.permutations(NAMES))
def test_opponents_are_a_smallest_set_that_does_not_agree(conflicts, order):
    agree = agreeing(conflicts)
    name, *others = order
    found = find_opponents(name, others, agree)
    if not agree(frozenset({name})) or not agree(frozenset(others)):
        return
    assert bool(found) == (not agree(frozenset(order)))
    if found:
        assert not agree(frozenset((name, *found)))
        assert all(agree(frozenset((name, *found)) - {each}) for each in found)


@given(st.integers(0, 40))
def test_one_gives_way_to_many_wherever_it_stands(position):
    names = tuple(f"f{number:02}" for number in range(41))
    odd = names[position]
    asked: list[frozenset[str]] = []

    def agree(chosen: frozenset[str]) -> bool:
        asked.append(chosen)
        return odd not in chosen or len(chosen) == 1

    assert divide_by_agreement(names, agree) == (tuple(name for name in names if name != odd), (odd,))
    assert len(set(asked)) < len(names)


ANNOTATED = """\
alpha==1.1                # via -r requirements.txt, gamma
beta==1.0                 # via alpha, gamma, -c constraints.txt
Gamma.Two==1.0            # via fn (/project/fn/pyproject.toml)
delta==1.0                # via own
./lib                     # via -r requirements.txt
"""


def test_annotations_tell_versions_parents_and_what_is_required_directly():
    assert read_annotated(ANNOTATED, own="own") == {
        "alpha": SolvedPackage(version="1.1", parents=("gamma",), is_direct=True),
        "beta": SolvedPackage(version="1.0", parents=("alpha", "gamma"), is_direct=False),
        "gamma-two": SolvedPackage(version="1.0", parents=(), is_direct=True),
        "delta": SolvedPackage(version="1.0", parents=(), is_direct=True),
    }


def solved(version: str, *parents: str, is_direct: bool = False) -> SolvedPackage:
    return SolvedPackage(version=version, parents=parents, is_direct=is_direct)


GRAPH = {
    "core": solved("2", "middle", "other"),
    "middle": solved("3", "top"),
    "other": solved("4", "middle"),
    "top": solved("5", is_direct=True),
    "round": solved("1", "about"),
    "about": solved("1", "round"),
    "below": solved("1", "local"),
}


def test_the_shortest_way_leads_to_what_is_required_directly():
    assert find_shortest_chain("core", GRAPH) == ("core", "middle", "top")
    assert find_shortest_chain("top", GRAPH) == ("top",)
    assert find_shortest_chain("round", GRAPH) == ("round",)
    assert find_shortest_chain("below", GRAPH) == ("below", "local")


def test_a_need_is_told_with_its_way_and_place(tmp_path: Path):
    path = tmp_path / "fn" / "requirements.txt"
    function = Function(
        name="fn",
        source=tmp_path,
        handler="app.handler",
        target=Target.of("python3.12", "x86_64"),
        requirements=None,
        lock_path=tmp_path / "pylock.fn.toml",
    )
    member = JointMember(
        name="fn",
        key="",
        functions=(function,),
        declaration=Declaration(folder=tmp_path, path=path, digest="", files=()),
        lines=(),
        constraints=(),
        arguments=(),
        places={"top": Place(text="top>=5", path=path, line=3), "plain": Place(text="plain", path=path, line=0)},
    )
    graph = {**GRAPH, "plain": solved("7", is_direct=True)}
    assert describe_need(member, ("core", "middle", "top"), graph, tmp_path) == (
        "core 2 by way of middle 3 and top 5 (fn/requirements.txt:3)"
    )
    assert describe_need(member, ("top",), graph, tmp_path) == "top>=5 (fn/requirements.txt:3)"
    assert describe_need(member, ("plain",), graph, tmp_path) == "plain 7 (fn/requirements.txt)"
    assert describe_need(member, ("below", "local"), graph, tmp_path) == "below 1 by way of local"
