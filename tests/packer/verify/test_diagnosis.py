"""What ends a build, and what is only told: a handler that nothing can import, or one that lacks something here."""

from __future__ import annotations

import pytest

from packer.verify.diagnosis import is_broken, remedy_for
from packer.verify.runner import Outcome
from tests.packer.cli.test_proof import with_events


def outcome(kind: str, message: str) -> Outcome:
    return Outcome(imported={"error": {"type": kind, "message": message, "trace": ""}})


@pytest.mark.parametrize(
    ("kind", "message", "broken", "told"),
    [
        ("SyntaxError", "expected ':' (app.py, line 1)", True, "Fix the source"),
        ("TabError", "inconsistent use (app.py, line 3)", True, "Fix the source"),
        ("Runtime.UserCodeSyntaxError", "Syntax error in module 'app': x (app.py, line 1)", True, "Fix the source"),
        ("SyntaxError", "invalid syntax (<unknown>, line 1)", False, "Variables"),
        ("Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'", True, "handler"),
        ("ModuleNotFoundError", "No module named 'absent'", False, "requirements"),
        ("Runtime.ImportModuleError", "Unable to import module 'app': No module named 'absent'", False, "requirements"),
        ("Runtime.InvalidEntrypoint", "what is to start the runtime cannot be started", False, "oci.entrypoint"),
        ("Runtime.ExitError", "the runtime ended before the handler was there", False, "See what it printed"),
        ("KeyError", "'TABLE'", False, "Variables"),
        ("botocore.exceptions.NoRegionError", "You must specify a region.", False, "Variables"),
    ],
)
def test_what_no_variable_can_fix_is_recognized(kind, message, broken, told):
    found = outcome(kind, message)
    assert is_broken(found) == broken
    assert told in remedy_for(found)
    assert ("Variables" in remedy_for(found)) == (told == "Variables")


def test_a_function_that_works_is_not_broken():
    assert not is_broken(Outcome(imported={"result": None}))


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        ("VALUE = 1\n\ndef handler(event, context)\n    return 1\n", "(app.py, line 3)"),
        ("def handle(event, context):\n    return 1\n", "Handler 'handler' missing on module 'app'"),
        ("handler = 1\n", "app.handler is no function"),
    ],
)
def test_a_handler_that_nothing_can_import_ends_the_build(tmp_path, lpack, index, cache, handler, told):
    project = with_events(tmp_path, lpack, handler, settings="")
    stderr = project.run("build", status=4).stderr
    assert told in stderr
    assert "Variables that it needs" not in stderr
    assert not project.archive.exists()
