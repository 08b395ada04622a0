"""The project that a function is: its name, version and entry points are there for `importlib.metadata`."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from builders.runtimes import Target
from packer.core.model import FILE_MODE, OWN_SOURCE, BytesContent, Entry, Function, Requirements, Tree
from packer.source.own_metadata import make_own_metadata, own_project_files

PROJECT = '[project]\nname = "Shop.Fn"\nversion = "2.5.0"\ndescription = "A shop"\nrequires-python = ">=3.11"\n'
POETRY = '[tool.poetry]\nname = "shopfn"\nversion = "2.5.0"\n[tool.poetry.plugins."shop.tea"]\ngreen = "shopfn.tea:Green"\n'


def function(folder: Path, kind: str = "", path: str = "") -> Function:
    source = folder / "src"
    source.mkdir(exist_ok=True)
    requirements = Requirements(kind=kind, path=folder / (path or kind)) if kind else None
    target = Target.of("python3.12", "x86_64")
    lock = folder / "pylock.toml"
    return Function(name="one", source=source, handler="app.handler", target=target, requirements=requirements, lock_path=lock)


def source(**files: str) -> Tree:
    return Tree.of(
        Entry(path=f"{name}.py", mode=FILE_MODE, content=BytesContent.of(text.encode()), owner=OWN_SOURCE)
        for name, text in files.items()
    )


def found(folder: Path, of: Function, code: str = "", *packed: str) -> metadata.Distribution | None:
    """Give the metadata as Python finds it; None where there is none."""
    entries = make_own_metadata(of, source(app=code), packed)
    for entry in entries:
        path = folder / "packed" / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.content.read())
    return next(iter(metadata.distributions(path=[str(folder / "packed")])), None)


@pytest.mark.parametrize(("text", "kind"), [(POETRY, "poetry.lock"), (PROJECT, "uv.lock"), (PROJECT, "pyproject")])
def test_a_project_whose_lock_is_used_is_found_by_its_name(tmp_path, text, kind):
    (tmp_path / "pyproject.toml").write_text(text)
    made = found(tmp_path, function(tmp_path, kind))
    assert made is not None
    assert made.version == "2.5.0"
    assert made.metadata["Name"] in ("shopfn", "Shop.Fn")


@pytest.mark.parametrize(
    "code",
    [
        "from importlib.metadata import version\n__version__ = version('shop-fn')\n",
        'import importlib.metadata as m\nm.metadata( "shop_fn")\n',
        "import pkg_resources\npkg_resources.get_distribution('Shop.Fn')\n",
    ],
)
def test_a_project_that_the_code_asks_for_is_found_whatever_its_requirements_are(tmp_path, code):
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    of = function(tmp_path, "requirements.txt")
    assert found(tmp_path, of) is None
    made = found(tmp_path, of, code)
    assert made is not None
    assert made.version == "2.5.0"


def test_a_package_that_asks_for_its_own_name_is_meant(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "app"\nversion = "1"\n')
    assert found(tmp_path, function(tmp_path), "version(__name__)\n") is not None


def test_entry_points_are_those_of_the_project(tmp_path):
    (tmp_path / "pyproject.toml").write_text(POETRY)
    made = found(tmp_path, function(tmp_path, "poetry.lock"))
    assert made is not None
    [point] = made.entry_points
    assert (point.group, point.name, point.value) == ("shop.tea", "green", "shopfn.tea:Green")
    (tmp_path / "pyproject.toml").write_text(
        f'{PROJECT}[project.scripts]\nshop = "app:main"\n[project.entry-points.x]\ny = "z"\n'
    )
    entries = make_own_metadata(function(tmp_path, "uv.lock"), source(), ())
    assert [entry.content.read().decode() for entry in entries][1] == "[console_scripts]\nshop = app:main\n\n[x]\ny = z\n"


@pytest.mark.parametrize(
    ("table", "file", "text"),
    [
        ('[tool.hatch.version]\npath = "src/app/__about__.py"\n', "src/app/__about__.py", '__version__ = "3.1"\n'),
        ('[tool.pdm.version]\npath = "src/app.py"\n', "src/app.py", "__version__: str = '3.1'\n"),
        ('[tool.setuptools.dynamic]\nversion = { attr = "app.VERSION" }\n', "src/app/__init__.py", 'VERSION = "3.1"\n'),
        ('[tool.setuptools.dynamic]\nversion = { file = "VERSION" }\n', "VERSION", "3.1\n"),
    ],
)
def test_a_version_in_another_file_is_read_there(tmp_path, table, file, text):
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "app"\ndynamic = ["version"]\n{table}')
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    of = function(tmp_path, "uv.lock")
    made = found(tmp_path, of)
    assert made is not None
    assert made.version == "3.1"
    assert own_project_files(of) == (tmp_path / "pyproject.toml", path)


@pytest.mark.parametrize(
    "text",
    [
        '[project]\nname = "app"\ndynamic = ["version"]\n',
        "[tool.black]\nline-length = 100\n",
        "[project\n",
        '[project]\nname = "../app"\nversion = "1"\n',
        '[project]\nname = "app"\nversion = "1/../../x"\n',
        '[project]\nname = 3\nversion = "1"\n',
    ],
)
def test_what_has_no_name_and_version_makes_none(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    assert make_own_metadata(function(tmp_path, "uv.lock"), source(), ()) == ()


def test_what_is_there_already_stays(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    of = function(tmp_path, "uv.lock")
    assert make_own_metadata(of, source(), {"shop-fn"}) == ()
    theirs = Entry(path="Shop_Fn-1.dist-info/METADATA", mode=FILE_MODE, content=BytesContent.of(b""), owner=OWN_SOURCE)
    assert make_own_metadata(of, Tree.of([theirs]), ()) == ()


def test_a_project_above_that_of_the_function_is_not_its_own(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    inner = tmp_path / "inner"
    inner.mkdir()
    assert make_own_metadata(function(inner, "uv.lock"), source(), ()) == ()
    assert own_project_files(function(inner)) == ()
