"""`lpack affected` and `lpack build --changed-since`, as continuous integration meets them."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from packer.core.process import uv_command
from tests.packer.cli.test_build import build, project
from tests.packer.locks.test_uv import project as member
from tests.repository import commit, git, make_repository

GREETING = Path(__file__).parents[3] / "fixtures" / "packages" / "greeting"
BACKEND = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
SHARED = "[tool.uv.sources]\nshared = { workspace = true }\n"
HANDLER = "def handler(event, context): ...\n"


def library(folder: Path, name: str) -> None:
    """Make a project that builds itself, without any other package."""
    member(folder, name, tail=BACKEND)
    text = (GREETING / "backend.py").read_text()
    (folder / "backend.py").write_text(text.replace("greeting", name))
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("VALUE = 1\n")


@pytest.fixture
def workspace(tmp_path: Path, index, cache) -> Path:
    """Give a repository that is a uv workspace: a and b are functions, and a needs the shared library."""
    folder = tmp_path / "workspace"
    for name, words, tail in (("a", ["shared"], SHARED), ("b", ["alpha"], "")):
        member(folder / "services" / name, name, *words, tail=tail)
        (folder / "services" / name / "app.py").write_text(HANDLER)
    library(folder / "libs" / "shared", "shared")
    (folder / "pyproject.toml").write_text(
        '[tool.uv.workspace]\nmembers = ["services/*", "libs/*"]\n[tool.lpack]\ndiscover = ["services/*"]\n'
    )
    lock(folder)
    (folder / ".gitignore").write_text("dist/\n__pycache__/\n")
    return make_repository(folder)


def lock(folder: Path) -> None:
    subprocess.run([uv_command(), "lock", "-q"], cwd=folder, check=True)


def affected(lpack, folder: Path, *flags: str) -> dict[str, list[str]]:
    finished = lpack("affected", "--since", "main", "--json", *flags, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    answer = json.loads(finished.stdout)
    assert answer["affected"] == list(answer["reasons"])
    assert not set(answer["affected"]) & set(answer["unaffected"])
    reasons: dict[str, list[str]] = answer["reasons"]
    return reasons


def states(finished: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Say of each function in the table whether it was built."""
    assert finished.returncode == 0, finished.stderr
    rows = [line.split() for line in finished.stdout.splitlines()]
    return {row[0]: "built" if "built" in row else "unchanged" for row in rows}


def test_members_are_discovered_with_their_part_of_the_lock(workspace, lpack):
    functions = build(lpack, workspace)["functions"]
    packages = {name: [each["name"] for each in one["distributions"]] for name, one in functions.items()}
    assert packages == {"a": ["shared"], "b": ["alpha", "beta"]}
    assert {each["lock"] for each in functions.values()} == {"uv.lock"}


def test_a_change_in_the_library_reaches_its_users_alone(workspace, lpack):
    assert states(lpack("build", cwd=workspace)) == {"a": "built", "b": "built"}
    assert states(lpack("build", cwd=workspace)) == {"a": "unchanged", "b": "unchanged"}
    (workspace / "libs" / "shared" / "shared" / "__init__.py").write_text("VALUE = 2\n")
    assert affected(lpack, workspace) == {"a": ["libs/shared/shared/__init__.py"]}
    assert states(lpack("build", cwd=workspace)) == {"a": "built", "b": "unchanged"}


def test_a_change_of_the_lock_reaches_those_whose_packages_changed(workspace, lpack):
    member(workspace / "libs" / "shared", "shared", "beta<2", tail=BACKEND)
    lock(workspace)
    assert affected(lpack, workspace)["a"] == ["libs/shared/pyproject.toml", "uv.lock"]
    assert affected(lpack, workspace, "b") == {"b": ["uv.lock"]}  # alpha needs beta too
    commit(workspace)
    git(workspace, "branch", "-f", "main")
    member(workspace / "libs" / "shared", "shared", "beta<2", "native", tail=BACKEND)
    lock(workspace)
    assert set(affected(lpack, workspace)) == {"a"}


