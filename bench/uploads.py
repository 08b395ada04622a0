"""What is uploaded of `mono12` with automatic layers: at first, and again when one distribution is updated."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench.contestants import Sam, Step
from bench.measure import measure
from bench.peers import WORKLOADS, Place
from bench.rows import Line
from packer.core.records import BuildManifest, DistributionRecord, read_manifest

MONO = "mono12"
NONE, SAFE, DEFAULT = "trim none, no bytecode", "trim safe, no bytecode", "defaults"
FLAGS: Mapping[str, tuple[str, ...]] = {
    NONE: ("--trim", "none", "--bytecode", "off"),
    SAFE: ("--trim", "safe", "--bytecode", "off"),
    DEFAULT: (),
}
"""How lpack is called for each form."""
UPDATES: Mapping[str, str] = {
    "requests": "2.32.2",
    "urllib3": "2.3.0",
    "pydantic": "2.11.4",
    "numpy": "2.2.5",
    "pandas": "2.2.2",
    "botocore": "1.38.45",
}
"""Another version of each distribution that is updated; all of them go with what the functions have beside it."""
_OF_DISTINCT, _OF_SAM, _OF_SAM_SAFE = 1.05, 0.47, 0.40


class Artifact(Struct, frozen=True, kw_only=True):
    """A function's ZIP or a layer: its bytes, and the distributions in it, as name==version."""

    name: str
    size: int
    holds: frozenset[str]


class Packed(Struct, frozen=True, kw_only=True):
    """What a build has written: artifacts by their SHA-256, and the SHA-256 of all wheels in them."""

    artifacts: Mapping[str, Artifact]
    wheels: frozenset[str]
    layers: int
    users: Mapping[str, frozenset[str]]
    """Which functions have each distribution, by name==version."""

    @property
    def size(self) -> int:
        return sum(each.size for each in self.artifacts.values())


def read_packed(manifest: BuildManifest) -> Packed:
    """Return what a manifest says of artifacts."""
    artifacts: dict[str, Artifact] = {}
    wheels: set[str] = set()
    users: dict[str, set[str]] = {}
    for name, layer in manifest.layers.items():
        holds = frozenset(map(_exact, layer.distributions))
        artifacts[layer.sha256] = Artifact(name=name, size=layer.zip_bytes, holds=holds)
    for name, function in manifest.functions.items():
        own = frozenset(map(_exact, function.inside))
        artifacts[function.artifact.sha256] = Artifact(name=name, size=function.packed_bytes, holds=own)
        for each in function.distributions:
            wheels.add(each.sha256)
            users.setdefault(_exact(each), set()).add(name)
    return Packed(
        artifacts=artifacts,
        wheels=frozenset(wheels),
        layers=len(manifest.layers),
        users={name: frozenset(names) for name, names in users.items()},
    )


def _exact(distribution: DistributionRecord) -> str:
    return f"{distribution.name}=={distribution.version}"


class Uploads:
    """Builds `mono12` from its SAM template, each time in a copy of its own."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._log = place.work / "output.log"

    def build(self, title: str, *flags: str, pins: Mapping[str, Mapping[str, str]] | None = None) -> Packed:
        """Build with layers; ``pins`` are distributions' versions by the functions' folders."""
        _say(f"mono12: {title}")
        folder = self._place.work / f"upload-{title}".replace(" ", "-").replace(",", "")
        shutil.copytree(WORKLOADS / MONO, folder)
        (folder / "lpack.toml").unlink()
        for name, versions in (pins or {}).items():
            _pin(folder / name / "requirements.txt", versions)
        command = (str(self._place.lpack), "build", "--template", "template.yaml", "--layers", "auto", *flags)
        measure(command, folder, self._place.lpack_environment(), self._log, watch=False)
        return read_packed(read_manifest(folder / "dist" / "lpack.json"))

    def sam(self) -> dict[str, int]:
        """Build with SAM, and zip each function; give the bytes of each ZIP."""
        contestant = Sam(self._place, MONO, "--parallel")
        _say(f"mono12: {contestant.tool}")
        self._all(contestant.copy())
        contestant.clear()
        self._all(contestant.steps())
        return {path.stem: path.stat().st_size for path in contestant.archives()}

    def _all(self, steps: Iterator[Step]) -> None:
        for step in steps:
            measure(step.command, step.folder, step.environment, self._log, watch=False)

    def distinct(self, wheels: frozenset[str]) -> int:
        """Give the bytes of a ZIP (`zip -qr`) of each wheel's content, in all."""
        total = 0
        for digest in sorted(wheels):
            wheel = self._place.cache / "lpack" / "wheels" / "1" / digest[:2] / digest
            with tempfile.TemporaryDirectory(dir=self._place.work) as name:
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(Path(name) / "content")
                subprocess.run(["zip", "-qr", "../all.zip", "."], cwd=Path(name) / "content", check=True)
                total += (Path(name) / "all.zip").stat().st_size
        return total


