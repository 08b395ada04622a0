"""Which files, endings of files, and folders sources name."""

from __future__ import annotations

import ast

import pytest

from packer.source.named_paths import find_named_files, find_named_folders

FOLDERS = ("pkg", "pkg/include", "pkg/share", "pkg/share/cmake", "pkg/core", "pkg/core/include", "pkg/sub/include")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ('open("one.h")\n', "one.h"),
        ("open(here / 'data/one.h')\n", "one.h"),
        ('open(f"{here}/one.h")\n', "one.h"),
        ('call("it\'s", "one.h")\n', "one.h"),
        ('call("a", "one.h", "b")\n', "one.h"),
        ('LIST = ["Makefile"]\n', "Makefile"),
    ],
)
def test_a_file_that_a_string_names_is_found(code, name):
    assert name in find_named_files([code.encode()]).names


@pytest.mark.parametrize(
    ("code", "suffix"),
    [
        ('path.endswith(".h")\n', ".h"),
        ('folder.glob("*.h")\n', ".h"),
        ('folder.glob("**/*.h")\n', ".h"),
        ('name = "%s%s.exe" % (kind, bits)\n', ".exe"),
        ('name = f"{kind}.exe"\n', ".exe"),
        ('name = "{}-64.exe".format(kind)\n', ".exe"),
        ('name = "cli" + ".exe"\n', ".exe"),
        ('f"{name}.h.in"\n', ".h.in"),
    ],
)
def test_an_ending_by_itself_or_after_a_placeholder_is_found(code, suffix):
    assert suffix in find_named_files([code.encode()]).suffixes


@pytest.mark.parametrize("code", ['open("one.h")\n', '"a sentence with .h in it"\n', "x = one.h\n", '"h"\n'])
def test_a_whole_name_or_a_sentence_is_no_ending(code):
    assert not find_named_files([code.encode()]).suffixes


def found(code: str, path: str = "pkg/sub/one.py") -> set[str]:
    return set(find_named_folders([(path, code.encode())], FOLDERS, ast.parse))


@pytest.mark.parametrize(
    ("code", "folder"),
    [
        ('d = os.path.join(os.path.dirname(__file__), "..", "share", "cmake")\n', "pkg/share/cmake"),
        ('d = Path(__file__).parents[1] / "share" / "cmake"\n', "pkg/share/cmake"),
        ('d = files("pkg").joinpath("share/cmake")\n', "pkg/share/cmake"),
        ('d = resource_filename("pkg", "share/cmake")\n', "pkg/share/cmake"),
        ('d = f"{os.path.dirname(pkg.__file__)}/share/cmake"\n', "pkg/share/cmake"),
        ('PARTS = ("share", "cmake")\nd = os.path.join(*pkg.__path__, *PARTS)\n', "pkg/share/cmake"),
        ('from pkg import core\nd = os.path.join(os.path.dirname(core.__file__), "include")\n', "pkg/core/include"),
        ('d = os.path.join(os.path.dirname(__file__), "include")\n', "pkg/sub/include"),
        ('d = [os.path.join(os.path.dirname(__file__), "include")]\n', "pkg/sub/include"),
        ('d = {"inc": Path(__file__).parent / "include"}\n', "pkg/sub/include"),
        ('d = {f"{os.path.dirname(__file__)}/include"}\n', "pkg/sub/include"),
        ('Extension("x", include_dirs=[str(Path(__file__).parent / "include")])\n', "pkg/sub/include"),
        ('d = [("headers", join(dirname(__file__), "include"))]\n', "pkg/sub/include"),
        ('d = [*map(str, [Path(__file__).parent / "include"])]\n', "pkg/sub/include"),
        ('d = Path(__file__).parents[1].joinpath(*["share", "cmake"])\n', "pkg/share/cmake"),
        ('d = "/".join([*pkg.__path__, "share", "cmake"])\n', "pkg/share/cmake"),
        ('d = os.sep.join([dirname(pkg.__file__), "share", "cmake"])\n', "pkg/share/cmake"),
    ],
)
def test_a_folder_whose_pieces_are_named_is_found(code, folder):
    assert folder in found(code)


def test_a_module_that_returns_its_own_folder_for_headers_names_it():
    code = "def get_include() -> str:\n    return str(Path(__file__).parent)\n"
    assert found(code, "pkg/__init__.py") == {"pkg"}


def test_a_function_for_headers_that_names_a_folder_does_not_mean_its_own():
    code = 'def get_include() -> str:\n    return os.path.join(os.path.dirname(__file__), "include")\n'
    assert found(code, "pkg/__init__.py") == {"pkg/include"}


@pytest.mark.parametrize(
    "code",
    [
        'd = join("share", "cmake")\n',  # from nowhere: the module does not find out where it lies
        'd = join(dirname(__file__), "cmake")\n',  # one piece of two
        '"""Beside __file__ lie "share" and "cmake"."""\n',
        '__all__ = ["share", "cmake"]\nd = __file__\n',
        '__all__ = [*["share", "cmake"], *("share", "cmake")]\nd = __file__\n',
        'd = {"share": "cmake", "cmake": [("share", "cmake")]}\ne = __file__\n',
        'd = ", ".join(["share", "cmake"]) + __file__\n',
        'd = __file__\nif kind == "share" or kind == "cmake":\n    pass\n',
    ],
)
def test_words_that_are_not_joined_from_the_place_of_a_module_name_no_folder(code):
    assert not found(code) & {"pkg/share", "pkg/share/cmake"}
