"""Functions that answer what they like, or reach for this machine: a failure that says so, and a machine that is unchanged."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.sandbox.host_sandbox import HostSandbox
from builders.sandbox.table import Sandboxes
from builders.sandbox.task import TaskResult
from packer.cache.local import LocalStore
from packer.core.options import ExecutionSettings
from packer.verify.failed_import import _LIBRARY, _NO_METADATA
from packer.verify.runner import Event, Outcome, UnpackedFunction, Verifier, read_result
from tests.packer.verify.test_runner import function
from tests.probing import host, is_running, refuse_namespaces, write_files

NOTHING = '{"result": null}'
EVENTS = (Event(name="one", value={}),)


def answer(imported: str = NOTHING, events: str = f"[{NOTHING}]", milliseconds: str = "1", more: str = "") -> bytes:
    return f'{{"import": {imported}, "events": {events}, "milliseconds": {milliseconds}{more}}}'.encode()


def error(**words: str) -> str:
    return json.dumps({"error": {"type": "A", "message": "b", "trace": "c", **words}})


def read(data: bytes) -> tuple[Outcome, bool]:
    """Read an answer as that of a run with an event."""
    return read_result(TaskResult(status=0, log="", answer=data), function(), len(EVENTS))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"hello", "malformed|Expecting value"),
        (b"\0" * 100, "cannot be read"),
        (b"\xff\xfe{", "cannot be read"),
        (b"[1]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b"{}", "missing required field"),
        (answer("1"), "Expected `object`"),
        (answer(events="{}"), "Expected `array`"),
        (answer('{"error": {"type": "A", "message": "b"}}'), "without type, message and trace"),
        (answer('{"error": {"type": 1, "message": "b", "trace": "c"}}'), "Expected `str`"),
        (answer(milliseconds='"long"'), "Expected `float`"),
        (answer(milliseconds="-1"), ">= 0"),
        (answer(milliseconds="1e999"), "out of range"),
        (answer(milliseconds="1e300"), "<= 1000000000"),
        (answer(milliseconds="NaN"), ">= 0"),
        (answer(events=f'[{{"result": 1{"0" * 5000}}}]'), "out of range"),
        (answer(events=f'[{{"result": {"[" * 100_000}'), "cannot be read"),
        (answer(more=', "opened": [1]'), "Expected `str`"),
        (answer() + b"x", "cannot be read"),
        (answer(events="[]"), "of 0 events instead of 1"),
        (answer(events=f"[{NOTHING}, {NOTHING}]"), "of 2 events instead of 1"),
        (answer(error()), "of 1 events instead of 0"),
    ],
    ids=lambda value: None if isinstance(value, str) else ascii(value[:50].decode("latin-1")),
)
def test_answer_that_cannot_be_one_is_a_failure(data, said):
    found, stable = read(data)
    assert (found.works, stable) == (False, False)
    assert re.search(said, found.trouble())
    assert json.loads(found.essence())[0] == found.failure


@pytest.mark.parametrize(("imported", "events"), [(NOTHING, f"[{NOTHING}]"), (error(), "[]")], ids=["ends well", "fails"])
def test_import_that_takes_too_long_is_late_only_where_it_ends_well(imported, events):
    limited = replace(function(), execution=ExecutionSettings(timeout=3))
    data = answer(imported, events, milliseconds="10001")
    found, _ = read_result(TaskResult(status=0, log="", answer=data), limited, len(EVENTS))
    assert (found.limit, found.trouble()) == (
        ("timeout", "its import takes longer than Lambda's 10 s for that, and than its timeout of 3 s")
        if imported == NOTHING
        else ("", "A: b")
    )


@pytest.mark.parametrize("depth", [10, 500, 501, 970])
def test_result_of_any_depth_is_compared_or_refused(depth):
    found, _ = read(answer(events=f'[{{"result": {"[" * depth}{"]" * depth}}}]'))
    if depth > 500:
        assert "its answer cannot be read" in found.trouble()
        return
    assert found.works
    assert found.essence().count("[") == depth + 1


def test_numbers_and_letters_that_python_alone_writes_are_results():
    found, _ = read(answer(events='[{"result": [NaN, -Infinity, "a\\ud800"]}]'))
    assert json.dumps(found.events[0]) == '{"result": [NaN, -Infinity, "a?"]}'


def test_control_characters_are_shown_and_not_sent_to_the_terminal():
    found, _ = read(answer(error(message="\x1b[2Jall is well\r\x9b1m", trace="one\n\ttwo\x07"), "[]"))
    assert found.trouble() == r"A: \x1b[2Jall is well\x0d\x9b1m"
    assert found.trace() == "one\n\ttwo\\x07"
    assert len(read(answer(error(message="x" * 10_000_000), "[]"))[0].trouble()) < 100_000


@pytest.mark.parametrize("message", ["a" * 50_000, "The 'a" * 8_000, "The '" + "a" * 50_000], ids=["word", "quotes", "name"])
def test_long_message_is_searched_in_a_moment(message):
    started = time.process_time()
    assert [pattern.search(message) for pattern in (_LIBRARY, _NO_METADATA)] == [None, None]
    assert time.process_time() - started < 1


@pytest.fixture(scope="module")
def confined_python() -> Iterator[HostSandbox]:
    made = host()
    if made.unconfined:
        pytest.skip("needs a machine that allows private namespaces")
    yield made
    made.close()


def run(folder: Path, python: HostSandbox, code: str, handler: str = "None") -> Outcome:
    """Run a function as verification does, with an event."""
    arguments = "open('/proc/self/cmdline').read().split(chr(0))"
    # A function does not see the script's arguments, but for those who look for them.
    app = f"import os, sys\nsys.argv = {arguments}[-7:]\n{code}\ndef handler(event, context): return {handler}\n"
    with ThreadPoolExecutor(1) as executor:
        verifier = Verifier(LocalStore(folder / "store"), Sandboxes(()), executor, lambda *_: NotImplemented)
        laid = UnpackedFunction(task=write_files(folder / "task", {"app.py": app}))
        return verifier.run(function(), laid, python, EVENTS)[0]


NO_ANSWER = "the interpreter ended with status 0"
ENDS = {
    "no JSON": ("open(sys.argv[2], 'w').write('hello')", "its answer cannot be read"),
    "nothing": ("", NO_ANSWER),
    "500 MB": ("os.truncate(os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT), 500 << 20)", "its answer of 500.0 MB is too long"),
    "deep": ("open(sys.argv[2], 'w').write('[' * 1_000_000)", "its answer cannot be read"),
}
IN_ITS_FOLDER = {
    "a link": ("os.symlink('/etc/passwd', sys.argv[2])", NO_ANSWER),
    "a pipe": ("os.mkfifo(sys.argv[2])", NO_ANSWER),
    "a folder": ("os.mkdir(sys.argv[2])", NO_ANSWER),
    "a pipe as its log": ("log = os.path.dirname(sys.argv[2]) + '/log'; os.remove(log); os.mkfifo(log)", NO_ANSWER),
}


@pytest.mark.parametrize(("code", "said"), ENDS.values(), ids=ENDS)
def test_what_a_function_writes_itself_is_no_answer(tmp_path, confined_python, code, said):
    assert said in run(tmp_path, confined_python, f"{code}\nos._exit(0)").trouble()


@pytest.mark.parametrize(("code", "said"), [*ENDS.values(), *IN_ITS_FOLDER.values()], ids=[*ENDS, *IN_ITS_FOLDER])
def test_what_it_writes_itself_is_none_without_namespaces_either(tmp_path, monkeypatch, code, said):
    refuse_namespaces(monkeypatch)
    assert said in run(tmp_path, host(), f"{code}\nos._exit(0)").trouble()


REACH = """\
import subprocess, time
REACHED, MARK = [], {mark!r}

