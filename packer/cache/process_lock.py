"""Locks between the processes that use a store: each ends with its block, or with the process, however that ends."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from packer.cache.store import Store, store_errors


@contextmanager
def lock_name(store: Store, name: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Lock a name, which can be that of a file, for this process; ``waiting`` is called once where another one has locked it.

    Raises `StoreError`.
    """
    path = store.root / "locks" / f"{name}.lock"
    with store_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    with file:
        with store_errors(path, "lock"):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