def test_a_new_folder_is_a_new_function(workspace, lpack):
    assert states(lpack("build", cwd=workspace)) == {"a": "built", "b": "built"}
    shutil.copytree(workspace / "services" / "b", workspace / "services" / "c")
    (workspace / "services" / "c" / "pyproject.toml").unlink()
    assert affected(lpack, workspace) == {"c": ["services/c/app.py"]}
    assert states(lpack("build", cwd=workspace)) == {"a": "unchanged", "b": "unchanged", "c": "built"}
    shutil.rmtree(workspace / "services" / "c")
    assert states(lpack("build", cwd=workspace)) == {"a": "unchanged", "b": "unchanged"}
    assert not (workspace / "dist" / "c.zip").exists()


def test_a_folder_that_becomes_a_function_is_noticed(workspace, lpack):
    (workspace / "services" / "c").mkdir()
    (workspace / "services" / "c" / "util.py").write_text("x = 1\n")
    assert set(states(lpack("build", cwd=workspace))) == {"a", "b"}
    assert "services/c holds no handler, and is passed over" in lpack("build", "-v", cwd=workspace).stderr
    assert set(states(lpack("build", cwd=workspace))) == {"a", "b"}
    (workspace / "services" / "c" / "util.py").write_text(HANDLER)
    assert set(states(lpack("build", cwd=workspace))) == {"a", "b", "c"}


def test_only_what_has_changed_is_built(workspace, lpack):
    (workspace / "services" / "b" / "app.py").write_text(HANDLER + "# more\n")
    assert states(lpack("build", "--changed-since", "main", cwd=workspace)) == {"b": "built"}
    assert {path.name for path in (workspace / "dist").iterdir()} == {"b.zip", "b.cdx.json", "lpack.json"}
    assert states(lpack("build", "--changed-since", "main", cwd=workspace)) == {"b": "unchanged"}
    manifest = json.loads(lpack("build", "--changed-since", "main", "--json", "a", "b", cwd=workspace).stdout)
    assert set(manifest["functions"]) == {"b"}


def test_build_without_affected_functions_builds_nothing(workspace, lpack):
    finished = lpack("build", "--changed-since", "main", cwd=workspace)
    assert (finished.returncode, finished.stdout) == (0, "")
    assert "Nothing to build: no function is affected by what has changed since main" in finished.stderr
    assert not (workspace / "dist").exists()
    finished = lpack("build", "--changed-since", "main", "--json", cwd=workspace)
    assert json.loads(finished.stdout)["functions"] == {}


@pytest.fixture
def repository(tmp_path: Path, cache) -> Path:
    folder = project(tmp_path / "project", orders="", users="")
    make_repository(folder)
    return folder


def test_names_one_a_line_and_reasons_where_more_is_asked(repository, lpack):
    for name in ("users", "orders"):
        (repository / name / "app.py").write_text(HANDLER)
    finished = lpack("affected", "--since", "main", "-v", cwd=repository / "orders")
    assert (finished.returncode, finished.stdout) == (0, "orders\nusers\n")
    assert "orders: orders/app.py" in finished.stderr
    assert lpack("affected", "--since", "main", "users", cwd=repository).stdout == "users\n"


def test_no_affected_function_is_reported_as_such(repository, lpack):
    finished = lpack("affected", "--since", "main", cwd=repository)
    assert (finished.returncode, finished.stdout) == (0, "")
    assert "No function is affected" in finished.stderr
    assert affected(lpack, repository) == {}


def test_json_lists_functions_and_reasons(repository, lpack):
    (repository / "orders" / "app.py").write_text(HANDLER)
    assert json.loads(lpack("affected", "--since", "HEAD", "--json", cwd=repository).stdout) == {
        "since": "HEAD",
        "base": git(repository, "rev-parse", "HEAD"),
        "affected": ["orders"],
        "unaffected": ["users"],
        "reasons": {"orders": ["orders/app.py"]},
    }


