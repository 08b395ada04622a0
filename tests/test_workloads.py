"""The benchmark's functions, for real: they build for both architectures, and their handlers import from the archives."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from packer.process import uv_command

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
    command = [uv_command(), "python", "find", "--no-python-downloads", "--no-project", version]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        pytest.skip(f"there is no Python {version} on this machine")
    return finished.stdout.strip()


def build(lpack, folder: Path, *flags: str) -> dict[str, Any]:
    finished = lpack("build", "--json", *flags, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    manifest: dict[str, Any] = json.loads(finished.stdout)
    return manifest


@pytest.mark.parametrize("workload", ["pair", "mono12"])
def test_workload_builds_for_both_and_imports(tmp_path, lpack, workload):
    folder = tmp_path / workload
    shutil.copytree(WORKLOADS / workload, folder)
    python = find_python("3.12")
    manifest = build(lpack, folder)
    for name, function in manifest["functions"].items():
        path = folder / "dist" / function["artifact"]["path"]
        subprocess.run(["unzip", "-tqq", str(path)], check=True)
        laid_out = tmp_path / "task"
        with zipfile.ZipFile(path) as archive:
            archive.extractall(laid_out)
        command = [python, "-I", "-B", "-c", IMPORTER, str(laid_out), function["handler"]]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, f"{name}: {finished.stderr}"
        assert json.loads(finished.stdout) == {"ok": True}
        shutil.rmtree(laid_out)
    arm = build(lpack, folder, "--arch", "arm64", "--out", str(tmp_path / "arm"))
    assert set(arm["functions"]) == set(manifest["functions"])
    for function in arm["functions"].values():
        with zipfile.ZipFile(tmp_path / "arm" / function["artifact"]["path"]) as archive:
            libraries = [name for name in archive.namelist() if ".so" in name]
            assert not any("x86_64-linux" in name for name in libraries)
            for name in libraries:
                # The machine in an ELF header: 183 is AArch64 (ELF specification, e_machine).
                with archive.open(name) as file:
                    assert int.from_bytes(file.read(20)[18:20], "little") == 183, name