def _pin(path: Path, versions: Mapping[str, str]) -> None:
    """Bind versions in a requirements file, whether it names the distribution or only needs it."""
    lines = [line for line in path.read_text().splitlines() if line.partition("==")[0].lower() not in versions]
    path.write_text("\n".join([*lines, *(f"{name}=={version}" for name, version in versions.items())]) + "\n")


def upload_lines(uploads: Uploads) -> tuple[list[Line], dict[str, Any]]:
    """Compare what layers and functions come to with SAM's ZIPs, and with each distribution once."""
    forms = {title: uploads.build(title, *flags) for title, flags in FLAGS.items()}
    sam = uploads.sam()
    total, distinct = sum(sam.values()), uploads.distinct(forms[NONE].wheels)
    wanted = {NONE: _OF_SAM, SAFE: _OF_SAM_SAFE, DEFAULT: None}
    lines = []
    for title, packed in forms.items():
        most = wanted[title]
        lines.append(
            Line(
                part="upload",
                what=f"mono12, {title}: {packed.layers} layers",
                ours=_megabytes(packed.size),
                theirs=f"12 ZIPs of sam build + zip: {_megabytes(total)}",
                ratio=f"{packed.size / total:.3f}",
                wanted="" if most is None else f"at most {most:.2f}",
                met=None if most is None else round(packed.size / total, 2) <= most,
            )
        )
    none = forms[NONE].size / distinct
    lines.append(
        Line(
            part="upload",
            what=f"mono12, {NONE}, {len(forms[NONE].wheels)} distributions",
            ours=_megabytes(forms[NONE].size),
            theirs=f"a ZIP of each distribution: {_megabytes(distinct)}",
            ratio=f"{none:.3f}",
            wanted=f"at most {_OF_DISTINCT:.2f}",
            met=none <= _OF_DISTINCT,
        )
    )
    facts = {title: {each.name: each.size for each in packed.artifacts.values()} for title, packed in forms.items()}
    return lines, {"sam": sam, "distinct": distinct, "lpack": facts}


def update_lines(uploads: Uploads) -> tuple[list[Line], dict[str, Any]]:
    """Update one distribution after the other, each time from the same beginning, and see what changes."""
    before = uploads.build("before updates")
    folders = {path.parent.name.replace("_", ""): path.parent.name for path in (WORKLOADS / MONO).glob("*/app.py")}
    lines, facts = [], {}
    for name, version in UPDATES.items():
        # Where functions have several versions of it, those that have the same one get another.
        exact = max((each for each in before.users if each.startswith(f"{name}==")), key=lambda each: len(before.users[each]))
        users = before.users[exact]
        pins = {folders[user.lower()]: {name: version} for user in users}
        after = uploads.build(f"{name} {version}", pins=pins)
        gone = {digest: each for digest, each in before.artifacts.items() if digest not in after.artifacts}
        new = {digest: each for digest, each in after.artifacts.items() if digest not in before.artifacts}
        held = {digest for digest, each in before.artifacts.items() if exact in each.holds}
        again = sum(each.size for each in new.values())
        changed = ", ".join(sorted(each.name for each in gone.values()))
        lines.append(
            Line(
                part="update",
                what=f"mono12, {name} in {len(users)} functions: changed {changed}",
                ours=f"{len(new)} artifacts, {_megabytes(again)} again",
                theirs=f"that hold it: {len(held)} of {len(before.artifacts)}",
                ratio=f"{again / before.size:.3f} of all",
                wanted="those alone",
                met=set(gone) == held and len(new) == len(gone),
            )
        )
        facts[name] = {"gone": [each.name for each in gone.values()], "new": {each.name: each.size for each in new.values()}}
    return lines, {"all": before.size, "updates": facts}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
