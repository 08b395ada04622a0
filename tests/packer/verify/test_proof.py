"""Proofs whose runs are prepared: which archive was proved, and which repairs are remembered for whom."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from packer.cache.local import LocalStore
from packer.core.events import Reporter
from packer.core.model import OWN_SOURCE, BytesContent, Distribution, Entry, Function, Tree
from packer.core.options import TrimOptions
from packer.formats.unpack import LayerArchive
from packer.formats.zip_writer import WrittenArchive
from packer.pipeline import local_work
from packer.pipeline.local_work import LocalWork
from packer.source.layer_content import LayerContent
from packer.trim.engine import RemovedFile
from packer.trim.material import Material
from packer.trim.shape import ShapedFunction
from packer.verify.candidates import CandidateWriter
from packer.verify.proof import Prover, Repairs
from packer.verify.runner import Outcome
from tests.packer.verify.test_runner import function

GOOD, BAD = Outcome(), Outcome(imported={"error": {"type": "E", "message": "broken", "trace": ""}})
LATE = Outcome(failure="it was stopped after 2 s", late=True)
UNIT = ("tests", "lib")
LAYERED, WHOLE, UNTRIMMED = "layered", "whole", "untrimmed"
FUNCTION = replace(function("import"), trim=TrimOptions(repair=True))
LAYER = LayerArchive(path=Path("/nowhere/layer.zip"), sha256="0" * 64)


def shaped(name: str) -> ShapedFunction:
    """Return a function that says in its only file how it was shaped."""
    tree = Tree.of([Entry(path="app.py", mode=0o644, content=BytesContent.of(name.encode()), owner=OWN_SOURCE)])
    removed = () if name == UNTRIMMED else (RemovedFile(rule=UNIT[0], owner=UNIT[1], path="lib/tests/a.py", size=1),)
    return ShapedFunction(tree=tree, parts=(), removed=removed)


class FakeShaper:
    def plain(self, _material: Material) -> ShapedFunction:
        return shaped(UNTRIMMED)

    def shape(self, _material: Material, restored: frozenset[Any]) -> ShapedFunction:
        return shaped(f"{WHOLE}{''.join(sorted(name for _, name in restored))}")

    def finish(self, *_: object) -> ShapedFunction:
        return shaped(LAYERED)


def write(tree: Tree, path: Path) -> WrittenArchive:
    data = b"".join(entry.content.read() for entry in tree)
    path.write_bytes(data)
    return WrittenArchive(sha256=hashlib.sha256(data).hexdigest(), length=len(data))


class Alone:
    """The surroundings of a function that needs nothing."""

    def carried(self) -> Tree:
        return Tree(())

    def runtime(self, modules: Collection[str]) -> Tree:
        raise AssertionError(modules)

    def layers(self) -> tuple[LayerContent, ...]:
        return ()


class PreparedRuns:
    """Has an outcome ready for each run of an archive, by what it holds; the last one for all that follow."""

    def __init__(self, outcomes: Mapping[str, list[Outcome]]) -> None:
        self._outcomes = outcomes

    def sandbox(self, _function: Function) -> Any:
        return SimpleNamespace(place="here", has_packages=True, unconfined="", path=None)

    def has_packages(self, _function: Function) -> bool:
        return True

    def archive_layers(self, contents: tuple[LayerContent, ...]) -> tuple[LayerArchive, ...]:
        assert not contents
        return ()

    def outcome(self, _function: Function, archive: Path, *_: object) -> Outcome:
        ready = self._outcomes[archive.read_text()]
        return ready.pop(0) if len(ready) > 1 else ready[0]


def make_material(function: Function = FUNCTION, **values: Any) -> Material:
    distribution = Distribution(name="lib", version="1", filename="lib-1-py3-none-any.whl", digest="d", path=Path("/nowhere"))
    empty: dict[str, Any] = {"scans": {}, "native": {}, "profile": None, "services": None}
    return Material(function=function, parts=((OWN_SOURCE, Tree(())),), distributions=(distribution,), **{**empty, **values})


def make_prover(folder: Path, outcomes: Mapping[str, list[Outcome]]) -> Prover:
    shaper: Any = FakeShaper()
    runs: Any = PreparedRuns({UNTRIMMED: [GOOD], **outcomes})
    return Prover(Repairs(LocalStore(folder / "store")), CandidateWriter(shaper, write), runs, Reporter())


@pytest.fixture
def settle(tmp_path, monkeypatch):
    """Return a function that settles one function, with a layer, whose runs are prepared."""

    def make_result(_gathered: object, proof: object, layers: object, _seconds: float) -> Any:
        return SimpleNamespace(proof=proof, layers=layers)

    monkeypatch.setattr(local_work, "make_result", make_result)
    monkeypatch.setattr(local_work, "read_layer_files", lambda _layer: {})

    def run(outcomes: Mapping[str, list[Outcome]]) -> tuple[Any, Path]:
        prover = make_prover(tmp_path, outcomes)
        gathered = SimpleNamespace(material=make_material(), function=FUNCTION, attached_bytes=0)
        prepared = SimpleNamespace(
            gathered=gathered, cut=None, restored=frozenset(), need=None, seconds=0.0, names_in=lambda _layers: frozenset()
        )
        preparation: Any = SimpleNamespace(prepare=lambda _version: prepared, forget=lambda _name: None)
        layer: Any = SimpleNamespace(archive=LAYER, report=SimpleNamespace(unzipped_bytes=1))
        shaper: Any = FakeShaper()
        maker: Any = None
        version: Any = None
        (tmp_path / "staging").mkdir()
        work = LocalWork(preparation, maker, shaper, prover, lambda _material: Alone(), tmp_path / "staging")
        settled = work.settle(version, [layer])
        return settled, settled.staged

    return run


def test_staged_archive_is_the_one_that_was_proved(settle):
    settled, staged = settle({LAYERED: [GOOD], WHOLE: [GOOD]})
    assert staged.read_text() == LAYERED
    assert len(settled.result.layers) == 1


def test_staged_archive_of_a_function_that_fails_with_layers_is_the_whole_package(settle):
    settled, staged = settle({LAYERED: [BAD], WHOLE: [GOOD]})
    assert "does not behave with layers as it does in one package" in settled.alone
    assert staged.read_text() == WHOLE
    assert settled.result.proof.candidate.written.sha256 == hashlib.sha256(staged.read_bytes()).hexdigest()
    assert settled.result.layers == ()


def test_whole_package_that_works_at_the_second_try_replaces_layers_that_fail(settle):
    settled, staged = settle({LAYERED: [BAD], WHOLE: [LATE, GOOD]})
    assert settled.alone
    assert staged.read_text() == WHOLE
    assert settled.result.proof.level == "import"
    assert settled.kept == frozenset()


def test_layers_that_work_at_the_second_try_are_kept(settle):
    settled, staged = settle({LAYERED: [LATE, GOOD], WHOLE: [LATE, GOOD]})
    assert settled.alone == ""
    assert staged.read_text() == LAYERED
    assert len(settled.result.layers) == 1


def test_what_is_stopped_for_time_only_when_trimmed_gets_back_what_it_waits_for(settle):
    settled, staged = settle({LAYERED: [LATE], WHOLE: [LATE], f"{WHOLE}{UNIT[1]}": [GOOD]})
    assert (settled.kept, staged.read_text()) == ({UNIT}, f"{WHOLE}{UNIT[1]}")
    assert settled.result.proof.level == "import"


def test_what_is_stopped_for_time_trimmed_or_not_is_not_proved(settle):
    settled, _ = settle({LAYERED: [LATE], WHOLE: [LATE], f"{WHOLE}{UNIT[1]}": [LATE], UNTRIMMED: [LATE]})
    assert (settled.kept, settled.result.proof.level) == (frozenset(), "none")


def test_repairs_are_remembered_for_their_target_alone(tmp_path):
    repairs, other = Repairs(LocalStore(tmp_path)), replace(FUNCTION, target=replace(FUNCTION.target, ceiling=17))
    repairs.save(make_material(), frozenset({UNIT}))
    assert repairs.is_known(make_material())
    assert repairs.load(make_material()) == {UNIT}
    assert not repairs.is_known(make_material(other))
    assert repairs.load(make_material(other)) == frozenset()


def test_repairs_of_another_version_of_lpack_are_not_believed(tmp_path, monkeypatch):
    repairs = Repairs(LocalStore(tmp_path))
    repairs.save(make_material(), frozenset({UNIT}))
    monkeypatch.setattr("packer.verify.proof.__version__", "0.0.0")
    assert repairs.load(make_material()) == frozenset()
