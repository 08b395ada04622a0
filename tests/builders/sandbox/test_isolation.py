"""One process that forks for each command: what ends it, what it ends, and that commands do not get in each other's way."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from builders.errors import BuildError
from builders.inside import read_script
from builders.interpreters import find_interpreter
from builders.runtimes import MEGABYTE
from builders.sandbox.host_sandbox import find_anew
from builders.sandbox.isolation import CommandEnd, IsolatedCommand, Isolation
from builders.sandbox.root_plan import RootPlan, host_root
from tests.probing import ONE_USER_FOR_ALL, is_running, refuse_namespaces, wait_until

ROOT = Path(__file__).resolve().parents[3]
SH = "/bin/sh"


@cache
def root_plan() -> RootPlan:
    """Give a root that has a shell, and setsid."""
    found = find_interpreter(sys.version_info.minor)
    assert found is not None
    return host_root(found, ("setsid",), find_anew).plan


@pytest.fixture
def isolation() -> Iterator[Isolation]:
    made = Isolation(root_plan())
    yield made
    made.close()


def order(folder: Path, script: str, **variables: str) -> IsolatedCommand:
    """Give the order for a script of the shell, with the folder's `task` at /var/task."""
    (folder / "task").mkdir(parents=True)
    return IsolatedCommand(
        command=[SH, "-c", script],
        variables={"PATH": os.defpath, **variables},
        start="/var/task",
        shown=[((folder / "task",), "/var/task")],
        storage=MEGABYTE,
        memory=None,
        longest=MEGABYTE,
    )


def run(isolation: Isolation, folder: Path, script: str, seconds: float = 60.0) -> CommandEnd:
    """Run a script of the shell to its end."""
    ended = isolation.run(order(folder, script), seconds)
    assert ended is not None
    return ended


def test_the_interpreter_finds_certificates_where_its_own_openssl_looks(isolation, tmp_path):
    counts = "import ssl; print(len(ssl.create_default_context().get_ca_certs()) > 50)"
    ended = run(
        isolation, tmp_path, f"/var/lang/bin/python3 -I -c '{counts}' > /tmp/found; read found < /tmp/found; test $found = True"
    )
    assert ended.status == 0


@pytest.mark.usefixtures("confined")
def test_openssl_of_a_users_own_shows_functions_no_folder_of_its_user(tmp_path):
    def remember(_key: str, _form: type, find: Callable[[], Any]) -> Any:
        return replace(find(), certificates="/home/someone/.pyenv/versions/3.9.1/openssl/ssl/cert.pem")

    found = find_interpreter(sys.version_info.minor)
    assert found is not None
    isolation = Isolation(host_root(found, (), remember).plan)
    assert run(isolation, tmp_path, "ls -A /home /root /opt /var/task").output == b"/home:\n\n/opt:\n\n/root:\n\n/var/task:\n"
    isolation.close()


def script_without_fork(number: int, name: str) -> bytes:
    """Return a script in which that call of fork fails, of those that a process and its parents have made."""
    text = read_script(name).decode().replace("from __future__ import annotations\n", "", 1)
    head = f"""\
import errno, os
calls, fork = [], os.fork

def refused():
    calls.append(0)
    if len(calls) == {number}:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = refused
"""
    return f"from __future__ import annotations\n{head if name == 'isolate.py' else ''}{text}".encode()


def numbers() -> Iterator[str]:
    """Give numbers of seconds for sleep(1), of which each is in the command line of one process."""
    while True:
        yield f"7{time.monotonic_ns() % 1_000_000_000}"


def leaving(number: str) -> str:
    """Give a script that starts a process with a session of its own, which starts another such: both sleep so long."""
    return f"setsid sh -c 'setsid sleep {number} & >/tmp/up; sleep {number}.5' & until [ -e /tmp/up ]; do :; done"


NUMBERS = numbers()


