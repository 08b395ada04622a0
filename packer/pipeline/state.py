"""What the last build of an output folder saw and wrote: the memory that lets the next one do nothing."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from builders.files import place_file
from packer.cache.signatures import SIZED, Signature, are_unchanged, signature
from packer.cache.store import Store, digest_of, store_errors
from packer.core.options import Budget
from packer.core.records import FunctionRecord

Watched = dict[str, Signature]
LAYOUT_FILES = ("blobs/sha256", "index.json", "oci-layout")
"""What an OCI image layout is made of (image specification, image-layout.md), the folder of its blobs first."""

ALWAYS = 1 << 62
"""A time for what lpack itself has renamed into place: a later change has another inode, whatever its time."""


class LayeredState(Struct, frozen=True, kw_only=True):
    """What a function needs and has: what the next plan is made of without looking at it again.

    ``distributions`` are by their wheels' digests, with the fields of `packer.layers.assignment.Needed`; ``own`` are the bytes
    of its source, ``stuck``, ``tied`` and ``libraries`` as in `packer.layers.assignment.Need`. ``tight`` says that sources had
    to go for their bytecode, ``alone`` why it is in one package. ``peers`` are the functions that the plan was made for, and
    ``layers`` the names of its layers in order.
    """

    distributions: dict[str, tuple[str, str, str, int, float, tuple[str, ...]]]
    own: int
    stuck: tuple[str, ...] = ()
    tied: tuple[tuple[str, ...], ...] = ()
    libraries: tuple[str, ...] = ()
    tight: bool = False
    alone: str = ""
    peers: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


class ImageState(Struct, frozen=True, kw_only=True):
    """What a function's image is made of: what the next plan of images needs without looking at it again.

    ``pieces`` are by the digests of their files: what history says of each, its bytes compressed and not, and how often it is
    released. ``layers`` are the digests of what each layer holds, lowest first, ``base`` is the digest of what it is built
    upon, and ``peers`` are the functions that the plan was made for.
    """

    pieces: dict[str, tuple[str, int, int, float]]
    layers: tuple[tuple[str, ...], ...]
    base: str
    peers: tuple[str, ...]


class Estimate(Struct, frozen=True, kw_only=True):
    """What is known of a function that was looked at and not built, beside its record.

    ``known_by`` says of each distribution that is not in the store how it is known (`packer.formats.wheel_outline`), and
    ``advice`` what would help where something is over a limit. Budgets are those of the function, and of its layers by name.
    """

    known_by: dict[str, str]
    advice: tuple[str, ...] = ()
    budget: Budget = Budget()
    layer_budgets: dict[str, Budget] = field(default_factory=dict)


class FunctionState(Struct, frozen=True, kw_only=True):
    """One function as it was last built.

    ``seen_at`` is the time of that build's start in nanoseconds; ``fingerprint`` is the digest of everything that decides its
    bytes; ``watched`` are the paths whose change could change it, ``variables`` the environment variables with the digests
    of their values; ``folders`` are the local projects that it is built from; ``warnings`` are to be repeated as long as
    they hold; ``report`` is its record, and ``estimate`` what is known beside it of one that was looked at and not built.
    ``artifact`` are its archive and those of its layers. ``layered`` is None for a function without layers, and ``image`` for
    one that is no image.
    """

    seen_at: int
    fingerprint: str
    watched: Watched
    variables: dict[str, str]
    artifact: Watched
    folders: tuple[str, ...]
    warnings: tuple[str, ...]
    report: FunctionRecord
    layered: LayeredState | None = None
    image: ImageState | None = None
    estimate: Estimate | None = None

    @property
    def peers(self) -> tuple[str, ...]:
        """The functions that what this one shares was planned with."""
        return self.layered.peers if self.layered else self.image.peers if self.image else ()

    def lies_in(self, out: Path) -> bool:
        """Return whether the artifact lies in this output folder as it was put there."""
        return self.is_written() and all(Path(path).is_relative_to(out) for path in self.artifact)

    def sign_artifacts(self, out: Path) -> FunctionState:
        """Return the state with the signatures of its archives in the output folder."""
        paths = [out / path for path in self.report.paths]
        # Blobs are links into the store, whose times change with each new one: their folder tells what comes and goes.
        blobs = (blob for each in paths if each.is_dir() for blob in (each / LAYOUT_FILES[0]).iterdir())
        sizes = {str(blob): signature(blob)[:SIZED] for blob in blobs}
        bills = [self.report.sbom, *(layer.sbom for layer in self.report.layers.values())]
        paths += [out / each for each in bills if each]
        whole = [each / path for each in paths for path in (LAYOUT_FILES if each.is_dir() else ("",))]
        return replace(self, artifact={str(path): signature(path) for path in whole} | sizes)

    def is_unchanged(self) -> bool:
        """Return whether all that was read for it is as it was."""
        return are_unchanged(self.watched.items(), self.seen_at) and self.variables == variable_digests(self.variables)

    def distrust(self) -> FunctionState:
        """Return the state of a function whose archive stands, and which must be looked at anew before it is believed."""
        return replace(self, seen_at=0, fingerprint="")

    def rebuild_on_change(self, paths: Iterable[Path], variables: Iterable[str]) -> FunctionState:
        """Return the state of a function that lacks something, to be built anew as soon as one of these changes."""
        watched = {**self.watched, **{str(path): signature(path) for path in paths}}
        return replace(self, fingerprint="", watched=watched, variables={**self.variables, **variable_digests(variables)})

    def refresh_artifacts(self, paths: Collection[str]) -> FunctionState:
        """Return the state after these paths were written again with the same content: layers, whose names say what it is."""
        artifact = {path: signature(path) if path in paths else known for path, known in self.artifact.items()}
        return replace(self, artifact=artifact)

    def is_written(self) -> bool:
        """Return whether the artifact lies in the output folder as it was put there."""
        return bool(self.artifact) and are_unchanged(self.artifact.items(), ALWAYS)


class State(Struct, frozen=True, kw_only=True):
    """One output folder as it was last built.

    ``command`` is the digest of version and flags, ``seen_at`` the time of the build's start in nanoseconds; ``complete`` says
    that every configured function is there; ``warnings`` are of the project as a whole, to be repeated as long as they hold.
    ``deployment`` are the words behind ``sam deploy``, none where that would not do.
    """

    command: str
    seen_at: int
    complete: bool
    watched: Watched
    outputs: Watched
    functions: dict[str, FunctionState]
    digests: dict[str, tuple[Signature, str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    deployment: tuple[str, ...] = ()

    def is_current(self, command: str, names: tuple[str, ...], *, nothing_selected: bool = False, written: bool = True) -> bool:
        """Return whether all that was read and written for the named functions (for all, where none is named) is as it was.

        With ``nothing_selected`` no function is asked for at all; without ``written`` nothing was made of any.
        """
        if nothing_selected:
            outputs = are_unchanged(self.outputs.items(), ALWAYS)
            return self.command == command and are_unchanged(self.watched.items(), self.seen_at) and outputs
        if self.command != command or not set(names) <= set(self.functions) or not (names or self.complete):
            return False
        chosen = [self.functions[name] for name in names or self.functions]
        peers = {name for each in chosen for name in each.peers}
        if not peers <= self.functions.keys() or not all(self.functions[name].is_unchanged() for name in peers):
            return False  # what they need may have moved the layers of all
        return (
            are_unchanged(self.watched.items(), self.seen_at)
            and are_unchanged(self.outputs.items(), ALWAYS)
            and all(one.is_unchanged() and (one.is_written() or not written) for one in chosen)
        )

    def signatures(self, *, written: bool) -> list[tuple[int, Watched]]:
        """Return the signatures of all inputs, and of outputs if ``written``, grouped by the time they were taken."""
        by_time: dict[int, Watched] = {ALWAYS: dict(self.outputs), self.seen_at: dict(self.watched)}
        for each in self.functions.values():
            by_time.setdefault(each.seen_at, {}).update(each.watched)
            by_time[ALWAYS].update(each.artifact if written else {})
        return list(by_time.items())


def variable_digests(names: Iterable[str]) -> dict[str, str]:
    """Return the digest of each environment variable's value; they may be secrets."""
    return {name: digest_of(os.environ.get(name, "")) for name in names}


def state_key(identity: Path, out: Path | None) -> str:
    """Return the key of the state of a configuration file (or function folder) that is built into a folder."""
    return digest_of(str(identity), str(out or ""))


def state_path(store: Store, key: str) -> Path:
    """Return the file of a state, whether it is there or not."""
    return store.root / "projects" / f"{key}.json"


def load_state(store: Store, key: str) -> State | None:
    """Read the last build's state; None where there is none, or it cannot be understood."""
    try:
        return msgspec.json.decode(state_path(store, key).read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def save_state(store: Store, key: str, state: State) -> None:
    """Write the state of a build that has ended well."""
    path = state_path(store, key)
    with store.temporary() as temporary, store_errors(path, "write"):
        data = msgspec.json.encode(state)
        temporary.write_bytes(data)
        place_file(temporary, path, len(data))
