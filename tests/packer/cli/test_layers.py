"""Layers from end to end: what functions share lies in one archive, and they run with it as they do without."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.monorepo import LARGE, noise
from tests.native import compile_library
from tests.shaped import ARCHITECTURE, MINOR, RUNTIME
from tests.wheels import make_wheel


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
    lines = [line.split() for line in repo.run("build").stdout.splitlines()]
    assert {line[0]: "built" if "built" in line else "unchanged" for line in lines if RUNTIME in line} == {
        "one": "built",
        "two": "built",
        "three": "unchanged",
        "four": "unchanged",
    }
    second = json.loads((repo.folder / "dist" / "lpack.json").read_text())
    gone, come = set(first["layers"]) - set(second["layers"]), set(second["layers"]) - set(first["layers"])
    assert len(gone) == len(come) == 1
    archives = {path.name for path in (repo.folder / "dist" / "layers").glob("*.zip")}
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


@pytest.mark.parametrize("bytecode", ["beside", "only"])
def test_namespaces_declared_in_different_words_share_a_layer(repo, bytecode):
    """Each wheel brings the package's __init__.py, and so its bytecode."""
    pkgutil = b"__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
    left = repo.wheel("left", files={"space/__init__.py": b"# left\n" + pkgutil, "space/left.py": b"X = 'left'\n"})
    right = repo.wheel("right", files={"space/__init__.py": b"\n\n# right\n" + pkgutil, "space/right.py": b"X = 'right'\n"})
    for name in ("one", "two"):
        repo.function(name, left, right, source="import space.left, space.right\n")
    repo.configure("one", "two", settings=f'layers = "auto"\nbytecode = "{bytecode}"')
    manifest = repo.build()
    assert repo.holds(manifest) == {("one", "two"): ["left", "right"]}
    assert set(repo.answer(manifest, "one")) == {"left", "right"}


def test_a_layer_has_what_any_of_its_users_needs(repo):
    """Trimming removes a distribution's tests, but where a function imports them."""
    tests = {"common/tests/__init__.py": b"", "common/tests/helpers.py": b"X = 1\n", "common/tests/test_one.py": b""}
    common = repo.wheel("common", files=tests)
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
    size = sum(map(len, tests.values()))
    assert later["removed"] == [{"rule": "tests", "distribution": "common", "files": 3, "bytes": size}]
    assert later["removed_bytes"] == size


def test_what_is_removed_from_layers_is_counted_for_their_functions(repo):
    tests = {"common/tests/__init__.py": b"", "common/tests/test_one.py": b"def test(): ...\n"}
    common = repo.wheel("common", files=tests)
    for name in ("one", "two"):
        repo.function(name, common)
    repo.configure("one", "two")
    told = repo.run("build", "-v").stderr
    assert "one: nothing removed from its own package, 0.0 KB from its layers (tests 0.0 KB)" in told
    assert "removed from common-" in told
    for function in repo.build()["functions"].values():
        assert (function["trim"]["removed_bytes"], function["trim"]["removed_from_layers_bytes"]) == (0, 16)
    repo.run("build", "--report")
    page = (repo.folder / "dist" / "lpack-report.html").read_text()
    assert "What rules took out of all functions and layers together" in page


def test_a_layer_lists_its_distributions_and_has_their_programs(repo, tmp_path):
    files = {
        "common/__init__.py": b"VERSION = '1.0'\n\n\ndef main():\n    print('common')\n",
        "common-1.0.dist-info/entry_points.txt": b"[console_scripts]\ncommon = common:main\n",
    }
    common = repo.wheel("common", files=files)
    for name in ("one", "two"):
        repo.function(name, common)
    repo.configure("one", "two")
    [layer] = repo.build()["layers"].values()
    with zipfile.ZipFile(repo.folder / "dist" / layer["path"]) as archive:
        archive.extractall(tmp_path / "opt")
    finished = subprocess.run([sys.executable, tmp_path / "opt/bin/common"], capture_output=True, text=True, check=True)
    assert finished.stdout == "common\n"
    [found] = importlib.metadata.distributions(name="common", path=[str(tmp_path / "opt/python")])
    listed = {str(path) for path in found.files or ()}
    assert {"../bin/common", "common/__init__.py", "common-1.0.dist-info/RECORD"} <= listed
    assert all(Path(path.locate()).exists() for path in found.files or ())


def test_layers_none_makes_no_layer(repo):
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


def test_the_file_of_a_named_layer_is_watched(repo):
    lines = [repo.wheel(name) for name in ("common", "other")]
    for name in ("one", "two"):
        repo.function(name, *lines)
    listed = repo.folder / "base.txt"
    listed.write_text(lines[0].removeprefix("../") + "\n")
    repo.configure("one", "two", settings="", more='[layers.base]\nrequirements = "base.txt"\n')
    assert repo.holds(repo.build()) == {("one", "two"): ["common"]}
    listed.write_text("".join(f"{line.removeprefix('../')}\n" for line in lines))
    assert repo.holds(repo.build()) == {("one", "two"): ["common", "other"]}


