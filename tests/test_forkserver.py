"""What runs in a fork sees, says and ends as what runs in a Python of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.forkserver import CommandServer


def test_a_fork_says_what_a_new_process_says(tmp_path, lpack, fresh_lpack):
    (tmp_path / "fn").mkdir()
    for arguments in (("--version",), ("build", "--no-such-flag"), ("build", "fn/"), ("check", "--json"), ("cache", "info")):
        fork, fresh = lpack(*arguments, cwd=tmp_path), fresh_lpack(*arguments, cwd=tmp_path)
        assert (fork.returncode, fork.stdout, fork.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr), arguments
    assert fork.args[0] == "lpack"


def test_variables_that_python_reads_at_its_start_need_a_new_process(tmp_path, lpack, monkeypatch):
    assert lpack("--version", cwd=tmp_path).args[0] == "lpack"
    for name, value in {"PYTHONHASHSEED": "7", "LC_ALL": "C", "PYTHONIOENCODING": "latin-1"}.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert lpack("--version", cwd=tmp_path).args[0] == sys.executable


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose command line tells what it sees."""
    folder = tmp_path_factory.mktemp("told")
    telling = "import os, sys, time, tempfile, random, signal\n"
    telling += "def main():\n    exec(sys.argv[1])\n"
    (folder / "packer" / "cli").mkdir(parents=True)
    (folder / "packer" / "__init__.py").touch()
    (folder / "packer" / "cli" / "__init__.py").write_text(telling)
    (folder / "tests").symlink_to(Path(__file__).parent)
    (folder / "builders").mkdir()
    (folder / "builders" / "__init__.py").touch()
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(folder))
            patch.setattr("tests.forkserver._ROOT", folder)
            running = stack.enter_context(CommandServer())
        yield running


def said(server: CommandServer, code: str, folder: Path) -> str:
    finished = server.run((code,), folder, 60)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def test_a_fork_has_the_folder_variables_and_umask_of_who_asks(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TOLD", "é")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    before = os.umask(0o027)
    try:
        code = "print(os.getcwd(), os.environ['TOLD'], tempfile.gettempdir(), time.tzname[0], oct(os.umask(0)))"
        assert said(server, code, tmp_path) == f"{tmp_path} é {tmp_path} JST 0o27\n"
        assert said(server, "print('HOME' in os.environ)", tmp_path) == "True\n"
        monkeypatch.delenv("HOME")
        assert said(server, "print('HOME' in os.environ)", tmp_path) == "False\n"
    finally:
        os.umask(before)


def test_a_fork_has_no_other_files_open_than_its_streams(server, tmp_path):
    code = "print(*sorted(os.listdir('/proc/self/fd'), key=int), sys.stdin.read(), sys.stdout.isatty())"
    assert said(server, code, tmp_path) == "0 1 2 3  False\n"  # the last is the folder that is being listed


def test_a_fork_ends_as_a_process_does(server, tmp_path):
    ends = {"sys.exit(3)": 3, "sys.exit('why')": 1, "1 / 0": 1, "os._exit(5)": 5, "os.kill(os.getpid(), 9)": -9}
    assert {code: server.run((code,), tmp_path, 60).returncode for code in ends} == ends
    assert server.run(("sys.exit('why')",), tmp_path, 60).stderr == "why\n"
    assert "ZeroDivisionError" in server.run(("1 / 0",), tmp_path, 60).stderr
    # Whoever started the tests may ignore Ctrl-C, and then a new process does.
    asking = "print(signal.getsignal(signal.SIGINT))"
    fresh = subprocess.run([sys.executable, "-c", f"import signal; {asking}"], capture_output=True, text=True, check=True)
    assert said(server, asking, tmp_path).partition(" at ")[0] == fresh.stdout.partition(" at ")[0]
    assert said(server, "import atexit; atexit.register(print, 'late')", tmp_path) == "late\n"


def test_forks_run_side_by_side_and_share_no_luck(server, tmp_path):
    code = "time.sleep(0.2); print(random.random(), 'x' * 100_000)"
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: said(server, code, tmp_path), range(4)))
    assert len(set(found)) == 4
    assert all(len(each) > 100_000 for each in found)


def test_a_fork_that_takes_too_long_is_stopped(server, tmp_path):
    with pytest.raises(subprocess.TimeoutExpired):
        server.run(("time.sleep(60)",), tmp_path, 0.3)
