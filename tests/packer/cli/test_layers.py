"""Layers from end to end: what functions share lies in one archive, and they run with it as they do without."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from packer.manifest import manifest_schema
from tests.shaped import ARCHITECTURE, MINOR, RUNTIME
from tests.wheels import make_wheel

LARGE = 60_000


def noise(name: str, length: int = LARGE) -> bytes:
    """Give bytes that do not compress, always the same for a name."""
    return random.Random(name).randbytes(length)  # noqa: S311 nothing secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Monorepo:
    """A project of several functions that take their dependencies from a folder of wheels."""

    folder: Path
    lpack: Callable[..., subprocess.CompletedProcess[str]]

    def wheel(self, name: str, version: str = "1.0", files: Mapping[str, bytes] | None = None) -> str:
        """Make a wheel with a module of that name and 60 kB beside it, and give the line that requires it."""
        content = {f"{name}/__init__.py": f"VERSION = {version!r}\n".encode(), f"{name}/data.bin": noise(f"{name} {version}")}
        made = make_wheel(self.folder / "wheels", name, version, {**content, **(files or {})})
        return f"../wheels/{made.name}"

    def function(self, name: str, *requirements: str, source: str = "") -> None:
        """Write a function whose handler imports the modules that it requires."""
        modules = [line.rsplit("/", 1)[-1].split("-")[0] for line in requirements]
        imports = "".join(f"import {module}\n" for module in modules)
        values = ", ".join(f"{module!r}: {module}.VERSION" for module in modules)
        handler = f"{imports}{source}\ndef handler(event, context):\n    return {{{values}}}\n"
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "app.py").write_text(handler)
        (self.folder / name / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))

    def configure(
        self, *functions: str, settings: str = 'layers = "auto"', more: str = "", of: Mapping[str, str] | None = None
    ) -> None:
        """Write the configuration; ``of`` are lines of single functions."""
        text = f'runtime = "{RUNTIME}"\narch = "{ARCHITECTURE}"\n{settings}\n'
        for name in functions:
            text += f'[functions.{name}]\nsource = "{name}"\nhandler = "app.handler"\n{(of or {}).get(name, "")}\n'
        (self.folder / "lpack.toml").write_text(text + more)

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command line, which must end with this status."""
        finished = self.lpack(*arguments, cwd=self.folder)
        assert finished.returncode == status, (finished.returncode, finished.stdout, finished.stderr)
        return finished

    def build(self, *flags: str) -> dict[str, Any]:
        """Build, and give the manifest, which must follow its schema and agree with the files."""
        manifest: dict[str, Any] = json.loads(self.run("build", "--json", *flags).stdout)
        jsonschema.validate(manifest, json.loads(manifest_schema()), cls=jsonschema.Draft202012Validator)
        for held in (*manifest.get("layers", {}).values(), *(each["artifact"] for each in manifest["functions"].values())):
            data = (self.folder / "dist" / held["path"]).read_bytes()
            assert (held["sha256"], held["zip_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
        return manifest

    def holds(self, manifest: Mapping[str, Any]) -> dict[tuple[str, ...], list[str]]:
        """Give what each layer holds, by its users."""
        return {
            tuple(layer["functions"]): [each["name"] for each in layer["distributions"]]
            for layer in manifest.get("layers", {}).values()
        }

    def answer(self, manifest: Mapping[str, Any], name: str) -> Any:
        """Give what a function returns when it lies on Lambda's paths as its archives have it, without lpack's help."""
        function = manifest["functions"][name]
        task, opt = self.folder / "laid" / name / "task", self.folder / "laid" / name / "opt"
        for archive, place in (
            (function["artifact"]["path"], task),
            *((manifest["layers"][each]["path"], opt) for each in function.get("layers", ())),
        ):
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["unzip", "-qo", str(self.folder / "dist" / archive), "-d", str(place)], check=True)
        code = "import app, json; print(json.dumps(app.handler(None, None)))"
        paths = [str(task), str(opt / "python"), str(opt / f"python/lib/python3.{MINOR}/site-packages")]
        command = [sys.executable, "-I", "-S", "-B", "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)


@pytest.fixture
def repo(tmp_path: Path, lpack, cache: Path) -> Monorepo:
    folder = tmp_path / "project"
    (folder / "wheels").mkdir(parents=True)
    return Monorepo(folder=folder, lpack=lpack)


def test_what_functions_share_lies_in_one_layer(repo):
    common, own = repo.wheel("common"), repo.wheel("own")
    repo.function("one", common, own)
    repo.function("two", common)
    repo.configure("one", "two")
    manifest = repo.build()
    assert repo.holds(manifest) == {("one", "two"): ["common"]}
    [(name, layer)] = manifest["layers"].items()
    assert manifest["functions"]["one"]["layers"] == manifest["functions"]["two"]["layers"] == [name]
    assert (layer["runtimes"], layer["architectures"]) == ([RUNTIME], [ARCHITECTURE])
    with zipfile.ZipFile(repo.folder / "dist" / layer["path"]) as archive:
        found = archive.namelist()
    assert all(each.startswith("python/common") for each in found)
    assert f"python/common/__pycache__/__init__.cpython-3{MINOR}.pyc" in found
    with zipfile.ZipFile(repo.folder / "dist" / "one.zip") as archive:
        assert {each.partition("/")[0] for each in archive.namelist()} == {"app.py", "__pycache__", "own", "own-1.0.dist-info"}
    assert repo.answer(manifest, "one") == {"common": "1.0", "own": "1.0"}
    assert repo.answer(manifest, "two") == {"common": "1.0"}
    places = {each["name"]: each.get("layer") for each in manifest["functions"]["one"]["distributions"]}
    assert places == {"common": name, "own": None}


def test_nothing_changes_where_nothing_changed_and_only_users_change_where_something_did(repo):
    common, other = repo.wheel("common"), repo.wheel("other")
    for name in ("one", "two"):
        repo.function(name, common)
    for name in ("three", "four"):
        repo.function(name, other)
    repo.configure("one", "two", "three", "four")
    first = repo.build()
    assert "unchanged" in repo.run("build").stdout
    newer = repo.wheel("common", "1.1")
    for name in ("one", "two"):
        repo.function(name, newer)
    lines = {line.split()[0]: line.split()[-2] for line in repo.run("build").stdout.splitlines()}
    assert lines == {"one": "built", "two": "built", "three": "unchanged", "four": "unchanged"}
    second = json.loads((repo.folder / "dist" / "lpack.json").read_text())
    gone, come = set(first["layers"]) - set(second["layers"]), set(second["layers"]) - set(first["layers"])
    assert len(gone) == len(come) == 1
    archives = {path.name for path in (repo.folder / "dist" / "layers").iterdir()}
    assert archives == {f"{name}.zip" for name in second["layers"]}
    assert repo.answer(second, "one") == {"common": "1.1"}


def test_layers_are_the_same_whatever_else_is_built_and_in_whatever_order(repo, monkeypatch, tmp_path):
    lines = [repo.wheel(f"lib{number}") for number in range(4)]
    repo.function("one", *lines[:3])
    repo.function("two", *lines[:2])
    repo.function("three", *lines[1:])
    repo.configure("one", "two", "three")
    first = repo.build()
    monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path / "another"))
    repo.configure("three", "two", "one")
    second = repo.build("--jobs", "1")
    assert first["layers"] == second["layers"]
    for name in ("one", "two", "three"):
        assert first["functions"][name]["artifact"] == second["functions"][name]["artifact"]


