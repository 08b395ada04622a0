"""Folders of tests: which there are, and which sources name as paths."""

from __future__ import annotations

import ast

import pytest

from packer.source.test_suites import existing_folders, find_test_suites, named_test_folders
from tests.packer.trim.test_rules import tree_of


def test_a_folder_of_tests_is_one_that_holds_test_modules():
    tree = tree_of("a/tests/deep/test_one.py", "b/test/two_test.py", "c/tests/conftest.py", "d/SelfTest/X/test_three.py")
    assert find_test_suites(tree) == {"a/tests", "b/test", "c/tests", "d/SelfTest"}


def test_folders_that_only_have_the_name_are_none():
    tree = tree_of("a/tests/one.sql", "b/test/core.py", "c/testing/test_one.py", "d/test_one.py", "tests.py")
    assert find_test_suites(tree) == frozenset()


def test_a_test_module_counts_for_the_innermost_folder():
    assert find_test_suites(tree_of("a/tests/words.sql", "a/tests/unit/tests/test_one.py")) == {"a/tests/unit/tests"}


def named(code: str, path: str = "pkg/sub/one.py") -> dict[str, bool]:
    return dict(named_test_folders(path, ast.parse(code)))


@pytest.mark.parametrize(
    ("code", "folder", "inside"),
    [
        ("open('tests/generic/builtin.sql')\n", "pkg/tests", True),
        ("open(f'{here}/tests/words.txt')\n", "pkg/sub/tests", True),
        ("open('pkg/tests/words.txt')\n", "pkg/tests", True),
        ("open('../tests/words.txt')\n", "pkg/tests", True),
        ("os.path.join(here, 'tests', 'words.txt')\n", "pkg/sub/tests", False),
        ("DATA = Path(__file__).parent / 'tests'\n", "pkg/sub/tests", False),
        ("NAME = 'tests'\nDATA = Path(__file__).parent / NAME\n", "pkg/sub/tests", False),
        ("files('other.deep') / 'tests'\n", "other/deep/tests", False),
        ("import other.deep\nfiles(other.deep).joinpath('tests')\n", "other/deep/tests", False),
        ("from other import deep\nfiles(deep).joinpath('tests/a.txt')\n", "other/deep/tests", True),
        ("RUNNER = 'pkg.test.runner.Runner'\n", "pkg/test", True),
        ("pkgutil.get_data('pkg.tests', 'a.txt')\n", "pkg/tests", True),
    ],
)
def test_a_folder_that_a_string_names_is_found(code, folder, inside):
    assert named(code)[folder] is inside


@pytest.mark.parametrize(
    "code",
    [
        "mode = 'test'\n",
        "call('tests')\n",
        "print('run the tests/checks\\nnow')\n",
        "'tests' in words\n",
        "open('latest/a.txt')\n",
    ],
)
def test_a_string_that_is_no_path_names_none(code):
    assert named(code) == {}


def test_a_folder_of_another_package_may_exist_and_one_of_this_must():
    exists = existing_folders(tree_of("pkg/tests/a.txt", "pkg/conftest.py"))
    assert [exists(path) for path in ("pkg/tests", "pkg/conftest.py", "other/tests", "pkg/sub/tests")] == [
        True,
        True,
        True,
        False,
    ]
