"""`lpack build` as it is without any flag: trimmed, compiled, proved; and what libraries find of themselves in its archives."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from builders.runtimes import UNZIPPED_LIMIT
from tests.schemas import check_document
from tests.shaped import MINOR, Project, make_project
from tests.wheels import make_wheel

HANDLER = "import shop\n\n\ndef handler(event, context):\n    return shop.price(event)\n"
SHOP = """\
'''A shop.'''

import importlib.resources


def price(event):
    return importlib.resources.files(__name__).joinpath("prices.txt").read_text().strip()


def fail():
    raise LookupError("out of tea")
"""
NOISE = "".join(f"# {hashlib.sha256(str(number).encode()).hexdigest()}\n" for number in range(600))
"""Lines that make a source large, and its bytecode not; about 40 KB, which hardly compress by half."""
PYC = f"cpython-3{MINOR}.pyc"
MODES = ("beside", "only", "off")


def write_shop(folder: Path, comments: str = "") -> None:
    files = {
        "shop/__init__.py": f"{SHOP}{comments}".encode(),
        "shop/prices.txt": b"tea 1.50\n",
        "shop/inner/__init__.py": b"VALUE = 'inner'\n",
        "shop/inner/legacy.py": b"print 'no Python 3'\n",
        "shop/__init__.pyi": b"def price(event) -> str: ...\n",
        "shop/py.typed": b"",
        "shop/speed.h": b"int speed;\n",
        "shop/tests/__init__.py": b"",
        "shop/tests/test_shop.py": b"def test_price(): pass\n",
        "shop/data/template.py": b"class {{ name }}: pass\n",
    }
    points = "[console_scripts]\nshop = shop:price\n\n[shop.plugins]\ninner = shop.inner:VALUE\n"
    make_wheel(folder, "shop", "2.1", files, replace={"entry_points.txt": points})


@pytest.fixture
def project(tmp_path, lpack, index, index_folder, cache) -> Project:
    write_shop(index_folder)
    return make_project(tmp_path / "project", lpack, HANDLER, "shop\n")


def test_a_build_without_flags_is_trimmed_compiled_and_proved(project):
    report = project.build()
    assert report["trim"]["level"] == "safe"
    gone = {(each["rule"], each["distribution"]): each["files"] for each in report["trim"]["removed"]}
    assert gone == {("tests", "shop"): 2, ("stubs", "shop"): 2}
    assert report["bytecode"]["mode"] == "beside"
    assert report["verified"]["level"] == "import"
    names = project.names()
    assert {"app.py", f"__pycache__/app.{PYC}", "shop/__init__.py", f"shop/__pycache__/__init__.{PYC}"} <= names
    assert not {"shop/py.typed", "shop/tests/__init__.py"} & names
    assert {"shop/speed.h", "shop-2.1.dist-info/RECORD"} <= names, "nothing was compiled from it"
    assert {"shop/prices.txt", "shop-2.1.dist-info/METADATA", "shop-2.1.dist-info/entry_points.txt"} <= names
    assert project.answer() == "tea 1.50"


def test_removed_bytes_are_those_that_are_missing(project):
    shaped, left = project.build("--bytecode", "off"), project.names()
    whole = project.build("--bytecode", "off", "--trim", "none")
    removed = sum(len(project.read(name)) for name in project.names() - left)
    assert shaped["trim"]["removed_bytes"] == sum(each["bytes"] for each in shaped["trim"]["removed"]) == removed
    assert whole["trim"] == {"level": "none", "removed_bytes": 0, "removed": [], "kept": []}


def test_what_cannot_be_compiled_is_named_and_stays(project):
    bytecode = project.build("--bytecode", "only")["bytecode"]
    assert sorted(bytecode["not_compiled"]) == ["shop/data/template.py", "shop/inner/legacy.py"]
    assert {"shop/data/template.py", "shop/inner/legacy.py", "shop/inner/__init__.pyc"} <= project.names()
    assert "shop/inner/__init__.py" not in project.names()


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_puts_bytecode_where_it_says(project, mode):
    report = project.build("--bytecode", mode)
    assert report["bytecode"]["mode"] == mode
    found = {"app.py", "app.pyc", f"__pycache__/app.{PYC}"} & project.names()
    assert found == {"beside": {"app.py", f"__pycache__/app.{PYC}"}, "only": {"app.pyc"}, "off": {"app.py"}}[mode]
    assert project.answer() == "tea 1.50"


@pytest.mark.parametrize("mode", MODES)
class TestLibraries:
    """What libraries read of themselves, in each mode."""

    def test_versions_are_told(self, project, mode):
        project.build("--bytecode", mode)
        assert project.result("from importlib.metadata import version; result = version('shop')") == "2.1"

    def test_entry_points_load(self, project, mode):
        project.build("--bytecode", mode)
        code = "import importlib.metadata as m; [one] = m.entry_points(group='shop.plugins'); result = [one.name, one.load()]"
        assert project.result(code) == ["inner", "inner"]

    def test_resources_are_read(self, project, mode):
        project.build("--bytecode", mode)
        code = "from importlib.resources import files; result = files('shop').joinpath('prices.txt').read_text()"
        assert project.result(code) == "tea 1.50\n"

    def test_data_is_given_by_pkgutil(self, project, mode):
        project.build("--bytecode", mode)
        code = "import pkgutil; result = pkgutil.get_data('shop', 'prices.txt').decode()"
        assert project.result(code) == "tea 1.50\n"

    def test_modules_are_listed(self, project, mode):
        project.build("--bytecode", mode)
        code = "import pkgutil, shop; result = sorted(each.name for each in pkgutil.iter_modules(shop.__path__))"
        assert project.result(code) == ["inner"]

    def test_files_beside_the_module_are_read(self, project, mode):
        project.build("--bytecode", mode)
        code = "import os, shop; result = open(os.path.join(os.path.dirname(shop.__file__), 'prices.txt')).read()"
        assert project.result(code) == "tea 1.50\n"

    def test_errors_say_where_on_lambda_they_were_raised(self, project, mode):
        project.build("--bytecode", mode)
        code = "import shop, traceback\ntry: shop.fail()\n"
        code += "except LookupError as e: at = traceback.extract_tb(e.__traceback__)[-1]\n"
        filename, line = project.result(f"{code}result = [at.filename, at.lineno]")
        assert line == SHOP.splitlines().index('    raise LookupError("out of tea")') + 1
        assert filename.endswith("/shop/__init__.py")
        if mode == "only":
            assert filename == "/var/task/shop/__init__.py"


def test_tracebacks_show_the_source_where_it_is_there(project):
    project.build("--bytecode", "beside")
    code = "import shop, traceback\ntry: shop.fail()\nexcept LookupError: result = traceback.format_exc()"
    assert 'raise LookupError("out of tea")' in project.result(code)


def test_bytecode_is_made_by_the_targets_python(project):
    other = next((minor for minor in (12, 13, 10) if minor != MINOR and interpreter(minor)), None)
    if other is None:
        pytest.skip("needs another CPython")
    report = project.build("--runtime", f"python3.{other}")
    assert report["bytecode"]["python"].startswith(f"3.{other}.")
    assert f"shop/__pycache__/__init__.cpython-3{other}.pyc" in project.names()
    assert f"shop/__pycache__/__init__.{PYC}" not in project.names()


def interpreter(minor: int) -> object:
    from builders.interpreters import find_interpreter

    return find_interpreter(minor)


@pytest.mark.parametrize(
    ("budget", "why"), [('unzipped = "30 KB"', "unzipped, over the budget"), ('zip = "20 KB"', "zipped, over the budget")]
)
def test_auto_leaves_sources_out_where_they_do_not_fit(project, index_folder, budget, why):
    write_shop(index_folder, NOISE)
    roomy = project.build()
    assert (roomy["bytecode"]["mode"], roomy["bytecode"]["why"]) == ("beside", "it fits beside the sources")
    project.configure(f"budget = {{ {budget} }}")
    report = project.build()
    assert report["bytecode"]["mode"] == "only"
    assert report["bytecode"]["why"].endswith(why)
    assert "shop/__init__.py" not in project.names()
    assert {"app.py", "shop/data/template.py"} <= project.names(), "the function's own, and what cannot be imported by its name"
    assert project.answer() == "tea 1.50"


def test_auto_leaves_bytecode_out_where_only_the_functions_own_sources_could_make_room(project):
    project.write({"src/app.py": f"{HANDLER}{NOISE}"})
    project.configure('budget = { unzipped = "42 KB" }')
    finished = project.run("build")
    assert "no bytecode (beside the sources it would be" in finished.stderr
    assert "app.py" in project.names()
    assert project.answer() == "tea 1.50"


def test_auto_leaves_sources_out_where_lambdas_own_limit_asks_for_it(project, index_folder):
    write_shop(index_folder, NOISE)
    project.configure('verify = "none"')
    room = UNZIPPED_LIMIT - project.build()["artifact"]["unzipped_bytes"]
    for size, mode, why in (
        (room, "beside", "it fits beside the sources"),
        (room + 1, "only", "unzipped, over Lambda's limit"),
    ):
        with (project.folder / "src" / "data.bin").open("wb") as file:
            file.truncate(size)
        report = project.build()
        assert report["bytecode"]["mode"] == mode
        assert report["bytecode"]["why"].endswith(why)
        assert report["artifact"]["unzipped_bytes"] <= UNZIPPED_LIMIT


def test_what_the_users_patterns_keep_stays_beside_its_bytecode(project):
    project.configure('trim = { keep = ["shop/*"] }')
    project.build("--bytecode", "only")
    assert "shop/__init__.py" in project.names()
    assert "app.py" not in project.names()
    assert project.answer() == "tea 1.50"


def test_what_fits_neither_way_is_over_the_budget(project):
    project.configure('budget = { unzipped = "1 KB" }')
    assert "over its budget for the unzipped size" in project.run("build", status=3).stderr


SDK = (
    ("boto3", "boto3", ("botocore", "jmespath", "s3transfer")),
    ("botocore", "botocore", ("jmespath", "python-dateutil", "urllib3")),
    ("s3transfer", "s3transfer", ("botocore",)),
    ("python-dateutil", "dateutil", ("six",)),
    *((name, name, ()) for name in ("jmespath", "six", "urllib3")),
)


def test_what_the_runtime_has_is_left_to_it_where_that_is_asked_for(project, index_folder):
    make_wheel(index_folder, "six", "1.17.0", {"six.py": b"VALUE = 'six'\n"})
    project.write(
        {"src/requirements.txt": "six\n", "src/app.py": "import six\n\ndef handler(event, context):\n    return six.VALUE\n"}
    )
    project.build()
    assert "six.py" in project.names()
    project.configure('exclude = ["runtime"]\nverify = "import"')
    report = project.build()
    assert not [name for name in project.names() if name.startswith("six")]
    assert report["verified"]["level"] == "import"


def test_what_only_an_excluded_package_requires_is_left_to_the_runtime_with_it(project, index_folder):
    """The runtime's boto3 must not run with the s3transfer of another version; what others require is packed, and told."""
    for name, module, requires in SDK:
        make_wheel(index_folder, name, "1.0", {f"{module}.py": f"VALUE = '{name}'\n".encode()}, requires=requires)
    make_wheel(index_folder, "requests", "1.0", {"requests.py": b"import urllib3\n"}, requires=("urllib3",))
    source = "import boto3, requests\n\ndef handler(event, context):\n    return boto3.VALUE\n"
    project.write({"src/requirements.txt": "boto3\nrequests\n", "src/app.py": source})
    project.configure('exclude = ["boto3", "botocore"]\nverify = "import"')
    told = " ".join(project.run("build").stderr.split())
    assert "one leaves to the runtime: boto3, botocore, jmespath, python-dateutil, s3transfer, six one" in told
    assert "one packs urllib3, which requests requires; what it leaves to the runtime gets that version, too" in told
    assert {name for name in project.names() if name.endswith(".py")} == {"app.py", "requests.py", "urllib3.py"}
    project.configure('exclude = ["runtime"]\nverify = "import"')
    report = project.build()
    assert {name for name in project.names() if name.endswith(".py")} == {"app.py", "requests.py"}
    assert report["verified"]["level"] == "import"


