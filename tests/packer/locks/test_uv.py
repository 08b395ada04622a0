"""uv.lock, as the real uv exports it: members, extras, groups, and what is wrong in uv's own words."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.interpreters import find_interpreter
from builders.runtimes import Target
from packer.core.errors import ResolveError, UsageError
from packer.core.model import Lock, Requirements, SourceFolder
from packer.core.process import run, uv_command
from packer.locks.uv import is_uv_lock_stale, read_uv_lock
from tests.index import LocalIndex

X86, ARM = Target.of("python3.12", "x86_64"), Target.of("python3.12", "arm64")
BUILT = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'


def project(folder: Path, name: str, *dependencies: str, tail: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = f'[project]\nname = "{name}"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = {list(dependencies)!r}\n'
    (folder / "pyproject.toml").write_text(text + tail)


def lock(folder: Path) -> None:
    subprocess.run([uv_command(), "lock", "-q"], cwd=folder, check=True)


def asked(folder: Path, **what: str | tuple[str, ...]) -> Requirements:
    return Requirements(kind="uv.lock", path=folder / "uv.lock", **what)  # type: ignore[arg-type]


def read(folder: Path, target: Target = X86, **what: str | tuple[str, ...]) -> Lock:
    return read_uv_lock(asked(folder, **what), target, run)


def names(found: Lock) -> list[str]:
    return [each.name for each in found.packages]


@pytest.fixture
def workspace(tmp_path: Path, index: LocalIndex) -> Path:
    """Give a locked workspace: the root needs alpha, fn the library (which needs beta) and, on x86_64, gamma; all are built."""
    tail = '[project.optional-dependencies]\nfast = ["gamma"]\n[dependency-groups]\ndev = ["optional"]\naws = ["native"]\n'
    members = '[tool.uv.workspace]\nmembers = ["services/*", "libs/*"]\n'
    project(tmp_path, "root", "alpha<1.1", tail=tail + members + BUILT)
    sources = "[tool.uv.sources]\nlibrary = { workspace = true }\n"
    project(tmp_path / "services" / "fn", "fn", "library", "gamma; platform_machine == 'x86_64'", tail=sources + BUILT)
    project(tmp_path / "libs" / "library", "library", "beta", tail=BUILT)
    lock(tmp_path)
    return tmp_path


@pytest.fixture
def offline(workspace: Path, index: LocalIndex, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the workspace on a machine without a warm cache, where nobody may ask the index for anything."""
    monkeypatch.setenv("UV_CACHE_DIR", str(workspace / "cold"))
    before = len(index.requests)
    yield workspace
    assert len(index.requests) == before


def test_the_root_project_is_meant_where_no_member_is_named(workspace):
    found = read(workspace)
    assert names(found) == ["alpha", "beta"]
    assert found.origin == "uv.lock"
    (wheel,) = found.packages[0].wheels
    assert (wheel.filename, len(wheel.sha256)) == ("alpha-1.0-py3-none-any.whl", 64)
    assert wheel.location.startswith("http://127.0.0.1")


def test_a_member_brings_the_library_it_needs_and_not_itself(workspace):
    found = read(workspace, package="fn")
    assert names(found) == ["beta", "gamma", "library"]
    assert found.packages[2].source == SourceFolder(path=workspace / "libs" / "library")


def test_markers_are_evaluated_for_the_target(workspace):
    assert names(read(workspace, ARM, package="fn")) == ["beta", "library"]


def test_extras_and_groups_come_when_asked_for_and_development_never(workspace):
    assert "optional" not in names(read(workspace))
    assert names(read(workspace, extras=("fast",), groups=("aws",))) == ["alpha", "beta", "gamma", "native"]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"package": "nobody"}, "does not have a member nobody"),
        ({"extras": ("slow",)}, "Extra `slow` is not defined"),
        ({"groups": ("ops",)}, "Group `ops` is not defined"),
    ],
)
def test_uv_says_what_it_does_not_know(workspace, what, words):
    with pytest.raises(ResolveError, match=words) as caught:
        read(workspace, **what)
    assert str(workspace / "uv.lock") in caught.value.what


@pytest.mark.parametrize(("text", "words"), [("[[[", "TOML parse error"), ("version = 9\n", "unsupported schema version")])
def test_lock_that_uv_cannot_read_is_an_error(workspace, text, words):
    (workspace / "uv.lock").write_text(text)
    with pytest.raises(ResolveError, match=words):
        read(workspace)


def test_the_targets_python_must_be_within_the_locks(workspace):
    with pytest.raises(ResolveError, match=r"uv\.lock: the lock requires Python >=3.11, and python3.9-x86_64 has 3\.9"):
        read(workspace, Target.of("python3.9", "x86_64"))


def test_a_workspace_without_a_root_project_wants_a_member(workspace):
    (workspace / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["services/*", "libs/*"]\n')
    lock(workspace)
    with pytest.raises(UsageError, match=r"(?s)locks a workspace.*fn, library"):
        read(workspace)
    assert "library" in names(read(workspace, package="fn"))


def test_no_network_and_no_cache_are_needed(offline):
    assert names(read(offline, package="fn")) == ["beta", "gamma", "library"]
    assert not is_uv_lock_stale(asked(offline), X86, run)


def test_a_changed_member_makes_the_lock_stale_even_without_network(offline):
    project(offline / "libs" / "library", "library", "beta<2", tail=BUILT)
    assert is_uv_lock_stale(asked(offline), X86, run)


def test_asking_whether_a_lock_is_stale_does_not_mend_it(workspace):
    project(workspace / "libs" / "library", "library", "beta", "native", tail=BUILT)
    before = (workspace / "uv.lock").read_bytes()
    assert is_uv_lock_stale(asked(workspace), X86, run)
    assert (workspace / "uv.lock").read_bytes() == before


def test_what_does_not_change_the_lock_does_not_make_it_stale(workspace):
    path = workspace / "libs" / "library" / "pyproject.toml"
    path.write_text(path.read_text() + "[tool.ruff]\nline-length = 100\n")
    before = (workspace / "uv.lock").read_bytes()
    assert not is_uv_lock_stale(asked(workspace), X86, run)
    assert (workspace / "uv.lock").read_bytes() == before


@pytest.mark.skipif(find_interpreter(12) is None, reason="needs CPython 3.12")
def test_a_python_that_only_lpack_finds_tells_that_a_lock_is_stale(tmp_path, index, monkeypatch):
    interpreter = find_interpreter(12)
    assert interpreter is not None
    project(tmp_path, "one", "alpha")
    path = tmp_path / "pyproject.toml"
    path.write_text(path.read_text().replace(">=3.11", ">=3.12"))
    with monkeypatch.context() as patched:
        patched.setenv("UV_PYTHON", str(interpreter.path))
        lock(tmp_path)
    uv = uv_command()
    monkeypatch.setattr("packer.locks.uv.uv_command", lambda: uv)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path))
    without = [uv, "lock", "--check", "--offline", "--quiet"]
    assert run(without, tmp_path, {"UV_PYTHON_DOWNLOADS": "never"}).status == 2
    assert not is_uv_lock_stale(asked(tmp_path), X86, run)
    path.write_text(path.read_text().replace("'alpha'", "'alpha', 'beta'"))
    assert is_uv_lock_stale(asked(tmp_path), X86, run)


def test_where_uv_cannot_tell_the_lock_counts_as_fresh(workspace):
    (workspace / "pyproject.toml").write_text("[[[")
    assert not is_uv_lock_stale(asked(workspace), X86, run)
