"""The tools at work: what each one is asked to do, and what is cleared away before each sample."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from bench.measure import CommandFailedError
from bench.peers import PYTHON, WORKLOADS, Place

PLAIN = ("--trim", "none", "--bytecode", "off", "--verify", "none", "--no-sbom")
"""What lpack does beyond the peers has a benchmark of its own (bench/trimmed.py); here both do the same work."""
EDITED = "orders/app.py"
"""The source that changes by one line."""
_UV_PLATFORM = "x86_64-manylinux_2_34"


class Step(Struct, frozen=True, kw_only=True):
    """One command; the steps of a sample run one after the other and their times are added."""

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    watch: bool = True


class Contestant:
    """One tool on one piece of work; the methods do nothing until a tool fills them."""

    def __init__(self, place: Place, tool: str, workload: str = "", *, kept: bool = False, edit: bool = False) -> None:
        """``kept`` leaves the last build's results and caches in place, ``edit`` changes one source line before each sample."""
        self.tool = tool
        self.place = place
        self.kept = kept
        self.edit = edit
        self.folder = place.work / f"{tool}-{workload}{'-kept' if kept else ''}".replace(" ", "-")
        self._workload = WORKLOADS / workload
        self._edits = 0

    def check(self) -> None:
        """Raise `CommandFailedError` where this tool is not there."""

    def copy(self) -> Iterator[Step]:
        """Copy the workload, once; give what has to be run before the first build."""
        if not self.folder.exists():
            shutil.copytree(self._workload, self.folder)
        yield from ()

    def reset(self) -> None:
        """Bring the folder and the caches to the state that a sample starts from."""
        if not self.kept:
            self.clear()
        if self.edit:
            self._edits += 1
            with (self.folder / EDITED).open("a") as source:
                source.write(f"# edit {self._edits}\n")

    def clear(self) -> None:
        """Remove all results."""

    def steps(self) -> Iterator[Step]:
        """Give the commands to measure; each is asked for when the one before it has ended."""
        raise NotImplementedError

    def archives(self) -> tuple[Path, ...]:
        """Give the archives that the last sample wrote."""
        return ()

    def _step(self, *command: str | Path, folder: Path | None = None) -> Step:
        return Step(command=tuple(map(str, command)), folder=folder or self.folder, environment=self.place.peer_environment())


class Sam(Contestant):
    """`sam build`; followed by `zip -qr` of each function where artifacts are asked for."""

    def __init__(self, place: Place, workload: str, *flags: str, kept: bool = False, edit: bool = False) -> None:
        zipped = "" if kept else " + zip"
        super().__init__(place, " ".join(("sam build", *flags)) + zipped, workload, kept=kept, edit=edit)
        self._flags = flags
        self._out = self.folder / "zipped"

    def clear(self) -> None:
        shutil.rmtree(self.folder / ".aws-sam", ignore_errors=True)
        shutil.rmtree(self._out, ignore_errors=True)
        self._out.mkdir()

    def steps(self) -> Iterator[Step]:
        yield self._step(self.place.peers / "sam", "build", *self._flags)
        if not self.kept:
            for built in sorted(path for path in (self.folder / ".aws-sam" / "build").iterdir() if path.is_dir()):
                yield self._step("zip", "-qr", self._out / f"{built.name}.zip", ".", folder=built)

    def archives(self) -> tuple[Path, ...]:
        return tuple(sorted(self._out.glob("*.zip")))


class Uv(Contestant):
    """`uv pip install --target`, a copy of the source and `zip -qr`, function by function."""

    def __init__(self, place: Place, workload: str) -> None:
        super().__init__(place, "uv --target + zip", workload)
        self._built = self.folder / "built"
        self._out = self.folder / "zipped"

    def clear(self) -> None:
        for folder in (self._built, self._out):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def steps(self) -> Iterator[Step]:
        platform = ("--python", self.place.peers / f"python{PYTHON}", "--python-platform", _UV_PLATFORM)
        for requirements in sorted(self.folder.glob("*/requirements.txt")):
            source, target = requirements.parent, self._built / requirements.parent.name
            uv = (self.place.peers / "uv", "pip", "install", "--quiet", *platform)
            yield self._step(*uv, "--target", target, "--requirements", requirements)
            yield self._step("cp", "-R", f"{source}/.", target)
            yield self._step("zip", "-qr", self._out / f"{source.name}.zip", ".", folder=target)

    def archives(self) -> tuple[Path, ...]:
        return tuple(sorted(self._out.glob("*.zip")))


class Lpack(Contestant):
    """`lpack build`, with committed lock files or without; of its store only the downloads are kept between samples."""

    def __init__(
        self,
        place: Place,
        workload: str,
        *flags: str,
        locked: bool,
        kept: bool = False,
        edit: bool = False,
        profiled: bool = False,
    ) -> None:
        """``flags`` shape what is built, as `PLAIN` if there are none; ``profiled`` lets `lpack profile` run once before."""
        tool = " ".join(("lpack locked" if locked else "lpack", *flags))
        super().__init__(place, tool, workload, kept=kept, edit=edit)
        self._locked = locked
        self._flags = flags or PLAIN
        self._profiled = profiled

    def check(self) -> None:
        if not self.place.lpack:
            raise CommandFailedError(f"lpack is not installed beside {Path(sys.executable).name}")

    def copy(self) -> Iterator[Step]:
        yield from super().copy()
        if self._locked:
            yield self._lpack("lock")
        if self._profiled:
            yield self._lpack("profile")

    def clear(self) -> None:
        shutil.rmtree(self.folder / "dist", ignore_errors=True)
        for derived in ("derived", "projects"):
            shutil.rmtree(self.place.cache / "lpack" / derived, ignore_errors=True)

    def steps(self) -> Iterator[Step]:
        yield self._lpack("build", *self._flags)

    def archives(self) -> tuple[Path, ...]:
        return tuple(sorted((self.folder / "dist").rglob("*.zip")))

    def _lpack(self, *command: str) -> Step:
        return Step(command=(str(self.place.lpack), *command), folder=self.folder, environment=self.place.lpack_environment())


class Startup(Contestant):
    """A command that does nothing but start; its memory is not sampled, for it would take as long as the command."""

    def __init__(self, place: Place, tool: str, *command: str) -> None:
        super().__init__(place, tool)
        self._command = command

    def check(self) -> None:
        if not Path(self._command[0]).exists():
            raise CommandFailedError(f"{Path(self._command[0]).name} is not installed")

    def copy(self) -> Iterator[Step]:
        yield from ()

    def steps(self) -> Iterator[Step]:
        yield Step(command=self._command, folder=self.place.work, environment=self.place.lpack_environment(), watch=False)
