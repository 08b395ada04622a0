"""The output folder: one build at a time writes to it, and every file appears in it whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from packer.cache.store import Store, digest_of, store_errors
from packer.core.process import is_running

_STAGING_PREFIX = ".lpack-"


@contextmanager
def only_build(store: Store, out: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the output folder for this process; ``waiting`` is called once where another one holds it."""
    from filelock import FileLock, Timeout

    # The true path, so that two spellings of one folder meet in one lock.
    path = store.root / "locks" / f"{digest_of(os.path.realpath(out))}.lock"
    with store_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """Give a new folder beside the final files; it is removed at the end, and those of killed builds at the beginning.

    Call it while the folder is held. Raises `StoreError`.
    """
    with store_errors(out, "write to"):
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(_STAGING_PREFIX + "*"):
            if not is_running(left.name.removeprefix(_STAGING_PREFIX).partition("-")[0]):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{_STAGING_PREFIX}{os.getpid()}-", dir=out))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish_files(files: Mapping[str, Path], out: Path) -> None:
    """Rename complete files to their names below ``out``, in the mapping's order; raises `StoreError`.

    A folder is the layout of an image, which takes the place of an older one.
    """
    for name, path in files.items():
        final = out / name
        if path.is_dir():
            from packer.images.layout_writer import publish_layout

            publish_layout(path, final)
            continue
        with store_errors(final, "write"):
            final.parent.mkdir(parents=True, exist_ok=True)
            path.chmod(0o644)
            path.replace(final)
