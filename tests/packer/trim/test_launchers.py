"""Console scripts are programs that start what their entry points name, wherever function and layer lie."""

from __future__ import annotations

import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.runtimes import Target
from packer.core.model import EXECUTABLE_MODE, FILE_MODE, BytesContent, Entry, Tree
from packer.trim.launchers import LauncherStyle, make_launchers
from tests.shaped import make_project
from tests.wheels import make_wheel

TARGET = Target.of("python3.12", "x86_64")


def programs(text: str, *taken: str) -> dict[str, str]:
    content = BytesContent.of(text.encode())
    part = Tree.of([Entry(path="one-1.dist-info/entry_points.txt", mode=FILE_MODE, content=content, owner="one")])
    made = make_launchers([("one", part)], LauncherStyle.of_layer(TARGET), frozenset(taken))
    assert all(each.mode == EXECUTABLE_MODE for each in made)
    return {each.path: each.content.read().decode() for each in made}


def test_every_console_script_is_a_program_of_the_runtimes_python():
    found = programs("[console_scripts]\none = pkg.cli:main\ntwo.x=pkg : Cli.run [extra]\n\n[gui_scripts]\nthree = pkg:main\n")
    assert found.keys() == {"bin/one", "bin/two.x"}
    assert found["bin/one"].startswith("#!/var/lang/bin/python3.12\n")
    assert "from pkg import Cli\n" in found["bin/two.x"]
    assert "sys.exit(Cli.run())" in found["bin/two.x"]


@pytest.mark.parametrize(
    "line",
    [
        "../one = pkg:main",
        "one = pkg",
        "one = pkg:main; import os",
        "one = pkg:main()",
        "# one = pkg:main",
        "a/b = pkg:main",
        "= pkg:main",
    ],
)
def test_what_is_no_entry_point_makes_no_program(line):
    assert programs(f"[console_scripts]\n{line}\n") == {}


def test_what_is_there_already_stays():
    text = "[console_scripts]\none = pkg:main\n"
    assert programs(text, "bin/one") == {}
    assert programs(text, "bin") == {}, "a file"


def test_programs_of_a_function_run_from_any_folder(tmp_path, lpack, index, index_folder, cache, monkeypatch):
    files = {"shop/__init__.py": b"class Cli:\n    @staticmethod\n    def run():\n        print('tea')\n        return 3\n"}
    make_wheel(index_folder, "shop", "1.0", files, replace={"entry_points.txt": "[console_scripts]\nshop = shop:Cli.run\n"})
    project = make_project(tmp_path / "project", lpack, "def handler(event, context): ...\n", "shop\n")
    project.build()
    with zipfile.ZipFile(project.archive) as archive:
        archive.extractall(tmp_path / "task")
        mode = archive.getinfo("bin/shop").external_attr >> 16
    assert stat.S_IMODE(mode) == EXECUTABLE_MODE
    program = tmp_path / "task" / "bin" / "shop"
    finished = subprocess.run([sys.executable, program], cwd=Path("/"), capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (3, "tea\n")


def test_programs_of_a_layer_find_its_packages(tmp_path):
    made = programs("[console_scripts]\none = pkg:main\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "python").mkdir()
    (tmp_path / "bin" / "one").write_text(made["bin/one"])
    (tmp_path / "python" / "pkg.py").write_text("def main():\n    print('layered')\n")
    finished = subprocess.run([sys.executable, tmp_path / "bin" / "one"], capture_output=True, text=True, check=True)
    assert finished.stdout == "layered\n"


def test_an_image_of_another_base_has_its_python_on_the_path(function):
    assert LauncherStyle.of_function(function).python == "/var/lang/bin/python3.12"
    image = replace(function.image, wanted=True)
    assert LauncherStyle.of_function(replace(function, image=image)).python == "/var/lang/bin/python3.12"
    other = replace(function, image=replace(image, base="python:3.12-slim"))
    assert LauncherStyle.of_function(other).python == "/usr/bin/env python3.12"


@pytest.fixture
def function(tmp_path):
    from packer.core.model import Function

    return Function(
        name="one", source=tmp_path, handler="app.handler", target=TARGET, requirements=None, lock_path=tmp_path / "l"
    )