def test_another_cache_another_folder_and_another_seed_give_the_same_bytes(project, tmp_path, lpack, index, monkeypatch):
    project.build()
    first = project.archive.read_bytes()
    for number, mode in enumerate(("auto", "only", "off")):
        here = project.folder if mode != "auto" else None
        if here:
            project.build("--bytecode", mode)
        wanted = project.archive.read_bytes() if here else first
        other = make_project(tmp_path / f"other-{number}" / "deeper", lpack, HANDLER, "shop\n")
        monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path / f"cache-{number}"))
        monkeypatch.setenv("PYTHONHASHSEED", str(number + 7))
        monkeypatch.setenv("PYTHONOPTIMIZE", "1")
        other.build("--bytecode", mode, "--jobs", "1")
        assert other.archive.read_bytes() == wanted


EXPLAINED = {
    "shop/prices.txt": "is there: it belongs to shop 2.1, and no rule removes it",
    f"shop/__pycache__/__init__.{PYC}": "is there: bytecode of shop 2.1, made by Python 3.",
    f"__pycache__/app.{PYC}": "is there: bytecode of the function's own source",
    "app.py": "is there: it belongs to the function's own source",
    "shop/tests/test_shop.py": "is not there: the rule tests removed it from shop 2.1",
    "shop-2.1.dist-info/RECORD": "is there: it lists what is packed of shop 2.1",
    "bin/shop": "is there: a launcher for an entry point of shop 2.1, as installers make it",
    "shop/inner/legacy.py": "is not there: the rule drop removed it from shop 2.1 (a pattern of yours drops it)",
    "shop/py.typed": "is there: it belongs to shop 2.1, and the pattern shop/py.typed keeps it",
}