def test_a_path_in_a_layer_is_explained(repo):
    common = repo.wheel("common")
    for name in ("one", "two"):
        repo.function(name, common)
    repo.configure("one", "two")
    [layer] = repo.build()["layers"]
    said = repo.run("build", "--explain", "common/data.bin").stdout.splitlines()
    assert said == [
        f"{name}: common/data.bin (58.6 KB) is in the layer {layer}: it belongs to common 1.0, and no rule removes it."
        for name in ("one", "two")
    ]
    assert repo.run("build", "--explain", "/opt/python/common/data.bin").stdout.splitlines() == said
    for names in ((), ("one",)):
        table = repo.run("build", *names).stdout
        assert "with 1 layer: " in table
        assert f"layer of one, two  dist/layers/{layer}.zip" in table


def test_libraries_that_distributions_of_a_layer_have_in_common_lie_once_in_lib(repo):
    """One library, byte for byte, in two distributions, as auditwheel puts it there; a function still loads both modules."""
    if ARCHITECTURE != "x86_64":
        pytest.skip("the libraries are compiled for x86_64")
    library = "libshared-0a1b2c3d.so.1"
    made = compile_library(repo.folder / library, "int answer(void) { return 42; }\n", options=(f"-Wl,-soname,{library}",))
    lines = []
    for name in ("left", "right"):
        source = MODULE.replace("NAME", name)
        options = (f"-Wl,-rpath,$ORIGIN/../{name}.libs", f"-L{repo.folder}", f"-l:{library}", "-Wl,--allow-shlib-undefined")
        native = compile_library(repo.folder / f"_{name}.so", source, options=options)
        files = {f"{name}/_native.abi3.so": native.read_bytes(), f"{name}.libs/{library}": made.read_bytes()}
        own = {f"{name}/__init__.py": LOADING.replace("NAME", name).encode(), f"{name}/data.bin": noise(name)}
        wheel = make_wheel(
            repo.folder / "wheels",
            name,
            "1.0",
            {**own, **files},
            tag="cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64",
        )
        lines.append(f"../wheels/{wheel.name}")
    for name in ("one", "two"):
        repo.function(name, *lines)
    repo.configure("one", "two", settings='layers = "auto"\ntrim = { without = ["strip"] }')
    manifest = repo.build()
    [layer] = manifest["layers"].values()
    with zipfile.ZipFile(repo.folder / "dist" / layer["path"]) as archive:
        found = [name for name in archive.namelist() if name.endswith(library)]
    assert found == [f"lib/{library}"]


LOADING = """\
import ctypes, os
VERSION = ctypes.CDLL(os.path.join(os.path.dirname(__file__), "_native.abi3.so")).NAME()
"""
MODULE = "int answer(void);\nint NAME(void) { return answer(); }\n"


def test_a_pattern_that_fits_no_function_is_refused(repo):
    repo.function("one", repo.wheel("common"))
    repo.configure("one", settings="", more='[layers.base]\ndistributions = ["common"]\nfunctions = ["oen"]\n')
    error = repo.run("build", status=2).stderr
    assert "lpack.toml: layers.base.functions: no function is called 'oen'. Did you mean 'one'?" in error.replace("\n", " ")


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
    assert "one needs 6 layers (6 named, 0 attached), and Lambda takes 5." in repo.run("build", status=3).stderr


def test_a_layer_above_lambdas_limit_is_refused(repo):
    zeros = bytes(131 << 20)
    lines = [repo.wheel(name, files={f"{name}/zeros.bin": zeros}) for name in ("left", "right")]
    repo.function("one", lines[0])
    repo.function("two", lines[1])
    more = '[layers.both]\ndistributions = ["left", "right"]\nfunctions = ["*"]\n'
    repo.configure("one", "two", settings="", more=more)
    error = repo.run("build", status=3).stderr
    assert "The layer both-" in error
    assert "over Lambda's limit for a function and all of its layers of 250.0 MB" in error
    assert "right 131.1 MB, left 131.1 MB" in error
    assert "divide it between several layers" in error


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
    many = ", ".join(f'"{ARN.replace("tools", str(number))}"' for number in range(5))
    repo.configure("one", "two", settings=f'layers = "auto"\nattached = [{many}]')
    full = repo.build()
    assert "layers" not in full
    assert len(full["functions"]["one"]["layers"]) == 5


def test_another_version_than_an_attached_layer_has_is_packed_and_told_of(repo):
    repo.function("one", repo.wheel("lib"))
    repo.configure("one", settings=f'attached = [{{ arn = "{ARN}", distributions = ["lib==2.0", "more==1.0"] }}]')
    told = f"warning: one: {ARN} has lib 2.0, and the function gets 1.0 itself, for its lock says so."
    for _ in range(2):
        assert repo.run("build").stderr.count(told) == 1
    repo.configure("one", settings=f'attached = [{{ arn = "{ARN}", distributions = ["lib==2.0"] }}]\nexclude = ["lib"]')
    assert told not in repo.run("build").stderr


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
    hidden = {"common/tests/__init__.py": b"", "common/tests/data.py": b"X = 1\n", "common/tests/test_one.py": b""}
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
