"""Finding what is not configured: dependency files and handlers."""

import os
from pathlib import Path

import pytest

from packer.core.errors import UsageError
from packer.source.dependency_files import find_handler, find_optional_handler, find_requirements

PROJECT = '[project]\nname = "orders"\nversion = "1"\n'


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PROJECT if name.endswith("pyproject.toml") else "")


def kind(folder: Path, named: Path | None = None) -> tuple[str, str] | None:
    found = find_requirements(folder, named, "here")
    return (found.kind, found.path.name) if found else None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), None),
        (("requirements.txt", "pyproject.toml"), ("requirements", "requirements.txt")),
        (("pyproject.toml",), ("pyproject", "pyproject.toml")),
        (("uv.lock", "pyproject.toml", "requirements.txt"), ("uv.lock", "uv.lock")),
        (("poetry.lock", "pyproject.toml"), ("poetry.lock", "poetry.lock")),
        (("Pipfile", "Pipfile.lock"), ("Pipfile.lock", "Pipfile.lock")),
        (("pylock.toml", "uv.lock", "poetry.lock"), ("pylock", "pylock.toml")),
    ],
)
def test_locks_come_before_what_they_lock(tmp_path, names, expected):
    touch(tmp_path, *names)
    assert kind(tmp_path) == expected


def test_a_member_of_a_uv_workspace_is_found_by_its_name(tmp_path):
    touch(tmp_path, "uv.lock", "services/orders/pyproject.toml")
    (tmp_path / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["services/*"]\n')
    found = find_requirements(tmp_path / "services" / "orders", None, "here")
    assert found is not None
    assert (found.kind, found.path, found.package) == ("uv.lock", tmp_path / "uv.lock", "orders")


@pytest.mark.parametrize(
    "above",
    [
        "",
        PROJECT,
        "[tool.uv.workspace]\nmembers = ['libs/*']\n",
        "[tool.uv.workspace]\nmembers = ['**']\nexclude = ['services/or*']\n",
    ],
)
def test_a_lock_above_is_no_lock_of_a_project_that_is_no_member(tmp_path, above):
    touch(tmp_path, "uv.lock", "services/orders/pyproject.toml")
    (tmp_path / "pyproject.toml").write_text(above)
    assert kind(tmp_path / "services" / "orders") == ("pyproject", "pyproject.toml")


def test_the_nearest_workspace_decides(tmp_path):
    touch(tmp_path, "uv.lock", "services/uv.lock", "services/orders/pyproject.toml")
    (tmp_path / "pyproject.toml").write_text("[tool.uv.workspace]\nmembers = ['**']\n")
    (tmp_path / "services" / "pyproject.toml").write_text("[tool.uv.workspace]\nmembers = ['orders/']\n")
    found = find_requirements(tmp_path / "services" / "orders", None, "here")
    assert found is not None
    assert (found.kind, found.path, found.package) == ("uv.lock", tmp_path / "services" / "uv.lock", "orders")
    (tmp_path / "services" / "uv.lock").unlink()
    assert kind(tmp_path / "services" / "orders") == ("pyproject", "pyproject.toml")


def test_named_files_of_every_kind(tmp_path):
    touch(tmp_path, "a/req-prod.txt", "a/base.in", "pylock.api.toml", "b/poetry.lock", "c/pyproject.toml")
    assert kind(tmp_path, tmp_path / "a" / "req-prod.txt") == ("requirements", "req-prod.txt")
    assert kind(tmp_path, tmp_path / "a" / "base.in") == ("requirements", "base.in")
    assert kind(tmp_path, tmp_path / "pylock.api.toml") == ("pylock", "pylock.api.toml")
    assert kind(tmp_path, tmp_path / "b") == ("poetry.lock", "poetry.lock")
    assert kind(tmp_path, tmp_path / "c" / "pyproject.toml") == ("pyproject", "pyproject.toml")


def test_a_pyproject_without_a_project_declares_nothing(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert kind(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("Pipfile", "", "pipenv lock"),
        ("pyproject.toml", "[tool.poetry]\nname = 'x'\n", "poetry lock"),
        ("pyproject.toml", "[project\n", "not valid TOML"),
    ],
)
def test_unlocked_or_broken_projects_say_what_to_do(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=expected):
        kind(tmp_path)


def test_the_usual_handlers_are_found(tmp_path):
    (tmp_path / "util.py").write_text("def helper(): ...\n")
    (tmp_path / "lambda_function.py").write_text("def lambda_handler(event, context): ...\n")
    assert find_handler(tmp_path) == "lambda_function.lambda_handler"


def test_assigned_and_async_handlers_count(tmp_path):
    (tmp_path / "asgi.py").write_text("handler = Mangum(app)\n")
    assert find_handler(tmp_path) == "asgi.handler"
    (tmp_path / "app.py").write_text("async def handler(event, context): ...\n")
    assert find_handler(tmp_path) == "app.handler"


def test_a_folder_without_a_handler_or_with_too_many_is_refused(tmp_path):
    (tmp_path / "broken.py").write_text("def handler(:\n")
    with pytest.raises(UsageError, match="no module with a function named lambda_handler or handler"):
        find_handler(tmp_path)
    (tmp_path / "one.py").write_text("def handler(event, context): ...\n")
    (tmp_path / "two.py").write_text("def handler(event, context): ...\n")
    with pytest.raises(UsageError, match=r"one\.py, two\.py"):
        find_handler(tmp_path)


def test_links_that_lead_nowhere_and_folders_hold_no_handler(tmp_path):
    (tmp_path / "app.py").write_text("def handler(event, context): ...\n")
    (tmp_path / ".#app.py").symlink_to("me@host.1234")
    (tmp_path / "gone.py").symlink_to("nowhere.py")
    (tmp_path / "folder.py").mkdir()
    assert find_handler(tmp_path) == find_optional_handler(tmp_path) == "app.handler"


def test_a_module_that_leads_nowhere_is_told_of_where_there_is_no_handler(tmp_path):
    (tmp_path / ".#app.py").symlink_to("me@host.1234")
    (tmp_path / "app.py").symlink_to("nowhere.py")
    assert find_optional_handler(tmp_path) == ""
    with pytest.raises(UsageError, match=r"\(app\.py leads nowhere\)"):
        find_handler(tmp_path)


def test_a_module_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "app.py").touch()
    monkeypatch.setattr(Path, "read_bytes", lambda path: os.open(path / "no folder", os.O_RDONLY))
    with pytest.raises(UsageError, match=r"app\.py cannot be read \(Not a directory\)"):
        find_handler(tmp_path)