def test_one_function_is_built_with_the_layers_that_all_have(repo):
    common = repo.wheel("common")
    for name in ("one", "two"):
        repo.function(name, common)
    repo.configure("one", "two")
    alone = repo.build("one")
    assert set(alone["functions"]) == {"one"}
    assert alone["functions"]["one"]["layers"] == repo.build()["functions"]["one"]["layers"]


def test_versions_are_never_mixed(repo):
    old, new = repo.wheel("common", "1.0"), repo.wheel("common", "2.0")
    for name, line in (("one", old), ("two", old), ("three", new), ("four", new)):
        repo.function(name, line)
    repo.configure("one", "two", "three", "four")
    manifest = repo.build()
    assert repo.holds(manifest) == {("one", "two"): ["common"], ("four", "three"): ["common"]}
    answers = {name: repo.answer(manifest, name)["common"] for name in ("one", "two", "three", "four")}
    assert answers == {"one": "1.0", "two": "1.0", "three": "2.0", "four": "2.0"}


def test_a_namespace_package_that_layers_and_functions_hold_imports(repo):
    left = repo.wheel("left", files={"space/left.py": b"X = 'left'\n"})
    right = repo.wheel("right", files={"space/right.py": b"X = 'right'\n"})
    own = repo.wheel("own", files={"space/own.py": b"X = 'own'\n"})
    use = "import space.left, space.right\n"
    repo.function("one", left, right, own, source=use + "import space.own\nassert space.own.X == 'own'\n")
    repo.function("two", left, right, source=use)
    repo.function("three", left)
    repo.configure("one", "two", "three")
    manifest = repo.build()
    assert repo.holds(manifest) == {("one", "three", "two"): ["left"], ("one", "two"): ["right"]}
    assert set(repo.answer(manifest, "one")) == {"left", "right", "own"}