@pytest.mark.usefixtures("confined")
class TestMany:
    def test_each_has_its_own_place_variables_output_answer_and_status(self, tmp_path, isolation):
        def start(number: int) -> CommandEnd:
            folder = tmp_path / str(number)
            script = 'ls; echo "$NAME"; ls /proc/self/fd | wc -l; touch "/tmp/$NAME"; ls /tmp; echo "$NAME" >&3; exit "$NAME"'
            one = order(folder, script, NAME=str(number))
            (folder / "task" / f"file-{number}").touch()
            ended: CommandEnd = isolation.run(one, 60)
            return ended

        with ThreadPoolExecutor(4) as executor:
            found = list(executor.map(start, range(40)))
        # Standard input, output, errors, the answer, and the folder that is listed: nothing of the others is open.
        assert found == [
            CommandEnd(
                status=number,
                late=False,
                output=f"file-{number}\n{number}\n5\n{number}\n".encode(),
                answer=f"{number}\n".encode(),
            )
            for number in range(40)
        ]

    def test_only_what_takes_too_long_is_stopped(self, tmp_path, isolation):
        with ThreadPoolExecutor(2) as executor:
            slow = executor.submit(run, isolation, tmp_path / "slow", "sleep 600", 0.5)
            quick = executor.submit(run, isolation, tmp_path / "quick", "sleep 1; exit 3")
            stopped, ended = slow.result(), quick.result()
        assert (stopped.status, stopped.late) == (-signal.SIGKILL, True)
        assert (ended.status, ended.late) == (3, False)

    def test_long_order_is_received_whole(self, tmp_path, isolation):
        # As long as what the kernel takes of one variable (execve(2)), and longer than what a socket holds at once.
        words = {f"WORD{number}": "x" * 100_000 for number in range(10)}
        ended = isolation.run(order(tmp_path, 'echo "${#WORD9}"', **words), 60)
        assert ended is not None
        assert ended.output == b"100000\n"

    def test_what_a_command_leaves_running_ends_with_it(self, tmp_path, isolation):
        number = next(NUMBERS)
        assert run(isolation, tmp_path, f"sleep {number} & exit 3").status == 3
        assert not is_running(number)

    def test_processes_that_left_the_group_end_with_the_command(self, tmp_path, isolation):
        number = next(NUMBERS)
        ended = run(isolation, tmp_path, leaving(number))
        assert (ended.status, ended.late) == (0, False)
        assert not is_running(number)

    def test_what_runs_beside_it_keeps_what_it_has_left_behind(self, tmp_path, isolation):
        number = next(NUMBERS)
        with ThreadPoolExecutor(1) as executor:
            long = executor.submit(
                run, isolation, tmp_path / "long", f"({leaving(number)}); until [ -e over ]; do sleep 0.02; done"
            )
            wait_until(lambda: is_running(f"{number}.5"))
            run(isolation, tmp_path / "short", leaving(next(NUMBERS)))
            assert is_running(f"{number}.5")
            (tmp_path / "long" / "task" / "over").touch()
            assert long.result().status == 0
        assert not is_running(number)

    def test_what_was_left_behind_ends_with_all(self, tmp_path, isolation):
        number = next(NUMBERS)
        with ThreadPoolExecutor(1) as executor:
            running = executor.submit(run, isolation, tmp_path, f"({leaving(number)}); sleep 600")
            wait_until(lambda: is_running(f"{number}.5"))
            isolation.close()
            assert not is_running(number)
            with pytest.raises(BuildError, match="interrupted"):
                running.result()

    @pytest.mark.skipif(ONE_USER_FOR_ALL, reason="a kernel before 5.14 counts the processes of a user in all namespaces")
    def test_each_may_have_as_many_processes_as_if_it_ran_alone(self, tmp_path, isolation):
        marks = {"one": next(NUMBERS), "two": next(NUMBERS)}
        script = "number=0; while [ $number -lt 600 ]; do sleep 600 & number=$((number + 1)); done; sleep "
        script += "$MARK & until [ -e over ]; do sleep 0.1; done"
        with ThreadPoolExecutor(2) as executor:
            both = [
                executor.submit(run, isolation, tmp_path / name, script.replace("$MARK", mark)) for name, mark in marks.items()
            ]
            wait_until(lambda: all(map(is_running, marks.values())) or any(each.done() for each in both))
            for name in marks:
                (tmp_path / name / "task" / "over").touch()
            assert [(each.result().status, each.result().output) for each in both] == [(0, b""), (0, b"")]

    def test_a_command_sees_no_process_but_its_own(self, tmp_path, isolation):
        with ThreadPoolExecutor(1) as executor:
            number = next(NUMBERS)
            other = executor.submit(run, isolation, tmp_path / "other", f"sleep {number}; exit 3", 1.0)
            wait_until(lambda: is_running(number))
            # What waits for it, and itself; signals to all that it sees reach nobody.
            seen = run(
                isolation, tmp_path / "one", "echo /proc/[0-9]*; kill -9 -1 2>/tmp/errors; kill -9 1; kill -STOP 1; exit 4"
            )
            assert other.result().late
        assert seen.output == b"/proc/1 /proc/3\n"
        assert (seen.status, seen.late) == (4, False)


