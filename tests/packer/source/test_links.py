"""Links that lead out of the repository are refused, for what they lead to may be anybody's keys; others are followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from packer.cache.signatures import Digests
from packer.core.errors import UsageError
from packer.source.function_source import scan_outline, scan_source
from packer.source.links import function_boundary, project_boundary
from packer.source.package_source import read_project_tree


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Make a folder of the machine that is nobody's to pack."""
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(parents=True)
    (folder / "id_rsa").write_text("a key")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "config").write_text("[remote]")
    (folder / "services" / "orders").mkdir(parents=True)
    (folder / "services" / "orders" / "app.py").write_text("x = 1\n")
    (folder / "shared").mkdir()
    (folder / "shared" / "util.py").write_text("y = 1\n")
    return folder


def packed(source: Path, root: Path) -> list[str]:
    return [entry.path for entry in scan_source(source, Digests(), root=root).tree]


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("key.txt", "{outside}/id_rsa"),
        ("keys", "{outside}"),
        ("key.txt", "../../../home/.ssh/id_rsa"),
        ("chain", "hop"),
        ("etc", "/etc"),
        ("gone.txt", "{outside}/gone"),
        ("config", "../../.git/config"),
        ("all", "../../.git"),
    ],
)
def test_a_link_out_of_the_repository_is_refused_by_name(repository, outside, link, leads):
    source = repository / "services" / "orders"
    place = source / link
    place.symlink_to(leads.format(outside=outside))
    (source / "hop").symlink_to(f"../../../home/{outside.name}")
    (source / ".lpackignore").write_text("/hop\n")
    for read in (lambda: packed(source, repository), lambda: scan_outline(source, root=repository)):
        with pytest.raises(UsageError) as caught:
            read()
        assert f"The link {place} leads out of" in caught.value.what
        assert str(place.resolve()) in caught.value.what
        assert ".lpackignore" in caught.value.remedy
        assert caught.value.exit_status == 2


def test_a_link_in_a_linked_folder_is_refused_too(repository, outside):
    (repository / "services" / "orders" / "shared").symlink_to("../../shared")
    assert packed(repository / "services" / "orders", repository) == ["app.py", "shared/util.py"]
    (repository / "shared" / "key").symlink_to(outside / "id_rsa")
    with pytest.raises(UsageError, match="orders/shared/key leads out"):
        packed(repository / "services" / "orders", repository)


def test_links_within_the_repository_are_followed(repository):
    source = repository / "services" / "orders"
    (source / "util.py").symlink_to(repository / "shared" / "util.py")
    (source / "shared").symlink_to("../../shared")
    (source / "chain.py").symlink_to("util.py")
    (source / "round.py").symlink_to(f"../../../{repository.name}/shared/util.py")
    assert packed(source, repository) == ["app.py", "chain.py", "round.py", "shared/util.py", "util.py"]
    assert packed(source, repository / "services") == packed(source, repository)


@pytest.mark.parametrize("rule", ["key.txt", "*.txt"])
def test_a_link_that_is_left_out_may_lead_anywhere(repository, outside, rule):
    source = repository / "services" / "orders"
    (source / "key.txt").symlink_to(outside / "id_rsa")
    (source / ".lpackignore").write_text(f"{rule}\n")
    assert packed(source, repository) == ["app.py"]


def test_links_to_a_virtual_environment_and_to_the_output_may_lead_anywhere(repository, tmp_path):
    source = repository / "services" / "orders"
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "out").mkdir()
    (source / "python").symlink_to(tmp_path / "env")
    (source / "built").symlink_to(tmp_path / "out")
    found = scan_source(source, Digests(), root=repository, skip=[tmp_path / "out"])
    assert [entry.path for entry in found.tree] == ["app.py"]


def test_without_a_repository_the_configurations_folder_is_the_boundary(repository, outside):
    (repository / ".git" / "config").unlink()
    (repository / ".git").rmdir()
    source = repository / "services" / "orders"
    (source / "util.py").symlink_to("../../shared/util.py")
    assert packed(source, repository) == ["app.py", "util.py"]
    for root in (repository / "services", source):
        with pytest.raises(UsageError, match=r"util\.py leads out"):
            packed(source, root)


def test_a_source_that_only_a_link_puts_into_the_repository_is_refused(repository, outside):
    (repository / "services" / "keys").symlink_to(outside)
    for root in (repository, repository / "services" / "orders"):
        with pytest.raises(UsageError, match=f"out of {repository}, to {outside}"):
            packed(repository / "services" / "keys", root)


def test_a_source_that_is_named_outside_of_the_repository_is_its_own_boundary(repository, outside):
    assert packed(outside, repository) == ["id_rsa"]
    (outside / "link").symlink_to(repository / "shared")
    with pytest.raises(UsageError, match="link leads out"):
        packed(outside, repository)


def test_a_repository_that_is_reached_by_a_link_is_as_it_would_be_without(repository, outside, tmp_path):
    (tmp_path / "link").symlink_to("repository")
    source = tmp_path / "link" / "services" / "orders"
    (source / "util.py").symlink_to("../../shared/util.py")
    assert packed(source, tmp_path / "link") == packed(source, repository) == ["app.py", "util.py"]
    assert function_boundary(source, tmp_path / "link") == str(repository)


def test_links_of_a_local_project_may_lead_as_far_as_its_repository(repository, outside):
    project = repository / "libs" / "lib"
    project.mkdir(parents=True)
    (project / "util.py").symlink_to("../../shared/util.py")
    assert [entry.path for entry in read_project_tree(project, Digests())[0]] == ["util.py"]
    (project / "key").symlink_to(outside / "id_rsa")
    with pytest.raises(UsageError, match="lib/key leads out"):
        read_project_tree(project, Digests())


def test_a_local_project_without_a_repository_is_its_own_boundary(tmp_path, outside):
    project = tmp_path / "lib"
    project.mkdir()
    assert project_boundary(project) == str(project)
    (project / "key").symlink_to("../home/.ssh/id_rsa")
    with pytest.raises(UsageError, match="lib/key leads out"):
        read_project_tree(project, Digests())


def test_a_local_project_that_only_a_link_puts_into_the_repository_is_refused(repository, outside):
    (repository / "lib").symlink_to(outside)
    with pytest.raises(UsageError, match=f"out of {repository}, to {outside}"):
        read_project_tree(repository / "lib", Digests())
