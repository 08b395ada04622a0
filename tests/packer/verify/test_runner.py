"""Running archives with their layers: the outcome is that of one package with all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from builders.runtimes import Target
from builders.sandbox.emulator import CLIENT
from builders.sandbox.host_sandbox import open_host_sandbox
from builders.sandbox.table import Sandboxes, SandboxKind
from packer.cache.deflate import Deflater
from packer.cache.local import LocalStore
from packer.core.model import BytesContent, Entry, Function, Tree
from packer.core.options import ExecutionSettings, VerifyLevel, VerifyOptions
from packer.formats.unpack import LayerArchive
from packer.formats.zip_writer import WrittenArchive, write_zip
from packer.verify.runner import NOTHING, Event, Outcome, Verifier, outcome_essence, shown_trace
from tests.emulator import client_files, use_emulator
from tests.layered import SONAME, library
from tests.probing import refuse_namespaces
from tests.shaped import ARCHITECTURE, RUNTIME
from tests.wheels import write_members

HANDLER = """\
import ctypes
import shop, shop.stock, spread.own, spread.theirs

def handler(event, context):
    return {"load": load, "place": place, "fail": fail, "miss": miss}[event]()

def load(): return ctypes.CDLL("SONAME").lpack_test()
def place(): return [shop.__file__, shop.stock.read(), {spread.theirs.__file__: 1, "/tmp/other": 2}]
def fail(): shop.stock.fail()
def miss(): from shop import nothing
""".replace("SONAME", SONAME)
OWN = {"app.py": HANDLER, "spread/own.py": ""}
STOCK = """\
import pkgutil
def read(): return pkgutil.get_data("shop", "data.txt").decode()
def fail(): open(__file__ + ".no")
"""
SHOP = {
    "shop/__init__.py": "",
    "shop/stock.py": STOCK,
    "shop/data.txt": "teapots",
    "spread/theirs.py": "",
}
EVENTS = ("load", "place", "fail", "miss")


class World(Struct, frozen=True, kw_only=True):
    """A verifier, and where archives for it are written."""

    verifier: Verifier
    folder: Path

    def archive(self, files: Mapping[str, str | bytes]) -> LayerArchive:
        members = {name: data.encode() if isinstance(data, str) else data for name, data in files.items()}
        path = self.folder / f"{len(list(self.folder.iterdir()))}.zip"
        write_members(path, members)
        return LayerArchive(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    def outcome(
        self, files: Mapping[str, str | bytes], *layers: LayerArchive, level: VerifyLevel = "events", late: Tree = NOTHING
    ) -> Outcome:
        archive = self.archive(files)
        events = [Event(name=name, value=name) for name in EVENTS]
        return self.verifier.outcome(function(level), archive.path, archive.sha256, events, late, layers)


HOST = SandboxKind(name="host", open=lambda target, _asked: open_host_sandbox(target))


def function(level: VerifyLevel = "events") -> Function:
    return Function(
        name="one",
        source=Path("/nowhere"),
        handler="app.handler",
        target=Target.of(RUNTIME, ARCHITECTURE),
        requirements=None,
        lock_path=Path("/nowhere/pylock.toml"),
        verify=VerifyOptions(level=level),
    )


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    store = LocalStore(tmp_path / "store")
    deflater = Deflater(store)

    def write(tree: Tree, path: Path) -> WrittenArchive:
        with path.open("wb") as file:
            return write_zip(tree, file, deflater.span)

    (tmp_path / "archives").mkdir()
    with ThreadPoolExecutor(2) as executor:
        verifier = Verifier(store, Sandboxes((HOST,)), executor, write)
        yield World(verifier=verifier, folder=tmp_path / "archives")
        verifier.close()


def below(folder: str, files: Mapping[str, str | bytes]) -> dict[str, str | bytes]:
    return {f"{folder}/{name}": data for name, data in files.items()}


def fat() -> dict[str, str | bytes]:
    return {**OWN, **SHOP, f"lib/{SONAME}": library()}


def split(world: World, folder: str = "python") -> tuple[LayerArchive, ...]:
    """Give what `fat` has beside its own files as two layers."""
    return world.archive(below(folder, SHOP)), world.archive({f"lib/{SONAME}": library()})


def check_agree(one: Outcome, other: Outcome) -> None:
    assert one.works
    assert one.essence() == other.essence()
    by_event = dict(zip(EVENTS, other.events, strict=True))
    assert by_event["load"] == {"result": 42}
    assert by_event["place"]["result"][1] == "teapots"
    assert "stock.py.no" in by_event["fail"]["error"]["message"]
    assert "cannot import name 'nothing' from 'shop'" in by_event["miss"]["error"]["message"]


@pytest.mark.parametrize("folder", ["python", function().target.runtime.layer_packages[0]])
@pytest.mark.parametrize("confined", [True, False])
def test_a_function_with_layers_behaves_as_one_package_does(world, monkeypatch, folder, confined):
    if not confined:
        refuse_namespaces(monkeypatch)
    layered = world.outcome(OWN, *split(world, folder))
    check_agree(world.outcome(fat()), layered)
    assert layered.events[1]["result"][0] == f"/opt/{folder}/shop/__init__.py"


def test_layered_function_runs_in_the_emulator(world, monkeypatch, index_folder):
    use_emulator(monkeypatch, index_folder)
    entries = (
        Entry(path=path, mode=0o644, content=BytesContent.of(data), owner=f"{CLIENT}-3.0.0-py3-none-any.whl")
        for path, data in client_files().items()
    )
    late = Tree.of(entries)
    layers = split(world)
    for confined in (True, False):
        if not confined:
            refuse_namespaces(monkeypatch)
        layered = world.outcome({**OWN, "which": str(confined)}, *layers, level="rie", late=late)
        check_agree(world.outcome({**fat(), "which": str(confined)}, level="rie", late=late), layered)
        assert layered.events[1]["result"][0] == "/opt/python/shop/__init__.py"


def test_what_a_layer_lacks_is_missed(world):
    found = world.outcome(OWN, world.archive(below("python", {"shop/__init__.py": ""})))
    assert found.trouble() == "ModuleNotFoundError: No module named 'shop.stock'"


def test_an_outcome_is_remembered_for_these_layers_in_this_order_alone(world):
    files = {"app.py": "import shop\nhandler = lambda event, context: shop.VALUE\n"}
    one, two = (world.archive({"python/shop.py": f"VALUE = {value}\n"}) for value in (1, 2))
    found = [world.outcome(files, *layers).events[0]["result"] for layers in ((one,), (two,), (one, two), (two, one))]
    assert found == [1, 2, 2, 1]
    assert not world.outcome(files).works
    for each in (one, two):
        each.path.unlink()
    assert world.outcome(files, one).events[0]["result"] == 1


def test_an_outcome_is_remembered_for_these_packages_of_the_runtime_alone(world):
    files = {"app.py": "import shop\nhandler = lambda event, context: shop.VALUE\n"}
    content = BytesContent.of(b"VALUE = 1\n")
    late = [Tree.of([Entry(path=path, mode=0o644, content=content, owner="shop")]) for path in ("other.py", "shop.py")]
    assert [world.outcome(files, late=each).works for each in late] == [False, True]


def test_an_outcome_is_remembered_for_its_target_and_version_alone(world, monkeypatch):
    runs: list[str] = []
    run = world.verifier.run

    def counting(function: Function, *arguments: Any, **more: Any) -> Any:
        runs.append(str(function.target))
        return run(function, *arguments, **more)

    monkeypatch.setattr(world.verifier, "run", counting)
    archive = world.archive({"app.py": "handler = lambda event, context: event\n"})
    other = replace(function(), target=replace(function().target, ceiling=30))
    for each in (function(), function(), other):
        world.verifier.outcome(each, archive.path, archive.sha256, [])
    assert runs == [str(function().target), str(other.target)]
    monkeypatch.setattr("packer.verify.runner.__version__", "0.0.0")
    world.verifier.outcome(function(), archive.path, archive.sha256, [])
    assert len(runs) == 3


def test_an_outcome_without_confinement_is_not_taken_for_one_with_it(world, tmp_path, monkeypatch):
    source = f"import os\nSEEN = os.path.exists({str(tmp_path)!r})\ndef handler(event, context): return SEEN\n"
    archive, events = world.archive({"app.py": source}), [Event(name="one", value=1)]

    def found() -> Any:
        sandboxes = Sandboxes((HOST,))
        verifier = Verifier(world.verifier._store, sandboxes, world.verifier._executor, world.verifier._write)
        outcome = verifier.outcome(function(), archive.path, archive.sha256, events)
        verifier.close()
        sandboxes.close()
        return outcome.events[0]["result"]

    with monkeypatch.context() as patched:
        refuse_namespaces(patched)
        assert found() is True
    assert found() is False


def test_layers_are_removed_at_the_end(world):
    archive = world.archive(OWN)
    with world.verifier.laid_out(archive.path, NOTHING, split(world)) as laid:
        assert laid.layers is not None
        merged = laid.layers.merged()
        assert sorted(path.name for path in merged.iterdir()) == ["lib", "python"]
    folders = (merged, *laid.layers.parts)
    assert all(folder.exists() for folder in folders)
    assert not laid.task.exists()
    world.verifier.close()
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/var/task/shop/a.py", "/opt/python/shop/a.py"),
        ("in /var/task: 'x'", "in /opt/python: 'x'"),
        ("ä\n/var/task/a", "ä\n/opt/python/lib/python3.12/site-packages/a"),
        ("/var/task/lib/libx.so: no", "/opt/lib/libx.so: no"),
        ({"/var/task/b": ["/var/task/bin"], "/tmp/x": None}, {"/opt/python/b": ["/opt/bin"], "/tmp/x": None}),
    ],
)
def test_it_is_no_difference_whether_a_file_lies_in_the_function_or_a_layer(one: Any, other: Any):
    before, after = (Outcome(events=({"result": value},)) for value in (one, other))
    assert before.essence() == after.essence()
    errors = [{"error": {"type": "E", "message": json.dumps(value), "trace": ""}} for value in (one, other)]
    assert outcome_essence(errors[0]) == outcome_essence(errors[1])


@pytest.mark.parametrize("other", ["/var/task/shop/b.py", "/opt/python/shop/b.py", "/opt/extensions/a.py", "/tmp/a.py"])
def test_another_file_is_a_difference(other):
    before = Outcome(events=({"result": "/var/task/shop/a.py"},))
    assert before.essence() != replace(before, events=({"result": other},)).essence()


SLOW = """\
import time

