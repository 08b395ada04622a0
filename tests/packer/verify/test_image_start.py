"""The start of images in their own file systems: without an engine, as Lambda would start them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from builders.interpreters import find_interpreter
from builders.sandbox.isolation import CommandEnd
from packer.core.errors import VerificationError
from packer.verify.image_start import _check
from tests.engine import RUNTIME_312_IMAGE, docker, need_engine
from tests.images import read_layout, tar_of, write_base
from tests.packer.verify.test_runner import function

CONFIG = """\
runtime = "python3.12"
arch = "x86_64"
format = "image"
verify = "import"
oci = {{ base = "{base}"{more} }}
[functions.one]
source = "one"
handler = "app.handler"
"""
HANDLER = """\
import os
if "UNLIKE" in os.environ:
    os.environ["MISSING"]

def handler(event, context):
    return os.getcwd()
"""


@pytest.fixture
def build(tmp_path: Path, lpack, shared_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that builds a project with a base, and returns what the command came to."""
    if find_interpreter(12) is None:
        pytest.skip("needs CPython 3.12")
    monkeypatch.setenv("LPACK_CACHE_DIR", str(shared_folder / "cache-with-runtime-3.12"))  # which unpacks the base once
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "app.py").write_text(HANDLER)
    (tmp_path / "one" / "requirements.txt").touch()

    def run(base: str, more: str = "") -> Any:
        (tmp_path / "lpack.toml").write_text(CONFIG.format(base=base, more=more))
        return lpack("build", cwd=tmp_path)

    return run


@pytest.fixture
def elsewhere() -> Any:
    """Give a base that starts in another folder than the function's."""
    need_engine(RUNTIME_312_IMAGE)
    name = "lpack-test/elsewhere:1"
    made = docker("create", RUNTIME_312_IMAGE, "sh").stdout.strip()
    docker("commit", "--change", "WORKDIR /function", made, name)
    docker("rm", made)
    yield f"engine:{name}"
    docker("image", "rm", "--force", name)


@pytest.mark.docker
def test_image_starts_where_its_function_lies(tmp_path: Path, build, elsewhere: str):
    built = build(elsewhere)
    assert built.returncode == 0, built.stderr
    [record] = json.loads((tmp_path / "dist" / "lpack.json").read_text())["functions"].values()
    assert record["image"]["started"] is True
    [image] = read_layout(tmp_path / "dist" / "images" / "one")
    assert image.config["config"]["WorkingDir"] == "/var/task"


@pytest.mark.docker
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (', environment = { UNLIKE = "the function" }', "The image of one starts, and cannot import its handler: KeyError: "),
        (', entrypoint = ["/bin/sh", "-c", "echo no luck; exit 3"]', "it ended with status 3 before it asked"),
    ],
)
def test_image_that_cannot_start_its_function_ends_the_build(build, more: str, said: str):
    need_engine(RUNTIME_312_IMAGE)
    built = build(f"engine:{RUNTIME_312_IMAGE}", more)
    assert (built.returncode, said in built.stderr) == (4, True), built.stderr
    assert ("no luck" in built.stderr) == ("no luck" in more)


def test_program_that_no_machine_can_run_ends_the_build(tmp_path: Path, build):
    python = tar_of(("usr/bin/python3.12", b"#!/bin/sh\n"), ("usr/lib/python3/dist-packages/awslambdaric/__init__.py", b""))
    write_base(tmp_path / "base", python, config={"config": {"Env": ["PATH=/usr/bin"], "WorkingDir": "/function"}})
    built = build("oci:base")
    assert built.returncode == 4, built.stderr
    assert (
        "The image of one cannot be started: /usr/bin/python3.12 cannot be started (No such file or directory)." in built.stderr
    )


def test_start_is_not_tried_upon_a_base_that_has_changed(tmp_path: Path, build, monkeypatch: pytest.MonkeyPatch):
    python = tar_of(("usr/bin/python3.12", b"#!/bin/sh\n"), ("usr/lib/python3/dist-packages/awslambdaric/__init__.py", b""))
    write_base(tmp_path / "base", python, config={"config": {"Env": ["PATH=/usr/bin"], "WorkingDir": "/function"}})
    monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path / "cache"))
    assert "cannot be started" in build("oci:base").stderr
    [changed] = (tmp_path / "cache" / "runtimes").glob("*/root/usr/bin/python3.12")
    before = changed.stat()
    changed.write_bytes(b"#!/bin/no\n")
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    built = build("oci:base")
    assert (built.returncode, "its image is not tried: the unpacked base oci:base has changed" in built.stderr) == (0, True)


def test_what_a_start_prints_and_reports_cannot_change_what_is_shown():
    report = b'{"errorType": "\\u001b[2JAll is well", "errorMessage": "no"}'
    ended = CommandEnd(status=1, late=False, output=b"\x1b[2Jdone\n", answer=report, asked=True)
    with pytest.raises(VerificationError, match=r"handler: \\x1b\[2JAll is well: no\.") as caught:
        _check(function(), ended)
    assert caught.value.detail == r"\x1b[2Jdone"
