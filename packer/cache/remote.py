"""A store whose wheels and derived files are shared with other machines through a bucket or a folder.

    wheels/1/ab/<sha256>              as in the store itself
    derived/<kind>/ab/<key>           a line with a proof, the payload
    derived.<mark>/<kind>/ab/<key>    the same, for those who hold the secret that gives this mark
    offered/ab/<sha256>               files that one machine of a cluster made for another

What this machine lacks is looked for there first, and what it makes or downloads is written there, in the background. A remote
never decides a build: one that is away, slow, or refuses costs a warning, and the build continues without it.

What is proved when it is read:

- A wheel has the SHA-256 that it was asked for by, which a lock or a record of a build names, and passes what any download
  must pass. Nobody who writes to the remote can change it.
- What is offered has the SHA-256 that the machine which made it has reported.
- A derived file's proof binds its payload to its own place. It shows what was cut short, damaged, or put in another's place;
  it does not show who wrote it. **Whoever may write to the remote is trusted with derived files**, which hold bytecode,
  stripped libraries, and which wheel was built from a source: give those builds that run other people's code, such as pull
  requests, credentials that only read.
- With ``LPACK_REMOTE_KEY``, the proof is an HMAC-SHA256 (RFC 2104) by that secret: only its holders are trusted, and what
  others wrote is never seen. An earlier object of the same name can still be put back: that gives what was right before, of
  those kinds that are replaced (`packer.cache.sharing`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import Self

from msgspec import Struct, field

from builders.errors import LpackError
from builders.files import stream_digest
from builders.runtimes import MEGABYTE
from packer.cache.breaker import CircuitBreaker
from packer.cache.objects import (
    FOLDER,
    OversizedObjectError,
    RemoteAddress,
    RemoteError,
    RemoteObjects,
    UploadStopped,
    read_address,
)
from packer.cache.sharing import KINDS
from packer.cache.store import REMOTE_VARIABLE, DerivedFile, Store, digest_of, store_errors
from packer.cache.wrapper import StoreWrapper
from packer.core.errors import PackageError, UsageError
from packer.core.events import Reporter

KEY_VARIABLE = "LPACK_REMOTE_KEY"
_SHORTEST_SECRET = 16
_LARGEST_WHEEL, _LARGEST_DERIVED = 2048 * MEGABYTE, 512 * MEGABYTE
"""Bytes beyond which nothing is read, so that a remote cannot fill the disk, or memory with derived files."""
_OFFERED = "offered"
_HEAD = b"lpack 1 "
_PROOF_END = len(_HEAD) + 64
_LENGTH = 8
_WRITERS = 4
_PATIENCE = 120.0
"""Seconds that a finished build waits for objects that are still being written."""


class RemoteStatus(Struct, frozen=True, kw_only=True):
    """How a remote answers a request; ``trouble`` is empty where it works."""

    address: RemoteAddress
    trouble: str = ""


def remote_address(configured: str) -> RemoteAddress | None:
    """Return the address in ``LPACK_REMOTE``, or else in the configuration; an empty variable means no remote.

    Raises `UsageError`.
    """
    named = os.environ.get(REMOTE_VARIABLE, configured)
    return read_address(named, Path.cwd()) if named else None


@contextmanager
def open_remote(store: Store, configured: str, reporter: Reporter) -> Iterator[Store]:
    """Return the store wrapped by the configured remote, or as it is where there is none; raise `UsageError`."""
    address = remote_address(configured)
    secret = os.environ.get(KEY_VARIABLE, "")
    if address is None:
        yield store
    elif secret and len(secret) < _SHORTEST_SECRET:
        what = f"{KEY_VARIABLE} has fewer than {_SHORTEST_SECRET} characters, and could be guessed."
        raise UsageError(what, remedy="Make one: `openssl rand -hex 32`.")
    elif not _folder_exists(address):
        reporter.warn(f"There is no folder {address}: the build goes on without a remote store. Make it, or mount it.")
        yield store
    else:
        with RemoteStore(store, CircuitBreaker(RemoteObjects(address), reporter), secret) as remote:
            yield remote


def probe_remote(configured: str) -> RemoteStatus | None:
    """Request an object that does not exist from the configured remote; None where there is no remote. Raises `UsageError`."""
    address = remote_address(configured)
    if address is None:
        return None
    if not _folder_exists(address):
        return RemoteStatus(address=address, trouble="the folder does not exist")
    try:
        RemoteObjects(address).read("nothing", BytesIO(), 0)
    except OversizedObjectError:
        pass  # there is one after all, and it can be read
    except RemoteError as error:
        return RemoteStatus(address=address, trouble=error.what)
    return RemoteStatus(address=address)


def _folder_exists(address: RemoteAddress) -> bool:
    """Return whether a remote that is a folder exists: it may have to be mounted first."""
    return address.scheme != FOLDER or Path(address.rest).is_dir()


class _ObjectGroup(Struct, kw_only=True):
    """Derived files that are one object; ``missing`` are the keys of those not yet in the local store."""

    place: str
    kind: str
    keys: tuple[str, ...]
    missing: set[str] = field(default_factory=set)


class RemoteStore(StoreWrapper):
    """A `SharedStore` around any store: what that lacks is read from a remote, and what enters it is written there.

    ``with`` ends when all is written, or after ``patience`` seconds.
    """

    def __init__(self, inner: Store, breaker: CircuitBreaker, secret: str = "", patience: float = _PATIENCE) -> None:
        super().__init__(inner)
        self._breaker = breaker
        self._secret = secret.encode()
        mark = hmac.new(self._secret, b"mark", hashlib.sha256).hexdigest()[:16] if secret else ""
        self._derived = f"derived.{mark}" if mark else "derived"
        self._patience = patience
        self._own_paths = tuple({os.fsencode(inner.root), json.dumps(str(inner.root))[1:-1].encode()})
        self._guard = Lock()
        self._settled: set[str] = set()
        """Objects that the remote has, or that this process is writing."""
        self._wrong: set[str] = set()
        self._groups: dict[str, list[_ObjectGroup]] = {}
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="remote")
        self._writing: list[Future[None]] = []
        self._stopped = Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        self.close(0 if interrupted else self._patience)

    def flush(self) -> None:
        """Wait until others can read what was written, or for ``patience`` seconds."""
        with self._guard:
            self._writing = [each for each in self._writing if not each.done()]
            writing = tuple(self._writing)
        end = time.monotonic() + self._patience
        for each in writing:
            with suppress(CancelledError, TimeoutError):  # `wait` would keep waiting for one that `close` has cancelled
                each.result(max(0.0, end - time.monotonic()))

    def close(self, seconds: float) -> None:
        """Wait at most this long for objects that are being written, and drop those that have not begun."""
        with self._guard:
            writing = tuple(self._writing)
        left = [each for each in writing if not each.done()]
        if left and seconds and self._breaker.writes:
            self._breaker.reporter.note(f"writing {len(left)} objects to {self._breaker.name}")
        _, late = wait(writing, seconds)
        with self._guard:
            self._stopped.set()
            self._pool.shutdown(wait=False, cancel_futures=True)
        if late and seconds:
            what = f"{len(late)} objects were not written to {self._breaker.name} in {seconds:.0f} s"
            self._breaker.reporter.warn(f"{what}: other machines make them again.")

    def wheel(self, digest: str, prove: Callable[[Path], None] | None = None, size: int | None = None) -> Path | None:
        found = self._inner.wheel(digest)
        if found is not None or prove is None or not self._breaker.reads:
            return found
        place = self._wheel_place(digest)
        with self.temporary() as temporary:
            with store_errors(temporary, "write"), temporary.open("w+b") as file:
                if not self._breaker.read(place, file, _LARGEST_WHEEL if size is None else min(size, _LARGEST_WHEEL)):
                    return None
                received = stream_digest(file)
                size = file.tell()
            try:
                if received != digest:
                    raise PackageError(f"its SHA-256 is {received}")
                prove(temporary)
            except LpackError as error:
                self._ignore(place, error.what)
                return None
            self._mark_settled(place)
            return self._inner.adopt(temporary, digest, size)

    def adopt(self, temporary: Path, digest: str, size: int) -> Path:
        path = self._inner.adopt(temporary, digest, size)
        self._write_later(self._wheel_place(digest), lambda: path)
        return path

    def share(self, digest: str) -> None:
        path = self.wheel_path(digest)
        self._write_later(self._wheel_place(digest), lambda: path)

    def offer(self, digest: str, path: Path) -> None:
        self._write_later(_offer_key(digest), lambda: path)

    def obtain(self, digest: str, to: Path) -> bool:
        if not self._breaker.reads:
            return False
        place = _offer_key(digest)
        with store_errors(to, "write"):
            to.parent.mkdir(parents=True, exist_ok=True)
            with to.open("w+b") as file:
                read = self._breaker.read(place, file, _LARGEST_DERIVED)
                whole = read and stream_digest(file) == digest
            if not whole:
                to.unlink()
        if read and not whole:
            self._ignore(place, "its SHA-256 is not its name")
        return whole

    def load(self, kind: str, key: str) -> DerivedFile | None:
        found = self._inner.load(kind, key)
        rule = KINDS.get(kind)
        if found is not None or rule is None or not rule.shared or rule.together:
            return found
        place = self._derived_place(kind, key)
        payload = self._read_sealed(place)
        if payload is None:
            return None
        self._mark_settled(place)
        return self._inner.save(kind, key, payload)

    def save(self, kind: str, key: str, payload: bytes) -> DerivedFile:
        record = self._inner.save(kind, key, payload)
        rule = KINDS.get(kind)
        if rule is not None and rule.together:
            self._complete(key)
        elif rule is not None and rule.shared and not self._contains_own_path(payload):
            place = self._derived_place(kind, key)
            self._write_later(place, partial(self._sealed_record, place, kind, key), replace=rule.replaced)
        return record

    def load_all(self, kind: str, keys: Sequence[str]) -> dict[str, DerivedFile]:
        rule = KINDS.get(kind)
        if rule is None or not rule.together:
            return {key: record for key in keys if (record := self.load(kind, key)) is not None}
        found = self._inner.load_all(kind, keys)
        missing = {key for key in keys if key not in found}
        if not missing or not self._breaker.reads:
            return found
        keys = tuple(sorted(keys))
        place = self._derived_place(kind, digest_of(*keys))
        payloads = _split_group(self._read_sealed(place), keys)
        if payloads is None:
            group = _ObjectGroup(place=place, kind=kind, keys=keys, missing=missing)
            with self._guard:
                for key in missing:
                    self._groups.setdefault(key, []).append(group)
            return found
        self._mark_settled(place)
        return found | {key: self._inner.save(kind, key, payloads[key]) for key in missing}

    def _complete(self, key: str) -> None:
        """Write the groups of which this derived file was the last one missing."""
        with self._guard:
            groups = self._groups.pop(key, [])
            for group in groups:
                group.missing.discard(key)
            complete = [group for group in groups if not group.missing]
        for group in complete:
            self._write_later(group.place, partial(self._sealed_group, group))

    def _wheel_place(self, digest: str) -> str:
        return self.wheel_path(digest).relative_to(self.root).as_posix()

    def _derived_place(self, kind: str, key: str) -> str:
        return f"{self._derived}/{kind}/{key[:2]}/{key}"

    def _contains_own_path(self, payload: bytes) -> bool:
        """Return whether a payload contains the path of this cache, as warnings that name a log do: no other machine has it."""
        return any(path in payload for path in self._own_paths)

    def _mark_settled(self, place: str) -> None:
        with self._guard:
            self._settled.add(place)

    def _ignore(self, place: str, reason: str) -> None:
        with self._guard:
            self._wrong.add(place)
        self._breaker.report_wrong(place, reason)

    def _read_sealed(self, place: str) -> bytes | None:
        """Read a derived file, or a group; None where it does not exist, or its proof does not match."""
        file = BytesIO()
        if not self._breaker.read(place, file, _LARGEST_DERIVED):
            return None
        data = file.getvalue()
        payload = data[_PROOF_END + 1 :]
        if not hmac.compare_digest(data[: _PROOF_END + 1], self._head(place, payload)):
            self._ignore(place, "its proof does not match its bytes and its name")
            return None
        return payload

    def _head(self, place: str, payload: bytes) -> bytes:
        """Return the line with the proof that precedes a payload."""
        proof = digest_of(place, payload)
        if self._secret:
            proof = hmac.new(self._secret, proof.encode(), hashlib.sha256).hexdigest()
        return _HEAD + proof.encode() + b"\n"

    def _sealed_record(self, place: str, kind: str, key: str) -> bytes | None:
        """Return the object to write for a derived file; None where it has been removed meanwhile."""
        record = self._inner.load(kind, key)
        return None if record is None else self._head(place, record.payload) + record.payload

    def _sealed_group(self, group: _ObjectGroup) -> bytes | None:
        records = self._inner.load_all(group.kind, group.keys)
        if len(records) < len(set(group.keys)):
            return None
        payloads = [records[key].payload for key in group.keys]
        payload = b"".join(len(each).to_bytes(_LENGTH, "big") + each for each in payloads)
        return None if self._contains_own_path(payload) else self._head(group.place, payload) + payload

    def _write_later(self, place: str, source: Callable[[], bytes | Path | None], *, replace: bool = False) -> None:
        """Write an object in the background: once in this process, unless it replaces another."""
        with self._guard:
            if not self._breaker.writes or self._stopped.is_set() or (place in self._settled and not replace):
                return
            replace = replace or place in self._wrong
            self._settled.add(place)
            self._writing.append(self._pool.submit(self._write, place, source, replace))

    def _write(self, place: str, source: Callable[[], bytes | Path | None], replace: bool) -> None:
        try:
            data = source()
            if data is not None:
                self._breaker.write(place, data, self._stopped, replace=replace)
        except (OSError, LpackError) as error:
            # Read from this machine's store, whose own readers report what is wrong with it; others make the object again.
            self._breaker.reporter.debug(f"{place} is not written to {self._breaker.name}: {error}")
        except UploadStopped:
            pass  # `close` has reported how much was not written


def _offer_key(digest: str) -> str:
    return f"{_OFFERED}/{digest[:2]}/{digest}"


def _split_group(payload: bytes | None, keys: Sequence[str]) -> dict[str, bytes] | None:
    """Split the payload that `RemoteStore._sealed_group` joined; the keys are those that its name is made of."""
    if payload is None:
        return None
    payloads: dict[str, bytes] = {}
    at = 0
    for key in keys:
        start = at + _LENGTH
        at = start + int.from_bytes(payload[at:start], "big")
        payloads[key] = payload[start:at]
    return payloads if at == len(payload) else None
