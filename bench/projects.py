"""What `bench.identical` builds: workloads for both architectures, as archives and as images, in every shape at least once."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import tarfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).resolve().parent.parent
WORKLOADS = ROOT / "bench" / "workloads"
SAMPLE = ROOT / "fixtures" / "sample"
X86, ARM = "x86_64", "arm64"
ZIP, IMAGE = "zip", "image"
TEMPLATE = "template.yaml"
_BASE = "base"
_MACHINES = {X86: "amd64", ARM: "arm64"}
_BUILD_IMAGES = ("lpack-test/build-python3.11:bookworm", "lpack-test/build-python3.11-arm64:bookworm")
_OCI = '\n[oci]\nbase = "oci:{base}"\n'


class Form(Struct, frozen=True, kw_only=True):
    """One way to build: ``shape`` are flags that checks and plans know, too, ``more`` those of the build alone."""

    name: str
    shape: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    @property
    def profiled(self) -> bool:
        """Whether it needs what `lpack profile` writes."""
        return "max" in self.shape


DEFAULT = Form(name="default")
PLAIN = Form(name="plain", shape=("--trim", "none", "--bytecode", "off"), more=("--verify", "none", "--no-sbom"))
AUTO = Form(name="auto", shape=("--trim", "auto", "--layers", "none"))
LAYERS = Form(name="layers-only", shape=("--layers", "auto", "--bytecode", "only"))
BESIDE = Form(name="layers-beside", shape=("--layers", "auto", "--trim", "safe", "--bytecode", "beside"))
UNTRIMMED = Form(name="layers-plain", shape=("--layers", "auto", "--trim", "none", "--bytecode", "off"))
MAX = Form(name="max", shape=("--trim", "max", "--bytecode", "only"))
"""A profile is taken by running functions, so this is for x86_64, which the machine can run."""


class Project(Struct, frozen=True, kw_only=True):
    """A workload for one architecture and format; ``functions`` are those to build, all where there are none.

    ``template`` takes the functions from the workload's SAM template. ``cold`` asks for a check with nothing in the cache.
    ``oci`` are more lines of that table, and ``bare`` has a base with a Python and nothing of Lambda's.
    """

    name: str
    workload: Path
    architecture: str
    forms: tuple[Form, ...]
    format: str = ZIP
    functions: tuple[str, ...] = ()
    template: bool = False
    cold: bool = False
    oci: str = ""
    bare: bool = False

    @property
    def common(self) -> tuple[str, ...]:
        """The flags of every command."""
        return ("--arch", self.architecture, *(("--template", TEMPLATE) if self.template else ()))

    @property
    def proof(self) -> tuple[str, ...]:
        """The flags that leave out what a machine of another architecture cannot do."""
        return ("--verify", "none") if self.architecture == ARM else ()

    def copy_to(self, folder: Path) -> None:
        """Copy the workload, with what makes images of its functions where these are wanted."""
        shutil.copytree(self.workload, folder, ignore=shutil.ignore_patterns("dist*", "__pycache__", "pylock.*"))
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)  # a workload may be read-only
        config = folder / "lpack.toml"
        text = config.read_text() if config.exists() else ""
        if self.architecture == ARM:
            text = text.replace(*_BUILD_IMAGES)
        if self.format == IMAGE:
            runtime = tomllib.loads(text).get("runtime") or re.findall(r"python3\.\d+", (folder / TEMPLATE).read_text())[0]
            files = {f"usr/bin/{runtime}": b""} if self.bare else {"lambda-entrypoint.sh": b"#!/bin/sh\n"}
            write_base(folder / _BASE, self.architecture, files)
            text = f'format = "image"\n{text}{_OCI.format(base=_BASE)}{self.oci}'
        if text:
            config.write_text(text)


def all_projects(more: Iterable[Path]) -> list[Project]:
    """Return what is built of the workloads, and of those in further folders."""
    mono12, pair, native = (WORKLOADS / name for name in ("mono12", "pair", "native"))
    both = 'write = ["oci", "docker-archive"]\n'
    own = [
        Project(name="sample", workload=SAMPLE, architecture=X86, forms=(DEFAULT, PLAIN, LAYERS, AUTO, MAX), cold=True),
        Project(name="sample", workload=SAMPLE, architecture=ARM, forms=(DEFAULT, BESIDE), cold=True),
        Project(name="sample", workload=SAMPLE, architecture=X86, forms=(DEFAULT, MAX), format=IMAGE, oci=both, bare=True),
        Project(
            name="sample-zstd", workload=SAMPLE, architecture=ARM, forms=(DEFAULT,), format=IMAGE, oci='compression = "zstd"\n'
        ),
        Project(name="pair", workload=pair, architecture=X86, forms=(DEFAULT, MAX, PLAIN), cold=True),
        Project(name="pair", workload=pair, architecture=ARM, forms=(DEFAULT, LAYERS)),
        Project(name="pair", workload=pair, architecture=X86, forms=(DEFAULT, MAX), format=IMAGE),
        Project(name="pair", workload=pair, architecture=ARM, forms=(PLAIN,), format=IMAGE),
        Project(name="mono12", workload=mono12, architecture=X86, forms=(DEFAULT, LAYERS, UNTRIMMED)),
        Project(name="mono12", workload=mono12, architecture=ARM, forms=(BESIDE,)),
        Project(name="mono12", workload=mono12, architecture=X86, forms=(DEFAULT,), format=IMAGE),
        Project(name="mono12-template", workload=mono12, architecture=X86, forms=(LAYERS,), template=True),
        Project(name="native", workload=native, architecture=X86, forms=(DEFAULT, PLAIN)),
        Project(name="native", workload=native, architecture=ARM, forms=(DEFAULT,), functions=("markup",)),
        Project(name="native", workload=native, architecture=X86, forms=(DEFAULT,), format=IMAGE),
    ]
    return _told_apart([*own, *(project for folder in more for project in _further(folder))])


def _further(folder: Path) -> Iterable[Project]:
    for workload in sorted(path for path in folder.iterdir() if path.is_dir()):
        template = not (workload / "lpack.toml").exists()
        if template and not (workload / TEMPLATE).exists():
            raise SystemExit(f"{workload} has neither an lpack.toml nor a {TEMPLATE}.")
        for architecture, form, forms in ((X86, ZIP, (DEFAULT, LAYERS)), (ARM, ZIP, (BESIDE,)), (X86, IMAGE, (DEFAULT,))):
            name = f"{folder.name}/{workload.name}".replace("/", "-")
            yield Project(name=name, workload=workload, architecture=architecture, forms=forms, format=form, template=template)


def _told_apart(projects: Iterable[Project]) -> list[Project]:
    """Return the projects, all of different names, architectures and formats; `SystemExit` where two are alike."""
    found: dict[tuple[str, str, str], Project] = {}
    for project in projects:
        key = (project.name, project.architecture, project.format)
        if key in found:
            raise SystemExit(f"There are two workloads of the name {project.name}.")
        found[key] = project
    return list(found.values())


def write_base(folder: Path, architecture: str, files: dict[str, bytes]) -> None:
    """Write a base for images, an OCI image layout of one layer with these files: the same bytes every time."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def placed(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, content in {"etc/os-release": b"ID=tiny\n", **files}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    config = {
        "architecture": _MACHINES[architecture],
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin"], "Entrypoint": ["/lambda-entrypoint.sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar.getvalue()).hexdigest()}"]},
        "history": [{"created_by": "bench"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": placed(json.dumps(config).encode(), "config.v1+json"),
        "layers": [placed(gzip.compress(tar.getvalue(), mtime=0), "layer.v1.tar+gzip")],
    }
    described = placed(json.dumps(manifest).encode(), "manifest.v1+json")
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