def handler(event, context):
    before = context.get_remaining_time_in_millis()
    time.sleep(event)
    return before
"""
GREEDY = """\
import time
held = bytearray(300 << 20)
held[::4096] = bytes([1]) * len(held[::4096])
time.sleep(30)
"""


def outcome_of(world: World, source: str, execution: ExecutionSettings, *values: float) -> Outcome:
    archive = world.archive({"app.py": source})
    events = [Event(name=str(value), value=value) for value in values]
    return world.verifier.outcome(replace(function(), execution=execution), archive.path, archive.sha256, events)


def test_call_that_takes_longer_than_its_timeout_is_a_failure(world):
    [short] = outcome_of(world, SLOW, ExecutionSettings(timeout=1), 0).events
    assert 900 < short["result"] <= 1000
    late = outcome_of(world, SLOW, ExecutionSettings(timeout=1), 0, 1.2)
    assert (late.failure, late.limit) == ("a call takes longer than its timeout of 1 s", "timeout")


def test_function_that_holds_more_than_its_memory_is_stopped(world):
    greedy = outcome_of(world, GREEDY, ExecutionSettings(memory=128))
    assert (greedy.failure, greedy.limit) == ("it holds more than its 128 MB of memory", "memory")


CALLED = """\
Traceback (most recent call last):
  File "/var/runtime/awslambdaric/__main__.py", line 20, in outcome_of
    result = call()
             ^^^^^^
  File "<frozen importlib._bootstrap>", line 1204, in _gcd_import
"""
OWN_FRAMES = """\
  File "/var/task/app.py", line 1, in <module>
    import tool
  File "/var/lang/lib/json.py", line 3, in loads
"""
HEADER = "Traceback (most recent call last):\n"
BETWEEN = "\nDuring handling of the above exception, another exception occurred:\n\n"


@pytest.mark.parametrize(
    ("trace", "shown"),
    [
        (f"{CALLED}{OWN_FRAMES}E: x", f"{HEADER}{OWN_FRAMES}E: x"),
        (f"{CALLED}ModuleNotFoundError: x", "ModuleNotFoundError: x"),
        (
            f"{CALLED}{OWN_FRAMES}E: x\n{BETWEEN}{CALLED}{OWN_FRAMES}F: y",
            f"{HEADER}{OWN_FRAMES}E: x\n{BETWEEN}{HEADER}{OWN_FRAMES}F: y",
        ),
        (OWN_FRAMES, OWN_FRAMES),
        ("", ""),
    ],
)
def test_trace_is_shown_from_the_functions_first_frame_on(trace, shown):
    assert shown_trace(trace) == shown
