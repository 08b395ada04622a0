"""How functions are shaped, as the configuration says it: every key, the more particular word, flags, and every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from packer.core.model import Function
from packer.core.options import (
    BYTECODE_MODES,
    VERIFY_LEVELS,
    VERIFY_PLACES,
    BytecodeOptions,
    ShapeFlags,
    TrimOptions,
    VerifyOptions,
)
from packer.trim.rules import ASKED, BY_NAME, STRIP
from tests.packer.config.test_load import load, refusal

FUNCTION = '[functions.orders]\nsource = "orders"\nhandler = "app.handler"\n'


def read(folder: Path, text: str = "", project: str = "", **flags: str) -> Function:
    """Give the function whose table has this text, below a project's."""
    [function] = load(folder, f"{project}\n{FUNCTION}{text}\n", shape=ShapeFlags(**flags)).functions
    return function


def test_without_a_word_it_is_trimmed_safely_compiled_and_imported(tmp_path):
    function = read(tmp_path)
    assert function.trim == TrimOptions(level="safe", profile=tmp_path / "lpack-profile.orders.toml")
    assert function.bytecode == BytecodeOptions(mode="auto", optimize=0, pause=True, prefetch=True)
    assert function.verify == VerifyOptions(level="import", seconds=60, place="auto", demanded=False)


@pytest.mark.parametrize(
    ("text", "level", "repair"),
    [
        ('trim = "none"', "none", False),
        ('trim = "safe"', "safe", False),
        ('trim = "max"', "max", False),
        ('trim = "auto"', "safe", True),
        ('trim = { level = "max", repair = true }', "max", True),
        ('trim = { repair = true, level = "safe" }', "safe", True),
        ('trim = { level = "auto", repair = false }', "safe", False),
        ("trim = { repair = true }", "safe", True),
        ("trim = {}", "safe", False),
    ],
)
def test_levels_of_trimming(tmp_path, text, level, repair):
    for trim in (read(tmp_path, text).trim, read(tmp_path, project=text).trim):
        assert (trim.level, trim.repair) == (level, repair)


def test_the_functions_level_goes_before_the_projects_and_auto_builds_on_it(tmp_path):
    assert read(tmp_path, 'trim = "none"', 'trim = "max"').trim.level == "none"
    auto = read(tmp_path, 'trim = "auto"', 'trim = "max"').trim
    assert (auto.level, auto.repair) == ("max", True)
    auto = read(tmp_path, 'trim = "auto"', 'trim = "none"').trim
    assert (auto.level, auto.repair) == ("safe", True)
    assert not read(tmp_path, 'trim = "safe"', 'trim = "auto"').trim.repair


def test_rules_and_patterns_of_the_project_and_the_function_add_up(tmp_path):
    trim = read(
        tmp_path,
        'trim = { rules = ["locales"], without = ["strip"], keep = ["b/*"], drop = ["d/*"], services = ["sqs"] }',
        'trim = { rules = ["timezones"], without = ["tests"], keep = ["a/*"], drop = ["c/*"], services = ["s3"] }',
    ).trim
    assert trim.rules == ("timezones", "locales")
    assert trim.without == ("tests", "strip")
    assert trim.keep == (("", "a/*"), ("", "b/*"))
    assert trim.drop == (("", "c/*"), ("", "d/*"))
    assert trim.services == ("sqs",)


def test_empty_services_differ_from_missing_services(tmp_path):
    assert read(tmp_path, "trim = { services = [] }").trim.services == ()
    assert read(tmp_path).trim.services is None


def test_every_rule_can_be_held_back_and_those_that_must_be_asked_for_can(tmp_path):
    every = (*BY_NAME, STRIP)
    trim = read(tmp_path, f"trim = {{ without = {list(every)}, rules = {list(ASKED)} }}").trim
    assert (trim.without, trim.rules) == (every, ASKED)


def test_packages_have_patterns_of_their_own_by_their_normalized_names(tmp_path):
    trim = read(
        tmp_path,
        '[functions.orders.packages.pandas]\nkeep = ["pandas/tests/*"]\n',
        '[packages."Zope.Interface"]\nkeep = ["z/*", "y/*"]\ndrop = ["x/*"]\n[packages.pandas]\ndrop = ["*.txt"]\n',
    ).trim
    assert trim.keep == (("zope-interface", "z/*"), ("zope-interface", "y/*"), ("pandas", "pandas/tests/*"))
    assert trim.drop == (("zope-interface", "x/*"), ("pandas", "*.txt"))


