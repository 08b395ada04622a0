"""Resolving for the target with the real uv, from every kind of dependency file, against a real index on this machine."""

import json
import os
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from packer.core.process import uv_command
from tests.wheels import make_wheel

FIXTURES = Path(__file__).parents[3] / "fixtures" / "packages"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def folder(tmp_path: Path, index, cache) -> Path:
    write(tmp_path, "fn/app.py", "def handler(event, context): ...\n")
    return tmp_path


def built(lpack, folder: Path, *flags: str) -> dict[str, str]:
    """Build the one function, and give the versions of its distributions."""
    finished = lpack("build", "--json", "fn/", *flags, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    function: dict[str, Any]
    (function,) = json.loads(finished.stdout)["functions"].values()
    return {each["name"]: each["version"] for each in function["distributions"]}


def refusal(lpack, folder: Path, *flags: str) -> str:
    finished: subprocess.CompletedProcess[str] = lpack("build", "fn/", *flags, cwd=folder)
    assert finished.returncode == 1, finished.stdout
    return finished.stderr


def uv(*arguments: str, cwd: Path) -> None:
    subprocess.run([uv_command(), *arguments], cwd=cwd, check=True, capture_output=True)


def test_a_wheel_between_uvs_platforms_is_found_for_amazon_linux_2(folder, lpack, index):
    for tag in ("manylinux_2_24_x86_64", "manylinux_2_28_x86_64"):
        make_wheel(index.folder, "between", "1.0", {"between.py": tag.encode()}, tag=f"cp311-cp311-{tag}")
    write(folder, "fn/requirements.txt", "between\n")
    built(lpack, folder, "--runtime", "python3.11")
    with zipfile.ZipFile(folder / "dist" / "fn.zip") as archive:
        assert archive.read("between.py") == b"manylinux_2_24_x86_64"


def test_a_wheel_between_uvs_platforms_is_preferred_to_a_source(folder, lpack, index):
    make_wheel(index.folder, "greeting", "1.2.0", {"greeting/a.py": b"wheel"}, tag="cp311-cp311-manylinux_2_26_x86_64")
    write(folder, "fn/requirements.txt", "greeting==1.2.0\n")
    built(lpack, folder, "--runtime", "python3.11")
    with zipfile.ZipFile(folder / "dist" / "fn.zip") as archive:
        assert archive.read("greeting/a.py") == b"wheel"


def test_no_binary_takes_the_source_although_a_wheel_fits(folder, lpack, index):
    make_wheel(index.folder, "greeting", "1.2.0", {"greeting/a.py": b"wheel"})
    write(folder, "fn/requirements.txt", "--no-binary greeting\ngreeting==1.2.0\n")
    built(lpack, folder)
    with zipfile.ZipFile(folder / "dist" / "fn.zip") as archive:
        assert "greeting/__init__.py" in archive.namelist()
        assert "greeting/a.py" not in archive.namelist()


def test_a_folder_of_wheels_is_meant_from_where_it_is_named(folder, lpack, index):
    links = folder / "fn" / "more" / "wheels"
    links.mkdir(parents=True)
    for tag in ("manylinux_2_24_x86_64", "manylinux_2_28_x86_64"):
        make_wheel(links, "between", "1.0", {"between.py": tag.encode()}, tag=f"cp311-cp311-{tag}")
    write(folder, "fn/requirements.txt", "-r more/base.txt\nbetween\n")
    write(folder, "fn/more/base.txt", "--find-links wheels\n")
    built(lpack, folder, "--runtime", "python3.11")
    with zipfile.ZipFile(folder / "dist" / "fn.zip") as archive:
        assert archive.read("between.py") == b"manylinux_2_24_x86_64"


def test_a_wheel_above_the_ceiling_is_refused_with_what_exists(folder, lpack):
    write(folder, "fn/requirements.txt", "too-new\n")
    message = refusal(lpack, folder, "--runtime", "python3.11")
    assert "too-new 1.0 has no wheel for python3.11-x86_64 (Amazon Linux 2, glibc 2.26)" in message
    assert "cp311-cp311-manylinux_2_28_x86_64" in message


def test_the_targets_python_decides_not_the_hosts(folder, lpack):
    write(folder, "fn/requirements.txt", "future\n")
    assert built(lpack, folder, "--runtime", "python3.13") == {"future": "1.0"}
    assert "future" in refusal(lpack, folder, "--runtime", "python3.12")


def test_nested_files_constraints_and_extras(folder, lpack):
    write(folder, "fn/requirements.txt", "-r more/base.txt\n-c limits.txt\noptional[fast]\n")
    write(folder, "fn/more/base.txt", "alpha\n")
    write(folder, "fn/limits.txt", "alpha<1.1\n")
    assert built(lpack, folder) == {"alpha": "1.0", "beta": "1.0", "optional": "1.0"}


def test_a_pyproject_with_extras_and_groups(folder, lpack):
    text = (
        '[project]\nname = "fn"\nversion = "1"\ndependencies = ["alpha"]\n[project.optional-dependencies]\nfast = ["gamma"]\n'
    )
    write(folder, "fn/pyproject.toml", text + '[dependency-groups]\nextra = ["marked"]\ndev = ["future"]\n')
    config = 'runtime = "python3.12"\n[functions.fn]\nsource = "fn"\nhandler = "app.handler"\n'
    write(folder, "lpack.toml", config + 'extras = ["fast"]\ngroups = ["extra"]\n')
    finished = lpack("build", "--json", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    found = {each["name"] for each in json.loads(finished.stdout)["functions"]["fn"]["distributions"]}
    assert found == {"alpha", "beta", "gamma", "marked"}
    write(folder, "lpack.toml", config + 'extras = ["slow"]\n')
    finished = lpack("build", cwd=folder)
    assert finished.returncode == 2
    assert "has no 'slow' in [project.optional-dependencies]" in finished.stderr


def test_a_linters_setting_makes_no_lock_stale(folder, lpack):
    path = write(folder, "fn/pyproject.toml", '[project]\nname = "fn"\nversion = "1"\ndependencies = ["alpha"]\n')
    assert lpack("lock", "fn/", cwd=folder).returncode == 0
    path.write_text(path.read_text() + "[tool.ruff]\nline-length = 100\n")
    assert lpack("build", "--frozen", "fn/", cwd=folder).returncode == 0
    path.write_text(path.read_text().replace("alpha", "beta"))
    assert lpack("build", "--frozen", "fn/", cwd=folder).returncode == 2


def test_a_uv_lock_of_a_single_project(folder, lpack, index):
    write(
        folder,
        "fn/pyproject.toml",
        '[project]\nname = "fn"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["alpha<1.1"]\n',
    )
    uv("lock", cwd=folder / "fn")
    make_wheel(index.folder, "beta", "9.0", {"beta/__init__.py": b""})
    assert built(lpack, folder, "--frozen") == {"alpha": "1.0", "beta": "2.0"}
    text = (folder / "fn" / "pyproject.toml").read_text()
    (folder / "fn" / "pyproject.toml").write_text(text.replace("alpha<1.1", "alpha<1"))
    finished = lpack("build", "--frozen", "fn/", cwd=folder)
    assert finished.returncode == 2
    assert "uv.lock is stale" in finished.stderr
    assert built(lpack, folder) == {"alpha": "1.0", "beta": "2.0"}


def test_a_member_of_a_uv_workspace_with_a_local_library(folder, lpack):
    shutil.copytree(FIXTURES / "shared_lib", folder / "libs" / "shared_lib")
    write(folder, "pyproject.toml", '[tool.uv.workspace]\nmembers = ["fn", "libs/*"]\n')
    text = '[project]\nname = "fn"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["alpha", "shared-lib"]\n'
    write(folder, "fn/pyproject.toml", text + "[tool.uv.sources]\nshared-lib = { workspace = true }\n")
    uv("lock", cwd=folder)
    found = built(lpack, folder)
    assert {"alpha", "beta", "shared-lib"} <= set(found)
    assert "fn" not in found
    with zipfile.ZipFile(folder / "dist" / "fn.zip") as archive:
        assert any(name.startswith("shared_lib/") for name in archive.namelist())


def test_a_lock_of_somebody_elses(folder, lpack, index):
    name = "beta-1.0-py3-none-any.whl"
    text = 'lock-version = "1.0"\ncreated-by = "hand"\n[[packages]]\nname = "beta"\nversion = "1.0"\n'
    archive = f'{{ url = "{index.file_url(name)}", hashes = {{ sha256 = "{index.sha256(name)}" }} }}'
    write(folder, "fn/pylock.toml", text + f"wheels = [{archive}]\n")
    assert built(lpack, folder) == {"beta": "1.0"}


def test_local_wheels_and_a_changed_one(folder, lpack, tmp_path):
    wheels = folder / "fn" / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "mine", "1.0", {"mine.py": b"one"})
    write(folder, "fn/requirements.txt", "./wheels/mine-1.0-py3-none-any.whl\n")
    assert built(lpack, folder) == {"mine": "1.0"}
    make_wheel(wheels, "mine", "1.0", {"mine.py": b"two"})
    assert built(lpack, folder) == {"mine": "1.0"}
    with zipfile.ZipFile(folder / "dist" / "fn.zip") as archive:
        assert archive.read("mine.py") == b"two"


def test_a_repository_is_built_at_its_commit(folder, lpack):
    repository = folder / "repository"
    shutil.copytree(FIXTURES / "greeting", repository)
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=repository, check=True, env={**os.environ, **identity})
    write(folder, "fn/requirements.txt", f"greeting @ git+{repository.as_uri()}\n")
    assert set(built(lpack, folder)) >= {"greeting"}
    assert lpack("lock", "fn/", cwd=folder).returncode == 0
    (package,) = (
        each for each in tomllib.loads((folder / "fn" / "pylock.fn.toml").read_text())["packages"] if each["name"] == "greeting"
    )
    assert len(package["vcs"]["commit-id"]) == 40
    assert set(built(lpack, folder, "--frozen")) >= {"greeting"}