def test_the_configuration_counts_for_those_it_speaks_of(repository, lpack):
    path = repository / "lpack.toml"
    before = path.read_text()
    path.write_text(before + 'budget = { zip = "1 MB" }\n')
    assert affected(lpack, repository) == {"users": ["lpack.toml"]}
    path.write_text('exclude = ["boto3"]\n' + before)
    assert affected(lpack, repository) == {"orders": ["lpack.toml"], "users": ["lpack.toml"]}


def test_a_template_counts_for_those_it_speaks_of(tmp_path, lpack, cache):
    for name in ("orders", "users"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text(HANDLER)
    functions = "".join(
        f"  {name.title()}:\n    Type: AWS::Serverless::Function\n    Properties:\n"
        f"      {{Runtime: python3.12, Handler: app.handler, CodeUri: {name}/}}\n"
        for name in ("orders", "users")
    )
    path = tmp_path / "template.yaml"
    path.write_text(f"Resources:\n{functions}")
    make_repository(tmp_path)
    path.write_text(path.read_text().replace("CodeUri: users", "MemorySize: 512, CodeUri: users"))
    assert affected(lpack, tmp_path, "--template", "template.yaml") == {}
    path.write_text(path.read_text().replace("python3.12", "python3.13", 1))
    assert affected(lpack, tmp_path, "--template", "template.yaml") == {"Orders": ["template.yaml"]}


def test_the_functions_repository_where_the_configuration_is_in_none(tmp_path, lpack, cache):
    folder = project(tmp_path / "project", orders="", users="")
    shutil.move(folder / "orders", folder / "code" / "orders")
    shutil.move(folder / "users", folder / "code" / "users")
    text = (folder / "lpack.toml").read_text()
    (folder / "lpack.toml").write_text(text.replace('source = "', 'source = "code/'))
    make_repository(folder / "code")
    (folder / "code" / "users" / "app.py").write_text(HANDLER)
    finished = lpack("affected", "--since", "main", cwd=folder)
    assert finished.stdout == "users\n"
    assert "lpack.toml lies outside of the repository" in finished.stderr
    make_repository(folder / "code" / "orders")
    finished = lpack("affected", "--since", "main", cwd=folder)
    assert finished.returncode == 2
    assert "several git repositories" in finished.stderr


def test_what_lies_outside_of_the_repository_is_told(repository, lpack):
    (repository / "orders" / "requirements.txt").write_text("../../lib\n")
    commit(repository)
    git(repository, "branch", "-f", "main")
    library(repository.parent / "lib", "lib")
    finished = lpack("affected", "--since", "main", cwd=repository)
    assert finished.stdout == "orders\n"
    assert f"{repository.parent / 'lib'} lies outside of the repository" in finished.stderr


def test_a_submodule_is_noted(repository, lpack, tmp_path):
    other = make_repository(tmp_path / "other")
    git(repository, "submodule", "add", "-q", str(other), "orders/vendored")
    finished = lpack("affected", "--since", "main", cwd=repository)
    assert finished.stdout == "orders\n"
    assert "orders/vendored is a repository of its own (a submodule)" in finished.stderr


@pytest.mark.parametrize("words", [("affected", "--since"), ("build", "--changed-since")])
def test_missing_ref_or_repository_is_an_error(repository, lpack, tmp_path, words):
    finished = lpack(*words, "origin/main", cwd=repository)
    assert finished.returncode == 2
    assert "git knows no commit 'origin/main'" in finished.stderr
    git(tmp_path, "clone", "-q", "--depth", "1", "--branch", "work", repository.as_uri(), "shallow")
    finished = lpack(*words, "main", cwd=tmp_path / "shallow")
    assert finished.returncode == 2
    assert "git fetch origin main:main" in finished.stderr
    shutil.rmtree(repository / ".git")
    finished = lpack(*words, "main", cwd=repository)
    assert finished.returncode == 2
    assert "lies in no git repository" in finished.stderr


def test_a_ref_must_be_named(repository, lpack):
    assert lpack("affected", cwd=repository).returncode == 2
