"""`lpack runtime`, as a user meets it: what it pulls, writes, lists and removes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry import Registry, running_registry
from tests.runtimes import push_layout, write_runtime
from tests.wheels import make_wheel

NOBODY = "65534"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with running_registry(tmp_path / "registry") as found:
        yield found


@pytest.fixture
def project(tmp_path: Path, registry: Registry, cache: Path) -> Path:
    """Give a project with a function whose run-time image lies in a registry."""
    name = push_layout(write_runtime(tmp_path / "layout"), f"{registry.host}/runtime:3.12")
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src/app.py").write_text("def handler(event, context): ...\n")
    (folder / "lpack.toml").write_text(
        f'runtime = "python3.12"\nruntime-image = "{name}"\n[functions.one]\nsource = "src"\nhandler = "app.handler"\n'
    )
    return folder


def pins(folder: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = tomllib.loads((folder / "lpack-bases.toml").read_text())["base"]
    return found


def test_pull_locks_the_image_of_the_project_and_list_and_remove_know_it(project, registry, lpack):
    first = lpack("runtime", "pull", cwd=project)
    [pin] = pins(project)
    assert (pin["name"], pin["platform"]) == (f"{registry.host}/runtime:3.12", "linux/amd64")
    assert first.stdout == f"python3.12  x86_64  Python 3.12.7  {pin['digest']}\nwritten    lpack-bases.toml\n"
    assert "unpacked" in first.stderr
    again = lpack("runtime", "pull", "python3.12", cwd=project)
    assert again.stdout.endswith("unchanged  lpack-bases.toml\n")
    assert again.stderr == ""
    listed = lpack("runtime", "list", cwd=project).stdout
    assert listed.startswith(f"{registry.host}/runtime:3.12  x86_64  Python 3.12.7  ")
    assert lpack("runtime", "remove", cwd=project).stdout == f"removed  python3.12 x86_64 {pin['digest']}\n"
    assert lpack("runtime", "list", cwd=project).stdout == ""
    assert pins(project) == [pin]


def test_upgrade_takes_what_the_name_stands_for_now_and_locks_that(tmp_path, project, registry, lpack):
    lpack("runtime", "pull", cwd=project)
    [old] = pins(project)
    push_layout(write_runtime(tmp_path / "new", version="3.12.9"), f"{registry.host}/runtime:3.12")
    assert "Python 3.12.7" in lpack("runtime", "pull", cwd=project).stdout
    assert "Python 3.12.9" in lpack("runtime", "pull", "--upgrade", cwd=project).stdout
    assert pins(project) != [old]


def test_architecture_that_the_image_is_not_for_is_refused(project, lpack):
    finished = lpack("runtime", "pull", "--arch", "arm64", cwd=project)
    assert finished.returncode == 1
    assert "it is for linux/amd64, not for linux/arm64" in finished.stderr
    assert "runtime-image" in finished.stderr
    assert not (project / "lpack-bases.toml").exists()


def test_unknown_runtime_is_a_wrong_use_that_names_the_nearest(project, lpack):
    finished = lpack("runtime", "pull", "python312", cwd=project)
    assert finished.returncode == 2
    assert "Did you mean 'python3.12'?" in finished.stderr


def test_image_that_the_registry_lacks_is_an_error_that_names_it(project, registry, lpack):
    (project / "lpack.toml").write_text((project / "lpack.toml").read_text().replace("runtime:3.12", "absent:3.12"))
    finished = lpack("runtime", "pull", cwd=project)
    assert finished.returncode == 1
    assert f"The runtime image {registry.host}/absent:3.12: " in finished.stderr
    assert not (project / "lpack-bases.toml").exists()


def test_an_ordinary_user_gets_the_same_tree_as_root(project, cache, lpack):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    lpack("runtime", "pull", cwd=project)
    mine = project.parent / "of-nobody"
    shutil.copytree(project, mine)
    for path in (mine, *mine.rglob("*")):
        os.chown(path, int(NOBODY), int(NOBODY))
    for folder in mine.parents:  # of the tests' own temporary folder
        if folder.is_relative_to(project.parent.parent.parent):
            folder.chmod(folder.stat().st_mode | 0o011)
    # Its only privilege is to read the interpreter of these tests, wherever that lies.
    rights = "-all,+dac_read_search"
    alone = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--bounding-set", rights, "--inh-caps", rights]
    command = [*alone, "--ambient-caps", "+dac_read_search", sys.executable, "-m", "packer.cli", "runtime", "pull"]
    variables = {**os.environ, "LPACK_CACHE_DIR": str(mine / "cache"), "HOME": str(mine)}
    subprocess.run(command, cwd=mine, env=variables, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    [ours], [theirs] = ((folder / "runtimes").glob("*/root.json") for folder in (cache, mine / "cache"))
    assert json.loads(ours.read_bytes())["tree"] == json.loads(theirs.read_bytes())["tree"]
    assert {path.lstat().st_uid for path in theirs.parent.rglob("*")} == {int(NOBODY)}


def test_a_runtime_whose_packages_do_not_meet_what_is_required_is_told(project, lpack, index):
    make_wheel(index.folder, "boto3", "1.50.0", {"boto3.py": b""})
    make_wheel(index.folder, "tool", "1.0", {"tool.py": b""}, requires=("boto3>=1.45",))
    (project / "src/requirements.txt").write_text("boto3==1.50.0\ntool\n")
    (project / "lpack.toml").write_text('exclude = ["runtime"]\nverify = "none"\n' + (project / "lpack.toml").read_text())
    lpack("runtime", "pull", cwd=project)
    finished = lpack("build", cwd=project)
    assert finished.returncode == 0, finished.stderr
    assert "one leaves to the runtime: boto3 1.40.1\n" in finished.stderr
    text = " ".join(finished.stderr.split())
    assert 'one: one requires boto3==1.50.0, and the runtime has 1.40.1. Take "runtime" out of exclude' in text
    assert "one: tool requires boto3>=1.45, and the runtime has 1.40.1." in text
