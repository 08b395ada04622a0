"""What a sandbox is asked to run, what it returns, and the protocol of sandboxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from builders.runtimes import MEGABYTE, STORAGE_RANGE

FLAGS = ("-S", "-s", "-B", "-W", "ignore")
"""Flags that every interpreter gets which runs a script."""
LONGEST_OUTPUT = 1 << 20
"""Bytes that are kept of what a script prints."""
TREE_PLACEHOLDER, LAYERS_PLACEHOLDER = "\0tree", "\0layers"
"""Placeholders in a task's variables for the folders of its tree and its layers; no user's variable can contain them."""


class LayerStack(Struct, frozen=True, kw_only=True):
    """Folders of layers, each on top of those before it; ``merged`` returns one folder with the files of all of them."""

    parts: tuple[Path, ...]
    merged: Callable[[], Path]


class Task(Struct, frozen=True, kw_only=True):
    """A script to run: ``python SCRIPT ARGUMENTS…``, for at most ``seconds``.

    In arguments, ``{in}``, ``{task}``, ``{layers}``, ``{late}`` and ``{answer}`` stand for paths; those that the task does not
    have are empty. ``inputs`` is a folder that the script may read, ``program`` a file of this machine that it starts, and
    ``{program}`` the path of that. ``tree`` lies at /var/task, and ``layers``, merged into one
    folder, at /opt; both lie elsewhere where the machine does not allow that. ``late`` is a folder of packages that the runtime
    has. ``flags`` are for the interpreter. ``storage`` are the bytes of /tmp, ``memory`` those of memory that all processes may
    hold together (None: no limit), ``longest`` those of the answer.
    """

    script: str
    arguments: Sequence[str]
    inputs: Path
    tree: Path | None = None
    layers: Path | LayerStack | None = None
    late: Path | None = None
    program: Path | None = None
    flags: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 600.0
    storage: int = STORAGE_RANGE[0] * MEGABYTE
    memory: int | None = None
    longest: int = 64 * MEGABYTE

    def merged_layers(self) -> Path | None:
        """Return the layers as one folder; None where the task has none."""
        return self.layers.merged() if isinstance(self.layers, LayerStack) else self.layers


class TaskResult(Struct, frozen=True, kw_only=True):
    """How a script ended: its exit status (negative: a signal), what it printed, and its answer if it wrote one.

    ``late`` says that it was stopped because its time was over, ``memory`` how many bytes it held when it was stopped for that
    (else 0). ``excess`` are the bytes of an answer that is too long, and was not read.
    """

    status: int
    log: str
    answer: bytes | None
    late: bool = False
    memory: int = 0
    excess: int = 0


class Sandbox(Protocol):
    """Runs scripts of `builders.inside` in a Python of the target's minor; may be used from many threads.

    ``identity`` is the Python's version, which decides the bytes that it makes. ``place`` says in messages where it is.
    ``path`` is the interpreter's file, where that is one of this machine; ``starts_programs`` says whether tasks may bring a
    program of this machine, ``has_packages`` whether what the runtime brings is there without a task's ``late``. ``unconfined``
    says why what it runs is not kept from this machine; empty where it is. ``libraries`` are files outside of a function that
    code may load: None where there are no others; ``private`` those that are there for modules of the standard library, with
    the names of these.
    """

    @property
    def identity(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def starts_programs(self) -> bool: ...
    @property
    def has_packages(self) -> bool: ...
    @property
    def unconfined(self) -> str: ...
    @property
    def libraries(self) -> frozenset[str] | None: ...
    @property
    def private(self) -> Mapping[str, tuple[str, ...]]: ...
    def run(self, task: Task, work: Path) -> TaskResult:
        """Run a script in the empty folder ``work``; raises `builders.errors.BuildError` where it cannot be run at all."""
        ...

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        ...


def with_folders(variables: Mapping[str, str], tree: str, layers: str) -> dict[str, str]:
    """Return variables with the folders of a tree and its layers in the place of their placeholders."""
    return {
        name: value.replace(TREE_PLACEHOLDER, tree).replace(LAYERS_PLACEHOLDER, layers) for name, value in variables.items()
    }