def test_every_file_can_be_explained(project):
    project.configure('trim = { drop = ["*/legacy.py"], keep = ["shop/py.typed"] }')
    for path, text in EXPLAINED.items():
        told = project.run("build", "--explain", path).stdout
        assert told.startswith(f"one: {path} (")
        assert text in told


def test_what_bytecode_stands_for_is_explained(project):
    told = project.run("build", "--bytecode", "only", "--explain", "shop/__init__.py").stdout
    assert "the rule sources removed it from shop 2.1 (its bytecode stands in its place)" in told


def test_the_dependency_file_that_is_not_packed_is_explained_and_can_be(project):
    assert "one: requirements.txt is not there: its packages" in project.run("build", "--explain", "requirements.txt").stdout
    project.write({"src/.lpackignore": "!requirements.txt\n"})
    project.build()
    assert project.read("requirements.txt") == b"shop\n"


def test_a_file_that_nobody_knows_cannot_be_explained(project):
    finished = project.run("build", "--explain", "shop/price.txt", status=2)
    assert "one has no file shop/price.txt, and nothing removed one" in finished.stderr
    assert "Did you mean shop/prices.txt?" in finished.stderr


def test_the_manifest_follows_its_schema(project):
    for flags in ((), ("--bytecode", "only"), ("--trim", "none", "--bytecode", "off"), ("--verify", "none")):
        manifest = json.loads(project.run("build", "--json", *flags).stdout)
        check_document("manifest", manifest)


