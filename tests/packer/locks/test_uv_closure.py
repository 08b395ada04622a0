"""What members of real uv.lock files need, read from the lock, against what uv itself exports for them."""

import tomllib
from pathlib import Path

import pytest

from packer.locks.formats import LockPart
from packer.locks.uv import find_member_part
from tests.packer.locks.test_uv import BUILT, asked, lock, names, project, read, workspace

__all__ = ["workspace"]


def closure(folder: Path, **what) -> LockPart:
    return find_member_part(tomllib.loads((folder / "uv.lock").read_text()), asked(folder, **what))


def test_local_projects_are_those_that_the_member_needs(workspace):
    assert closure(workspace, package="fn").places == (workspace / "libs" / "library",)
    assert closure(workspace).places == ()
    assert closure(workspace, package="library").places == ()


@pytest.mark.parametrize("what", [{"package": "fn"}, {}, {"extras": ("fast",), "groups": ("aws",)}, {"package": "library"}])
def test_every_package_that_uv_exports_is_in_it(workspace, what):
    found = closure(workspace, **what).packages
    assert names(read(workspace, **what))
    assert all(f'"name": "{name}"' in found for name in names(read(workspace, **what)))


def test_what_others_need_changes_nothing(workspace):
    before = {name: closure(workspace, package=name) for name in ("", "fn", "library")}
    project(
        workspace / "services" / "other", "other", "native", "fn", tail="[tool.uv.sources]\nfn = { workspace = true }\n" + BUILT
    )
    lock(workspace)
    assert {name: closure(workspace, package=name) for name in before} == before
    assert closure(workspace, package="other").places == (workspace / "libs" / "library", workspace / "services" / "fn")


def test_what_a_library_needs_reaches_its_users_alone(workspace):
    before = {name: closure(workspace, package=name).packages for name in ("", "fn")}
    project(workspace / "libs" / "library", "library", "beta", "native", tail=BUILT)
    lock(workspace)
    assert closure(workspace).packages == before[""]
    assert closure(workspace, package="fn").packages != before["fn"]


def test_extras_and_groups_count_where_they_are_asked_for(workspace):
    plain, asked_for = closure(workspace).packages, closure(workspace, extras=("fast",)).packages
    assert plain != asked_for
    text = (workspace / "pyproject.toml").read_text()
    (workspace / "pyproject.toml").write_text(text.replace('fast = ["gamma"]', 'fast = ["native"]'))
    lock(workspace)
    assert closure(workspace).packages == plain
    assert closure(workspace, extras=("fast",)).packages != asked_for


def test_a_member_that_is_not_there_needs_everything(workspace):
    assert closure(workspace, package="nobody").places == (
        workspace,
        workspace / "libs" / "library",
        workspace / "services" / "fn",
    )