def test_a_layer_has_what_any_of_its_users_needs(repo):
    """Trimming removes a distribution's tests, but where a function imports them."""
    common = repo.wheel("common", files={"common/tests/__init__.py": b"", "common/tests/helpers.py": b"X = 1\n"})
    repo.function("one", common, source="import common.tests.helpers\n")
    repo.function("two", common)
    repo.configure("one", "two")
    manifest = repo.build()
    [layer] = manifest["layers"].values()
    with zipfile.ZipFile(repo.folder / "dist" / layer["path"]) as archive:
        assert "python/common/tests/helpers.py" in archive.namelist()
    repo.function("one", common)
    [later] = repo.build()["layers"].values()
    with zipfile.ZipFile(repo.folder / "dist" / later["path"]) as archive:
        assert not [each for each in archive.namelist() if "/tests/" in each]


def test_none_means_none(repo):
    common = repo.wheel("common")
    for name in ("one", "two", "three"):
        repo.function(name, common)
    repo.configure("one", "two", "three", of={"three": 'layers = "none"'})
    manifest = repo.build()
    assert repo.holds(manifest) == {("one", "two"): ["common"]}
    assert "layers" not in repo.build("--layers", "none")
    assert not list((repo.folder / "dist" / "layers").iterdir())
    assert repo.holds(repo.build()) == {("one", "two"): ["common"]}


def test_a_named_layer_holds_what_it_says(repo):
    lines = [repo.wheel(name) for name in ("common", "other", "third")]
    repo.function("one", *lines)
    repo.function("two", *lines[:2])
    repo.function("three", lines[0])
    named = '[layers.base]\ndistributions = ["Common", "other"]\n'
    repo.configure("one", "two", "three", settings="", more=named)
    manifest = repo.build()
    assert repo.holds(manifest) == {("one", "two"): ["common", "other"]}
    [name] = manifest["layers"]
    assert name.startswith("base-")
    assert repo.answer(manifest, "three") == {"common": "1.0"}
    repo.configure("one", "two", "three", settings="", more=named + 'functions = ["t*"]\n')
    assert repo.holds(repo.build()) == {("three", "two"): ["common", "other"]}
    (repo.folder / "base.txt").write_text("\n".join(line.removeprefix("../") for line in lines[:1]))
    repo.configure("one", "two", "three", settings="", more='[layers.base]\nrequirements = "base.txt"\n')
    assert repo.holds(repo.build()) == {("one", "three", "two"): ["common"]}
    repo.configure("one", "two", "three", settings="", more='[layers]\nothers = "auto"\n' + named)
    both = repo.build()
    assert repo.holds(both) == {("one", "two"): ["common", "other"]}


def test_a_named_layer_cannot_hold_two_versions(repo):
    repo.function("one", repo.wheel("common", "1.0"))
    repo.function("two", repo.wheel("common", "2.0"))
    repo.configure("one", "two", settings="", more='[layers.base]\ndistributions = ["common"]\n')
    error = repo.run("build", status=2).stderr
    assert "The layer base cannot hold common: one needs common 1.0 and two needs common 2.0." in error


def test_more_than_five_layers_are_refused(repo):
    lines = [repo.wheel(f"lib{number}") for number in range(6)]
    repo.function("one", *lines)
    more = "".join(f'[layers.l{number}]\ndistributions = ["lib{number}"]\n' for number in range(6))
    repo.configure("one", settings="", more=more)
    assert "one needs 6 layers (6 named, 0 attached), and Lambda takes 5." in repo.run("build", status=2).stderr


ARN = "arn:aws:lambda:eu-central-1:123456789012:layer:tools:7"


def test_attached_layers_count_and_what_they_hold_is_not_packed(repo):
    lines = [repo.wheel(f"lib{number}") for number in range(3)]
    for name in ("one", "two"):
        repo.function(name, *lines)
    repo.function("three", *lines[1:])
    attached = f'layers = "auto"\nattached = [{{ arn = "{ARN}", distributions = ["lib0==1.0"] }}]'
    repo.configure("one", "two", "three", settings=attached)
    manifest = repo.build()
    assert repo.holds(manifest) == {("one", "three", "two"): ["lib1", "lib2"]}
    assert manifest["functions"]["one"]["layers"][0] == ARN
    assert [each["name"] for each in manifest["functions"]["one"]["distributions"]] == ["lib1", "lib2"]
    many = ", ".join(f'"{ARN}{number}"' for number in range(5))
    repo.configure("one", "two", settings=f'layers = "auto"\nattached = [{many}]')
    full = repo.build()
    assert "layers" not in full
    assert len(full["functions"]["one"]["layers"]) == 5


