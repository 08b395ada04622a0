"""Corners of trimming, stripping, profiles and proofs in which something was once overlooked."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from builders.strip import strip_file
from packer.assemble import merge
from packer.blame import culprits
from packer.elfcheck import difference
from packer.errors import LpackError, UsageError
from packer.layout import unpack
from packer.model import OWN_SOURCE
from packer.options import TrimOptions
from packer.profile import apply_profile, read_profile
from tests.native import compile_library
from tests.packer.test_config import refusal
from tests.packer.test_elfcheck import MANY
from tests.packer.test_profile import GOOD, laid_out, profile
from tests.packer.test_rules import tree_of
from tests.packer.test_scan import calls, imported
from tests.packer.test_shapeconfig import FUNCTION
from tests.wheels import RawMember, RawZip


def test_appended_data_is_not_lost(tmp_path):
    path = compile_library(tmp_path / "lib.so", MANY, options=("-g",))
    path.write_bytes(path.read_bytes() + b"PAYLOAD" * 1000)
    strip_file(path, tmp_path / "after")
    assert difference(path.read_bytes(), (tmp_path / "after").read_bytes())


def test_a_stub_does_not_break_a_namespace_package(tmp_path):
    parts = [("one", tree_of("ns/one/__init__.py")), ("two", tree_of("ns/two/__init__.py"))]
    given = profile({"one": (), "two": ("ns/two/__init__.py",)})
    found, _ = apply_profile(parts, given, {"one": "1.0", "two": "1.0"}, ())
    folder = laid_out(tmp_path, merge(found, ()))
    subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); import ns.two"], check=True)


def test_a_stub_does_not_clash_with_another_distributions_package():
    parts = [("one", tree_of("ns/one/__init__.py")), ("two", tree_of("ns/__init__.py", "ns/two/__init__.py"))]
    given = profile({"one": (), "two": ("ns/__init__.py", "ns/two/__init__.py")})
    found, _ = apply_profile(parts, given, {"one": "1.0", "two": "1.0"}, ())
    merge(found, ())


def test_keep_holds_for_profiles(tmp_path):
    """The stub's own remedy is keep = [...]."""
    from builders.runtimes import Target
    from packer.model import Distribution, Function
    from packer.native import NativeCode
    from packer.profile import write_profile
    from packer.scan import Scanner
    from packer.shape import Shaper
    from packer.store import Store
    from packer.wheel import read_wheel
    from tests.wheels import make_wheel

    wheel = make_wheel(tmp_path, "one", "1.0", {"one/__init__.py": b"", "one/late.py": b"X = 1\n"})
    place = tmp_path / "lpack-profile.orders.toml"
    place.write_bytes(write_profile(profile({"one": ("one/__init__.py",)})))
    trim = TrimOptions(level="max", keep=(("", "one/late.py"),), profile=place)
    function = Function(
        name="orders",
        source=tmp_path,
        handler="app.handler",
        target=Target.of("python3.12", "x86_64"),
        requirements=None,
        lock_path=tmp_path / "l",
        trim=trim,
    )
    found = Distribution(name="one", version="1.0", filename=wheel.name, digest="a" * 64, path=wheel)
    store = Store(tmp_path / "store")
    shaper = Shaper(Scanner(store), NativeCode(store), *[None] * 4)  # type: ignore[arg-type]
    material = shaper.material(function, [found], [(OWN_SOURCE, tree_of("app.py")), ("one", read_wheel(wheel, wheel.name))])
    [entry] = [each for each in shaper.shape(material).tree if each.path == "one/late.py"]
    assert entry.content.read() == b"X = 1\n"


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


@pytest.mark.parametrize("pattern", ["/events/*.json", "", "a**b"])
def test_a_wrong_pattern_of_events_is_a_usage_error(tmp_path, pattern):
    assert "verify.events" in refusal(tmp_path, f'{FUNCTION}verify = {{ events = ["{pattern}"] }}\n')


def test_optimize_is_a_whole_number(tmp_path):
    assert "bytecode.optimize" in refusal(tmp_path, f"{FUNCTION}bytecode = {{ optimize = 1.0 }}\n")


@pytest.mark.parametrize("line", ['opened = "one.py"', "opened = [3]", 'opened = []\nread = "one.py"'])
def test_a_profile_with_wrong_types_is_refused(tmp_path, line):
    (tmp_path / "p.toml").write_text(GOOD + f'[distributions.one]\nversion = "1.0"\n{line}\n')
    with pytest.raises(UsageError):
        read_profile(tmp_path / "p.toml")


def test_a_flaky_function_is_no_index_error():
    answers = iter([False, True, False])  # fails as it is, works with everything undone, fails the next time
    culprits("a", lambda _undone: next(answers))


def test_a_broken_stream_is_an_error_of_lpacks(tmp_path):
    archive = RawZip(members=[RawMember(name="a", data=b"x" * 99, stream=b"\xff" * 9)]).write(tmp_path / "one.zip")
    with ThreadPoolExecutor(1) as executor, pytest.raises(LpackError):
        unpack(archive, tmp_path / "task", executor)


def test_stripping_one_of_two_equal_libraries_does_not_make_them_clash(tmp_path):
    """Held back for one of two that hold one path with one content (what a repair tries): merge refuses."""
    from packer.ports import Reporter
    from packer.store import Store
    from packer.strip import Stripper
    from tests.packer.test_strip import natives, part

    data = compile_library(tmp_path / "lib.so", MANY, options=("-g",)).read_bytes()
    parts = (part("one", {"shared/lib.so": data}), part("two", {"shared/lib.so": data}))
    with ThreadPoolExecutor(1) as executor:
        found, _ = Stripper(Store(tmp_path / "s"), Reporter(), executor).strip(parts, natives(parts), frozenset(("one",)))
    merge(found, ())
