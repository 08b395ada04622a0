"""Scripts in the target's own Python on this machine: confined where that can be, and with the same outcome where it cannot."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from builders.errors import BuildError
from builders.inside import read_script
from builders.inside.isolate import UNAVAILABLE
from builders.runtimes import Target
from builders.sandbox import isolation
from builders.sandbox.task import TREE_PLACEHOLDER
from tests.probing import ERROR, answer, host, is_running, probe, refuse_namespaces, results, wait_until
from tests.shaped import ARCHITECTURE, RUNTIME

ROOT = Path(__file__).resolve().parents[3]
TARGET = Target.of(RUNTIME, ARCHITECTURE)
LOOPBACK = """\
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5) as client:
    result = client.getpeername()[0]
"""


@pytest.mark.usefixtures("confined")
class TestConfined:
    """What a function sees that runs where Lambda's paths are."""

    def test_the_function_lies_at_lambdas_own_path(self, tmp_path):
        codes = (
            "result = __file__",
            "result = os.getcwd()",
            "result = neighbour.__file__",
            "result = sorted(os.listdir('/var/task'))",
        )
        wanted = ["/var/task/app.py", "/var/task", "/var/task/neighbour.py", ["app.py", "data.txt", "neighbour.py"]]
        assert results(probe(host(), tmp_path, *codes)) == wanted

    def test_the_function_cannot_be_written(self, tmp_path):
        writes = (
            "open('/var/task/new', 'w')",
            "open('/var/task/app.py', 'a')",
            "os.remove('/var/task/data.txt')",
            "os.chmod('data.txt', 0)",
        )
        assert set(results(probe(host(), tmp_path, *map(ERROR.format, writes)))) <= {"OSError", "PermissionError"}
        assert (tmp_path / "tree" / "data.txt").read_text() == "data"

    def test_there_is_no_network_but_its_own(self, tmp_path):
        codes = ("result = [name for _, name in socket.if_nameindex()]", LOOPBACK)
        away = ERROR.format("socket.create_connection(('192.0.2.1', 80), 5)")
        interfaces, loopback, connected = results(probe(host(), tmp_path, *codes, away))
        assert loopback == "127.0.0.1"
        assert connected == "OSError"
        assert set(interfaces) <= {
            "lo",
            "sit0",
            "tunl0",
            "ip6tnl0",
            "gre0",
            "gretap0",
            "erspan0",
            "ip_vti0",
            "ip6_vti0",
            "ip6gre0",
        }

    def test_a_server_of_this_machine_is_out_of_reach(self, tmp_path):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as server:
            connect = f"socket.create_connection({server.getsockname()!r}, 5)"
            assert results(probe(host(), tmp_path, ERROR.format(connect))) == ["ConnectionRefusedError"]

    def test_tmp_is_empty_and_can_be_written(self):
        code = "result = os.listdir('/tmp'); open('/tmp/mine', 'w').write('x')"
        # Not below /tmp, which stays as it is where something that is needed lies in it.
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, tempfile.NamedTemporaryFile(dir="/tmp"):
            assert results(probe(host(), Path(folder), code)) == [[]]
        assert not Path("/tmp/mine").exists()

    def test_nothing_of_this_machine_lies_in_its_root(self, tmp_path):
        folders = ("/", "/var", "/home", "/root", "/run", "/mnt", "/media", "/srv", "/opt", "/sys")
        found = results(probe(host(), tmp_path, *(f"result = sorted(os.listdir({each!r}))" for each in folders)))
        usual = {"bin", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run", "sbin", "srv"}
        assert set(found[0]) == usual | {"sys", "tmp", "usr", "var"}
        assert found[1:] == [["lang", "rapid", "run", "runtime", "task", "tmp"], *[[]] * 8]

    def test_nothing_of_it_is_seen_outside(self, tmp_path):
        def mounts() -> list[str]:
            # Others mount elsewhere meanwhile: container engines do.
            lines = Path("/proc/self/mountinfo").read_text().splitlines()
            places = [line.split()[4] for line in lines]
            return [place for place in places if place in ("/tmp", "/var") or place.startswith(("/var/task", str(tmp_path)))]

        before, there = mounts(), Path("/var/task").exists()
        probe(host(), tmp_path, "result = 1")
        assert (mounts(), Path("/var/task").exists()) == (before, there)

    def test_another_user_can_confine_it_too(self):
        # One without rights needs a user namespace around the others.
        finished = as_nobody(AS_NOBODY)
        assert finished.returncode == 0, finished.stderr
        assert json.loads(finished.stdout) == [65534, "", ["/var/task/app.py", "OSError", 993, "127.0.0.1"]]


AS_NOBODY = f"""\
import json, os, pathlib, tempfile
from tests.probing import ERROR, host, probe, results
python = host()
with tempfile.TemporaryDirectory() as folder:
    writing = ERROR.format("open('/var/task/new', 'w')")
    done = probe(python, pathlib.Path(folder), "result = __file__", writing, "result = os.getuid()", {LOOPBACK!r})
    print(json.dumps([os.getuid(), python.unconfined, results(done)]))
"""


def as_nobody(script: str, *modules: str) -> subprocess.CompletedProcess[str]:
    """Run a script, which may import modules of tests, as a user without rights, by any Python that such a user can run."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("needs root, and setpriv, to become another user")
    user = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]
    environment = {"PATH": os.defpath, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}
    minor = tuple(sys.version_info[:2])  # msgspec has native code for it
    same = (
        f"import subprocess, sys; subprocess.check_call([sys.executable, '-c', '']); sys.exit(sys.version_info[:2] != {minor})"
    )
    for python in (sys.executable, *(f"/usr/{place}bin/python3" for place in ("", "local/"))):
        tried = subprocess.run([*user, python, "-c", same], cwd="/", env=environment, capture_output=True, check=False)
        if tried.returncode == 0:
            with tempfile.TemporaryDirectory() as name:  # a checkout may lie where no other user comes
                folder = Path(name)
                shutil.copytree(ROOT / "builders", folder / "builders")
                shutil.copytree(Path(msgspec.__file__).parent, folder / "msgspec")
                (folder / "tests").mkdir()
                for each in ("__init__.py", "probing.py", *modules):
                    shutil.copy(ROOT / "tests" / each, folder / "tests" / each)
                subprocess.run(["chmod", "-R", "a+rX", name], check=True)
                command = [*user, python, "-c", script]
                return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    pytest.skip("needs a Python of the same minor that every user can run")


@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (b'"/proc", "proc", ', b'"/proc", "none", ', "no namespaces and file systems of its own"),
        (b"os.execve(folder + command[0]", b"os.execve('/nowhere'", "cannot be started"),
    ],
    ids=["proc is masked", "other loader"],
)
def test_machine_on_which_no_command_can_start_is_found_out_before(tmp_path, monkeypatch, before, after, why):
    monkeypatch.setattr(isolation, "read_script", lambda name: read_script(name).replace(before, after))
    python = host()
    assert why in python.unconfined
    assert results(probe(python, tmp_path, "result = 'ran'")) == ["ran"]


def test_machine_without_a_runtime_for_it_confines_nothing(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    python = host()
    assert (python.unconfined, python.libraries, python.private) == ("Lambda has no runtime for riscv64", None, {})


@pytest.mark.usefixtures("confined")
def test_the_outcome_is_the_same_without_namespaces(tmp_path, monkeypatch):
    codes = (
        "result = [__file__, os.environ['LAMBDA_TASK_ROOT'], sys.path[0]]",
        "raise KeyError(__file__)",
        "result = open('data.txt').read()",
    )
    options: dict[str, Any] = {"environment": {"LAMBDA_TASK_ROOT": TREE_PLACEHOLDER}, "trace": True}
    confined = answer(probe(host(), tmp_path / "confined", *codes, **options))
    refuse_namespaces(monkeypatch)
    python = host()
    plain = answer(probe(python, tmp_path / "plain", *codes, **options))
    assert python.unconfined
    for each in (confined, plain):
        each.pop("milliseconds")
        trace = each["events"][1]["error"].pop("trace")
        assert 'File "/var/task/app.py", line 6, in handler' in trace
        assert str(tmp_path / "plain" / "tree") not in trace
    assert plain == confined
    assert confined["events"][0] == {"result": ["/var/task/app.py", "/var/task", "/var/task"]}
    assert {"app.py", "data.txt", "neighbour.py"} <= set(confined["opened"])


def test_without_namespaces_is_found_out_once(tmp_path, monkeypatch):
    refuse_namespaces(monkeypatch)
    starts, start = [], isolation._start_server

    def count(owner, plan):
        starts.append(plan)
        return start(owner, plan)

    monkeypatch.setattr(isolation, "_start_server", count)
    python = host()
    for name in ("one", "two"):
        probe(python, tmp_path / name)
        assert [path.name for path in (tmp_path / name / "work").iterdir()] == ["plain"]
    assert (len(starts), python.unconfined) == (1, "no namespaces")


@pytest.mark.usefixtures("confined")
def test_no_status_of_a_function_makes_it_run_again_without_confinement(tmp_path):
    python = host()
    done = probe(python, tmp_path / "run", handler=f"import os\nos.write(1, b'ran ')\nos._exit({UNAVAILABLE})\n")
    assert (done.status, done.log, done.answer) == (UNAVAILABLE, "ran ", None)
    assert results(probe(python, tmp_path / "next", "result = os.listdir('/home')")) == [[]]


def test_the_users_environment_stays_outside(tmp_path, either, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "PYTHONSTARTUP", "HOME", "LD_PRELOAD_NOT"):
        monkeypatch.setenv(name, "the user's own")
    [found] = results(probe(either, tmp_path, "result = dict(os.environ)", environment={"MINE": "yes"}))
    assert "the user's own" not in found.values()
    assert set(found) <= {"MINE", "PATH", "LC_CTYPE", "PWD"}
    assert found["MINE"] == "yes"


def test_nothing_installed_for_this_python_is_seen(tmp_path, either):
    code = (
        "import importlib.util as util; result = [path for path in sys.path if 'packages' in path] + [util.find_spec('pytest')]"
    )
    assert results(probe(either, tmp_path, code)) == [[None]]


def test_what_the_runtime_has_comes_after_what_the_function_has(tmp_path, either):
    late = tmp_path / "late"
    late.mkdir()
    (late / "neighbour.py").write_text("VALUE = 'late'\n")
    (late / "carried.py").write_text("VALUE = 'carried'\n")
    code = "import carried; result = [neighbour.VALUE, carried.VALUE]"
    assert results(probe(either, tmp_path / "run", code, late=late)) == [[1, "carried"]]


def test_nothing_is_written_into_the_function(tmp_path, either):
    probe(either, tmp_path, "result = 1")
    assert sorted(path.name for path in (tmp_path / "tree").iterdir()) == ["app.py", "data.txt", "neighbour.py"]


@pytest.mark.parametrize("status", [0, 1, 3, UNAVAILABLE])
def test_a_function_that_ends_the_interpreter_gives_no_answer(tmp_path, either, status):
    done = probe(
        either, tmp_path, "result = 1", handler=f"import os, sys\nprint('so long')\nsys.stdout.flush()\nos._exit({status})\n"
    )
    assert (done.status, done.answer, done.late) == (status, None, False)
    assert "so long" in done.log


def test_a_crash_is_told_by_its_signal(tmp_path, either):
    done = probe(either, tmp_path, "result = 1", handler="import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert (done.status, done.answer) == (-11, None)


def sleeping() -> tuple[str, str]:
    """Give a handler that starts a process and waits for it, and what stands in the command line of that."""
    mark = f"7{time.monotonic_ns() % 1_000_000_000}"
    return f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep({mark})']).wait()\n", mark


def test_what_runs_too_long_is_killed_with_all_that_it_started(tmp_path, either):
    handler, mark = sleeping()
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(probe, either, tmp_path / "run", handler=handler, seconds=2.0)
        wait_until(lambda: is_running(mark))
        done = running.result()
    assert (done.late, done.answer, done.status) == (True, None, -9)
    wait_until(lambda: not is_running(mark))  # a kill is seen as soon as the killed one gets to run, and no sooner


def test_closing_ends_what_runs_and_starts_nothing_more(tmp_path, either):
    handler, mark = sleeping()
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(probe, either, tmp_path / "run", handler=handler)
        wait_until(lambda: is_running(mark))
        either.close()
        with pytest.raises(BuildError, match=r"^it was interrupted\."):
            running.result(30)
    wait_until(lambda: not is_running(mark))
    with pytest.raises(BuildError, match="interrupted"):
        probe(either, tmp_path / "again")


def test_results_are_as_lambda_would_send_them(tmp_path, either):
    found = answer(probe(either, tmp_path, "result = (1, {2: 'ä'})", "result = {1}", "result = float"))["events"]
    assert found[0] == {"result": [1, {"2": "ä"}]}
    assert [each["error"]["type"] for each in found[1:]] == ["Runtime.MarshalError"] * 2


def test_decimals_are_numbers_and_bytes_are_sent_as_they_are(tmp_path, either):
    calls = ("import decimal; result = [decimal.Decimal(text) for text in ('12', '0.50', '1E+2')]", "result = b'%PDF'")
    found = answer(probe(either, tmp_path, *calls))["events"]
    assert found == [{"result": [12, 0.5, 100.0]}, {"result": "%PDF"}]


def test_an_exit_of_the_handler_is_an_outcome(tmp_path, either):
    [error] = answer(probe(either, tmp_path, "sys.exit(4)"))["events"]
    assert (error["error"]["type"], error["error"]["message"]) == ("SystemExit", "4")


@pytest.mark.skipif(sys.platform != "linux", reason="nothing else tells what native code opens")
def test_a_trace_has_what_native_code_opens(tmp_path):
    code = "import ctypes\nresult = ctypes.CDLL(None).open(os.fsencode(os.path.join(sys.path[0], 'data.txt')), 0) >= 0"
    done = probe(host(), tmp_path, code, trace=True)
    assert results(done) == [True]
    assert "data.txt" in answer(done)["opened"]


def test_compiling_a_script_keeps_nobody_waiting_and_ends_with_the_sandbox(tmp_path, monkeypatch):
    made = host()
    monkeypatch.setattr("builders.sandbox.script_cache._COMPILED_AFTER", 1)
    started = threading.Event()
    start = made._sessions.start

    def start_sleep(_command, folder, environment, **streams):
        process = start(["sleep", "600"], folder, environment, **streams)
        started.set()
        return process

    monkeypatch.setattr(made._sessions, "start", start_sleep)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    compiling = threading.Thread(target=made._scripts.write, args=("probe.py", tmp_path / "one"))
    compiling.start()
    assert started.wait(10)
    assert made._scripts.write("probe.py", tmp_path / "two").name == "probe.py"
    made.close()
    compiling.join(10)
    assert not compiling.is_alive()
    assert (tmp_path / "one" / "probe.py").is_file()
