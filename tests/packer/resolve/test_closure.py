"""Locks that lack what their own packages require: locks that are older than the project, edited, or for another Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from builders.files import file_digest
from builders.runtimes import Target
from packer.locks.formats import Adjustments
from packer.resolve.closure import find_gaps
from tests.packer.resolve.test_resolver import built, folder, refusal, uv, write

__all__ = ["folder"]

PROJECT = '[project]\nname = "fn"\nversion = "1"\nrequires-python = ">=3.9"\n'
ALL = {"alpha": "1.0", "beta": "1.0"}


def wheel(index, name: str, version: str) -> Path:
    return Path(index.folder, f"{name}-{version}-py3-none-any.whl")


def pipfile_lock(folder: Path, index, *, pipfile: str = 'alpha = "*"\n', **markers: str) -> None:
    """Write a Pipfile, and a lock with alpha and beta that has these markers."""
    entries = {
        name: {"version": f"=={version}", "hashes": [f"sha256:{file_digest(wheel(index, name, version))}"]}
        for name, version in ALL.items()
    }
    for name, marker in markers.items():
        entries[name]["markers"] = marker
    meta = {"hash": {"sha256": "00"}, "pipfile-spec": 6, "requires": {}, "sources": []}
    write(folder, "fn/Pipfile", f"[packages]\n{pipfile}")
    write(folder, "fn/Pipfile.lock", json.dumps({"_meta": meta, "default": entries, "develop": {}}))


def poetry_lock(folder: Path, index, *, project: str = '"alpha"', beta: str = "") -> None:
    """Write a Poetry project, and a lock with alpha and beta; ``beta`` are further lines of that."""
    write(folder, "fn/pyproject.toml", PROJECT + f"dependencies = [{project}]\n")
    text = ""
    for name, version in ALL.items():
        lines = beta if name == "beta" and beta else 'groups = ["main"]\n'
        files = f'files = [{{file = "x", hash = "sha256:{file_digest(wheel(index, name, version))}"}}]\n'
        text += f'[[package]]\nname = "{name}"\nversion = "{version}"\npython-versions = "*"\n{lines}{files}\n'
    write(folder, "fn/poetry.lock", text + '[metadata]\nlock-version = "2.1"\npython-versions = ">=3.12"\ncontent-hash = ""\n')


def pylock(folder: Path, index, name: str = "pylock.toml", **packages: str) -> None:
    """Write a lock with these packages in these versions."""
    text = 'lock-version = "1.0"\ncreated-by = "uv"\n'
    for package, version in packages.items():
        place = wheel(index, package, version)
        text += f'[[packages]]\nname = "{package}"\nversion = "{version}"\n[[packages.wheels]]\nname = "{place.name}"\n'
        text += f'path = "{place}"\nhashes = {{sha256 = "{file_digest(place)}"}}\n'
    write(folder, name, text)


def test_a_requirement_that_uv_lock_lacks_is_named_with_the_command_that_helps(folder, lpack):
    project = write(folder, "fn/pyproject.toml", PROJECT + 'dependencies = ["alpha"]\n')
    uv("lock", cwd=folder / "fn")
    project.write_text(project.read_text().replace('"alpha"', '"alpha", "gamma"'))
    message = refusal(lpack, folder)
    assert "uv.lock does not have all that fn requires on python3.13-x86_64" in message
    assert f"{project} requires gamma, which uv.lock does not have: the lock is older" in message
    assert f"Run `uv lock` in {folder / 'fn'}." in message
    uv("lock", cwd=folder / "fn")
    assert set(built(lpack, folder)) == {"alpha", "beta", "gamma"}


def test_a_requirement_of_an_asked_group_and_of_an_own_extra_counts(folder, lpack):
    project = write(
        folder, "fn/pyproject.toml", PROJECT + 'dependencies = ["alpha"]\n[project.optional-dependencies]\nx = []\ny = []\n'
    )
    uv("lock", cwd=folder / "fn")
    write(folder, "lpack.toml", '[functions.fn]\nsource = "fn"\nhandler = "app.handler"\nextras = ["x"]\n')
    project.write_text(project.read_text().replace("x = []", 'x = ["fn[y]"]').replace("y = []", 'y = ["marked"]'))
    finished = lpack("build", cwd=folder)
    assert "requires marked, which uv.lock does not have" in finished.stderr


def test_what_a_marker_leaves_out_of_a_pipfile_lock_is_named_with_the_marker(folder, lpack, index):
    pipfile_lock(folder, index, beta="python_version >= '3.13'")
    message = refusal(lpack, folder, "--runtime", "python3.12")
    assert "alpha 1.0 requires beta, which Pipfile.lock has only where python_version >= '3.13'." in message
    assert f"Run `pipenv lock --python 3.12` in {folder / 'fn'}." in message
    assert built(lpack, folder, "--runtime", "python3.13") == ALL


def test_allow_incomplete_builds_with_a_warning_and_is_asked_for_each_time(folder, lpack, index):
    pipfile_lock(folder, index, beta="python_version < '3.13'")
    finished = lpack("build", "fn/", "--allow-incomplete", cwd=folder)
    assert finished.returncode == 0
    assert "warning: Pipfile.lock does not have all that fn requires" in finished.stderr
    assert "alpha 1.0 requires beta" in finished.stderr
    refusal(lpack, folder)


def test_a_requirement_that_a_pipfile_gains_is_seen_by_the_next_build(folder, lpack, index):
    pipfile_lock(folder, index)
    assert built(lpack, folder) == ALL
    write(folder, "fn/Pipfile", "[packages]\nalpha = '*'\nmarked = {version = '*', sys_platform = \"== 'win32'\"}\n")
    assert built(lpack, folder) == ALL
    write(folder, "fn/Pipfile", "[packages]\nalpha = '*'\nMarked = {version = '>=1', extras = ['x']}\n")
    message = refusal(lpack, folder)
    assert f"{folder / 'fn' / 'Pipfile'} requires Marked[x]>=1, which Pipfile.lock does not have" in message
    assert "Run `pipenv lock` in" in message


@pytest.mark.parametrize(
    ("beta", "reason"),
    [
        ('groups = ["dev"]\n', "has only in the group dev"),
        ('groups = ["main"]\nmarkers = "python_version < \'3.10\'"\n', "has only where python_version < '3.10'"),
    ],
)
def test_what_a_poetry_lock_leaves_out_is_named_with_the_reason(folder, lpack, index, beta, reason):
    poetry_lock(folder, index, beta=beta)
    message = refusal(lpack, folder, "--runtime", "python3.12")
    assert f"alpha 1.0 requires beta, which poetry.lock {reason}." in message
    assert f"Run `poetry lock` in {folder / 'fn'}." in message


def test_a_requirement_that_poetry_lock_lacks_is_named(folder, lpack, index):
    poetry_lock(folder, index)
    assert built(lpack, folder) == ALL
    poetry_lock(folder, index, project='"alpha", "marked>=1"')
    assert "pyproject.toml requires marked >=1, which poetry.lock does not have" in refusal(lpack, folder)


def test_a_bound_that_has_moved_is_a_warning_and_an_error_when_frozen(folder, lpack, index):
    pipfile_lock(folder, index, pipfile='alpha = ">=1.1"\n')
    finished = lpack("build", "fn/", cwd=folder)
    assert finished.returncode == 0
    assert "Pipfile.lock is stale for fn: Pipfile asks for alpha>=1.1, and it has 1.0." in finished.stderr
    poetry_lock(folder, index, project='"alpha>=1.1"')
    (folder / "fn" / "Pipfile.lock").unlink()
    refused = lpack("build", "fn/", "--frozen", cwd=folder)
    assert refused.returncode == 2
    assert "poetry.lock is stale for fn: pyproject.toml asks for alpha >=1.1, and it has 1.0." in refused.stderr


def test_a_pipfile_lock_is_a_lock_to_frozen_builds_and_to_the_check(folder, lpack, index, monkeypatch):
    pipfile_lock(folder, index)
    assert built(lpack, folder, "--frozen") == ALL
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    assert lpack("lock", "--check", "fn/", cwd=folder).stdout.split() == ["fresh", str(Path("fn", "Pipfile.lock"))]
    write(folder, "fn/Pipfile", "[packages]\nalpha = '*'\nmarked = '*'\n")
    refused = lpack("lock", "--check", "fn/", cwd=folder)
    assert refused.returncode == 1
    assert "requires marked, which Pipfile.lock does not have" in refused.stderr


def test_a_pylock_with_a_hole_or_a_version_that_does_not_fit_is_refused(folder, lpack, index):
    pylock(folder, index, "fn/pylock.toml", alpha="1.0")
    message = refusal(lpack, folder)
    assert "alpha 1.0 requires beta, which pylock.toml does not have." in message
    assert "Run `uv lock && uv export -o pylock.toml` in" in message
    pylock(folder, index, "fn/pylock.toml", gamma="1.0", beta="2.0")
    assert "gamma 1.0 requires beta<2, and pylock.toml has beta 2.0." in refusal(lpack, folder)
    pylock(folder, index, "fn/pylock.toml", gamma="1.0", beta="1.0")
    assert built(lpack, folder) == {"gamma": "1.0", "beta": "1.0"}


def test_a_pylock_older_than_the_project_beside_it_is_refused(folder, lpack, index):
    pylock(folder, index, "fn/pylock.toml", gamma="1.0", beta="1.0")
    write(folder, "fn/pyproject.toml", PROJECT + 'dependencies = ["gamma", "marked"]\n')
    assert "pyproject.toml requires marked, which pylock.toml does not have" in refusal(lpack, folder)


def test_a_lock_of_lpack_that_lost_a_package_is_refused_until_it_is_made_anew(folder, lpack):
    write(folder, "fn/requirements.txt", "alpha\n")
    assert lpack("lock", "fn/", cwd=folder).returncode == 0
    (path,) = folder.rglob("pylock.fn.toml")
    text = path.read_text()
    before, beta, rest = text.partition('[[packages]]\nname = "beta"')
    path.write_text(before + rest.partition("[tool")[1] + rest.partition("[tool")[2])
    assert beta
    message = refusal(lpack, folder)
    assert "alpha 1.1 requires beta, which pylock.fn.toml does not have." in message
    assert "Run `lpack lock` in" in message


def test_what_the_user_overrides_is_no_gap(folder, lpack):
    text = PROJECT + 'dependencies = ["gamma"]\n[tool.uv]\noverride-dependencies = ["beta>=2"]\n'
    write(folder, "fn/pyproject.toml", text)
    uv("lock", cwd=folder / "fn")
    assert built(lpack, folder) == {"gamma": "1.0", "beta": "2.0"}
    uv("export", "-q", "-o", "pylock.toml", cwd=folder / "fn")
    (folder / "fn" / "uv.lock").unlink()
    assert built(lpack, folder) == {"gamma": "1.0", "beta": "2.0"}


@pytest.mark.parametrize("line", ['exclude = ["beta"]\n', ""])
def test_what_is_excluded_or_lies_in_the_source_is_no_gap(folder, lpack, index, line):
    pylock(folder, index, "fn/pylock.toml", alpha="1.0")
    if not line:
        write(folder, "fn/beta/__init__.py", "")
    write(folder, "lpack.toml", f'[functions.fn]\nsource = "fn"\nhandler = "app.handler"\n{line}')
    assert lpack("build", cwd=folder).returncode == 0


def test_a_layer_that_nobody_knows_may_hold_what_is_missing(folder, lpack, index):
    pylock(folder, index, "fn/pylock.toml", alpha="1.0")
    arn = "arn:aws:lambda:eu-west-1:123456789012:layer:tools:3"
    write(folder, "lpack.toml", f'[functions.fn]\nsource = "fn"\nhandler = "app.handler"\nattached = ["{arn}"]\n')
    finished = lpack("build", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert "Unless tools:3 brings it" in finished.stderr


# The comparison itself


X86 = Target.of("python3.12", "x86_64")


def gaps(requires: dict[str, list[str]], versions: dict[str, str], **what: frozenset[str]) -> list[str]:
    parsed = {name: [Requirement(text) for text in texts] for name, texts in requires.items()}
    return [f"{gap.requirer}: {gap.words}" for gap in find_gaps((), parsed, versions, X86, Adjustments(**what))]


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        ("b[x]; sys_platform == 'win32'", ""),
        ("b==2.1", "2.1+cpu"),
        ("b>=2", "3.0rc1"),
        ("b>=2", ""),
        ("b @ https://example.com/b.zip", "1"),
    ],
)
def test_what_does_not_hold_or_fits_is_no_gap(requirement, version):
    assert gaps({"a": [requirement]}, {"a": "1", **({} if "win32" in requirement else {"b": version})}) == []


def test_extras_are_followed_from_requirement_to_requirement():
    requires = {
        "a": ["B.b[Fast_er]"],
        "b-b": ["c; extra == 'fast-er'", "d; extra == 'other'", "e[z]"],
        "e": ["f; extra == 'z'"],
    }
    assert gaps(requires, {"a": "1", "b-b": "2", "e": "3"}) == ["b-b 2: c", "e 3: f"]


def test_what_is_overridden_or_described_by_the_user_is_no_gap():
    requires = {"a": ["b>=2", "c"]}
    assert gaps(requires, {"a": "1", "b": "1"}, overridden=frozenset({"b"})) == ["a 1: c"]
    assert gaps(requires, {"a": "1", "b": "1"}, described=frozenset({"a"})) == []