@pytest.mark.parametrize("mode", BYTECODE_MODES)
def test_modes_of_bytecode(tmp_path, mode):
    assert read(tmp_path, f'bytecode = "{mode}"').bytecode.mode == mode
    assert read(tmp_path, f'bytecode = {{ mode = "{mode}" }}').bytecode.mode == mode


def test_the_keys_of_bytecode_are_overridden_one_by_one(tmp_path):
    project = 'bytecode = { mode = "only", optimize = 2, pause-gc = false, prefetch = false }'
    assert read(tmp_path, project=project).bytecode == BytecodeOptions(mode="only", optimize=2, pause=False, prefetch=False)
    found = read(tmp_path, "bytecode = { optimize = 1, prefetch = true }", project).bytecode
    assert found == BytecodeOptions(mode="only", optimize=1, pause=False, prefetch=True)
    assert read(tmp_path, 'bytecode = "off"', project).bytecode.optimize == 2


@pytest.mark.parametrize("level", VERIFY_LEVELS)
def test_levels_of_verification_are_demanded_where_they_are_named(tmp_path, level):
    for text in (f'verify = "{level}"', f'verify = {{ level = "{level}" }}'):
        verify = read(tmp_path, text).verify
        assert (verify.level, verify.demanded) == (level, level != "none")


@pytest.mark.parametrize("place", VERIFY_PLACES)
def test_places_of_verification(tmp_path, place):
    verify = read(tmp_path, f'verify = {{ where = "{place}", time = "1500 ms" }}').verify
    assert (verify.place, verify.seconds, verify.level, verify.demanded) == (place, 1.5, "import", False)


def test_the_variables_of_a_verification_are_in_order(tmp_path):
    verify = read(tmp_path, 'verify = { environment = { TABLE = "orders", STAGE = "test" } }').verify
    assert verify.environment == (("STAGE", "test"), ("TABLE", "orders"))


def test_events_are_files_below_the_project_without_expected_results(tmp_path):
    (tmp_path / "events").mkdir()
    for name in ("b.json", "a.json", "a.expected.json", "notes.txt"):
        (tmp_path / "events" / name).touch()
    verify = read(tmp_path, 'verify = { events = ["events/*.json"] }').verify
    assert verify.events == (tmp_path / "events" / "a.json", tmp_path / "events" / "b.json")
    (tmp_path / "events" / ".#a.json").symlink_to("me@host.1234")
    assert read(tmp_path, 'verify = { events = ["events/*.json"] }').verify.events == verify.events
    assert (verify.level, verify.demanded) == ("events", True)
    (tmp_path / "events" / "old.json").mkdir()
    assert read(tmp_path, 'verify = { events = ["events/*.json"] }').verify.events == verify.events
    verify = read(tmp_path, 'verify = { events = ["events/b.json", "**/a.json"], level = "rie" }').verify
    assert [path.name for path in verify.events] == ["b.json", "a.json"]
    assert (verify.level, verify.demanded) == ("rie", True)


def test_flags_go_before_the_configuration_and_leave_the_rest_of_it(tmp_path):
    text = 'trim = { level = "none", keep = ["a/*"] }\nbytecode = { mode = "off", optimize = 1 }\nverify = { time = "5 s" }'
    function = read(tmp_path, text, trim="max", bytecode="only", verify="rie")
    assert (function.trim.level, function.trim.keep) == ("max", (("", "a/*"),))
    assert (function.bytecode.mode, function.bytecode.optimize) == ("only", 1)
    assert (function.verify.level, function.verify.demanded, function.verify.seconds) == ("rie", True, 5)
    assert not read(tmp_path, verify="none").verify.demanded


def test_the_flag_auto_repairs_at_the_level_that_is_configured(tmp_path):
    for text, level in (('trim = "max"', "max"), ('trim = "none"', "safe"), ("", "safe")):
        trim = read(tmp_path, text, trim="auto").trim
        assert (trim.level, trim.repair) == (level, True)
    assert not read(tmp_path, 'trim = "auto"', trim="safe").trim.repair


