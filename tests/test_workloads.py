"""The benchmark's functions, for real: they build for both architectures, and their handlers import from the archives."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from packer.core.process import uv_command
from tests.sharing import make_once

WORKLOADS = Path(__file__).parent.parent / "bench" / "workloads"
IMPORTER = """
import importlib, sys, json
sys.path[:] = [path for path in sys.path if "site-packages" not in path]
sys.path.insert(0, sys.argv[1])
module, _, attribute = sys.argv[2].rpartition(".")
print(json.dumps(getattr(importlib.import_module(module), attribute)({}, None)))
"""

pytestmark = [pytest.mark.network, pytest.mark.slow]


def find_python(version: str) -> str:
    """Find an interpreter of the target's Python: uv knows those on PATH, pyenv keeps others in a folder of its own."""
    command = [uv_command(), "python", "find", "--no-python-downloads", "--no-project", version]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode == 0:
        return finished.stdout.strip()
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
    if not found:
        pytest.skip(f"there is no Python {version} on this machine")
    return str(found[-1])


def build(lpack, folder: Path, *flags: str) -> dict[str, Any]:
    finished = lpack("build", "--json", *flags, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    manifest: dict[str, Any] = json.loads(finished.stdout)
    return manifest


@pytest.fixture
def built(shared_folder, lpack) -> Callable[[str], Path]:
    """Give a function that returns the folder of a workload that was built as it is, once for all who only read it."""

    def build_copy(workload: str) -> Path:
        def make(folder: Path) -> None:
            shutil.copytree(WORKLOADS / workload, folder, dirs_exist_ok=True)
            build(lpack, folder)

        return make_once(shared_folder / f"built-{workload}", make)

    return build_copy


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "lpack.json").read_text())
    return manifest


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive, which checks the CRC of each of its entries."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["unzip", "-qqo", str(archive), "-d", str(folder)], check=True)


@pytest.mark.parametrize("workload", ["pair", "mono12"])
def test_functions_of_a_workload_import_from_their_archives(tmp_path, built, workload):
    folder = built(workload)
    python = find_python("3.12")
    for name, function in manifest_of(folder / "dist")["functions"].items():
        laid_out = tmp_path / "task"
        unpack(folder / "dist" / function["artifact"]["path"], laid_out)
        command = [python, "-I", "-B", "-c", IMPORTER, str(laid_out), function["handler"]]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, f"{name}: {finished.stderr}"
        assert json.loads(finished.stdout) == {"ok": True}
        shutil.rmtree(laid_out)


@pytest.mark.parametrize("workload", ["pair", "mono12"])
def test_a_workload_builds_for_arm64_with_code_of_that_machine_alone(tmp_path, lpack, workload):
    folder = tmp_path / workload
    shutil.copytree(WORKLOADS / workload, folder)
    arm = build(lpack, folder, "--arch", "arm64")
    assert set(arm["functions"]) == set(tomllib.loads((folder / "lpack.toml").read_text())["functions"])
    for function in arm["functions"].values():
        with zipfile.ZipFile(folder / "dist" / function["artifact"]["path"]) as archive:
            machines = set()
            for name in archive.namelist():
                with archive.open(name) as file:
                    header = file.read(20)
                if header.startswith(b"\x7fELF"):
                    machines.add(int.from_bytes(header[18:20], "little"))
            # e_machine of an ELF header (ELF specification): 183 is AArch64.
            assert machines <= {183}


