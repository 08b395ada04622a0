"""Functions like those that users report to fail on Lambda: built from real distributions, and called as they were packed."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from builders.interpreters import find_interpreter
from tests.forkserver import CommandServer
from tests.packages import FIXTURES
from tests.sharing import make_once

pytestmark = [pytest.mark.network, pytest.mark.slow]

_CALL = """\
import importlib, json, sys
task, handler, event, answer = sys.argv[1:]
sys.path[0] = task
module, _, name = handler.rpartition(".")
result = getattr(importlib.import_module(module), name)(json.loads(event), None)
with open(answer, "w") as file:
    json.dump(result, file)
"""
_PATIENCE = 600


class Reported(Struct, frozen=True):
    """A folder of `fixtures/reported` that was built, and what the command came to."""

    folder: Path
    status: int
    said: str

    @property
    def functions(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "dist" / "lpack.json").read_text())["functions"]
        return found

    def paths(self, name: str, out: str = "dist") -> set[str]:
        """Return the paths of a function's archive."""
        with zipfile.ZipFile(self.folder / out / f"{name}.zip") as archive:
            return set(archive.namelist())

    def call(self, name: str, event: Any, folder: Path, handler: str = "app.handler", out: str = "dist") -> Any:
        """Call a function from its unpacked archive, as Lambda does: by CPython 3.12, which reads no .pth file (``-S``)."""
        task, answer = folder / "task", folder / "answer"
        with zipfile.ZipFile(self.folder / out / f"{name}.zip") as archive:
            archive.extractall(task)
        python = find_interpreter(12)
        assert python is not None
        command = [str(python.path), "-S", "-B", "-c", _CALL, str(task), handler, json.dumps(event), str(answer)]
        done = subprocess.run(
            command, cwd=task, env={"HOME": str(folder)}, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(answer.read_text())


def build(server: CommandServer, shared: Path, name: str) -> Reported:
    """Build a folder once in a run."""
    if find_interpreter(12) is None:
        pytest.skip("needs CPython 3.12")

    def make(folder: Path) -> None:
        shutil.copytree(FIXTURES / "reported" / name, folder, dirs_exist_ok=True)
        done = server.run(("build",), folder, _PATIENCE)
        (folder / "said").write_text(json.dumps([done.returncode, done.stdout + done.stderr]))

    folder = make_once(shared / f"reported-{name}", make)
    return Reported(folder, *json.loads((folder / "said").read_text()))


@pytest.fixture
def accepted(command_server: CommandServer, shared_folder: Path) -> Reported:
    found = build(command_server, shared_folder, "accepted")
    assert found.status == 0, found.said
    return found


@pytest.fixture
def denied(command_server: CommandServer, shared_folder: Path) -> Reported:
    return build(command_server, shared_folder, "denied")


def test_data_in_folders_named_for_tests_is_there(accepted: Reported, tmp_path: Path):
    assert accepted.call("models", {"work": str(tmp_path)}, tmp_path) == {
        "price": "success",
        "not_null_price_price": "pass",
        "unique_price_price": "pass",
    }


def test_scripts_that_are_sent_to_windows_hosts_are_there(accepted: Reported, tmp_path: Path, command_server: CommandServer):
    assert "ansible/executor/powershell/bootstrap_wrapper.ps1" in accepted.paths("windows")
    plain = ("--trim", "none", "--bytecode", "off", "--verify", "none", "--out", "plain")
    done = command_server.run(("build", "windows", *plain), accepted.folder, _PATIENCE)
    assert done.returncode == 0, done.stderr
    answers = []
    for out in ("dist", "plain"):
        (tmp_path / out).mkdir()
        answers.append(accepted.call("windows", {"module": "win_ping"}, tmp_path / out, out=out))
    assert answers[0] == answers[1]
    assert "-EncodedCommand" in answers[0]


def test_metadata_lists_what_is_packed(accepted: Reported, tmp_path: Path):
    answer = accepted.call("owners", {"name": "httpx"}, tmp_path)
    packed = {path for path in accepted.paths("owners") if path.startswith(("httpx/", "httpx-", "bin/httpx"))}
    assert answer == {"owners": ["httpx"], "files": sorted(packed)}
    assert {"httpx/_api.py", "httpx-0.28.1.dist-info/RECORD"} <= packed


def test_a_project_knows_its_version(accepted: Reported, tmp_path: Path):
    assert accepted.call("project", {}, tmp_path, "stockfn.app.handler") == ["4.1.2", "3.10"]


def test_a_console_script_starts_with_what_is_packed(accepted: Reported, tmp_path: Path):
    with zipfile.ZipFile(accepted.folder / "dist" / "server.zip") as archive:
        archive.extractall(tmp_path)
        assert archive.getinfo("bin/uvicorn").external_attr >> 16 & 0o777 == 0o755
    python = find_interpreter(12)
    assert python is not None
    command = [str(python.path), "-S", "-B", str(tmp_path / "bin" / "uvicorn"), "--version"]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    assert done.stdout.startswith("Running uvicorn 0.34.0 with CPython 3.12")
    assert (tmp_path / "bin" / "uvicorn").read_text().startswith("#!/var/lang/bin/python3.12\n")


def test_all_that_can_be_run_here_was_verified(accepted: Reported):
    for name in ("owners", "project", "server", "windows"):  # the other's import takes as long as theirs together
        assert accepted.functions[name]["verified"]["level"] == "import"


@pytest.mark.parametrize(
    "said",
    [
        "locks cannot be imported, trimmed or not: OSError: [Errno 38] Function not implemented, at app.py:5; ",
        "writes cannot be imported, trimmed or not: OSError: [Errno 30] Read-only file system: '/var/cache', at app.py:6; ",
        "pdf cannot be imported, trimmed or not: neither the function nor the runtime has the library gobject-2.0-0 that ",
    ],
)
def test_what_lambda_does_not_have_ends_the_build(denied: Reported, said: str):
    assert denied.status == 4
    assert said in denied.said
    assert not (denied.folder / "dist" / f"{said.partition(' ')[0]}.zip").exists()
    assert not Path("/var/cache/lpack-reported").exists()


def test_a_home_that_is_not_there_leaves_a_function_not_verified(denied: Reported, command_server: CommandServer):
    done = command_server.run(("build", "home", "--out", "apart"), denied.folder, _PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "home was not verified: it cannot be run here, trimmed or not (OSError: [Errno 30] Read-only file" in done.stderr
    assert 'environment = { HOME = "/tmp" }' in done.stderr
    assert not (Path.home() / ".cache" / "lpack-reported").exists()
