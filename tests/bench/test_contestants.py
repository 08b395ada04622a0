from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.contestants import EDITED, Lpack, Sam, Uv
from bench.measure import CommandFailedError
from bench.peers import WORKLOADS, Place
from bench.scenarios import ROWS, SCENARIOS


@pytest.fixture
def place(tmp_path: Path) -> Place:
    work = tmp_path / "work"
    work.mkdir()
    return Place(cache=tmp_path / "cache", work=work, peers=tmp_path / "peers", lpack=tmp_path / "lpack")


def _write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(path.name))
    return path


def test_lpack_keeps_its_downloads_and_nothing_else(place: Place) -> None:
    lpack = Lpack(place, "pair", locked=True)
    assert [step.command[1] for step in lpack.copy()] == ["lock"]
    lock = _write(lpack.folder / "pylock.api.toml")
    kept = _write(place.cache / "lpack" / "wheels" / "1" / "ab" / "cd")
    gone = [
        _write(lpack.folder / "dist" / "api.zip"),
        _write(place.cache / "lpack" / "derived" / "index" / "ab"),
        _write(place.cache / "lpack" / "projects" / "x.json"),
    ]
    lpack.reset()
    assert kept.exists()
    assert lock.exists()
    assert not any(path.exists() for path in gone)


def test_what_is_built_again_keeps_everything(place: Place) -> None:
    lpack = Lpack(place, "mono12", locked=False, kept=True)
    assert list(lpack.copy()) == []
    kept = [_write(lpack.folder / "dist" / "orders.zip"), _write(place.cache / "lpack" / "projects" / "x.json")]
    lpack.reset()
    assert all(path.exists() for path in kept)


def test_each_edit_is_another_line(place: Place) -> None:
    sam = Sam(place, "mono12", "--cached", kept=True, edit=True)
    list(sam.copy())
    sources = []
    for _ in range(3):
        sam.reset()
        sources.append((sam.folder / EDITED).read_text())
    assert len(set(sources)) == 3
    assert sources[2].startswith(sources[1])
    compile(sources[2], EDITED, "exec")


def test_a_second_scenario_goes_on_in_the_first_ones_folder(place: Place) -> None:
    again, edited = (Sam(place, "mono12", "--cached", kept=True, edit=edit) for edit in (False, True))
    list(again.copy())
    built = _write(again.folder / ".aws-sam" / "build" / "template.yaml")
    list(edited.copy())
    edited.reset()
    assert built.exists()
    assert edited.folder == again.folder


def test_sam_zips_every_function_it_built(place: Place) -> None:
    sam = Sam(place, "pair")
    list(sam.copy())
    sam.reset()
    steps = sam.steps()
    assert next(steps).command[1:] == ("build",)
    for name in ("Api", "Data"):
        _write(sam.folder / ".aws-sam" / "build" / name / "app.py")
    _write(sam.folder / ".aws-sam" / "build" / "template.yaml")
    assert [(step.command[0], step.folder.name) for step in steps] == [("zip", "Api"), ("zip", "Data")]


def test_uv_installs_copies_and_zips_function_by_function(place: Place) -> None:
    uv = Uv(place, "pair")
    list(uv.copy())
    uv.reset()
    assert [Path(step.command[0]).name for step in uv.steps()] == ["uv", "cp", "zip"] * 2


def test_without_lpack_there_is_nothing_to_measure(place: Place) -> None:
    missing = Place(cache=place.cache, work=place.work, peers=place.peers, lpack=None)
    with pytest.raises(CommandFailedError, match="lpack is not installed"):
        Lpack(missing, "pair", locked=True).check()


def test_measured_processes_may_write_bytecode(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    environment = place.lpack_environment()
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert "PYTHONDONTWRITEBYTECODE" not in place.peer_environment()


def test_the_tools_share_no_cache(place: Place) -> None:
    environment = place.peer_environment()
    assert environment["UV_CACHE_DIR"] != place.lpack_environment()["UV_CACHE_DIR"]
    assert environment["PATH"].startswith(str(place.peers))


def test_only_the_peers_are_spared_the_index(place: Place) -> None:
    offline = replace(place, offline=True)
    assert offline.peer_environment()["PIP_NO_INDEX"] == "1"
    assert offline.lpack_environment() == place.lpack_environment()


def test_every_row_names_contestants_of_its_scenario(place: Place) -> None:
    names = {scenario.name: set(scenario.contestants(place)) for scenario in SCENARIOS}
    for row in ROWS:
        assert {row.subject, row.peer} <= names[row.scenario]


@pytest.mark.parametrize("workload", ["pair", "mono12"])
def test_the_configuration_lists_every_function(workload: str) -> None:
    folder = WORKLOADS / workload
    functions = tomllib.loads((folder / "lpack.toml").read_text())["functions"]
    assert sorted(functions) == sorted(path.parent.name for path in folder.glob("*/app.py"))
    for function in functions.values():
        assert (folder / function["requirements"]).is_file()
        assert f"CodeUri: {function['source']}/" in (folder / "template.yaml").read_text()
