"""What sources say: which tests are imported, whether stubs are read, and which services of AWS are called."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec import Struct

from packer.cache.local import LocalStore
from packer.core.model import FILE_MODE, BytesContent, Distribution, Entry, Span, Tree
from packer.source.facts import FactScan, FactScanner, scan_sources


def tree_of(files: Mapping[str, str | bytes]) -> Tree:
    contents = {path: BytesContent.of(text.encode() if isinstance(text, str) else text) for path, text in files.items()}
    return Tree.of(Entry(path=path, mode=FILE_MODE, content=content, owner="one") for path, content in contents.items())


def scan(tree: Tree, *, look_for_calls: bool | None = True) -> FactScan:
    """Give what the sources of a wheel say, for which names count that its own files have."""
    return scan_sources(tree, look_for_calls=look_for_calls, whole=False)


def imported(code: str) -> tuple[str, ...]:
    return scan(tree_of({"pkg/sub/one.py": code})).tests


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import pkg.tests\n", "pkg/tests"),
        ("import os, pkg.tests.words as words\n", "pkg/tests"),
        ("from pkg.tests import words\n", "pkg/tests"),
        ("from pkg import tests\n", "pkg/tests"),
        ("from pkg import SelfTest\n", "pkg/SelfTest"),
        ("from test import support\n", "test"),
        ("from . import tests\n", "pkg/sub/tests"),
        ("from .tests import words\n", "pkg/sub/tests"),
        ("from .. import tests\n", "pkg/tests"),
        ("from ..tests.deep import words\n", "pkg/tests"),
        ("from pkg import (\n    one,\n    tests,\n)\n", "pkg/tests"),
        ("from .. import (  # what is needed\n    test as helpers,\n)\n", "pkg/test"),
        (
            "def late():\n    try:\n        from pkg.test import words\n    except ImportError:\n        words = None\n",
            "pkg/test",
        ),
        ("import importlib\nimportlib.import_module('pkg.tests.words')\n", "pkg/tests"),
        ("from importlib import import_module\nimport_module('pkg.test')\n", "pkg/test"),
    ],
)
def test_imports_of_tests_are_found_in_every_form(code, found):
    ast.parse(code)
    assert imported(code) == (found,)


def test_folders_of_tests_within_each_other_are_all_found():
    assert imported("import pkg.tests.data.tests.one\n") == ("pkg/tests", "pkg/tests/data/tests")


@pytest.mark.parametrize(
    "code",
    [
        "import pkg.testing\nfrom pkg import latest, tests_of_old\n",
        "TEXT = 'import pkg.tests'\n",
        "# from pkg import tests\n",
        '"""Run `from pkg.tests import words` to see."""\n',
        "import_module(name)  # tests\n",
        "call('tests')\n",
        "call('run the tests.')\n",
    ],
)
def test_what_only_looks_like_an_import_of_tests_is_none(code):
    ast.parse(code)
    assert imported(code) == ()


def test_what_tests_and_conftest_import_does_not_count():
    code = "from pkg.tests import words\n"
    files = {"pkg/tests/test_one.py": code, "pkg/conftest.py": code, "conftest.py": code, "test/one_test.py": code}
    assert scan(tree_of(files)) == FactScan()
    assert scan(tree_of({**files, "pkg/conftests.py": code})).tests == ("pkg/tests",)


def test_only_sources_are_read():
    code = "from pkg.tests import words\n"
    assert scan(tree_of({"pkg/one.pyi": code, "pkg/one.txt": code, "pkg/one.py.in": code})) == FactScan()


@pytest.mark.parametrize(
    "code", ["from pkg.tests import (\n", "print 'import tests'\nfrom tests import x\n", b"import tests\0\n"]
)
def test_a_file_that_cannot_be_parsed_keeps_the_tests_of_its_package(code):
    files = {"pkg/one.py": code, "pkg/tests/a.py": "", "pkg/sub/test/data/b.txt": "", "other/tests/c.py": "", "tests/d.py": ""}
    assert scan(tree_of(files)).tests == ("pkg/sub/test", "pkg/tests")


def test_a_file_that_cannot_be_parsed_and_mentions_no_tests_keeps_nothing():
    assert scan(tree_of({"pkg/one.py": "print 'hello'\n", "pkg/tests/a.py": ""})) == FactScan()


def test_sources_in_other_encodings_are_understood():
    code = "# coding: latin-1\nNAME = 'caf\xe9'\nfrom pkg import tests\n".encode("latin-1")
    assert scan(tree_of({"pkg/one.py": code})).tests == ("pkg/tests",)


def test_strange_escapes_in_sources_are_no_warnings_of_ours():
    assert imported("import pkg.tests\nPATTERN = '\\d'\n") == ("pkg/tests",)


@pytest.mark.parametrize(
    "code",
    [
        "import lazy_loader as lazy\n__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)\n",
        'open(__file__ + ".pyi")\nNAME = "one.pyi"\n',
        "NAME = 'one.pyi'\n",
    ],
)
def test_stubs_that_are_read_at_run_time_are_noticed(code):
    assert scan(tree_of({"pkg/__init__.py": code})).reads_stubs


def test_stubs_are_read_nowhere_where_only_tests_do():
    files = {"pkg/__init__.py": "import typing\n", "pkg/tests/test_one.py": "lazy.attach_stub(__name__)\n"}
    assert not scan(tree_of(files)).reads_stubs


def calls(code: str, **more: str) -> FactScan:
    ast.parse(code)
    return scan(tree_of({"app.py": code, **{f"{name}.py": text for name, text in more.items()}}))


@pytest.mark.parametrize(
    ("code", "service"),
    [
        ("import boto3\nboto3.client('s3')\n", "s3"),
        ("import boto3 as aws\naws.client('s3')\n", "s3"),
        ("import boto3\nboto3.client(\n    's3',\n    region_name='eu-west-1',\n)\n", "s3"),
        ("import boto3\nboto3.client(region_name=REGION, service_name='s3')\n", "s3"),
        ("import boto3\nboto3.resource('dynamodb').Table('orders')\n", "dynamodb"),
        ("import boto3\nsession = boto3.Session()\nsession.resource(service_name='dynamodb')\n", "dynamodb"),
        ("import boto3\nboto3.session.Session().client('sqs', **OPTIONS)\n", "sqs"),
        ("from boto3 import client\nclient('s3')\n", "s3"),
        ("from boto3 import client as make\nmake('s3')\n", "s3"),
        ("from boto3 import resource\nTABLE = resource('dynamodb').Table('orders')\n", "dynamodb"),
        ("from botocore.session import get_session\nget_session().create_client('sts')\n", "sts"),
        (
            "import aioboto3\nasync def run(session):\n    async with session.client('s3') as s3:\n        await s3.go()\n",
            "s3",
        ),
    ],
)
def test_clients_of_a_service_that_is_named(code, service):
    assert calls(code) == FactScan(services=(service,))


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import boto3\nboto3.client(NAME)\n", 2),
        ("import boto3\n\nboto3.client(f'{NAME}')\n", 3),
        ("import boto3\nboto3.client(service_name=NAME)\n", 2),
        ("import boto3\nboto3.client(**OPTIONS)\n", 2),
        ("import boto3\nboto3.client(*NAMES)\n", 2),
        ("import boto3\nboto3.client('s3' if LOCAL else 'sqs')\n", 2),
        ("import boto3, functools\nmake = functools.partial(boto3.client, 's3')\n", 2),
        ("import boto3\nMAKERS = {'client': boto3.client}\n", 2),
        ("from boto3 import client\nmake = client\nmake('s3')\n", 2),
        ("from boto3 import resource as make\n\nlist(map(make, NAMES))\n", 3),
        ("import boto3\nsession = boto3.Session()\nfor name in session.get_available_services():\n    print(name)\n", 3),
        ("import boto3\nboto3.Session().get_available_resources()\n", 2),
    ],
)
def test_a_service_whose_name_is_computed_is_told_with_its_place(code, line):
    assert calls(code).dynamic == f"app.py:{line}"


def test_the_first_place_is_told_and_what_is_named_is_still_found():
    found = calls("import boto3\nboto3.client('s3')\nboto3.client(A)\nboto3.client(B)\nboto3.client('sqs')\n")
    assert found == FactScan(services=("s3", "sqs"), dynamic="app.py:3")


@pytest.mark.parametrize(
    "code",
    [
        "import http\nhttp.client('s3')\n",
        "def client(name): ...\nclient(NAME)\n",
        "client = make()\nclient.resource(NAME)\n",
    ],
)
def test_nothing_is_a_client_where_no_source_speaks_of_the_sdk(code):
    assert scan(tree_of({"app.py": code}), look_for_calls=None) == FactScan()


def test_a_functions_own_source_may_have_its_session_from_a_distribution():
    assert calls("from company.aws import session\nsession.client('s3')\n") == FactScan(services=("s3",))


def test_a_session_may_be_handed_to_any_other_source():
    found = calls(
        "import boto3\nfrom other import make\nmake(boto3.Session())\n", other="def make(session):\n    session.client('s3')\n"
    )
    assert found == FactScan(services=("s3",))


def test_calls_in_the_functions_tests_do_not_count():
    files = {"app.py": "import boto3\n", "tests/test_app.py": "import boto3\nboto3.client(NAME)\n"}
    assert scan(tree_of(files)) == FactScan()


def test_a_source_that_cannot_be_parsed_and_may_make_clients_counts_as_computing_a_name():
    files = {"app.py": "import boto3\n", "old.py": "print 'x'\nboto3.client('s3')\n"}
    assert scan(tree_of(files)) == FactScan(dynamic="old.py:1")


def test_a_clients_own_name_is_no_call():
    assert calls("import boto3\nclass Shop:\n    def __init__(self, client):\n        self.client = client\n") == FactScan()


class Unreadable(Struct, frozen=True, kw_only=True):
    """A content that must not be read."""

    digest: str = "0" * 64
    size: int = 1

    def read(self) -> bytes:
        raise AssertionError("this was read before, and is remembered")

    def span(self) -> Span | None:
        return None


def wheel(name: str = "one", digest: str = "a" * 64) -> Distribution:
    return Distribution(name=name, version="1.0", filename=f"{name}-1.0-py3-none-any.whl", digest=digest, path=Path("/nowhere"))


FOUND = FactScan(tests=("pkg/tests",), reads_stubs=True, services=("s3",), dynamic="pkg/__init__.py:5")
CODE = "import boto3\nfrom pkg import tests\nSTUB = '.pyi'\nboto3.client('s3')\nboto3.client(NAME)\n"


def test_what_a_wheel_says_is_remembered_in_the_store(tmp_path):
    store = LocalStore(tmp_path)
    assert FactScanner(store).of_wheel(wheel(), tree_of({"pkg/__init__.py": CODE})) == FOUND
    unreadable = Tree.of([Entry(path="pkg/__init__.py", mode=FILE_MODE, content=Unreadable(), owner="one")])
    assert FactScanner(store).of_wheel(wheel(), unreadable) == FOUND
    with pytest.raises(AssertionError, match="remembered"):
        FactScanner(store).of_wheel(wheel(digest="b" * 64), unreadable)


def test_a_scanner_reads_each_wheel_once_even_where_the_store_forgets(tmp_path):
    store = LocalStore(tmp_path)
    scanner = FactScanner(store)
    scanner.of_wheel(wheel(), tree_of({"pkg/__init__.py": CODE}))
    [record] = [path for path in (tmp_path / "derived").rglob("*") if path.is_file()]
    record.unlink()
    unreadable = Tree.of([Entry(path="pkg/__init__.py", mode=FILE_MODE, content=Unreadable(), owner="one")])
    assert scanner.of_wheel(wheel(), unreadable) == FOUND


def test_a_broken_memory_is_made_again(tmp_path):
    tree = tree_of({"pkg/__init__.py": CODE})
    FactScanner(LocalStore(tmp_path)).of_wheel(wheel(), tree)
    [record] = [path for path in (tmp_path / "derived").rglob("*") if path.is_file()]
    record.write_bytes(b"broken")
    assert FactScanner(LocalStore(tmp_path)).of_wheel(wheel(), tree) == FOUND
    assert record.read_bytes() != b"broken"


@pytest.mark.parametrize("name", ["boto3", "botocore", "s3transfer"])
def test_the_sdks_own_clients_say_nothing_of_the_function(tmp_path, name):
    tree = tree_of({"pkg/__init__.py": CODE})
    found = FactScanner(LocalStore(tmp_path)).of_wheel(wheel(name), tree)
    assert (found.services, found.dynamic) == ((), "")
    assert found.tests == ("pkg/tests",)


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ('SOURCE = (HERE / "kernels.cu").read_text()\n', ("kernels.cu",)),
        ("open('include/pkg/one.h')\n", ("one.h",)),
        ('# kernels.cu\nread("other.cu", "my_kernels.cu", "kernels.cuda", "one.h5")\n', ()),
    ],
)
def test_native_sources_whose_names_stand_in_a_string_are_found(code, named):
    assert scan(tree_of({"pkg/one.py": code, "pkg/kernels.cu": "", "pkg/one.h": ""})).named == named


def test_tests_that_an_entry_point_names_are_found():
    text = "[pkg.plugins]\nloop = pkg.sub.tests.plugin:Loop\nother=pkg.latest\n[console_scripts]\none = pkg.tests_of_old:main\n"
    assert scan(tree_of({"one-1.0.dist-info/entry_points.txt": text})).tests == ("pkg/sub/tests",)


@pytest.mark.parametrize(
    "code",
    [
        "from boto3 import Session, client as make\nmake('s3')\n",
        "from boto3 import (\n    client as make,\n)\nmake('s3')\n",
        "import boto3\nmake = boto3.Session().client\nmake('s3')\n",
        "import boto3\nclients = [*map(boto3.Session().client, ['s3', 'sqs'])]\n",
        "import boto3 as aws\nfrom functools import partial\nmake = partial(aws.client, 's3')\n",
        "import boto3\ngetattr(boto3, 'client')('s3')\n",
    ],
)
def test_a_client_is_not_overlooked(code):
    found = calls(code)
    assert found.services == ("s3",) or found.dynamic


@pytest.mark.parametrize(
    "code",
    [
        "import importlib\nimportlib.import_module('.tests', __package__)\n",
        "from importlib import import_module\nimport_module(\n    'pkg.sub.tests'\n)\n",
        "from pkg.sub import \\\n    tests\n",
        "__import__('pkg.sub.tests')\n",
        "import_module(name='pkg.sub.tests')\n",
        "from pkg.sub import (  # (see below)\n    tests,\n)\n",
    ],
)
def test_an_import_of_tests_is_not_overlooked(code):
    assert imported(code) == ("pkg/sub/tests",)


def test_folders_that_are_named_piece_by_piece_count_where_builds_read_files_in_them():
    code = 'HERE = os.path.dirname(__file__)\nINCLUDE, DATA = os.path.join(HERE, "include"), os.path.join(HERE, "data")\n'
    files = {"pkg/__init__.py": code, "pkg/include/one.h": "", "pkg/include/deep/two.h": "", "pkg/data/one.csv": ""}
    assert scan(tree_of(files)).folders == ("pkg/include",)