def attempt(what, call):
    try:
        call()
    except OSError:
        return
    REACHED.append(what)

for path in {places!r}:
    attempt(path + " listed", lambda: os.listdir(path))
    attempt(path + " written", lambda: open(path + "/" + MARK, "w"))
    attempt(path + " made", lambda: os.makedirs(path + "/of/" + MARK))
for path in {secrets!r}:
    attempt(path + " read", lambda: open(path).read())
    attempt(path + " changed", lambda: open(path, "a").write("x"))
    attempt(path + " removed", lambda: os.remove(path))
    attempt(path + " linked", lambda: os.link(path, "/tmp/" + MARK))
for name in os.listdir("/proc"):
    for file in ("environ", "root/etc/passwd", "cwd/lpack.toml", "fd/0", "mem"):
        if name.isdigit() and int(name) != os.getpid():
            attempt("/proc/" + name + "/" + file, lambda: open("/proc/" + name + "/" + file, "rb").read(1))
found = str(dict(os.environ)) + open("/proc/self/environ").read()
if "the user's secret" in found:
    REACHED.append("variables")
if not os.fork():
    os.setsid()
    if not os.fork():
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", MARK])
    os._exit(0)
"""


def snapshot(*folders: Path) -> dict[str, tuple[int, float, bytes]]:
    """List all below folders, with modes, times and contents."""
    found = {}
    for path in (each for folder in folders for each in (folder, *folder.rglob("*"))):
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = facts.st_mode, facts.st_mtime, content
    return found


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Give a folder that is not below /tmp, of which every function has one of its own."""
    with tempfile.TemporaryDirectory(prefix="lpack-test-", dir="/var/tmp") as name:
        yield Path(name)


def test_machine_is_unchanged_by_a_function_that_reaches_for_it(elsewhere, tmp_path, confined_python, monkeypatch):
    mark = elsewhere.name
    folders = {name: elsewhere / name for name in ("home", "cache", "dist", "project")}
    files = {
        "home/.netrc": "s",
        "home/.aws/credentials": "s",
        "cache/derived/bytecode/ab/one": "s",
        "dist/.lpack/other.zip": "s",
    }
    write_files(elsewhere, {**files, "project/lpack.toml": "s"})
    for path in (elsewhere, *elsewhere.rglob("*")):  # that others may not write there is not what keeps the function out
        path.chmod(0o777)
    monkeypatch.setenv("HOME", str(folders["home"]))
    monkeypatch.setenv("LPACK_CACHE_DIR", str(folders["cache"]))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the user's secret")
    monkeypatch.chdir(folders["project"])
    shared = (
        "/tmp",
        "/var/tmp",
        "/dev/shm",
        "/run",
        "/home",
        "/root",
        "/opt",
        "/var/task",
        "/mnt",
        "/srv",
        "/",
        "/etc",
        "/usr",
    )
    secrets = [str(elsewhere / name) for name in (*files, "project/lpack.toml")]
    before = snapshot(elsewhere)
    code = REACH.format(mark=mark, places=[*map(str, folders.values())], secrets=secrets)
    writes = "\n".join(f"attempt({each!r}, lambda: open({f'{each}/{mark}-new'!r}, 'w'))" for each in shared)
    found = run(tmp_path, confined_python, f"{code}\n{writes}", "REACHED")
    assert found.events == ({"result": ["/tmp"]},), found.trouble()  # its own
    assert snapshot(elsewhere) == before
    assert [each for each in shared if Path(each, f"{mark}-new").exists()] == []
    assert not is_running(mark)
    assert [path for path in (tmp_path / "store").rglob("*") if mark in path.name] == []
