"""One question to uv out of what several functions declare: lines that mean the same from every folder."""

from packer.core.model import Function, Requirements
from packer.resolve.declaration import read_declaration
from packer.resolve.joint_declaration import group_members
from packer.source.dependency_files import REQUIREMENTS
from tests.packer.world import TARGET


def test_local_paths_lead_to_the_same_places_from_every_folder(tmp_path):
    folder = tmp_path / "fn"
    folder.mkdir()
    path = folder / "requirements.txt"
    path.write_text("one @ file:../a%20b\nfile:../c%20d#egg=two\n./e%20f\nthree @ file:../g.zip#subdirectory=h\n")
    function = Function(
        name="fn",
        source=folder,
        handler="app.handler",
        target=TARGET,
        requirements=Requirements(kind=REQUIREMENTS, path=path),
        lock_path=folder / "pylock.fn.toml",
    )
    (member,) = group_members([(function, read_declaration(function))])
    assert member.lines == (
        f"one @ {(tmp_path / 'a b').as_uri()}",
        f"{(tmp_path / 'c d').as_uri()}#egg=two",
        f"{folder}/e%20f",
        f"three @ {(tmp_path / 'g.zip').as_uri()}#subdirectory=h",
    )
