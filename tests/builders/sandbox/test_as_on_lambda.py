"""What Lambda denies a function is denied in its proof, and what it grants is granted, whoever runs lpack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders.runtimes import Target
from packer.core.model import Function
from packer.verify.runner import function_environment
from tests.builders.sandbox.test_host_sandbox import as_nobody
from tests.confinement import DENIED, GRANTED, Row, try_all
from tests.probing import host
from tests.shaped import ARCHITECTURE, RUNTIME

AS_NOBODY = """\
import json, pathlib, sys, tempfile
from tests.confinement import try_all
from tests.probing import host
python = host()
with tempfile.TemporaryDirectory() as folder:
    assert not python.unconfined, python.unconfined
    print(json.dumps(try_all(python, pathlib.Path(folder, "run"), json.loads({environment!r}))))
"""


def variables() -> dict[str, str]:
    """Give the variables of a function that has none of its own."""
    function = Function(
        name="one",
        source=Path("/nowhere"),
        handler="app.handler",
        target=Target.of(RUNTIME, ARCHITECTURE),
        requirements=None,
        lock_path=Path("/nowhere/pylock.toml"),
    )
    return function_environment(function)


@pytest.fixture(scope="module", params=["this user", "another user"])
def found(request, tmp_path_factory) -> dict[str, Any]:
    """Try all that a function could try, once for each user that runs lpack."""
    request.getfixturevalue("confined")
    if request.param == "this user":
        return try_all(host(), tmp_path_factory.mktemp("rows") / "run", variables())
    finished = as_nobody(AS_NOBODY.format(environment=json.dumps(variables())), "confinement.py")
    assert finished.returncode == 0, finished.stderr
    seen: dict[str, Any] = json.loads(finished.stdout)
    return seen


def test_every_row_is_another_one_and_says_where_it_is_known_from():
    rows = (*DENIED, *GRANTED)
    assert len({row.what for row in rows}) == len(rows)
    assert all(row.source for row in rows)
    assert (len(DENIED) >= 25, len(GRANTED) >= 15) == (True, True)


@pytest.mark.parametrize("rows", [DENIED, GRANTED], ids=["denied", "granted"])
def test_what_lambda_denies_is_denied_and_what_it_grants_is_granted(found: dict[str, Any], rows: tuple[Row, ...]):
    assert {row.what: found[row.what] for row in rows if row.what in found and found[row.what] not in row.expected} == {}
    assert len({row.what for row in rows} - found.keys()) <= 1  # what no test may do while others run