def digests(folder: Path) -> dict[str, str]:
    """Give the SHA-256 of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("arch", "machine"), [("x86_64", "x86_64"), ("arm64", "aarch64")])
def test_an_archive_holds_what_an_installer_installs(tmp_path, lpack, monkeypatch, arch, machine):
    # A cache of its own: files installed from a shared one may be links, and somebody may have written into them.
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    folder = tmp_path / "pair"
    shutil.copytree(WORKLOADS / "pair", folder)
    for name, function in build(lpack, folder, "--arch", arch, "--trim", "none", "--bytecode", "off")["functions"].items():
        ours, theirs = tmp_path / "ours" / name, tmp_path / "theirs" / name
        with zipfile.ZipFile(folder / "dist" / function["artifact"]["path"]) as archive:
            archive.extractall(ours)
        versions = [f"{each['name']}=={each['version']}" for each in function["distributions"]]
        command = [uv_command(), "pip", "install", "--quiet", "--no-deps", "--target", str(theirs), "--python", sys.executable]
        command += ["--python-platform", f"{machine}-manylinux_2_34", "--python-version", "3.12", "--only-binary", ":all:"]
        subprocess.run([*command, *versions], check=True)
        packed, installed = digests(ours), digests(theirs)
        assert packed.pop("app.py") == digests(folder / name)["app.py"]
        # An installer writes these itself: its notes on the installation, and scripts with its own interpreter's path.
        notes = ("/RECORD", "/INSTALLER", "/REQUESTED")
        for paths in (packed, installed):
            for path in [path for path in paths if path.endswith(notes) or path.startswith("bin/") or path == ".lock"]:
                del paths[path]
        assert packed == installed


@pytest.mark.parametrize(("lock", "expected"), [("poetry/v2.1", "click"), ("poetry/v2.0", "click"), ("pipfile", "click")])
def test_locks_of_other_tools_build_for_real(tmp_path, lpack, lock, expected):
    fixtures = WORKLOADS.parents[1] / "fixtures"
    shutil.copytree(fixtures / "packages", tmp_path / "packages")
    folder = tmp_path / "locks" / lock
    shutil.copytree(fixtures / "locks" / lock, folder)
    (folder / "app.py").write_text("import click\n\n\ndef handler(event, context):\n    return {'ok': True}\n")
    finished = lpack("build", "--json", "--runtime", "python3.12", ".", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    (function,) = json.loads(finished.stdout)["functions"].values()
    names = {each["name"] for each in function["distributions"]}
    assert expected in names
    assert names.isdisjoint({"pexpect", "sniffio", "iniconfig"})


@pytest.mark.parametrize("flags", [("--trim", "none", "--bytecode", "off"), ()])
def test_all_of_mono12_works_from_layers_as_from_one_package(tmp_path, built, lpack, flags):
    """Each function gets a sample event, and must return what it returns from one package; then without lpack's help."""
    folder = tmp_path / "mono12"
    shutil.copytree(WORKLOADS / "mono12", folder)
    python = find_python("3.12")
    plain = manifest_of(built("mono12") / "dist")
    (folder / "events").mkdir()
    (folder / "events" / "empty.json").write_text("{}")
    (folder / "events" / "empty.expected.json").write_text('{"ok": true}')
    config = (folder / "lpack.toml").read_text()
    head = 'verify = { level = "events", events = ["events/empty.json"] }\nlayers = "auto"\n'
    (folder / "lpack.toml").write_text(head + config)
    manifest = build(lpack, folder, *flags)
    assert len(manifest["layers"]) > 5
    for name, layer in manifest["layers"].items():
        unpack(folder / "dist" / layer["path"], tmp_path / "layers" / name)
    for name, function in manifest["functions"].items():
        assert (function["verified"]["level"], function["verified"]["events"], function["verified"]["raised"]) == (
            "events",
            1,
            0,
        )
        held = [each["sha256"] for each in function["distributions"]]
        assert held == [each["sha256"] for each in plain["functions"][name]["distributions"]]
        layers = function.get("layers", [])
        assert len(layers) <= 5
        laid_out = tmp_path / "laid" / name
        unpack(folder / "dist" / function["artifact"]["path"], laid_out / "task")
        for each in layers:  # one upon the other, as Lambda lays them out
            shutil.copytree(tmp_path / "layers" / each, laid_out / "opt", copy_function=link_over, dirs_exist_ok=True)
        code = f"import sys; sys.path.append({str(laid_out / 'opt' / 'python')!r})\n{IMPORTER}"
        variables = {**os.environ, "LD_LIBRARY_PATH": str(laid_out / "opt" / "lib")}
        command = [python, "-I", "-B", "-c", code, str(laid_out / "task"), function["handler"]]
        finished = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, f"{name}: {finished.stderr}"
        assert json.loads(finished.stdout) == {"ok": True}
        shutil.rmtree(laid_out)


def link_over(source: str, to: str) -> None:
    """Link a file to a place where another may stand."""
    Path(to).unlink(missing_ok=True)
    os.link(source, to)