def test_bytecode_is_stored_as_any_other_entry(project):
    project.build()
    with zipfile.ZipFile(project.archive) as archive:
        for each in archive.infolist():
            assert each.date_time == (1980, 1, 1, 0, 0, 0)
            assert each.external_attr >> 16 == (0o100755 if each.filename.startswith("bin/") else 0o100644)


READER = """\
import importlib.metadata
import pathlib

import macros
import greeting

HERE = pathlib.Path(__file__).parent


def handler(event, context):
    return [
        macros.read(),
        (HERE / "greeting" / "docs" / "page.md").read_text(),
        sorted(path.name for path in (HERE / "greeting" / "tests").iterdir() if path.is_file()),
        importlib.metadata.version("shopfn"),
    ]
"""


MACROS = b"""\
import os

PATHS = ("tests", "unique.sql"), ("docs", "a.md"), ("a.pdb",)


def read():
    here = os.path.dirname(__file__)
    return [open(os.path.join(here, *path)).read() for path in PATHS]
"""
GREETING = Path(__file__).parents[3] / "fixtures" / "packages" / "greeting"


def test_safe_leaves_what_functions_read(project, index_folder):
    """A distribution's data in a folder named tests, a local project, and the function's own version."""
    files = {
        "macros/__init__.py": MACROS,
        "macros/tests/unique.sql": b"select 1",
        "macros/docs/a.md": b"# A",
        "macros/a.pdb": b"HEADER    HYDROLASE",
        "macros/tests/test_macros.py": b"def test(): ...\n",
        "requirements-dev.txt": b"django==1.0\n",
    }
    make_wheel(index_folder, "macros", "1.0", files)
    project.write(
        {
            "src/app.py": READER,
            "src/requirements.txt": "macros\n../mine\n",
            "pyproject.toml": '[project]\nname = "shopfn"\nversion = "2.5.0"\n',
            **{f"mine/{name}": (GREETING / name).read_text() for name in ("pyproject.toml", "backend.py")},
            "mine/greeting/__init__.py": "",
            "mine/greeting/docs/page.md": "# Page",
            "mine/greeting/tests/__init__.py": "",
            "mine/greeting/tests/test_mine.py": "def test(): ...\n",
        }
    )
    project.configure('builder = "host"')
    report = project.build()
    assert report["verified"]["level"] == "import"
    gone = {each["rule"]: each["distribution"] for each in report["trim"]["removed"]}
    assert gone == {"tests": "macros", "foreign-locks": "macros"}
    assert project.answer() == [["select 1", "# A", "HEADER    HYDROLASE"], "# Page", ["__init__.py", "test_mine.py"], "2.5.0"]
