"""Functions that share layers: planning again after what builds find out comes to an end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Struct, field

from builders.errors import LpackError
from builders.runtimes import Target
from packer.core.errors import VerificationError
from packer.core.events import Reporter
from packer.core.model import Function
from packer.core.options import BytecodeOptions, LayerOptions, TrimOptions
from packer.layers.assignment import LayerShare, MadeLayer, Need, Needed
from packer.layers.planner import Piece
from packer.pipeline.layer_maker import Beside, Version
from packer.pipeline.layer_parts import LayerCompilation
from packer.pipeline.local_work import SettledFunction
from packer.pipeline.plan_progress import MOST_REVISIONS, Progress
from packer.pipeline.zip_groups import ArtifactPurpose, GroupMember, ZipGroup
from tests.counting import count_hashes
from tests.packer.records import layer_record

TARGET = Target.of("python3.12", "x86_64")
UNITS = [("tests", f"dist{number}") for number in range(1000)]
TOO_MANY = MOST_REVISIONS + 5


class NeverEnds(Exception):
    """More rounds than there may be."""


def function(name: str) -> Function:
    return Function(
        name=name,
        source=Path("/nowhere") / name,
        handler="app.handler",
        target=TARGET,
        requirements=None,
        lock_path=Path(f"/nowhere/pylock.{name}.toml"),
        trim=TrimOptions(level="safe", repair=True),
        layers=LayerOptions(mode="auto"),
    )


def settled(
    *, restored: frozenset[Any], kept: frozenset[Any], alone: str = "", cramped: bool = False, need: Need | None = None
) -> SettledFunction:
    nothing: Any = None
    need = need or Need(distributions={}, own=0, options=LayerOptions())
    return SettledFunction(result=nothing, staged=Path(), need=need, restored=restored, kept=kept, alone=alone, cramped=cramped)


class FakeWork(Struct):
    """Does nothing; ``findings`` say of each function how many times its build finds one thing more to be needed."""

    findings: dict[str, int]
    settled: list[str] = field(default_factory=list)

    def prepare(self, version: Version) -> tuple[Need, frozenset[Any]]:
        shared = Needed(name="shared", version="1", variant="v", size=1_000_000)
        own = Needed(name=version.name, version="1", variant="v", size=10)
        need = Need(distributions={"shared": shared, version.name: own}, own=1, options=LayerOptions(mode="auto"))
        return need, version.kept or frozenset()

    def warm(self, wanted):
        del wanted

    def size(self, wanted):
        del wanted
        return Piece(zipped=500_000, unzipped=1_000_000)

    def make(self, share, wanted, beside):
        del wanted, beside
        nothing: Any = None
        return MadeLayer(name="layer", pieces=share.pieces, report=layer_record(), archive=nothing, staged=None)

    def ready(self, todo):
        del todo

    def settle(self, version, layers):
        del layers
        self.settled.append(version.name)
        if self.settled.count(version.name) > TOO_MANY:
            raise NeverEnds(version.name)
        restored = version.kept or frozenset()
        more = len(restored) < self.findings[version.name]
        kept = restored | {UNITS[len(restored)]} if more else restored
        return settled(restored=restored, kept=kept, need=self.prepare(version)[0])


class BuiltGroup(ZipGroup):
    """A group whose result is which layers each function was settled with."""

    def _record_all(self, *_progress):
        return dict(self._settled)


def group(findings: dict[str, int]) -> tuple[BuiltGroup, FakeWork]:
    gatherer: Any = SimpleNamespace(scan=lambda _: None, inputs=lambda *_: None)
    members = [GroupMember(function(name), gatherer, None) for name in findings]
    work = FakeWork(findings)
    way = LayerCompilation(options=BytecodeOptions(mode="off"), python="")
    return BuiltGroup(members, frozenset(findings), work, way, lambda _: True, Reporter(), 0, ArtifactPurpose()), work


def build(findings: dict[str, int]) -> tuple[dict[str, Any], FakeWork]:
    made, work = group(findings)
    with ThreadPoolExecutor(1) as executor:
        return made.build(executor), work


def test_what_builds_find_out_is_built_again_until_nothing_more_is_found():
    built, work = build({"a": 0, "b": 2, "c": 0})
    assert set(built) == {"a", "b", "c"}
    assert sorted(work.settled) == ["a", "b", "b", "b", "c"]
    assert built["b"][1].restored == {UNITS[0], UNITS[1]}


def test_as_many_revisions_as_there_may_be_are_no_error():
    built, work = build({"a": MOST_REVISIONS, "b": 0})
    assert len(built["a"][1].restored) == MOST_REVISIONS
    assert work.settled.count("a") == MOST_REVISIONS + 1


def test_a_function_that_never_comes_to_rest_ends_the_build():
    with pytest.raises(VerificationError) as caught:
        build({"a": 0, "b": len(UNITS)})
    assert caught.value.exit_status == 4
    assert str(caught.value).startswith(f"b was built {MOST_REVISIONS + 1} times")
    assert f"tests of dist{MOST_REVISIONS}." in str(caught.value)
    assert 'layers = "none" for b' in str(caught.value)


def test_all_that_never_come_to_rest_are_told_of():
    with pytest.raises(LpackError) as caught:
        build({"a": len(UNITS), "b": len(UNITS)})
    assert "a was built" in str(caught.value)
    assert "b was built" in str(caught.value)


def test_a_revision_is_another_value():
    first = Progress(name="a")
    cramped = settled(restored=frozenset(), kept=frozenset(), cramped=True)
    second = first.revise(cramped)
    assert second == Progress(name="a", tight=True, revisions=1)
    assert first == Progress(name="a")
    assert second.revise(cramped) is None
    alone = settled(restored=frozenset(), kept=frozenset(), cramped=True, alone="why")
    assert second.revise(alone) == Progress(name="a", tight=True, alone="why", revisions=2)


def test_planned_layers_are_not_hashed_with_all_their_users(monkeypatch):
    hashed = count_hashes(monkeypatch, LayerShare, Beside)
    built, _ = build({"a": 1, "b": 0, "c": 0})
    assert [len(layers) for layers, _ in built.values()] == [1, 1, 1]
    assert hashed == {}
