"""What Lambda denies a function is denied in its proof, and what it grants is granted, whoever runs lpack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from builders.engine.client import connect
from builders.engine.container_sandbox import ContainerSandbox
from builders.engine.images import EngineImages
from builders.recipes import BuildSettings
from builders.runtimes import RuntimeImage, Target
from builders.sandbox.host_sandbox import find_anew
from builders.sandbox.runtime_sandbox import RuntimeSandbox
from packer.cache.local import LocalStore
from packer.core.model import Function
from packer.verify.runner import function_environment
from packer.verify.runtime_images import find_runtime_files
from tests.builders.sandbox.test_host_sandbox import as_nobody
from tests.confinement import DENIED, GRANTED, Row, try_all
from tests.engine import RUNTIME_312_IMAGE, need_engine
from tests.probing import host
from tests.runtimes import shared_runtime
from tests.shaped import ARCHITECTURE, RUNTIME

TARGET = Target.of("python3.12", "x86_64")
PULLED = 'runtime = "python3.12"\narch = "x86_64"\nglibc = "2.36"'

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


EXPLAINED = {
    # Of the stand-in, which is Debian's.
    "find programs of a developer's machine": ["su"],
    "verify certificates": "ENOENT",
    # Of an engine, which mounts them: nobody can enter them.
    "have devices of a machine": ["mqueue", "pts"],
}
"""What comes of rows where the system of an image, or its engine, and not the sandbox decides."""


def in_container(folder: Path) -> dict[str, Any]:
    """Try all in a container of a stand-in for the runtime's image."""
    need_engine(RUNTIME_312_IMAGE)
    engine = connect()
    images = EngineImages(engine, print, lambda _name, _text: None, offline=True)
    python = ContainerSandbox(engine, images, TARGET, BuildSettings(image=RUNTIME_312_IMAGE))
    try:
        return try_all(python, folder, variables())
    finally:
        python.close()


def in_runtime(folder: Path, shared_folder: Path) -> dict[str, Any]:
    """Try all in the unpacked file system of the same stand-in."""
    name, cache = shared_runtime(shared_folder, RUNTIME_312_IMAGE, PULLED)
    files = find_runtime_files(replace(TARGET, image=RuntimeImage(name=name)), LocalStore(cache))
    assert files
    python = RuntimeSandbox(files, find_anew)
    try:
        return try_all(python, folder, variables())
    finally:
        python.close()


@pytest.fixture(
    scope="module",
    params=[
        *("this user", "another user"),
        *(pytest.param(place, marks=pytest.mark.docker) for place in ("a container", "the runtime's files")),
    ],
)
def found(request, tmp_path_factory, shared_folder) -> dict[str, Any]:
    """Try all that a function could try, once for each place that it runs in, and for each user that runs lpack."""
    folder = tmp_path_factory.mktemp("rows") / "run"
    if request.param == "a container":
        return in_container(folder)
    request.getfixturevalue("confined")
    if request.param == "the runtime's files":
        return in_runtime(folder, shared_folder)
    if request.param == "this user":
        return try_all(host(), folder, variables())
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
def test_what_lambda_denies_is_denied_and_what_it_grants_is_granted(request, found: dict[str, Any], rows: tuple[Row, ...]):
    others = {row.what: found[row.what] for row in rows if row.what in found and found[row.what] not in row.expected}
    of_image = not request.node.callspec.params["found"].endswith("user")
    assert others == {what: value for what, value in others.items() if of_image and EXPLAINED.get(what) == value}
    assert len({row.what for row in rows} - found.keys()) <= 1  # what no test may do while others run
