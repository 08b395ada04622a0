"""One process that forks for each command: what ends it, what it ends, and that commands do not get in each other's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builders.errors import BuildError
from builders.inside import read_script
from builders.sandbox.isolation import IsolatedCommand, Isolation
from tests.probing import host, probe, refuse_namespaces, results

ROOT = Path(__file__).resolve().parents[3]
SH = "/bin/sh"
PLACES = ("/var/task", "/opt")
_LEAVING = "setsid sh -c 'echo $$; setsid sleep 600 & echo $!; wait' & while [ $(wc -l </proc/$$/fd/2) -lt 2 ]; do :; done"
"""Starts a process with a session of its own, which starts another such, and prints the numbers of both."""


def order(folder: Path, script: str, **variables: str) -> IsolatedCommand:
    """Give the order for a script of the shell, with the folder's `task` at /var/task."""
    (folder / "task").mkdir(parents=True)
    (folder / "log").touch()
    return IsolatedCommand(
        command=[SH, "-c", script],
        variables={"PATH": os.defpath, **variables},
        start="/var/task",
        log=folder / "log",
        shown=[((folder / "task",), "/var/task")],
        empty_tmp=False,
    )


def is_gone(process: int) -> bool:
    """Say whether a process has ended, by now or within half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.usefixtures("confined")
class TestMany:
    def test_each_has_its_own_place_variables_log_and_status(self, tmp_path):
        isolation = Isolation(PLACES)

        def run(number: int) -> tuple[int, str]:
            folder = tmp_path / str(number)
            one = order(folder, 'ls; echo "$NAME"; ls /proc/self/fd | wc -l; exit "$NAME"', NAME=str(number))
            (folder / "task" / f"file-{number}").touch()
            ended = isolation.run(one, 60, folder)
            assert ended is not None
            assert not ended.late
            return ended.status, (folder / "log").read_text()

        with ThreadPoolExecutor(4) as executor:
            found = list(executor.map(run, range(40)))
        isolation.close()
        # Standard input, output, errors, and the folder that is listed: nothing of the others is open.
        assert found == [(number, f"file-{number}\n{number}\n4\n") for number in range(40)]

    def test_only_what_takes_too_long_is_stopped(self, tmp_path):
        isolation = Isolation(PLACES)
        with ThreadPoolExecutor(2) as executor:
            slow = executor.submit(isolation.run, order(tmp_path / "slow", "sleep 600"), 0.5, tmp_path / "slow")
            quick = executor.submit(isolation.run, order(tmp_path / "quick", "sleep 1; exit 3"), 60, tmp_path / "quick")
            stopped, ended = slow.result(), quick.result()
        isolation.close()
        assert stopped is not None
        assert ended is not None
        assert (stopped.status, stopped.late) == (-signal.SIGKILL, True)
        assert (ended.status, ended.late) == (3, False)

    def test_long_order_is_received_whole(self, tmp_path):
        # As long as what the kernel takes of one variable (execve(2)), and longer than what a socket holds at once.
        words = {f"WORD{number}": "x" * 100_000 for number in range(10)}
        isolation = Isolation(PLACES)
        ended = isolation.run(order(tmp_path / "one", 'echo "${#WORD9}"', **words), 60, tmp_path / "one")
        isolation.close()
        assert ended is not None
        assert (tmp_path / "one" / "log").read_text() == "100000\n"

    def test_what_a_command_leaves_running_ends_with_it(self, tmp_path):
        isolation = Isolation(PLACES)
        isolation.run(order(tmp_path / "one", "sleep 600 & echo $!"), 60, tmp_path / "one")
        left = int((tmp_path / "one" / "log").read_text())
        assert is_gone(left)
        isolation.close()

    def test_processes_that_left_the_group_end_with_the_command(self, tmp_path):
        isolation = Isolation(PLACES)
        ended = isolation.run(order(tmp_path / "one", _LEAVING), 60, tmp_path / "one")
        assert ended is not None
        assert not ended.late
        left = [int(word) for word in (tmp_path / "one" / "log").read_text().split()]
        assert [process for process in left if Path(f"/proc/{process}").exists()] == []
        assert len(left) == 2
        isolation.close()

    def test_what_runs_beside_it_keeps_what_it_has_left_behind(self, tmp_path):
        isolation = Isolation(PLACES)
        with ThreadPoolExecutor(1) as executor:
            script = f"({_LEAVING}); until [ -e over ]; do sleep 0.02; done; kill -0 $(cat $LOG)"
            one = order(tmp_path / "long", script, LOG=str(tmp_path / "long" / "log"))
            long = executor.submit(isolation.run, one, 60, tmp_path / "long")
            while (tmp_path / "long" / "log").read_text().count("\n") < 2:
                time.sleep(0.01)
            isolation.run(order(tmp_path / "short", _LEAVING), 60, tmp_path / "short")
            (tmp_path / "long" / "task" / "over").touch()
            ended = long.result()
        isolation.close()
        assert ended is not None
        assert ended.status == 0, (tmp_path / "long" / "log").read_text()

    def test_what_was_left_behind_ends_with_all(self, tmp_path):
        isolation = Isolation(PLACES)
        log = tmp_path / "one" / "log"
        with ThreadPoolExecutor(1) as executor:
            running = executor.submit(isolation.run, order(tmp_path / "one", f"({_LEAVING}); sleep 600"), 60, tmp_path / "one")
            while not log.exists() or log.read_text().count("\n") < 2:
                time.sleep(0.01)
            isolation.close()
            assert all(is_gone(int(word)) for word in log.read_text().split())
            with pytest.raises(BuildError, match="interrupted"):
                running.result()


@pytest.mark.usefixtures("confined")
class TestEnds:
    def test_a_command_that_cannot_be_started_is_told(self, tmp_path):
        isolation = Isolation(PLACES)
        (tmp_path / "task").mkdir()
        (tmp_path / "log").touch()
        shown = [((tmp_path / "task",), "/var/task")]
        missing = IsolatedCommand(
            command=["/nowhere/python"], variables={}, start="/", log=tmp_path / "log", shown=shown, empty_tmp=False
        )
        with pytest.raises(BuildError, match=r"^/nowhere/python cannot be started \(No such file or directory\)\.$"):
            isolation.run(missing, 60, tmp_path)
        isolation.close()

    def test_a_function_that_kills_what_isolates_it_fails_and_the_next_one_runs(self, tmp_path):
        python = host()
        killing = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nsignal.pause()\n"
        with pytest.raises(BuildError, match="the isolation process ended with status -9"):
            probe(python, tmp_path / "killing", handler=killing)
        open_files = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(BuildError, match="the isolation process ended with status -9"):
            probe(python, tmp_path / "again", handler=killing)
        assert len(list(Path("/proc/self/fd").iterdir())) == open_files
        assert results(probe(python, tmp_path / "next", "result = __file__")) == ["/var/task/app.py"]
        python.close()

    def test_what_ran_beside_a_killer_runs_again(self, tmp_path):
        isolation, gate = Isolation(PLACES), tmp_path / "gate"
        waiting = f"echo $$; while [ ! -e {gate} ]; do sleep 0.01; done; exit 3"
        with ThreadPoolExecutor(2) as executor:
            innocent = executor.submit(isolation.run, order(tmp_path / "innocent", waiting), 60, tmp_path / "innocent")
            while not (tmp_path / "innocent" / "log").exists() or not (tmp_path / "innocent" / "log").read_text():
                time.sleep(0.01)
            with pytest.raises(BuildError, match="-9"):
                isolation.run(order(tmp_path / "killer", "kill -9 $PPID; sleep 600"), 60, tmp_path / "killer")
            gate.touch()
            ended = innocent.result()
        isolation.close()
        assert ended is not None
        assert (ended.status, ended.late) == (3, False)

    def test_a_function_that_stops_what_isolates_it_is_stopped_for_time(self, tmp_path, monkeypatch):
        monkeypatch.setattr("builders.sandbox.isolation._PATIENCE", 0.5)
        isolation = Isolation(PLACES)
        ended = isolation.run(order(tmp_path / "one", "echo $$; kill -STOP $PPID; sleep 600"), 1, tmp_path / "one")
        assert ended is not None
        assert (ended.status, ended.late) == (-signal.SIGKILL, True)
        assert is_gone(int((tmp_path / "one" / "log").read_text()))
        after = isolation.run(order(tmp_path / "two", "exit 3"), 60, tmp_path / "two")
        assert after is not None
        assert after.status == 3
        isolation.close()

    def test_no_time_at_all_says_nothing_of_the_machine(self, tmp_path):
        python = host()
        assert probe(python, tmp_path / "one", seconds=1e-6).late
        assert python._confined
        assert results(probe(python, tmp_path / "two", "result = __file__")) == ["/var/task/app.py"]
        python.close()

    def test_what_was_made_or_mounted_later_is_seen(self, tmp_path):
        isolation = Isolation(PLACES)
        assert isolation.run(order(tmp_path / "before", "exit 0"), 60, tmp_path / "before") is not None
        with tempfile.TemporaryDirectory(prefix="lpack-", dir="/var") as name:
            folder = Path(name, "one")
            ended = isolation.run(order(folder, "ls; exit 3"), 60, folder)
            assert ended is not None
            assert ended.status == 3
            if os.geteuid() == 0:
                subprocess.run(["mount", "-t", "tmpfs", "lpack", name], check=True)
                try:
                    one = order(folder, "ls; exit 4")
                    (folder / "task" / "mounted").touch()
                    ended = isolation.run(one, 60, folder)
                    assert (folder / "log").read_text() == "mounted\n"
                finally:
                    subprocess.run(["umount", "--lazy", name], check=True)
                assert ended is not None
                assert ended.status == 4
        isolation.close()

    def test_children_are_waited_for_even_where_nobody_is_told_of_them(self, tmp_path):
        script = (
            "import sys; from pathlib import Path; from builders.sandbox.isolation import Isolation\n"
            "from tests.builders.sandbox.test_isolation import PLACES, order\n"
            "folder = Path(sys.argv[1]); print(Isolation(PLACES).run(order(folder, 'exit 3'), 60, folder))\n"
        )
        command = ["env", "--ignore-signal=CHLD", sys.executable, "-c", script, str(tmp_path / "one")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == "CommandEnd(status=3, late=False)\n"

    @pytest.mark.parametrize(
        ("variables", "why"), [({"A": "x" * 5_000_000}, "Argument list too long"), ({"A": "\0"}, "Invalid")]
    )
    def test_variables_that_no_process_can_have_are_told(self, tmp_path, variables, why):
        isolation = Isolation(PLACES)
        with pytest.raises(BuildError, match=why):
            isolation.run(order(tmp_path / "one", "exit 0", **variables), 60, tmp_path / "one")
        isolation.close()

    def test_end_of_a_command_is_noticed_without_pidfd(self, tmp_path, monkeypatch):
        without = b"import os\ndel os.pidfd_open\n"
        source = read_script("isolate.py").replace(b"from __future__ import annotations\n", b"", 1)
        monkeypatch.setattr("builders.sandbox.isolation.read_script", lambda _: without + source)
        isolation = Isolation(PLACES)
        ended = isolation.run(order(tmp_path / "one", "exit 3"), 60, tmp_path / "one")
        isolation.close()
        assert ended is not None
        assert ended.status == 3

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
    def test_nothing_runs_on_when_lpack_is_killed(self, tmp_path, how):
        script = (
            "import sys; from pathlib import Path; from builders.sandbox.isolation import Isolation\n"
            "from tests.builders.sandbox.test_isolation import PLACES, order\n"
            "folder = Path(sys.argv[1]); Isolation(PLACES).run(order(folder, 'echo $$ $PPID; exec sleep 600'), 600, folder)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "one")], cwd=ROOT)
        log = tmp_path / "one" / "log"
        while not (log.exists() and log.read_text().endswith("\n")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(how)
        process.wait()
        assert all(is_gone(int(each)) for each in log.read_text().split())


def test_a_machine_that_allows_no_namespaces_is_told_each_time(tmp_path, monkeypatch):
    refuse_namespaces(monkeypatch)
    isolation = Isolation(PLACES)
    for name in ("one", "two"):
        assert isolation.run(order(tmp_path / name, "exit 0"), 60, tmp_path / name) is None
    isolation.close()
    with pytest.raises(BuildError, match="interrupted"):
        isolation.run(order(tmp_path / "three", "exit 0"), 60, tmp_path / "three")
