"""Functions that do harm: each is stopped by its limits, nothing of it is left, and what comes next runs as ever."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from builders.runtimes import MEGABYTE
from tests.builders.sandbox.test_host_sandbox import as_nobody
from tests.hostile import MEMORY_FILLERS, TIMELESS, Ending, run_all
from tests.probing import ONE_USER_FOR_ALL, host, probe, results

AS_NOBODY = """\
import pathlib, sys, tempfile
import msgspec
from tests.hostile import run_all
from tests.probing import host
python = host()
with tempfile.TemporaryDirectory() as folder:
    assert not python.unconfined, python.unconfined
    print(msgspec.json.encode(run_all(python, pathlib.Path(folder, "run"))).decode())
"""


@pytest.fixture(scope="module", params=["this user", "another user"])
def endings(request, tmp_path_factory) -> dict[str, Ending]:
    """Run what harms, once for each user that runs lpack."""
    request.getfixturevalue("confined")
    if request.param == "another user":
        finished = as_nobody(AS_NOBODY, "hostile.py")
        assert finished.returncode == 0, finished.stderr
        return msgspec.json.decode(finished.stdout, type=dict[str, Ending])
    python = host()
    found = run_all(python, tmp_path_factory.mktemp("hostile"))
    folder: Path = tmp_path_factory.mktemp("after")
    assert results(probe(python, folder / "run", "result = os.listdir('/tmp')")) == [[]]
    return found


def result(ending: Ending) -> object:
    return json.loads(ending.answer)["events"][0]["result"]


def test_nothing_is_left_running(endings):
    assert [name for name, ending in endings.items() if ending.left] == []


def test_what_holds_too_much_memory_is_stopped_wherever_it_is(endings):
    found = {name: endings[f"memory {name}"] for name in MEMORY_FILLERS}
    assert {name: ending for name, ending in found.items() if not 96 < ending.memory / MEGABYTE <= 310} == {}
    assert {(ending.status, ending.late, ending.answer) for ending in found.values()} == {(-9, False, "")}


def test_disk_is_full_at_its_size(endings):
    assert result(endings["disk"]) == ["ENOSPC", 8]
    error, made = json.loads(endings["names"].answer)["events"][0]["result"]
    assert error == "ENOSPC"
    assert made < 2000


def test_processes_are_bounded(endings):
    if "processes" not in endings:
        assert ONE_USER_FOR_ALL
        return
    error, made = json.loads(endings["processes"].answer)["events"][0]["result"]
    assert error == "EAGAIN"
    assert 900 < made <= 1024


def test_what_outlives_or_stops_others_has_no_effect(endings):
    assert result(endings["daemon"]) == "left"
    assert result(endings["stops others"]) == "went on"


def test_what_does_not_end_is_killed_at_its_time(endings):
    assert {(endings[name].status, endings[name].late, endings[name].answer) for name in TIMELESS} == {(-9, True, "")}


def test_output_is_cut(endings):
    assert result(endings["prints"]) == "printed"
    assert endings["prints"].log == MEGABYTE


@pytest.mark.parametrize("name", ["closes its answer", "answers elsewhere"])
def test_what_has_no_answer_has_none(endings, name):
    assert not endings[name].late
    assert endings[name].answer == ""
