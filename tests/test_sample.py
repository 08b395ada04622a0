"""The sample of the README builds, and its handlers answer from the archives alone."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from builders.runtimes import ARCHITECTURES, RUNTIMES
from tests.packages import FIXTURES

RUNTIME = f"python3.{sys.version_info.minor}"
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
EVENTS = {
    "hello": ({"name": "<you>"}, "Hello, &lt;you&gt;!"),
    "orders": ({"customer": "Ada", "lines": [{"article": "tea", "price": "1.50", "quantity": 2}]}, "Ada: 3.00"),
}
CALL = (
    "import sys, json; sys.path[:0] = sys.argv[1:2]; import app; print(json.dumps(app.handler(json.loads(sys.argv[2]), None)))"
)


@pytest.mark.network
@pytest.mark.skipif(
    sys.platform != "linux" or RUNTIME not in RUNTIMES or ARCHITECTURE not in ARCHITECTURES,
    reason="needs a target's own Python",
)
def test_the_sample_builds_and_answers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "packer.cli", "build", "--config", str(FIXTURES / "sample" / "lpack.toml")]
    command += ["--out", str(tmp_path / "out"), "--runtime", RUNTIME, "--arch", ARCHITECTURE]
    built = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert built.returncode == 0, built.stderr
    for name, (event, expected) in EVENTS.items():
        folder = tmp_path / name
        with zipfile.ZipFile(tmp_path / "out" / f"{name}.zip") as archive:
            archive.extractall(folder)
        # -I and -S: nothing but the archive and the standard library is on the path.
        call = [sys.executable, "-I", "-S", "-B", "-c", CALL, str(folder), json.dumps(event)]
        answer = subprocess.run(call, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
        assert json.loads(answer)["statusCode"] == 200
        assert expected in json.loads(answer)["body"]
