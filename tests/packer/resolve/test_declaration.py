"""What a pyproject.toml declares, where its values are of a wrong kind."""

from pathlib import Path

import pytest

from packer.core.errors import UsageError
from packer.core.model import Function, Requirements
from packer.resolve.declaration import read_declaration
from packer.source.dependency_files import PYPROJECT
from tests.packer.world import TARGET


def function(folder: Path, text: str) -> Function:
    path = folder / "pyproject.toml"
    path.write_text(text)
    return Function(
        name="fn",
        source=folder,
        handler="app.handler",
        target=TARGET,
        requirements=Requirements(kind=PYPROJECT, path=path, extras=("fast",), groups=("dev",)),
        lock_path=folder / "pylock.fn.toml",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[project]\ndependencies = 5\n", r"project\.dependencies must be a list of strings"),
        ("[project]\ndependencies = [1]\n", r"project\.dependencies must be a list of strings"),
        ("[project]\noptional-dependencies = 3\n", r"project\.optional-dependencies must be a table"),
        ("[project.optional-dependencies]\nfast = [3]\n", r"project\.optional-dependencies\.fast must be a list of strings"),
        ("dependency-groups = 3\n[project.optional-dependencies]\nfast = []\n", "dependency-groups must be a table"),
        (
            "[dependency-groups]\ndev = 3\n[project.optional-dependencies]\nfast = []\n",
            r"dependency-groups\.dev must be a list",
        ),
    ],
)
def test_values_of_a_wrong_kind_are_named(tmp_path, text, said):
    with pytest.raises(UsageError, match=rf"pyproject\.toml: {said}"):
        read_declaration(function(tmp_path, text))


def test_a_group_may_include_another(tmp_path):
    groups = '[dependency-groups]\ndev = ["beta", { include-group = "x" }]\nx = []\n'
    declared = read_declaration(
        function(tmp_path, f'[project]\nname = "fn"\n{groups}[project.optional-dependencies]\nfast = []\n')
    )
    assert declared.arguments == ("--extra", "fast", "--group", f"{tmp_path}/pyproject.toml:dev")
