"""`lpack coldstart`, and verification in the Runtime Interface Emulator: real starts of small functions."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.emulator import use_emulator, use_no_emulator
from tests.shaped import Project, make_project
from tests.wheels import make_wheel

HANDLER = "import shop.slow\n\n\ndef handler(event, context):\n    return {'got': event, 'value': shop.slow.VALUE}\n"
SLOW = b"import time, json\ntime.sleep(0.02)\nVALUE = 7\n"
RIE = 'verify = { level = "rie", events = ["events/*.json"] }'


@pytest.fixture
def project(tmp_path, lpack, index, index_folder, cache) -> Project:
    make_wheel(index_folder, "shop", "1.0", {"shop/__init__.py": b"", "shop/slow.py": SLOW, "shop/tests/test_it.py": b"1\n"})
    project = make_project(tmp_path / "project", lpack, HANDLER, "shop\n")
    project.write({"events/first.json": '{"order": 1}', "events/second.json": "[]"})
    return project


@pytest.fixture
def without(monkeypatch, index_folder) -> None:
    use_no_emulator(monkeypatch, index_folder)


@pytest.fixture
def emulator(monkeypatch, index_folder) -> None:
    use_emulator(monkeypatch, index_folder)


def measured(project: Project, *flags: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.run("coldstart", "--json", "--rounds", "2", *flags).stdout)
    return found


def check_figures(found: dict[str, Any]) -> None:
    one = found["functions"]["one"]
    for side in (one["before"], one["after"]):
        assert len(side["samples"]) == 2
        assert min(side["samples"]) <= side["median"] <= max(side["samples"])
        assert side["median"] > 20  # the module sleeps that long
    assert one["ratio"] == pytest.approx(one["after"]["median"] / one["before"]["median"], abs=0.01)


@pytest.mark.usefixtures("without")
class TestImport:
    """Without the emulator, the import of the handler is timed."""

    def test_medians_before_and_after_are_told(self, project):
        found = measured(project)
        assert found["clock"] == "import"
        check_figures(found)

    def test_the_import_tree_is_told_with_its_distributions(self, project):
        imports = {each["module"]: each for each in measured(project)["functions"]["one"]["imports"]}
        assert imports["app"]["distribution"] == "<source>"
        assert imports["shop.slow"]["distribution"] == imports["shop"]["distribution"] == "shop"
        assert imports["json"]["distribution"] == "python"
        assert imports["shop.slow"]["depth"] == imports["app"]["depth"] + 1
        assert imports["app"]["cumulative"] >= imports["shop.slow"]["cumulative"] >= imports["shop.slow"]["self"] >= 20

    def test_each_distributions_share_is_told(self, project):
        shares = measured(project)["functions"]["one"]["distributions"]
        assert shares["shop"] >= 20
        assert list(shares.values()) == sorted(shares.values(), reverse=True)

    def test_what_is_measured_is_said(self, project):
        finished = project.run("coldstart", "--rounds", "1")
        assert "so the import of the handler is timed, not the whole init" in finished.stderr
        assert "one 1/1: " in finished.stderr
        lines = finished.stdout.splitlines()
        assert lines[0].split() == ["untrimmed", "as", "built", "ratio"]
        assert lines[1].startswith("one ")
        assert "one: the slowest modules, self and cumulative" in lines
        assert any(line.endswith("  shop.slow") for line in lines)

    def test_a_start_over_the_budget_ends_with_status_3(self, project):
        project.configure('budget = { init = "1 ms" }')
        finished = project.run("coldstart", "--rounds", "1", "--json", status=3)
        assert re.search(r"to start, over its budget of 1 ms\.\nSlowest: .*\bshop \d+ ms", finished.stderr)
        assert json.loads(finished.stdout)["functions"]["one"]["after"]["median"] > 1

    def test_a_start_within_the_budget_is_good(self, project):
        project.configure('budget = { init = "60 s" }')
        measured(project)

    def test_a_function_that_cannot_start_is_told(self, project):
        project.write(
            {"src/app.py": "import os\nTABLE = os.environ['TABLE']\n\ndef handler(event, context):\n    return TABLE\n"}
        )
        stderr = project.run("coldstart", "--rounds", "1", status=4).stderr
        assert "one cannot be started here: KeyError: 'TABLE'" in stderr
        project.configure('verify = { environment = { TABLE = "orders" } }')
        project.run("coldstart", "--rounds", "1")

    def test_flags_decide_what_is_measured(self, project):
        project.run("coldstart", "--rounds", "1", "--trim", "none", "--bytecode", "off")
        assert "no profile says" in project.run("coldstart", "--rounds", "1", "--trim", "max", status=2).stderr

    def test_coldstart_writes_no_artifact(self, project):
        measured(project)
        assert not project.archive.exists()

    def test_the_emulator_is_missed_where_it_was_asked_for(self, project):
        project.configure(RIE)
        stderr = project.run("build", status=1).stderr
        assert "there is no Runtime Interface Emulator" in stderr
        assert "LPACK_RIE=PATH" in stderr


@pytest.mark.usefixtures("emulator")
class TestEmulator:
    """With it, the whole init phase is, and functions are proved in it."""

    def test_the_init_phase_is_timed(self, project):
        found = measured(project)
        assert found["clock"] == "Runtime Interface Emulator"
        check_figures(found)
        assert "shop.slow" in {each["module"] for each in found["functions"]["one"]["imports"]}

    def test_events_prove_a_function_in_it(self, project):
        project.configure(RIE)
        project.write({"events/first.expected.json": '{"got": {"order": 1}, "value": 7}'})
        assert project.build()["verified"]["level"] == "rie"

    def test_an_expected_result_that_does_not_come_fails_in_it(self, project):
        project.configure(RIE)
        project.write({"events/second.expected.json": '{"got": [], "value": 8}'})
        stderr = project.run("build", status=4).stderr
        assert 'for the event second.json: {"got": [], "value": 7}' in stderr

    def test_an_error_is_an_outcome_in_it(self, project):
        project.configure(RIE)
        project.write({"src/app.py": "def handler(event, context):\n    raise KeyError('tea')\n"})
        assert project.build()["verified"]["level"] == "rie"
        project.write({"events/first.expected.json": "1"})
        stderr = project.run("build", status=4).stderr
        assert "for the event first.json: KeyError: 'tea'" in stderr

    def test_what_trimming_breaks_is_caught_in_it(self, project, index_folder):
        late = b"import importlib\n\nVALUE = importlib.import_module('late.' + 'te' + 'sts.test_it').VALUE\n"
        make_wheel(index_folder, "late", "1.0", {"late/__init__.py": late, "late/tests/test_it.py": b"VALUE = 1\n"})
        project.configure(RIE)
        project.write(
            {
                "src/requirements.txt": "late\n",
                "src/app.py": "import late\n\ndef handler(event, context):\n    return late.VALUE\n",
            }
        )
        stderr = project.run("build", status=4).stderr
        assert "one needs what trimming removes (tests of late)" in stderr
        assert project.build("--trim", "auto")["trim"]["kept"] == [{"rule": "tests", "distribution": "late"}]

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            ("import os; os._exit(3)", ("the runtime ended before the handler was there", "cannot be run here")),
            ("1 / 0", ("the runtime ended before the handler was there", "cannot be run here")),
            (
                "import nothing_of_that_name",
                ("module 'nothing_of_that_name' that app.py:1 imports", "Add the distribution that provides it"),
            ),
        ],
    )
    def test_an_init_phase_that_fails_proves_nothing(self, project, words, told):
        project.configure(RIE)
        project.write({"src/app.py": f"{words}\n\ndef handler(event, context):\n    return None\n"})
        stderr = project.run("build", status=4).stderr
        assert all(each in stderr for each in told), stderr

    def test_a_null_result_is_a_result_in_it(self, project):
        # The emulator answers with the same to an event that no function was there for.
        project.configure(RIE)
        project.write({"src/app.py": "def handler(event, context):\n    return None\n", "events/first.expected.json": "null"})
        assert project.build()["verified"]["level"] == "rie"

    def test_a_handler_that_ends_the_interpreter_does_so_both_times(self, project):
        project.configure(RIE)
        project.write({"src/app.py": "import os\n\ndef handler(event, context):\n    os._exit(3)\n"})
        project.build()
        project.write({"events/first.expected.json": "1"})
        # Without the number of the request, which is another one each time.
        told = "for the event first.json: Runtime.ExitError: Runtime exited with error: exit status 3"
        assert told in project.run("build", status=4).stderr
