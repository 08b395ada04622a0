"""Small images that look like runtimes, and registries to pull them from: what is in them is no program that runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.engine import docker, need_engine
from tests.images import special, tar_of, write_base
from tests.registry import running_registry
from tests.sharing import make_once

ELF = {"amd64": b"\x7fELF" + bytes(14) + b"\x3e\x00", "arm64": b"\x7fELF" + bytes(14) + b"\xb7\x00"}
"""The heads of programs, by what images call their architecture."""
ENVIRONMENT = ["PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin", "LANG=en_US.UTF-8"]


def runtime_layer(version: str = "3.12.7", architecture: str = "amd64") -> bytes:
    """Give the tar of a layer with a Python of this version where Lambda's runtimes have it."""
    minor = version.split(".")[1]
    return tar_of(
        (f"var/lang/bin/python3.{minor}", ELF[architecture] + bytes(40)),
        (f"var/lang/include/python3.{minor}/patchlevel.h", f'#define PY_VERSION "{version}"\n'.encode()),
        (f"var/lang/lib/python3.{minor}/os.py", b"name = 'posix'\n"),
        ("var/runtime/boto3/__init__.py", b""),
        ("var/runtime/boto3-1.40.1.dist-info/METADATA", b""),
        ("etc/os-release", b"ID=tiny\n"),
        special("lib64", tarfile.SYMTYPE, "usr/lib64"),
    )


def write_runtime(folder: Path, *more: bytes, version: str = "3.12.7", architecture: str = "amd64") -> Path:
    """Write the layout of an image that looks like a runtime, with more layers on top."""
    layers = (runtime_layer(version, architecture), *more)
    return write_base(folder, *layers, architecture=architecture, config={"config": {"Env": ENVIRONMENT}})


def push_layout(layout: Path, reference: str, compression: str = "gzip") -> str:
    """Push a layout, whose layers are gzip, to a registry on loopback with skopeo; return the reference."""
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    source = f"oci:{layout}"
    if compression != "gzip":  # skopeo compresses what is not compressed
        source = f"dir:{layout.with_suffix('.plain')}"
        _copy("--dest-decompress", f"oci:{layout}", source)
    _copy("--dest-tls-verify=false", "--dest-compress-format", compression, source, f"docker://{reference}")
    return reference


def _copy(*arguments: str) -> None:
    command = ["skopeo", "copy", "--quiet", "--insecure-policy", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def pull_standin(folder: Path, image: str, cache: Path, more: str) -> str:
    """Push a stand-in of the engine's to a registry that runs for as long, and pull it into a cache; return its name there."""
    need_engine(image)
    with running_registry(folder / "registry") as registry:
        name = f"{registry.host}/{image.replace(':', '/')}:1".lower()
        docker("tag", image, name)
        try:
            pushed = docker("push", "--quiet", name)
            assert pushed.returncode == 0, pushed.stderr
        finally:
            docker("image", "rm", name)
        (folder / "lpack.toml").write_text(configuration(name, more))
        command = [sys.executable, "-m", "packer.cli", "runtime", "pull"]
        subprocess.run(command, cwd=folder, env={**os.environ, "LPACK_CACHE_DIR": str(cache)}, check=True, capture_output=True)
    return name


def shared_runtime(shared_folder: Path, image: str, more: str) -> tuple[str, Path]:
    """Give the name of a pulled stand-in, and the cache that it lies in: all tests of a run share it, and none changes it."""

    def make(folder: Path) -> None:
        (folder / "name").write_text(pull_standin(folder, image, folder / "cache", more))

    folder = make_once(shared_folder / image.replace("/", "-").replace(":", "-"), make)
    return (folder / "name").read_text(), folder / "cache"


def configuration(name: str, more: str = "") -> str:
    """Give a configuration whose function is proved in an image of this name."""
    return f'{more}\nruntime-image = "{name}"\n[functions.one]\nsource = "."\nhandler = "app.handler"\n'
