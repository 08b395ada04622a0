"""The local projects that declarations lead to."""

from pathlib import Path

import pytest

from packer.core.errors import UsageError
from packer.source.local_projects import find_local_projects, read_local_paths


def project(folder: Path, name: str, *dependencies: str, tail: str = "") -> Path:
    path = folder / name / "pyproject.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[project]\nname = "{path.parent.name}"\nversion = "1"\ndependencies = {list(dependencies)!r}\n{tail}')
    return path


def named(path: Path, folder: Path) -> list[str]:
    return [place.relative_to(folder).as_posix() for place in read_local_paths(path)]


@pytest.mark.parametrize(
    ("dependencies", "tail", "expected"),
    [
        ([], "", []),
        (["Some_Lib>=1"], '[tool.uv.sources]\nsome-lib = { path = "../lib", editable = true }\n', ["lib"]),
        (["other"], '[tool.uv.sources]\nlib = { path = "../lib" }\n', []),
        (
            ["lib"],
            '[tool.uv.sources]\nlib = [{ path = "../a", marker = "x" }, { index = "i" }, { path = "../b" }]\n',
            ["a", "b"],
        ),
        (
            [],
            '[dependency-groups]\ndev = ["lib", { include-group = "x" }]\n[tool.uv.sources]\nlib = { path = "../lib" }\n',
            ["lib"],
        ),
        ([], '[tool.poetry.dependencies]\nlib = { path = "../lib" }\npython = "^3.11"\n', ["lib"]),
        ([], '[tool.poetry.group.x.dependencies]\nlib = [{ path = "../lib" }, { version = "1" }]\n', ["lib"]),
        (["lib"], "[tool.uv]\nsources = 3\n", []),
    ],
)
def test_local_projects_of_a_pyproject_are_found(tmp_path, dependencies, tail, expected):
    assert named(project(tmp_path, "fn", *dependencies, tail=tail), tmp_path) == expected


def test_file_urls_lead_to_local_projects(tmp_path):
    path = project(tmp_path, "fn", f"lib @ {(tmp_path / 'my lib').as_uri()} ; python_version > '3'")
    assert named(path, tmp_path) == ["my lib"]


def test_members_of_a_workspace_by_their_names(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.uv.workspace]\nmembers = ["libs/*", "fn"]\n[tool.uv.sources]\none = { workspace = true }\n'
    )
    project(tmp_path, "libs/one")
    project(tmp_path, "libs/two")
    own = "[tool.uv.sources]\ntwo = { workspace = true }\n"
    assert named(project(tmp_path, "fn", "one", "two", tail=own), tmp_path) == ["libs/one", "libs/two"]
    assert named(project(tmp_path, "fn", "two", tail=own), tmp_path) == ["libs/two"]
    assert named(project(tmp_path, "apart", "one"), tmp_path) == []


def test_what_cannot_be_read_names_nothing(tmp_path):
    assert read_local_paths(tmp_path / "pyproject.toml") == ()
    (tmp_path / "pyproject.toml").write_text("[project\n")
    assert read_local_paths(tmp_path / "pyproject.toml") == ()


def test_projects_lead_to_others_and_circles_end(tmp_path):
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        project(tmp_path, name, other, tail=f'[tool.uv.sources]\n{other} = {{ path = "../{other}" }}\n')
    assert find_local_projects([tmp_path / "a"]) == (tmp_path / "a", tmp_path / "b", tmp_path / "c")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("project = 3\n", "project must be a table"),
        ("[project]\ndependencies = 5\n", r"project\.dependencies must be a list of strings"),
        ("[project]\ndependencies = [1]\n", r"project\.dependencies must be a list of strings"),
        ('[project]\noptional-dependencies = ["x"]\n', r"project\.optional-dependencies must be a table"),
        ("[project.optional-dependencies]\nx = 3\n", r"project\.optional-dependencies\.x must be a list of strings"),
        ("dependency-groups = 3\n", "dependency-groups must be a table"),
        ("[dependency-groups]\nx = [3]\n", r"dependency-groups\.x must be a list of strings"),
        ('[project]\ndependencies = ["a @ file://[x/y"]\n', r"file://\[x/y is not a valid URL"),
    ],
)
def test_values_of_a_wrong_kind_are_named(tmp_path, text, said):
    path = tmp_path / "fn" / "pyproject.toml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UsageError, match=f"fn/pyproject.toml: {said}"):
        read_local_paths(path)


@pytest.mark.parametrize("members", ["3", '"libs"', "[3]", '["fn", "a**"]'])
def test_members_of_a_wrong_kind_are_named(tmp_path, members):
    (tmp_path / "pyproject.toml").write_text(f"[tool.uv.workspace]\nmembers = {members}\n")
    path = project(tmp_path, "fn", "two", tail="[tool.uv.sources]\ntwo = { workspace = true }\n")
    with pytest.raises(UsageError, match=rf"{tmp_path}/pyproject.toml: tool\.uv\.workspace\.members"):
        read_local_paths(path)


def test_members_may_be_absolute_paths(tmp_path):
    (tmp_path / "pyproject.toml").write_text(f'[tool.uv.workspace]\nmembers = ["{tmp_path}/libs/*", "{tmp_path}/fn", ""]\n')
    project(tmp_path, "libs/two")
    path = project(tmp_path, "fn", "two", tail="[tool.uv.sources]\ntwo = { workspace = true }\n")
    assert named(path, tmp_path) == ["libs/two"]
