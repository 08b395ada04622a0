"""What is sent to a cluster, and what is made of all that may come back; jobs run in this process, through their pickles."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Event, Lock, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Struct, field

from builders.errors import BuildError, LpackError
from packer.cache.local import LocalStore
from packer.cache.remote import open_remote
from packer.cache.signatures import Digests
from packer.cli.commands.worker import _sites, run
from packer.cli.wiring import open_tools
from packer.cluster.client import Cluster, ClusterWork, Job, LostJobError
from packer.cluster.jobs import Answer, MissingObjectError, Tickets, identity, load_ticket
from packer.cluster.worker_site import _PathTranslator
from packer.config.load import Overrides, load_config
from packer.core.errors import LimitError, ManyErrors, UsageError, VerificationError
from packer.core.options import Policy
from packer.pipeline.functions import FunctionBuilder, Selection
from packer.pipeline.gatherer import make_gatherer
from packer.pipeline.layer_maker import Folders
from packer.pipeline.preparation import Order
from packer.pipeline.results import Built
from tests.monorepo import Monorepo
from tests.packer.sharing import Told


class InProcess(Struct):
    """Does jobs at once, and keeps what was sent; ``doing`` may do something else instead."""

    doing: Callable[[Job], bytes] = lambda job: run(*job)
    sent: list[tuple[bytes, str]] = field(default_factory=list)
    known: Collection[str] | None = ("here",)

    def submit(self, job: Job, near: str) -> Future[bytes]:
        self.sent.append((pickle.dumps(job), near))
        future: Future[bytes] = Future()
        try:
            future.set_result(self.doing(pickle.loads(self.sent[-1][0])))
        except BaseException as error:  # noqa: BLE001 whoever waits gets it, whatever it is
            future.set_exception(error)
        return future

    def cluster(self, remote: Path, told: Told) -> Cluster:
        return Cluster(self.submit, lambda: self.known, str(remote), Policy(), told)


class World(Struct):
    """A project and a remote store; the cache of workers is the one that the environment names."""

    repo: Monorepo
    shared: Path
    told: Told

    def build(self, workers: InProcess | None, name: str) -> dict[str, Built]:
        """Build all functions, with a cache of that name."""
        config = load_config(self.repo.folder / "lpack.toml", Overrides())
        folder = self.repo.folder.parent / name
        (folder / "staging").mkdir(parents=True)
        with self.tools(name) as tools, ThreadPoolExecutor(2) as executor:
            cluster = workers.cluster(self.shared, self.told) if workers else None
            building = FunctionBuilder(tools, self.told, Folders(staging=folder / "staging", out=folder / "out"), 1, cluster)
            everything = config.functions
            return building.build(Selection(functions=everything, everything=everything, previous=lambda _: None), executor)

    @contextmanager
    def tools(self, name: str) -> Iterator[Any]:
        with open_tools(
            LocalStore(self.repo.folder.parent / name / "cache"), Digests(), self.told, Policy(), 1, str(self.shared)
        ) as tools:
            yield tools


@pytest.fixture
def world(tmp_path: Path, cache: Path, lpack: Any) -> Iterator[World]:
    (tmp_path / "machine" / "project" / "wheels").mkdir(parents=True)
    (tmp_path / "shared").mkdir()
    repo = Monorepo(folder=tmp_path / "machine" / "project", lpack=lpack)
    common = repo.wheel("common")
    for name in ("one", "two"):
        repo.function(name, common)
    repo.configure("one", "two")
    yield World(repo=repo, shared=tmp_path / "shared", told=Told())
    _sites.close()


def archives(built: dict[str, Built]) -> dict[str, bytes]:
    found = {name: each.staged.read_bytes() for name, each in built.items() if each.staged}
    return found | {name: path.read_bytes() for each in built.values() for name, path in each.layers.items()}


def test_jobs_carry_no_path_of_the_project(world):
    workers = InProcess()
    there = world.build(workers, "there")
    kinds = {pickle.loads(job)[4] for job, _ in workers.sent}
    assert kinds == {"prepare", "size", "make", "settle"}
    for job, _ in workers.sent:
        assert str(world.repo.folder.parent).encode() not in job
        assert str(world.repo.folder.parent).encode() not in pickle.loads(job)[-1]
    assert archives(there) == archives(world.build(None, "here"))
    assert world.told.warnings == []


def test_a_function_goes_to_whoever_has_prepared_it(world, monkeypatch):
    monkeypatch.setattr("packer.cli.commands.worker._find_worker_address", lambda: "here")
    workers = InProcess()
    world.build(workers, "there")
    near = {(pickle.loads(job)[4], near) for job, near in workers.sent}
    assert near == {("prepare", ""), ("size", ""), ("make", "here"), ("settle", "here")}


def nothing(_job: Job) -> bytes:
    raise OSError("gone")


def killed(_job: Job) -> bytes:
    raise RuntimeError("a worker was lost four times")


@pytest.mark.parametrize(
    ("doing", "said"),
    [
        (nothing, "The cluster lost a job"),
        (killed, "The cluster lost a job"),
        (lambda _job: pickle.dumps(Answer(failure="Traceback: No space left on device")), "The cluster lost a job"),
        (
            lambda _job: pickle.dumps(Answer(error=MissingObjectError("Nothing there."))),
            "A job is done on this machine. Nothing",
        ),
    ],
)
def test_what_the_cluster_does_not_do_is_done_here(world, doing, said):
    there = world.build(InProcess(doing), "there")
    assert archives(there) == archives(world.build(None, "here"))
    assert {each[: len(said)] for each in world.told.warnings} == {said}


@pytest.mark.parametrize("error", [ImportError("No module named 'packer'"), TypeError("run() takes 3"), AttributeError("run")])
def test_a_worker_without_this_lpack_is_wrong_use(world, error):
    def doing(_job: Job) -> bytes:
        raise error

    with pytest.raises(LpackError) as caught:
        world.build(InProcess(doing), "there")
    assert caught.value.exit_status == 2
    assert "Install the same lpack wherever the scheduler and its workers run." in str(caught.value)


def test_another_version_is_refused_before_anything_is_unpickled():
    answer = pickle.loads(run("lpack 99.0 on Python 3.11", "nowhere", "build", ("0" * 64,), "prepare", b"no pickle"))
    assert isinstance(answer.error, UsageError)
    assert identity() in answer.error.what
    assert "lpack 99.0" in answer.error.what


def test_nobody_waits_for_a_cluster_without_workers(tmp_path):
    told, asked = Told(), list[str]()

    def never(_job: Job, near: str) -> Future[bytes]:
        asked.append(near)
        return Future()

    cluster = Cluster(never, lambda: None, "x", Policy(), told)
    for _ in range(2):
        with pytest.raises(LostJobError):
            cluster.call("build", (), "size", (), "")
    assert asked == [""]
    [warning] = told.warnings
    assert "no workers any more" in warning


def test_a_job_for_a_worker_that_is_gone_goes_to_any():
    """One that was there when the job was sent."""
    workers = iter([("gone",), ("other",)])
    asked: list[str] = []

    def submit(job: Job, near: str) -> Future[bytes]:
        asked.append(near)
        future: Future[bytes] = Future()
        if not near:
            future.set_result(pickle.dumps(Answer(value=7)))
        return future

    cluster = Cluster(submit, lambda: next(workers), "x", Policy(), Told())
    assert cluster.call("build", (), "size", (), "gone").value == 7
    assert asked == ["gone", ""]


def test_ending_ends_what_waits_and_nothing_is_done_here():
    begun, future, raised = Event(), Future[bytes](), list[Exception]()

    def submit(_job: Job, _near: str) -> Future[bytes]:
        begun.set()
        return future

    cluster = Cluster(submit, lambda: ("one",), "x", Policy(), Told())

    def work() -> None:
        try:
            cluster.call("build", (), "size", (), "")
        except LostJobError as error:
            try:
                cluster.run_here(lambda: pytest.fail("it was done"), error)
            except BuildError as interrupted:
                raised.append(interrupted)

    thread = Thread(target=work)
    with cluster:
        thread.start()
        assert begun.wait(30)
    thread.join(30)
    assert future.cancelled()
    [error] = raised
    assert "interrupted" in str(error)


@pytest.mark.parametrize("kind", [UsageError, LimitError, VerificationError])
def test_errors_come_back_as_they_were(kind):
    error = kind("What.", remedy="Do.", detail="Printed.")
    many = ManyErrors([error, BuildError("Another.", remedy="Mend.")])
    for each in (error, many, ManyErrors([error])):
        back = pickle.loads(pickle.dumps(each))
        assert (type(back), str(back), back.exit_status) == (type(each), str(each), each.exit_status)
    assert [str(each) for each in pickle.loads(pickle.dumps(many)).errors] == [str(each) for each in many.errors]


def test_a_ticket_that_was_changed_is_never_unpickled(world, tmp_path):
    mark = tmp_path / "unpickled"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (mark,))

    with world.tools("machine") as tools:
        config = load_config(world.repo.folder / "lpack.toml", Overrides())
        gatherer = make_gatherer(tools, Told(), tmp_path / "out")
        function = config.functions[0]
        digest = Tickets([Order(function=function, scan=gatherer.scan(function))], tools.sources, Policy()).of("one")
    with open_remote(LocalStore(tmp_path / "first"), str(world.shared), Told()) as store:
        ticket = load_ticket(store, digest)
        assert ticket.order.function.name == "one"
    payload = zlib.compress(pickle.dumps(Bomb()))
    assert sha256(payload).hexdigest() != digest
    [place] = list((world.shared / "derived" / "tickets").rglob(digest))
    place.unlink()
    # As somebody would who may write to the remote store, and knows how: with a proof that fits.
    with open_remote(LocalStore(tmp_path / "evil"), str(world.shared), Told()) as evil:
        evil.save("tickets", digest, payload)
    assert place.is_file()
    answer = pickle.loads(run(identity(), str(world.shared), "build", (digest,), "prepare", pickle.dumps(())))
    assert isinstance(answer.error, MissingObjectError)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert mark.exists()


def test_versions_by_variables_go_with_the_ticket(world, tmp_path, monkeypatch):
    monkeypatch.setenv("SETUPTOOLS_SCM_PRETEND_VERSION", "7.0")
    seen: list[Any] = []

    def builder(*words: Any) -> None:
        seen.append(words[1].variables)
        pytest.fail("enough")

    one_at_a_time = Lock()  # each puts back what it finds

    def doing(job: Job) -> bytes:
        with one_at_a_time, pytest.MonkeyPatch.context() as patch:
            patch.delenv("SETUPTOOLS_SCM_PRETEND_VERSION", raising=False)
            patch.setattr("packer.cli.builder_wiring.StoreBuilder", builder)
            patch.setattr("packer.cli.wiring.LazyPackageBuilder", lambda make: make())
            return run(*job)

    with pytest.raises(BaseException, match="enough"):
        world.build(InProcess(doing), "there")
    assert seen[0] == {"SETUPTOOLS_SCM_PRETEND_VERSION": "7.0"}


def test_paths_of_a_worker_are_told_as_the_other_machine_knows_them(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "host")
    names = _PathTranslator(Path("/tmp/lpack-1/root"), (Path("/tmp/lpack-1"), Path("/cache")))
    assert names.translate("Cannot read /tmp/lpack-1/root/home/me/app.py.") == "Cannot read /home/me/app.py."
    assert names.translate(["/cache/logs/x.log", {"a": ("/tmp/lpack-1/staging/one.zip", 7)}]) == [
        "host:/cache/logs/x.log",
        {"a": ("host:/tmp/lpack-1/staging/one.zip", 7)},
    ]
    error = names.translate_error(ManyErrors([BuildError("At /cache/x.", detail="/tmp/lpack-1/root/y", remedy="Mend /cache.")]))
    assert str(error) == "At host:/cache/x.\n/y\nMend host:/cache."


@pytest.mark.parametrize("lacking", [("one",), ("two",)])
def test_a_worker_that_asks_for_the_same_again_loses_the_job(lacking):
    calls: list[tuple[str, ...]] = []

    def call(_build, tickets, *_job):
        calls.append(tickets)
        assert len(calls) < 10
        return Answer(lacking=lacking, worker="w")

    told: list[str] = []
    cluster: Any = SimpleNamespace(call=call, report_failure=told.append)
    tickets: Any = SimpleNamespace(of=lambda name: name, build="b")
    nothing: Any = SimpleNamespace(store=None)
    work = ClusterWork(cluster, tickets, nothing, nothing, Path())
    with pytest.raises(LostJobError):
        work._run_job("prepare", (), ["one"], ["one"])
    assert calls == ([("one",)] if lacking == ("one",) else [("one",), ("one", "two")])
    assert told == [f"w asks again for {lacking[0]}, which it was sent"]