@pytest.mark.usefixtures("confined")
class TestEnds:
    def test_a_command_that_cannot_be_started_is_told(self, tmp_path, isolation):
        missing = replace(order(tmp_path, ""), command=["/nowhere/python"])
        with pytest.raises(BuildError, match=r"^/nowhere/python cannot be started \(No such file or directory\)\.$"):
            isolation.run(missing, 60)

    def test_a_folder_that_is_missing_is_told(self, tmp_path, isolation):
        one = order(tmp_path, "exit 0")
        (tmp_path / "task").rmdir()
        with pytest.raises(BuildError, match=r"cannot be prepared \(.*task: No such file or directory\)"):
            isolation.run(one, 60)

    def test_run_without_free_descriptors_is_told_and_leaves_none_open(self, tmp_path, isolation, monkeypatch):
        def refuse() -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        assert isolation.refusal() == ""
        one, before = order(tmp_path, "exit 0"), len(list(Path("/proc/self/fd").iterdir()))
        monkeypatch.setattr(os, "pipe", refuse)
        with pytest.raises(BuildError, match=r"cannot be prepared \(Too many open files\)"):
            isolation.run(one, 60)
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_command_runs_again_when_what_isolates_it_is_killed(self, tmp_path, isolation):
        number = next(NUMBERS)  # as the kernel kills it where memory runs out
        with ThreadPoolExecutor(1) as executor:
            innocent = executor.submit(run, isolation, tmp_path, f"[ -e again ] && exit 3; sleep {number}")
            wait_until(lambda: is_running(number))
            (tmp_path / "task" / "again").touch()
            isolation._servers[-1].process.kill()
            assert innocent.result() == CommandEnd(status=3, late=False, output=b"", answer=None)
        assert not is_running(number)

    def test_command_whose_isolation_is_killed_twice_fails_and_the_next_one_runs(self, tmp_path, isolation):
        def start(name: str) -> None:
            number = next(NUMBERS)
            with ThreadPoolExecutor(1) as executor:
                killed = executor.submit(run, isolation, tmp_path / name, f"sleep {number}")
                for _ in range(2):
                    wait_until(lambda: is_running(number))
                    isolation._servers[-1].process.kill()
                    wait_until(lambda: not is_running(number))
                with pytest.raises(BuildError, match="the isolation process ended with status -9"):
                    killed.result()

        start("one")
        open_files = len(list(Path("/proc/self/fd").iterdir()))
        start("two")
        assert len(list(Path("/proc/self/fd").iterdir())) == open_files
        assert run(isolation, tmp_path / "next", "exit 3").status == 3

    def test_command_whose_isolation_is_stopped_is_stopped_for_time(self, tmp_path, isolation, monkeypatch):
        monkeypatch.setattr("builders.sandbox.isolation._GRACE_SECONDS", 0.5)
        number = next(NUMBERS)
        with ThreadPoolExecutor(1) as executor:
            running = executor.submit(run, isolation, tmp_path / "one", f"sleep {number}", 1.0)
            wait_until(lambda: is_running(number))
            isolation._servers[-1].process.send_signal(signal.SIGSTOP)
            ended = running.result()
        assert (ended.status, ended.late) == (-signal.SIGKILL, True)
        wait_until(lambda: not is_running(number))
        assert run(isolation, tmp_path / "two", "exit 3").status == 3

    def test_no_time_at_all_says_nothing_of_the_machine(self, tmp_path, isolation):
        assert run(isolation, tmp_path / "one", "exit 3", 1e-6).late
        assert isolation.refusal() == ""
        assert run(isolation, tmp_path / "two", "exit 3").status == 3

    def test_what_was_made_or_mounted_later_is_seen(self, tmp_path, isolation):
        run(isolation, tmp_path / "before", "exit 0")
        with tempfile.TemporaryDirectory(prefix="lpack-", dir="/var") as name:
            Path(name).chmod(0o755)
            assert run(isolation, Path(name, "one"), "ls; exit 3").status == 3
            if os.geteuid() == 0:
                subprocess.run(["mount", "-t", "tmpfs", "lpack", name], check=True)
                try:
                    one = order(Path(name, "one"), "ls; exit 4")
                    Path(name, "one", "task", "mounted").touch()
                    ended = isolation.run(one, 60)
                finally:
                    subprocess.run(["umount", "--lazy", name], check=True)
                assert ended == CommandEnd(status=4, late=False, output=b"mounted\n", answer=None)

    @pytest.mark.parametrize("knows", [True, False], ids=["in one call", "one by one"])
    def test_nothing_can_be_written_to_what_is_mounted_below(self, tmp_path, monkeypatch, knows):
        if os.geteuid() != 0:
            pytest.skip("needs root to mount something")

        def without(name: str) -> bytes:
            return read_script(name).replace(b"_MOUNT_SETATTR, ", b"_, ").replace(b"_MOUNT_SETATTR", b"9999")

        monkeypatch.setattr("builders.sandbox.isolation.read_script", read_script if knows else without)
        one = order(tmp_path, "echo there >'in it/written'; cat 'in it/kept'; exit 4")
        below = tmp_path / "task" / "in it"
        below.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777", "lpack", str(below)], check=True)
        isolation = Isolation(root_plan())
        try:
            (below / "kept").write_text("kept")
            ended = isolation.run(one, 60)
            made = [path.name for path in below.iterdir()]
        finally:
            isolation.close()
            subprocess.run(["umount", "--lazy", str(below)], check=True)
        assert ended is not None
        assert (ended.status, made, b"Read-only" in ended.output, ended.output[-4:]) == (4, ["kept"], True, b"kept")

    def test_children_are_waited_for_even_where_nobody_is_told_of_them(self, tmp_path):
        script = (
            "import sys; from pathlib import Path; from builders.sandbox.isolation import Isolation\n"
            "from tests.builders.sandbox.test_isolation import root_plan, run\n"
            "print(run(Isolation(root_plan()), Path(sys.argv[1]), 'exit 3').status)\n"
        )
        command = ["env", "--ignore-signal=CHLD", sys.executable, "-c", script, str(tmp_path / "one")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == "3\n"

    @pytest.mark.parametrize(
        ("variables", "why"), [({"A": "x" * 5_000_000}, "Argument list too long"), ({"A": "\0"}, "Invalid")]
    )
    def test_variables_that_no_process_can_have_are_told(self, tmp_path, isolation, variables, why):
        with pytest.raises(BuildError, match=why):
            isolation.run(order(tmp_path, "exit 0", **variables), 60)

    def test_end_of_a_command_is_noticed_without_pidfd(self, tmp_path, isolation, monkeypatch):
        def without(name: str) -> bytes:
            source = read_script(name).replace(b"from __future__ import annotations\n", b"", 1)
            return b"import os\nos.__dict__.pop('pidfd_open', None)\n" + source

        monkeypatch.setattr("builders.sandbox.isolation.read_script", without)
        assert run(isolation, tmp_path, "exit 3").status == 3

    def test_machine_without_memory_is_told(self, tmp_path, isolation, monkeypatch):
        def poor(name: str) -> bytes:
            return read_script(name).replace(b"min(total // _SHARE_LEFT, _MOST_LEFT)", b"total")

        monkeypatch.setattr("builders.sandbox.isolation.read_script", poor)
        with pytest.raises(BuildError, match=r"stopped: this machine has [0-9]+ MB of memory left"):
            isolation.run(replace(order(tmp_path, "sleep 600"), memory=64 * MEGABYTE), 60)

    @pytest.mark.parametrize("number", [1, 2, 3, 4], ids=["of the root", "of a command", "of its user", "of its program"])
    def test_machine_that_allows_no_more_processes_now_is_no_refusal(self, tmp_path, isolation, monkeypatch, number):
        monkeypatch.setattr("builders.sandbox.isolation.read_script", partial(script_without_fork, number))
        with pytest.raises(BuildError, match="Resource temporarily unavailable"):
            isolation.run(order(tmp_path, "exit 0"), 60)

    def test_command_that_cannot_be_watched_any_more_is_no_refusal(self, tmp_path, isolation, monkeypatch):
        def blind(name: str) -> bytes:
            changed = read_script(name).replace(
                b"    poll, often = ", b"    raise PermissionError(1, 'no')\n    poll, often = "
            )
            assert (changed == read_script(name)) == (name != "isolate.py")
            return changed

        monkeypatch.setattr("builders.sandbox.isolation.read_script", blind)
        with pytest.raises(BuildError, match=r"cannot be watched any more \(Operation not permitted\)"):
            isolation.run(order(tmp_path, "sleep 600"), 60)

    def test_temporary_folder_may_have_characters_that_mounts_give_a_meaning(self, tmp_path, monkeypatch):
        base, temporary = tmp_path / "base", tmp_path / "a:b,c d"
        (base / "kept").mkdir(parents=True)
        temporary.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        isolation = Isolation(RootPlan(base=(str(base),)))
        assert isolation.refusal() == ""
        isolation.close()
        assert list(temporary.iterdir()) == []

    def test_missing_temporary_folder_is_told(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        isolation = Isolation(root_plan())
        with pytest.raises(BuildError, match="No such file or directory") as caught:
            isolation.refusal()
        assert "TMPDIR" in caught.value.remedy

    def test_a_user_that_nobody_can_become_is_a_refusal_of_the_machine(self, tmp_path):
        script = (
            "import sys; from pathlib import Path; from builders.sandbox.isolation import Isolation\n"
            "from tests.builders.sandbox.test_isolation import order, root_plan\n"
            "isolation = Isolation(root_plan())\n"
            "print([isolation.refusal(), isolation.run(order(Path(sys.argv[1]), 'exit 3'), 60)])\n"
        )
        # The only user there is root, as in some containers.
        command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", script, str(tmp_path / "one")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == "['', None]\n"

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
    def test_nothing_runs_on_when_lpack_is_killed(self, tmp_path, how):
        number = next(NUMBERS)
        script = (
            "import sys; from pathlib import Path; from builders.sandbox.isolation import Isolation\n"
            "from tests.builders.sandbox.test_isolation import root_plan, run\n"
            "run(Isolation(root_plan()), Path(sys.argv[1]), 'exec sleep ' + sys.argv[2], 600)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), f"{number}.{number}"], cwd=ROOT)
        wait_until(lambda: process.poll() is not None or is_running(f"sleep\0{number}."))
        process.send_signal(how)
        assert process.wait() == -how
        wait_until(lambda: not is_running(number))


def test_a_machine_that_allows_no_namespaces_is_told_each_time(tmp_path, monkeypatch):
    refuse_namespaces(monkeypatch)
    isolation = Isolation(root_plan())
    assert isolation.refusal()
    for name in ("one", "two"):
        assert isolation.run(order(tmp_path / name, "exit 0"), 60) is None
    isolation.close()
    for ask in (isolation.refusal, lambda: isolation.run(order(tmp_path / "three", "exit 0"), 60)):
        with pytest.raises(BuildError, match="interrupted"):
            ask()
