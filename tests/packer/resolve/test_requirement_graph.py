"""Who requires what, by the metadata of wheels: extras, markers, chains, and what goes with a distribution."""

from __future__ import annotations

from pathlib import Path

import msgspec.structs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.runtimes import Target
from packer.cache.local import LocalStore
from packer.core.model import BytesContent, Entry, Function, Requirements, Tree
from packer.resolve.requirement_graph import RequirementGraph, RequirementGraphs, RequirementStep, read_requirement_graph
from packer.source.dependency_files import PYPROJECT, REQUIREMENTS
from tests.wheels import metadata_text


def tree(name: str, *requires: str) -> Tree:
    data = metadata_text(name, "1.0", requires=requires).encode()
    return Tree.of([Entry(path=f"{name}-1.0.dist-info/METADATA", mode=0o644, content=BytesContent.of(data), owner=name)])


@pytest.fixture
def function(tmp_path):
    return Function(
        name="orders",
        source=tmp_path,
        handler="app.handler",
        target=Target.of("python3.12", "x86_64"),
        requirements=Requirements(kind=REQUIREMENTS, path=tmp_path / "requirements.txt"),
        lock_path=tmp_path / "pylock.orders.toml",
    )


def required(function: Function, file: str, /, **trees: tuple[str, ...]) -> RequirementGraph:
    assert function.requirements is not None
    Path(function.requirements.path).write_text(file)
    return read_requirement_graph(function, {name: tree(name, *requires) for name, requires in trees.items()})


def words(needs: RequirementGraph, name: str) -> list[str]:
    return [" -> ".join(step.words for step in chain) for chain in needs.chains(name, 9)]


def test_the_worked_example(function):
    needs = required(function, "web\ntools>=1\n", web=("json<3", "text"), tools=("text>=2",), json=(), text=())
    assert words(needs, "json") == ["web -> json<3"]
    assert words(needs, "text") == ["tools>=1 -> text>=2", "web -> text"]
    assert words(needs, "web") == ["web"]
    assert needs.only_for("web") == {"web", "json"}
    assert needs.only_for("text") == {"text"}
    assert needs.below("web") == {"web", "json", "text"}


def test_extras_and_markers_decide(function):
    asked = (
        'one; extra == "more"',
        'two; extra == "other"',
        'three; sys_platform == "win32"',
        'four; python_version >= "3.12"',
    )
    needs = required(function, "web[more]\n", web=asked, one=(), two=(), three=(), four=())
    assert [step.name for step in needs.edges["web"]] == ["four", "one"]
    assert {step.name for step in needs.direct} == {
        "web",
        "two",
        "three",
    }  # somebody has asked for them, and nobody here says so


def test_extras_are_asked_for_along_a_chain(function):
    needs = required(function, "a\n", a=("b[x]",), b=('c; extra == "x"',), c=("b[y]",), d=())
    assert words(needs, "c") == ["a -> b[x] -> c"]
    assert words(needs, "d") == ["d"]


def test_names_are_normalized(function):
    needs = required(function, "My_Web.Kit==1\n", **{"my-web-kit": ("Some_Thing>1",), "some-thing": ()})
    assert words(needs, "some-thing") == ["My_Web.Kit==1 -> Some_Thing>1"]


def test_circular_requirements_end(function):
    needs = required(function, "a\n", a=("b",), b=("a", "c"), c=("b",))
    assert words(needs, "a") == ["a", "a -> b -> a"]
    assert needs.only_for("b") == {"b", "c"}


def test_a_lock_without_names_has_roots_all_the_same(function):
    needs = required(function, "", a=("b",), b=(), c=("a",), x=("y",), y=("x",))
    assert [step.name for step in needs.direct] == ["c"] or {step.name for step in needs.direct} == {"c", "x", "y"}
    assert needs.reached(step.name for step in needs.direct) >= {"a", "b", "c"}


def test_hashes_and_constraints_are_no_requirements(function, tmp_path):
    (tmp_path / "bounds.txt").write_text("b==1\n")
    digest = "0" * 64
    needs = required(function, f"-c bounds.txt\na==1 --hash=sha256:{digest}\n", a=("b",), b=())
    assert words(needs, "b") == ["a==1 -> b"]


def test_a_project_file_names_what_it_requires(function, tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[project]\ndependencies = ["a>=1"]\n[project.optional-dependencies]\nfast = ["b"]\nslow = ["c"]\n'
        '[dependency-groups]\nweb = ["d", {include-group = "other"}]\n'
    )
    wanted = Requirements(kind=PYPROJECT, path=path, extras=("fast",), groups=("web",))
    needs = read_requirement_graph(
        msgspec.structs.replace(function, requirements=wanted), {name: tree(name) for name in "abcd"}
    )
    assert [step.words for step in needs.direct] == ["a>=1", "b", "d", "c"]


def test_broken_metadata_and_none_are_not_known(function):
    needs = read_requirement_graph(function, {"a": Tree(()), "b": tree("b", "not a requirement !!", "a")})
    assert needs.unknown == {"a"}
    assert [step.name for step in needs.edges["b"]] == ["a"]


names = st.sampled_from("abcdef")
graphs = st.dictionaries(names, st.frozensets(names, max_size=4), min_size=1)


@given(graphs, st.frozensets(names, min_size=1))
def test_what_goes_with_a_distribution_is_what_nothing_else_reaches(edges, direct):
    known = {
        name: tuple(RequirementStep(name=each, words=each) for each in sorted(to) if each in edges)
        for name, to in edges.items()
    }
    roots = tuple(RequirementStep(name=name, words=name) for name in sorted(direct) if name in edges)
    needs = RequirementGraph(direct=roots, edges=known)
    everything = needs.reached(step.name for step in roots)
    for name in everything:
        only = needs.only_for(name) & everything
        assert name in only
        rest = needs.reached((step.name for step in roots if step.name != name), without=name)
        assert only | rest == everything
        assert not only & rest
        for chain in needs.chains(name, 9):
            assert chain[-1].name == name
            assert chain[0] in roots


def test_a_graph_is_read_once_for_a_store(tmp_path, function):
    expected = required(function, "a\n", a=("b>=1",), b=())
    wheels, graphs = {"a": "1", "b": "2"}, RequirementGraphs(LocalStore(tmp_path / "store"))

    def fail() -> RequirementGraph:
        raise LookupError

    assert graphs.read(function, wheels, lambda: expected) == expected
    assert graphs.read(function, wheels, fail) == expected
    for others in ({"a": "1", "b": "3"}, {"a": "1"}):
        with pytest.raises(LookupError):
            graphs.read(function, others, fail)
    (function.source / "requirements.txt").write_text("b\n")
    with pytest.raises(LookupError):
        graphs.read(function, wheels, fail)