@pytest.mark.parametrize("arn", ["arn:aws:lambda:eu-central-1:123456789012:layer:tools", "tools:7", "${Layer}"])
def test_an_arn_that_cannot_be_counted_is_refused(repo, arn):
    repo.function("one")
    repo.configure("one", settings=f'attached = ["{arn}"]')
    error = repo.run("build", status=2).stderr
    assert "attached[0].arn" in error
    assert "cannot be counted" in error


def test_a_function_that_only_works_in_one_package_is_told_of_or_packed_whole(repo):
    """A distribution that looks for its data in the function's folder."""
    common = repo.wheel("common")
    look = "import os\nassert os.path.exists(os.path.join(os.path.dirname(__file__), 'common', 'data.bin')), 'no data'\n"
    repo.function("one", common, source=look)
    repo.function("two", common)
    repo.function("three", common)
    repo.configure("one", "two", "three")
    error = repo.run("build", status=4).stderr
    assert "one does not behave with layers as it does in one package: AssertionError: no data" in error
    repo.configure("one", "two", "three", settings='layers = "auto"\ntrim = "auto"')
    finished = repo.run("build", "--json")
    assert "it is packed whole" in finished.stderr
    assert repo.holds(json.loads(finished.stdout)) == {("three", "two"): ["common"]}
    assert "unchanged" in repo.run("build").stdout


def test_a_repair_reaches_the_layer(repo):
    """What trimming removed and the function needs comes back, into the layer that all have."""
    hidden = {"common/tests/__init__.py": b"", "common/tests/data.py": b"X = 1\n"}
    common = repo.wheel("common", files=hidden)
    late = "import importlib\nimportlib.import_module('.'.join(['common', 'tes' + 'ts', 'data']))\n"
    repo.function("one", common, source=late)
    repo.function("two", common)
    repo.configure("one", "two")
    assert "needs what trimming removes (tests of common)" in repo.run("build", status=4).stderr
    repo.configure("one", "two", settings='layers = "auto"\ntrim = "auto"')
    manifest = repo.build()
    [layer] = manifest["layers"].values()
    with zipfile.ZipFile(repo.folder / "dist" / layer["path"]) as archive:
        assert "python/common/tests/data.py" in archive.namelist()
    assert manifest["functions"]["one"]["trim"]["kept"] == [{"rule": "tests", "distribution": "common"}]


def test_other_runtimes_have_layers_of_their_own_and_share_what_is_the_same(repo):
    common = repo.wheel("common")
    for name in ("one", "two", "three", "four"):
        repo.function(name, common)
    other = "arm64" if ARCHITECTURE == "x86_64" else "x86_64"
    lines = dict.fromkeys(("three", "four"), f'arch = "{other}"')
    repo.configure("one", "two", "three", "four", of=lines)
    manifest = repo.build()
    [layer] = manifest["layers"].values()
    assert layer["architectures"] == sorted([ARCHITECTURE, other], key=len)
    assert layer["functions"] == ["four", "one", "three", "two"]
    lines = dict.fromkeys(("three", "four"), f'runtime = "python3.{13 if MINOR != 13 else 12}"')
    repo.configure("one", "two", "three", "four", of=lines)
    assert len(repo.build()["layers"]) == 2
    [both] = repo.build("--bytecode", "off")["layers"].values()
    assert both["runtimes"] == sorted([RUNTIME, f"python3.{13 if MINOR != 13 else 12}"])


def test_the_plan_is_what_is_built(repo):
    lines = [repo.wheel(f"lib{number}") for number in range(3)]
    repo.function("one", *lines)
    repo.function("two", *lines[:2])
    repo.function("three", lines[2])
    repo.configure("one", "two", "three")
    plan = json.loads(repo.run("plan", "--json").stdout)
    assert not (repo.folder / "dist").exists()
    manifest = repo.build()
    assert {
        tuple(each["functions"]): [held["name"] for held in each["distributions"]] for each in plan["layers"]
    } == repo.holds(manifest)
    assert plan["saved_bytes"] == plan["separate_bytes"] - plan["stored_bytes"] > 2 * LARGE
    text = repo.run("plan").stdout
    assert "lib0 1.0, lib1 1.0" in text
    assert "What functions share takes" in text
