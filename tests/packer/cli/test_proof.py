"""Sample events: what a function answers must be what it answers untrimmed, and what is expected of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.forkserver import CommandServer
from tests.marks import marking_lpack
from tests.shaped import MINOR, RUNTIME, Project, make_project
from tests.wheels import make_wheel

ECHO = "def handler(event, context):\n    return {'got': event, 'name': context.function_name}\n"
EVENTS = 'verify = { events = ["events/*.json"] }'
LATE = b"import importlib\n\ndef value():\n    return importlib.import_module('late.' + 'te' + 'sts.test_it').VALUE\n"
IN_TIME = 'verify = { events = ["events/*.json"], time = "2 s" }'


def with_events(tmp_path: Path, lpack, handler: str, *, requirements: str = "alpha\n", settings: str = EVENTS) -> Project:
    project = make_project(tmp_path / "project", lpack, handler, requirements, settings)
    project.write({"events/first.json": '{"order": 1}', "events/second.json": '["ä"]'})
    return project


def test_equal_results_prove_a_function(tmp_path, lpack, index, cache):
    project = with_events(tmp_path, lpack, ECHO)
    verified = project.build()["verified"]
    assert verified["level"] == "events"
    assert RUNTIME.removeprefix("python") in verified["by"]


def test_expected_results_are_met(tmp_path, lpack, index, cache):
    project = with_events(tmp_path, lpack, ECHO)
    project.write({"events/first.expected.json": '{"name": "one", "got": {"order": 1}}'})
    project.build()


def test_an_expected_result_that_does_not_come_fails(tmp_path, lpack, index, cache):
    project = with_events(tmp_path, lpack, ECHO)
    project.write({"events/second.expected.json": '{"name": "one", "got": ["a"]}'})
    stderr = project.run("build", status=4).stderr
    assert 'one does not give what is expected for the event second.json: {"got": ["ä"], "name": "one"}' in stderr
    assert 'Expected, as a result: {"name": "one", "got": ["a"]}' in stderr
    # Once it is mended, the next build sees that.
    project.write({"events/second.expected.json": '{"name": "one", "got": ["ä"]}'})
    project.build()


def test_an_expected_result_fails_where_the_handler_raises(tmp_path, lpack, index, cache):
    project = with_events(tmp_path, lpack, "def handler(event, context):\n    return event['order']\n")
    project.write({"events/second.expected.json": "null"})
    stderr = project.run("build", status=4).stderr
    assert "for the event second.json: TypeError: list indices must be integers" in stderr
    assert 'File "/var/task/app.py", line 2, in handler' in stderr


def test_an_expected_null_is_met_by_none_alone(tmp_path, lpack, index, cache):
    project = with_events(tmp_path, lpack, "def handler(event, context):\n    return None\n")
    project.write({"events/first.expected.json": "null"})
    project.build()
    project.write({"src/app.py": "def handler(event, context):\n    return 0\n"})
    project.run("build", status=4)


def test_a_result_that_trimming_changes_is_caught(tmp_path, lpack, index, index_folder, cache):
    make_wheel(index_folder, "counted", "1.0", {"counted/__init__.py": b"", "counted/tests/test_one.py": b"1\n"})
    count = "len(list(pathlib.Path(counted.__file__).parent.glob('te' + 'sts/*.py')))"
    handler = f"import pathlib, counted\n\ndef handler(event, context):\n    return {count}\n"
    project = with_events(tmp_path, lpack, handler, requirements="counted\n")
    stderr = project.run("build", status=4).stderr
    assert "one needs what trimming removes (tests of counted): another result, for the event first.json" in stderr
    assert project.build("--trim", "auto")["trim"]["kept"] == [{"rule": "tests", "distribution": "counted"}]
    assert project.answer() == 1


def test_results_that_differ_each_time_are_equal_in_kind(tmp_path, lpack, index, cache):
    project = with_events(tmp_path, lpack, "import uuid\n\ndef handler(event, context):\n    return str(uuid.uuid4())\n")
    finished = project.run("build")
    assert "fails" not in finished.stderr
    assert project.build()["verified"]["level"] == "events"


def test_a_random_result_does_not_hide_an_error_that_trimming_brings(tmp_path, lpack, index, index_folder, cache):
    make_wheel(index_folder, "late", "1.0", {"late/__init__.py": LATE, "late/tests/test_it.py": b"VALUE = 1\n"})
    handler = "import uuid, late\n\ndef handler(event, context):\n    return [late.value(), str(uuid.uuid4())]\n"
    project = with_events(tmp_path, lpack, handler, requirements="late\n")
    stderr = project.run("build", status=4).stderr
    assert "tests of late" in stderr
    assert "ModuleNotFoundError: No module named 'late.tests'" in stderr


def test_an_import_alone_does_not_see_what_only_an_event_reaches(tmp_path, lpack, index, index_folder, cache):
    # Else the test above could pass for another reason.
    make_wheel(index_folder, "late", "1.0", {"late/__init__.py": LATE, "late/tests/test_it.py": b"VALUE = 1\n"})
    handler = "import late\n\ndef handler(event, context):\n    return late.value()\n"
    project = with_events(tmp_path, lpack, handler, requirements="late\n", settings="")
    assert project.build()["verified"]["level"] == "import"


def test_events_that_all_end_with_errors_verify_nothing(tmp_path, lpack, index, cache):
    project = with_events(tmp_path, lpack, "def handler(event, context):\n    raise KeyError(str(event))\n")
    assert "each of its events ends with an error (KeyError: " in project.run("build").stderr
    assert project.build()["verified"]["not_verified"]["cause"] == "event"
    project.run("build", "--strict", status=4)


NO_OUTCOME = {
    "ends the interpreter": ("import os\n    os._exit(3)", "the interpreter ended with status 3"),
    "is killed": ("import os\n    os.kill(os.getpid(), 9)", "the interpreter ended with signal 9"),
    "never ends": ("while True:\n        pass", "it was stopped after 2 s"),
}


@pytest.mark.parametrize(("body", "trouble"), NO_OUTCOME.values(), ids=NO_OUTCOME)
def test_a_handler_that_gives_no_outcome_to_an_event_proves_nothing(tmp_path, lpack, index, cache, body, trouble):
    project = with_events(tmp_path, lpack, f"def handler(event, context):\n    {body}\n", settings=IN_TIME)
    stderr = project.run("build", status=4).stderr
    assert f"trimmed or not: {trouble}" in stderr
    assert "needs what trimming removes" not in stderr


@pytest.mark.parametrize("name", ["is killed", "never ends"])
def test_a_module_that_cannot_be_imported_either_way_is_told_and_built(tmp_path, lpack, index, cache, name):
    body, trouble = NO_OUTCOME[name]
    handler = f"if True:\n    {body}\n\ndef handler(event, context):\n    return 1\n"
    project = with_events(tmp_path, lpack, handler, settings='verify = { time = "2 s" }')
    stderr = project.run("build").stderr
    assert (
        f"one was not verified: it cannot be run here, trimmed or not ({trouble}{' (SIGKILL)' if name == 'is killed' else ''})."
        in stderr
    )
    assert ("one: it was stopped after 2 s; running it untrimmed to compare" in stderr) == (name == "never ends")
    assert project.archive.is_file()


def test_call_that_never_ends_is_a_failure_once_its_timeout_is_known(tmp_path, lpack, index, cache):
    handler = "def handler(event, context):\n    while True:\n        pass\n"
    project = with_events(
        tmp_path, lpack, handler, settings='timeout = "1 s"\nverify = { events = ["events/*.json"], time = "20 s" }'
    )
    stderr = project.run("build", status=4).stderr
    assert "one cannot be run here, trimmed or not: a call takes longer than its timeout of 1 s." in stderr


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ("'x' * (6_291_556 - 2)", True),
        ("'x' * (6_291_556 - 1)", False),
        ("b'x' * 6_291_557", False),
        # Lambda's client writes ASCII up to python3.11, and UTF-8 from python3.12 on.
        ("'ä' * 2_000_000", MINOR >= 12),
    ],
)
def test_result_that_is_too_large_for_lambda_is_a_failure(tmp_path, lpack, index, cache, body, fits):
    project = with_events(tmp_path, lpack, f"def handler(event, context):\n    return {body}\n")
    stderr = project.run("build", status=0 if fits else 4).stderr
    assert ("bytes, and Lambda takes results of at most 6,291,556 bytes." in stderr) == (not fits)
    assert ("put what is large into S3" in stderr) == (not fits)


def test_event_that_is_too_large_for_lambda_is_refused(tmp_path, lpack, index, cache):
    project = with_events(tmp_path, lpack, ECHO)
    project.write({"events/second.json": f'"{6_291_455 * "x"}"'})
    stderr = project.run("build", status=2).stderr
    assert "second.json takes 6,291,457 bytes of JSON, and Lambda takes events of at most 6,291,456." in stderr


def test_traceback_begins_with_the_functions_own_code(tmp_path, lpack, index, cache):
    handler = "import json\ndef handler(event, context):\n    return json.loads('{')\n"
    project = with_events(tmp_path, lpack, handler)
    project.write({"events/first.expected.json": "1"})
    stderr = project.run("build", status=4).stderr
    assert 'Traceback (most recent call last):\n  File "/var/task/app.py", line 3, in handler\n' in stderr
    assert "json/decoder.py" in stderr
    assert "awslambdaric" not in stderr


def test_arguments_are_those_that_lambda_gives(tmp_path, lpack, index, cache):
    handler = "import argparse\nargparse.ArgumentParser().parse_args()\ndef handler(event, context):\n    return 1\n"
    assert with_events(tmp_path, lpack, handler).build()["verified"]["level"] == "events"


def test_the_handler_gets_the_event_and_a_context_as_on_lambda(tmp_path, lpack, index, cache):
    handler = (
        "import os\n\ndef handler(event, context):\n"
        "    names = ('AWS_LAMBDA_FUNCTION_NAME', 'AWS_EXECUTION_ENV', 'LAMBDA_TASK_ROOT', '_HANDLER', 'MINE',\n"
        "        'AWS_LAMBDA_RUNTIME_API')\n"
        "    return [event, context.get_remaining_time_in_millis() > 0, *(os.environ[name] for name in names)]\n"
    )
    settings = 'verify = { events = ["events/first.json"], environment = { MINE = "yes" } }'
    project = with_events(tmp_path, lpack, handler, settings=settings)
    runtime = json.loads(project.run("build", "--json").stdout)["functions"]["one"]["runtime"]
    wanted = [{"order": 1}, True, "one", f"AWS_Lambda_{runtime}", "/var/task", "app.handler", "yes", "127.0.0.1:9001"]
    project.write({"events/first.expected.json": json.dumps(wanted)})
    stderr = project.run("build", "--verbose").stderr
    assert "expected" not in stderr


def test_an_event_that_is_no_json_is_named(tmp_path, lpack, index, cache):
    project = with_events(tmp_path, lpack, ECHO)
    project.write({"events/second.json": "{"})
    assert "second.json is not valid JSON" in project.run("build", status=2).stderr


@pytest.fixture
def counted(tmp_path: Path, command_server: CommandServer, index: object, cache: Path) -> tuple[Project, Path]:
    """Give a project with events that it does not use yet, and a file that gets a mark whenever its function is run."""
    marks = tmp_path / "marks"
    marks.touch()
    handler = "def handler(event, context):\n    return 1\n"
    return with_events(tmp_path, marking_lpack(command_server, marks), handler, settings=""), marks


def test_nothing_runs_a_second_time_when_nothing_changed(counted):
    project, marks = counted
    project.build()
    once = marks.read_text()
    assert once == "x"  # a run that imports well need not be held against the untrimmed one
    project.build()
    assert marks.read_text() == once
    # Neither does another build of the same bytes: the outcome is kept with the archive's digest.
    project.build("--out", "elsewhere")
    assert marks.read_text() == once
    project.write({"src/more.py": ""})
    project.build()
    assert marks.read_text() == "xx"


def test_events_run_before_and_after_once_each(counted):
    project, marks = counted
    project.configure(EVENTS)
    project.build()
    assert marks.read_text() == "xx"
    project.build("--out", "elsewhere")
    assert marks.read_text() == "xx"
    project.write({"events/first.json": '{"order": 2}'})
    project.build()
    assert marks.read_text() == "xxxx"


def test_verify_none_runs_nothing(counted):
    project, marks = counted
    assert project.build("--verify", "none")["verified"] == {"level": "none"}
    assert not marks.read_text()


def test_what_was_not_proved_before_is_proved_when_it_is_asked_for(counted):
    project, marks = counted
    project.build("--verify", "none")
    assert project.build("--verify", "events")["verified"]["level"] == "import"
    assert marks.read_text() == "x"


def test_nothing_shaped_is_nothing_to_prove_unless_that_is_asked_for(counted):
    project, marks = counted
    flags = ("--trim", "none", "--bytecode", "off")
    assert project.build(*flags)["verified"] == {"level": "none"}
    assert not marks.read_text()
    assert project.build(*flags, "--verify", "import")["verified"]["level"] == "import"
    assert marks.read_text() == "x"


def test_an_event_that_is_added_is_noticed(tmp_path, lpack, index, cache):
    project = with_events(tmp_path, lpack, "def handler(event, context):\n    return event['order']\n")
    project.write({"events/second.json": '{"order": 2}'})
    project.build()
    project.write({"events/third.json": "[]", "events/third.expected.json": "3"})
    assert "for the event third.json" in project.run("build", status=4).stderr


def test_functions_of_one_archive_are_told_apart_by_their_names(tmp_path, lpack, index, cache):
    handler = "import os\nCONFIG = {'one': 1}[os.environ['AWS_LAMBDA_FUNCTION_NAME']]\ndef handler(*_): ...\n"
    project = with_events(tmp_path, lpack, handler)
    project.configure('verify = "import"\n[functions.two]\nsource = "src"\nhandler = "app.handler"\nverify = "import"')
    assert "two cannot be run here, trimmed or not: KeyError: 'two'" in project.run("build", status=4).stderr
    project.run("build", "one")


def test_the_event_that_differs_is_named_and_not_one_that_fails_anyway(tmp_path, lpack, index, index_folder, cache):
    make_wheel(index_folder, "late", "1.0", {"late/__init__.py": LATE, "late/tests/test_it.py": b"VALUE = 1\n"})
    handler = (
        "import late\n\ndef handler(event, context):\n    return late.value() if event == {'order': 1} else event[0]['x']\n"
    )
    project = with_events(tmp_path, lpack, handler, requirements="late\n")
    project.write({"events/a-failing-one.json": '["ä"]'})
    stderr = project.run("build", status=4).stderr
    assert "one needs what trimming removes (tests of late): ModuleNotFoundError" in stderr
    assert "for the event first.json" in stderr
    assert "TypeError" not in stderr


def test_events_that_raise_either_way_are_counted(tmp_path, lpack, index, cache):
    project = with_events(tmp_path, lpack, "def handler(event, context):\n    return event['order']\n")
    assert "verified by events (1 of 2 raise an error, trimmed or not)" in project.run("build").stderr
    assert project.build()["verified"]["raised"] == 1