def test_a_private_index_by_netrc_and_by_uvs_variables(folder, lpack, private_index, monkeypatch):
    write(folder, "fn/requirements.txt", "alpha\n")
    monkeypatch.setenv("UV_DEFAULT_INDEX", private_index.url)
    assert "credentials" in refusal(lpack, folder)
    netrc = write(folder, "netrc", 'machine 127.0.0.1 login deploy password "s3cret/with@signs"\n')
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert built(lpack, folder) == {"alpha": "1.1", "beta": "2.0"}
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("LPACK_CACHE_DIR", str(folder / "second-cache"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"corp={private_index.url}")
    monkeypatch.setenv("UV_INDEX_CORP_USERNAME", "deploy")
    monkeypatch.setenv("UV_INDEX_CORP_PASSWORD", "s3cret/with@signs")
    assert built(lpack, folder) == {"alpha": "1.1", "beta": "2.0"}


def test_pips_index_variable_is_enough(folder, lpack, index, monkeypatch):
    write(folder, "fn/requirements.txt", "alpha\n")
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    assert built(lpack, folder) == {"alpha": "1.1", "beta": "2.0"}


def test_an_index_in_the_requirements_file(folder, lpack, index, monkeypatch):
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    monkeypatch.delenv("PIP_INDEX_URL")
    write(folder, "fn/requirements.txt", f"--index-url {index.url}\nalpha\n")
    assert built(lpack, folder) == {"alpha": "1.1", "beta": "2.0"}


def test_upgrade_forgets_what_was_resolved(folder, lpack, index):
    write(folder, "fn/requirements.txt", "beta\n")
    assert built(lpack, folder) == {"beta": "2.0"}
    make_wheel(index.folder, "beta", "3.0", {"beta/__init__.py": b""})
    (folder / "dist" / "fn.zip").unlink()
    assert built(lpack, folder) == {"beta": "2.0"}
    assert built(lpack, folder, "--upgrade") == {"beta": "3.0"}