@pytest.mark.parametrize(
    ("line", "place", "hint"),
    [
        ('trim = "saef"', "trim: 'saef' is not known here", "Did you mean 'safe'?"),
        ("trim = 3", "trim: a string that is not empty", 'Write trim = "…".'),
        ("trim = true", "trim: a string that is not empty", 'Write trim = "…".'),
        ('trim = ""', "trim: a string that is not empty", 'Write trim = "…".'),
        ('trim = { level = "most" }', "trim.level: 'most' is not known here", "Known are: none, safe, max, auto."),
        ('trim = { levle = "max" }', "trim.levle: this key is not known", "Did you mean 'level'?"),
        ('trim = { repair = "yes" }', "trim.repair: true or false", "Write repair = true."),
        ('trim = { rules = ["tests"] }', "trim.rules: 'tests' is no rule that can stand here", "Known are: locales,"),
        (
            'trim = { rules = ["runtime"] }',
            "trim.rules: 'runtime' is no rule of trimming any more",
            'Write exclude = ["runtime"]',
        ),
        ('trim = { rules = ["local"] }', "trim.rules: 'local' is no rule that can stand here", "Did you mean 'locales'?"),
        ('trim = { without = ["test"] }', "trim.without: 'test' is no rule that can stand here", "Did you mean 'tests'?"),
        ('trim = { without = ["profile"] }', "trim.without: 'profile' is no rule", "Known are: "),
        ('trim = { keep = "a/*" }', "trim.keep: a list of strings", "Write keep"),
        ("trim = { drop = [3] }", "trim.drop: a list of strings", "Write drop"),
        ('trim = { services = "s3" }', "trim.services: a list of strings", "Write services"),
        ('packages = { one = { keep = "a/*" } }', "packages.one.keep: a list of strings", "Write keep"),
        ("packages = { one = { drop = 3 } }", "packages.one.drop: a list of strings", "Write drop"),
        ('bytecode = "besides"', "bytecode: 'besides' is not known here", "Did you mean 'beside'?"),
        ("bytecode = false", "bytecode: a string that is not empty", 'Write bytecode = "…".'),
        ('bytecode = { mode = "on" }', "bytecode.mode: 'on' is not known here", "Did you mean"),
        ('bytecode = { modus = "off" }', "bytecode.modus: this key is not known", "Did you mean 'mode'?"),
        ("bytecode = { optimize = 3 }", "bytecode.optimize: 3 is no optimization level", "Write 0, 1 or 2"),
        ("bytecode = { optimize = 1.0 }", "bytecode.optimize: 1.0 is no optimization level", "Write 0, 1 or 2"),
        ("bytecode = { optimize = true }", "bytecode.optimize: True is no optimization level", "Write 0, 1 or 2"),
        ('bytecode = { optimize = "1" }', "bytecode.optimize: '1' is no optimization level", "Write 0, 1 or 2"),
        ("bytecode = { pause-gc = 1 }", "bytecode.pause-gc: true or false", "Write pause-gc = true."),
        ('bytecode = { prefetch = "no" }', "bytecode.prefetch: true or false", "Write prefetch = true."),
        ('verify = "imports"', "verify: 'imports' is not known here", "Did you mean 'import'?"),
        ('verify = { level = "all" }', "verify.level: 'all' is not known here", "Known are: none, import, events, rie."),
        ("verify = 3", "verify: a string that is not empty", 'Write verify = "…".'),
        ('verify = { event = ["a.json"] }', "verify.event: this key is not known", "Did you mean 'events'?"),
        ('verify = { events = "a.json" }', "verify.events: a list of strings", "Write events"),
        ('verify = { events = ["no/*.json"] }', "verify.events: no file fits 'no/*.json' in ", "Name JSON files"),
        ('verify = { environment = "A=b" }', "verify.environment: a table is expected", "verify.environment]."),
        ("verify = { environment = { A = 3 } }", "verify.environment.A: a string that is not empty", 'Write A = "…".'),
        ('verify = { time = "long" }', "verify.time: 'long' cannot be read", 'time = "30 s"'),
        ("verify = { time = 30 }", "verify.time: 30 cannot be read", 'time = "30 s"'),
        ('verify = { time = "0 s" }', "verify.time: '0 s' is nothing", 'time = "30 s"'),
        ('verify = { where = "here" }', "verify.where: 'here' is not known here", "Known are: auto, runtime, container, host."),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, line, place, hint):
    text = refusal(tmp_path, f"{line}\n{FUNCTION}")
    assert f"lpack.toml: {place}" in text
    assert hint in text
    assert f"lpack.toml: functions.orders.{place}" in refusal(tmp_path, f"{FUNCTION}{line}\n")


@pytest.mark.parametrize("pattern", ["/events/*.json", "", ".", "./", "a**b"])
def test_a_wrong_pattern_of_events_is_a_usage_error(tmp_path, pattern):
    assert "verify.events" in refusal(tmp_path, f'{FUNCTION}verify = {{ events = ["{pattern}"] }}\n')


def test_optimize_is_a_whole_number(tmp_path):
    assert "bytecode.optimize" in refusal(tmp_path, f"{FUNCTION}bytecode = {{ optimize = 1.0 }}\n")
