"""Real sources, built by `lpack build` on a real engine, run in the runtime's image, which has no compiler."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from tests.engine import BUILD_IMAGE, RUNTIME_IMAGE, docker, left_behind, need_engine, run_in_runtime
from tests.packages import FIXTURES
from tests.schemas import check_document

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.slow]

# glibc is that of the stand-ins: both are Debian 12. The engine is there for builds alone, and counted for them.
CONFIG = f"""\
runtime = "python3.11"
glibc = "2.36"
image = "{BUILD_IMAGE}"
bytecode = "off"
verify = {{ where = "host" }}
"""
FUNCTIONS = {
    # name: (requirements, what proves that it works)
    "extension": ("--no-binary markupsafe\nmarkupsafe==3.0.2\n", "import markupsafe._speedups as m; print(m.__file__)"),
    "library": ("--no-binary psycopg2\npsycopg2==2.9.10\n", "import psycopg2; print(psycopg2.__libpq_version__)"),
    "cython": ("--no-binary cymem\ncymem==2.0.11\n", "from cymem.cymem import Pool; print(Pool().size)"),
    "pure": ("docopt==0.6.2\n", "import docopt; print(docopt.__version__)"),
    "project": ("../counter\n", "import counter; print(counter.count('three little words'))"),
    "prepared": ("../prepared\n", "import prepared; print(prepared.ANSWER)"),
}
PREPARE = """
[packages.prepared]
setup = ["echo '#define PREPARED_ANSWER 42' > /usr/local/include/prepared.h"]
"""


class Built(Struct, frozen=True, kw_only=True):
    folder: Path
    cache: Path
    said: str
    containers: int

    def lpack(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return lpack(self.folder, self.cache, *arguments)

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "dist" / "lpack.json").read_text())
        return found

    def record(self, function: str) -> dict[str, Any]:
        """Give what the manifest says of how the function's one package was built."""
        [found] = [each for each in self.manifest["functions"][function]["distributions"] if "built" in each]
        record: dict[str, Any] = {"wheel": found["wheel"], **found["built"]}
        return record


def lpack(folder: Path, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "packer.cli", *arguments],
        cwd=folder,
        env={**os.environ, "LPACK_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@contextmanager
def containers_made(log: Path) -> Iterator[list[str]]:
    """Give a list with the containers that lpack makes meanwhile, by their label; it is filled at the end."""
    made: list[str] = []
    filters = ["type=container", "event=create", "label=lpack.expires"]
    # Looked at as they come: an engine remembers the last few hundred events of all kinds only.
    command = ["docker", "events", "--since", f"{time.time():.3f}", *(word for each in filters for word in ("--filter", each))]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file) as listening:
        try:
            yield made
        finally:
            time.sleep(1)
            listening.terminate()
    made.extend(log.read_text().splitlines())


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    need_engine(BUILD_IMAGE, RUNTIME_IMAGE)
    folder = tmp_path_factory.mktemp("real")
    for name in ("counter", "prepared"):
        shutil.copytree(FIXTURES / "packages" / name, folder / name)
    tables = []
    for name, (requirements, _) in FUNCTIONS.items():
        source = folder / f"function_{name}"
        source.mkdir()
        (source / "app.py").write_text("def handler(event, context):\n    return event\n")
        (source / "requirements.txt").write_text(requirements)
        tables.append(f'[functions.{name}]\nsource = "function_{name}"\nhandler = "app.handler"\n')
    (folder / "lpack.toml").write_text(CONFIG + "\n".join(tables) + PREPARE)
    cache = tmp_path_factory.mktemp("cache")
    with containers_made(folder / "events") as made:
        finished = lpack(folder, cache, "build")
    assert finished.returncode == 0, finished.stderr
    return Built(folder=folder, cache=cache, said=finished.stderr, containers=len(made))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_runs_where_nothing_can_be_compiled(built: Built, name: str, tmp_path):
    with zipfile.ZipFile(built.folder / "dist" / f"{name}.zip") as archive:
        archive.extractall(tmp_path / "task")
    printed = run_in_runtime(tmp_path / "task", FUNCTIONS[name][1])
    expected = {
        "extension": r"/var/task/markupsafe/_speedups\..*\.so",
        "library": r"1[0-9]{5}",
        "cython": "0",
        "pure": r"0\.6\.2",
        "project": "3",
        "prepared": "42",
    }
    assert re.fullmatch(expected[name], printed)


def test_the_manifest_says_what_built_what_and_why(built: Built):
    digest = docker("image", "inspect", "--format", "{{.Id}}", BUILD_IMAGE).stdout.strip()
    extension, pure = built.record("extension"), built.record("pure")
    assert extension["builder"] == "container"
    assert (extension["image"], extension["image_digest"]) == (BUILD_IMAGE, digest)
    assert "_speedups.c" in extension["why"]
    assert re.match(r"markupsafe-3\.0\.2-cp311-cp311-manylinux_2_[0-9]+_x86_64\.whl", extension["wheel"])
    assert {requirement.partition("==")[0] for requirement in extension["requirements"]} == {"setuptools"}
    assert (pure["builder"], "image" in pure) == ("host", False)
    assert any(requirement.startswith("cython==") for requirement in built.record("cython")["requirements"])
    assert "libpq.so.5" in built.record("library")["libraries"]
    assert built.record("prepared")["setup"] == ["echo '#define PREPARED_ANSWER 42' > /usr/local/include/prepared.h"]


def test_the_manifest_keeps_its_schema(built: Built):
    check_document("manifest", built.manifest)


def test_nothing_is_left_in_the_engine(built: Built):
    assert left_behind() == []


def test_the_second_build_starts_no_container(built: Built, tmp_path):
    assert built.containers >= 5, "what counts them sees them"
    for name in FUNCTIONS:
        with (built.folder / f"function_{name}" / "app.py").open("a") as file:
            file.write("# another line\n")
    shutil.rmtree(built.cache / "projects")
    with containers_made(tmp_path / "events") as made:
        finished = built.lpack("build")
    assert finished.returncode == 0, finished.stderr
    assert "building" not in finished.stderr
    assert made == []


def test_what_was_built_serves_without_an_engine(built: Built, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    shutil.rmtree(built.cache / "projects")
    finished = built.lpack("build", "library", "--out", str(tmp_path / "out"))
    assert finished.returncode == 0, finished.stderr
    manifest = json.loads((tmp_path / "out" / "lpack.json").read_text())
    one, two = manifest["functions"]["library"], built.manifest["functions"]["library"]
    assert one["artifact"]["sha256"] == two["artifact"]["sha256"]


def test_a_built_wheel_beyond_the_ceiling_is_refused(built: Built, tmp_path):
    folder = tmp_path / "managed"
    shutil.copytree(built.folder, folder, ignore=shutil.ignore_patterns("dist"))
    text = (folder / "lpack.toml").read_text()
    (folder / "lpack.toml").write_text(text.replace('glibc = "2.36"\n', ""))
    finished = lpack(folder, built.cache, "build", "library")
    assert finished.returncode == 1
    assert "psycopg2-2.9.10" in finished.stderr
    assert re.search(r"needs \w+@GLIBC_2\.[0-9]+", finished.stderr)
    assert "glibc 2.26" in finished.stderr
    assert not (folder / "dist" / "library.zip").exists()
