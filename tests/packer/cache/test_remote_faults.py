"""A remote that is slow, away, or lies: what is read of it is right or missing, never wrong, and the user is told once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from packer.cache.store import digest_of
from tests.packer.cache.test_remote import LARGE
from tests.packer.sharing import KEY, KEYS, PAYLOAD, QUICK, Machine, machine
from tests.s3 import Fault, Proxy, error_body

OTHER = digest_of("another key")
WHEEL = b"a wheel, and nothing but a wheel " * 300


class Thing(Struct, frozen=True, kw_only=True):
    """Something that is shared: how one machine makes it, and another looks for it."""

    make: Callable[[Machine], object]
    find: Callable[[Machine], bytes | None]
    right: bytes


def _library(number: int) -> bytes:
    return str(number).encode() * 100


def _strip(made: Machine) -> None:
    for number, key in enumerate(KEYS):
        made.store.save("stripped", key, _library(number))


def _stripped(made: Machine) -> bytes | None:
    found = made.store.load_all("stripped", KEYS)
    return b"".join(found[key].payload for key in KEYS) if found else None


def _wheel(data: bytes) -> Thing:
    digest = hashlib.sha256(data).hexdigest()
    return Thing(make=lambda made: made.adopt(data), find=lambda made: made.wheel(digest), right=data)


THINGS = {
    "wheel": _wheel(WHEEL),
    "large wheel": _wheel(LARGE),
    "bytecode": Thing(
        make=lambda made: made.store.save("bytecode", KEY, PAYLOAD),
        find=lambda made: made.load("bytecode", KEY),
        right=PAYLOAD,
    ),
    "libraries": Thing(make=_strip, find=_stripped, right=b"".join(map(_library, range(len(KEYS))))),
}
every_thing = pytest.mark.parametrize("thing", THINGS.values(), ids=THINGS)


def make(thing: Thing, folder: Path, remote: str) -> None:
    made = machine(folder, remote)
    assert thing.find(made) is None
    thing.make(made)
    made.close()
    assert made.told.warnings == []


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


WRONG = {
    "cut short": lambda data: data[: len(data) // 2],
    "empty": lambda _data: b"",
    "a bit flipped": flipped,
    "longer": lambda data: data + b"\0",
    "an error page": lambda _data: b"<html>Sign in to this network</html>",
}


@every_thing
@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_wrong_object_is_ignored_told_of_and_replaced(tmp_path, signed_s3, bucket, thing, change):
    make(thing, tmp_path / "one", bucket)
    signed_s3.break_with(Fault(change=change))
    two = machine(tmp_path / "two", bucket)
    assert thing.find(two) is None
    assert len(two.told.warnings) == 1
    assert f"{bucket} has a wrong object " in two.told.warnings[0]
    signed_s3.mend()
    written = signed_s3.count("PUT")
    thing.make(two)
    two.close()
    assert signed_s3.count("PUT") > written
    assert len(two.told.warnings) == 1
    three = machine(tmp_path / "three", bucket)
    assert thing.find(three) == thing.right
    assert three.told.warnings == []


def test_many_wrong_objects_are_told_of_once(tmp_path, signed_s3, bucket):
    keys = [digest_of(str(number)) for number in range(6)]
    one = machine(tmp_path / "one", bucket)
    for key in keys:
        one.store.save("bytecode", key, PAYLOAD)
    one.close()
    signed_s3.break_with(Fault(change=flipped))
    two = machine(tmp_path / "two", bucket)
    assert [two.load("bytecode", key) for key in keys] == [None] * len(keys)
    assert len(two.told.warnings) == 1
    assert sum("has a wrong object" in each for each in two.told.details) == len(keys) - 1
    assert signed_s3.count("GET") == len(keys)  # it answers: it goes on being asked


def test_swapped_objects_are_ignored(tmp_path):
    remote = tmp_path / "shared"
    remote.mkdir()
    one = machine(tmp_path / "one", str(remote))
    for key, payload in ((KEY, PAYLOAD), (OTHER, b"another payload")):
        one.store.save("bytecode", key, payload)
        one.store.save("sources", key, payload)
    wheels = [one.adopt(data) for data in (b"one wheel", b"another wheel")]
    one.close()
    places = {path.relative_to(remote).as_posix(): path for path in remote.rglob("*") if path.is_file()}
    contents = {name: path.read_bytes() for name, path in places.items()}
    assert len(places) == 6
    names = sorted(places)
    for name, source in zip(names, names[1:] + names[:1], strict=True):
        places[name].write_bytes(contents[source])
    two = machine(tmp_path / "two", str(remote))
    assert [two.load(kind, key) for kind in ("bytecode", "sources") for key in (KEY, OTHER)] == [None] * 4
    assert [two.wheel(digest) for digest in wheels] == [None] * 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_gives_wrong_bytes(tmp_path, data):
    name = data.draw(st.sampled_from(sorted(THINGS.keys() - {"large wheel"})))
    case = tmp_path / digest_of(name, str(len(list(tmp_path.iterdir()))))
    (case / "shared").mkdir(parents=True)
    thing = THINGS[name]
    make(thing, case / "one", str(case / "shared"))
    [place] = [path for path in (case / "shared").rglob("*") if path.is_file()]
    whole = place.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    place.write_bytes(damaged)
    found = thing.find(machine(case / "two", str(case / "shared")))
    assert found == (thing.right if damaged == whole else None)


BROKEN_OFF = {
    "no answer": Fault(hang=True),
    "reset": Fault(reset=True),
    "dropped": Fault(drop_after=20),
    "stalled": Fault(stall_after=20),
    "503": Fault(status=503, body=error_body("SlowDown")),
    "500": Fault(status=500, body=b"oh"),
}


@every_thing
@pytest.mark.parametrize("fault", BROKEN_OFF.values(), ids=BROKEN_OFF)
def test_remote_is_not_asked_after_repeated_failures(tmp_path, signed_s3, bucket, thing, fault):
    make(thing, tmp_path / "one", bucket)
    two = machine(tmp_path / "two", bucket, timing=QUICK)
    signed_s3.break_with(BROKEN_OFF["503"])
    for number in range(2):
        two.load("bytecode", digest_of(str(number)))
    signed_s3.break_with(fault)
    assert two.told.warnings == []
    assert thing.find(two) is None
    assert len(two.told.warnings) == 1
    assert f"{bucket} is not used for the rest of this run: 3 requests in a row failed" in two.told.warnings[0]
    asked = len(signed_s3.seen)
    thing.make(two)
    assert thing.find(two) == thing.right
    two.close()
    assert len(signed_s3.seen) == asked
    assert len(two.told.warnings) == 1


REASONS = {
    "no answer": "it did not answer in time",
    "reset": "the connection broke off",
    "dropped": "the connection broke off",
    "stalled": "it did not answer in time",
    "503": "it answered 503 Service Unavailable (SlowDown)",
    "500": "it answered 500 Internal Server Error",
}


@pytest.mark.parametrize("name", REASONS)
def test_reason_of_a_failing_remote_is_reported(tmp_path, signed_s3, bucket, name):
    make(THINGS["bytecode"], tmp_path / "one", bucket)
    two = machine(tmp_path / "two", bucket, timing=QUICK)
    signed_s3.break_with(BROKEN_OFF["503"])
    for _ in range(2):
        assert two.load("bytecode", KEY) is None
    signed_s3.break_with(BROKEN_OFF[name])
    assert two.load("bytecode", KEY) is None
    assert f"the last because {REASONS[name]}. The build goes on without it." in two.told.warnings[0]


@every_thing
@pytest.mark.parametrize("fault", [BROKEN_OFF["503"], BROKEN_OFF["reset"], BROKEN_OFF["500"]], ids=["503", "reset", "500"])
def test_a_passing_failure_is_waited_out(tmp_path, signed_s3, bucket, thing, fault):
    make(thing, tmp_path / "one", bucket)
    signed_s3.break_with(replace(fault, times=2))
    two = machine(tmp_path / "two", bucket)
    assert thing.find(two) == thing.right
    assert two.told.warnings == []


def test_one_failure_between_others_that_succeed_changes_nothing(tmp_path, signed_s3, bucket):
    make(THINGS["bytecode"], tmp_path / "one", bucket)
    two = machine(tmp_path / "two", bucket)
    for number in range(4):
        signed_s3.break_with(BROKEN_OFF["503"])
        assert two.load("bytecode", KEY) is None
        signed_s3.mend()
        assert two.load("bytecode", digest_of(str(number))) is None
    assert two.load("bytecode", KEY) == PAYLOAD
    assert two.told.warnings == []


def test_remote_is_not_asked_after_slow_failures(tmp_path, signed_s3, bucket, monkeypatch):
    monkeypatch.setattr("packer.cache.breaker._MOST_SECONDS", 0.5)
    two = machine(tmp_path / "two", bucket, timing=QUICK)
    signed_s3.break_with(Fault(hang=True))
    assert two.load("bytecode", KEY) is None
    assert "failed requests have taken" in two.told.warnings[0]
    asked = len(signed_s3.seen)
    assert two.load("bytecode", OTHER) is None
    assert len(signed_s3.seen) == asked


def test_a_slow_remote_is_asked_for_the_rest(tmp_path, ranged_s3, bucket):
    thing = THINGS["large wheel"]
    make(thing, tmp_path / "one", bucket)
    ranged_s3.break_with(Fault(stall_after=4_000_000, times=2))
    two = machine(tmp_path / "two", bucket, timing=replace(QUICK, request=2.0))
    assert thing.find(two) == thing.right
    assert ranged_s3.count("GET") >= 3
    assert two.told.warnings == []


DENIED = Fault(status=403, body=error_body("AccessDenied"))


class TestDenied:
    def test_denied_writing_leaves_the_remote_readable(self, tmp_path, signed_s3, bucket):
        make(THINGS["bytecode"], tmp_path / "one", bucket)
        signed_s3.break_with(replace(DENIED, method="PUT"))
        two = machine(tmp_path / "two", bucket)
        for number in range(4):
            two.store.save("bytecode", digest_of(str(number)), b"payload")
        two.store._pool.shutdown()
        assert two.load("bytecode", KEY) == PAYLOAD
        two.close()
        why = f"Nothing may be written to {bucket}: it answered 403 Forbidden (AccessDenied). It is only read."
        assert two.told.warnings == [why]

    @pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken"])
    def test_denied_reading_ends_all_requests(self, tmp_path, signed_s3, bucket, code):
        make(THINGS["wheel"], tmp_path / "one", bucket)
        signed_s3.break_with(replace(DENIED, body=error_body(code)))
        two = machine(tmp_path / "two", bucket)
        assert THINGS["wheel"].find(two) is None
        asked = len(signed_s3.seen)
        assert THINGS["bytecode"].find(two) is None
        THINGS["bytecode"].make(two)
        two.close()
        assert len(signed_s3.seen) == asked
        [warning] = two.told.warnings
        assert f"reading is denied: it answered 403 Forbidden ({code})" in warning

    def test_wrong_signature_is_reported_in_the_servers_words(self, tmp_path, signed_s3, bucket, monkeypatch):
        make(THINGS["bytecode"], tmp_path / "one", bucket)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
        two = machine(tmp_path / "two", bucket)
        assert THINGS["bytecode"].find(two) is None
        assert "SignatureDoesNotMatch" in two.told.warnings[0]

    def test_wrong_clock_is_reported(self, tmp_path, signed_s3, bucket):
        make(THINGS["bytecode"], tmp_path / "one", bucket)
        signed_s3.break_with(replace(DENIED, body=error_body("RequestTimeTooSkewed")))
        two = machine(tmp_path / "two", bucket)
        assert THINGS["bytecode"].find(two) is None
        assert "clocks" in two.told.warnings[0]


def test_missing_bucket_is_a_warning(tmp_path, s3):
    two = machine(tmp_path / "two", "s3://no-such-bucket/prefix")
    assert two.load("bytecode", KEY) is None
    THINGS["wheel"].make(two)
    two.close()
    [warning] = two.told.warnings
    assert "the bucket does not exist" in warning


@every_thing
@pytest.mark.parametrize("fault", [BROKEN_OFF["503"], BROKEN_OFF["reset"]], ids=["503", "reset"])
def test_failing_write_does_not_fail_the_build(tmp_path, signed_s3: Proxy, bucket, thing, fault):
    two = machine(tmp_path / "two", bucket)
    signed_s3.break_with(replace(fault, method="PUT"))
    thing.make(two)
    two.close()
    assert thing.find(two) == thing.right
    signed_s3.mend()
    assert thing.find(machine(tmp_path / "three", bucket)) is None


def test_a_server_that_knows_no_conditions_is_written_to_without(tmp_path, signed_s3, bucket):
    signed_s3.break_with(Fault(method="PUT", header="If-None-Match", status=501, body=error_body("NotImplemented")))
    make(THINGS["bytecode"], tmp_path / "one", bucket)
    assert THINGS["bytecode"].find(machine(tmp_path / "two", bucket)) == PAYLOAD


def test_oversized_object_is_not_read(tmp_path, signed_s3, bucket, monkeypatch):
    make(THINGS["large wheel"], tmp_path / "one", bucket)
    monkeypatch.setattr("packer.cache.remote._LARGEST_WHEEL", 1_000_000)
    two = machine(tmp_path / "two", bucket)
    assert THINGS["large wheel"].find(two) is None
    assert "more than 1,000,000 bytes" in two.told.warnings[0]
