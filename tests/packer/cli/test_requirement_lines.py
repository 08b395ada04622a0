"""Requirements files as pip reads them, where uv by itself would not: `lpack build` from end to end."""

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.packages import write_sdist_files

CODE = "def handler(event, context):\n    return 1\n"
# Writes its settings into the wheel, and brings an extra.
BACKEND = b"""\
import base64, hashlib, json, pathlib, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    files = {
        "told.json": json.dumps(config_settings),
        "told-1.0.dist-info/METADATA": METADATA,
        "told-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    digests = {name: hashlib.sha256(text.encode()).digest() for name, text in files.items()}
    rows = [f"{name},sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')},\\n" for name, digest in digests.items()]
    files["told-1.0.dist-info/RECORD"] = "".join(rows) + "told-1.0.dist-info/RECORD,,\\n"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, "told-1.0-py3-none-any.whl"), "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return "told-1.0-py3-none-any.whl"

METADATA = "Metadata-Version: 2.1\\nName: told\\nVersion: 1.0\\nProvides-Extra: more\\nRequires-Dist: alpha; extra == 'more'\\n"
"""
PROJECT = b"""\
[project]
name = "told"
version = "1.0"
optional-dependencies = { more = ["alpha"] }
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def function(folder: Path, requirements: bytes) -> Path:
    folder.mkdir()
    (folder / "app.py").write_text(CODE)
    (folder / "requirements.txt").write_bytes(requirements)
    return folder


def told(folder: Path) -> object:
    with zipfile.ZipFile(folder / "dist" / f"{folder.name}.zip") as archive:
        return json.loads(archive.read("told.json"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Give a repository with the project `told` in its folder `inner`."""
    folder = tmp_path / "repository"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "pyproject.toml").write_bytes(PROJECT)
    (folder / "inner" / "backend.py").write_bytes(BACKEND)
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def test_editable_repository_is_built_in_an_encoding_of_windows(tmp_path, repository, lpack, index, cache):
    lines = f"-e git+{repository.as_uri()}#egg=told[more]&subdirectory=inner\r\nbeta==1.0 --no-binary=beta\r\n"
    folder = function(tmp_path / "fn", lines.encode("utf-16"))
    built = lpack("build", ".", "--runtime", "python3.12", cwd=folder)
    assert built.returncode == 0, built.stderr
    assert "requirements.txt:2: --no-binary has no effect behind a requirement, as with pip" in built.stderr
    made = json.loads((folder / "dist" / "lpack.json").read_text())["functions"]["fn"]["distributions"]
    assert {each["name"]: each["version"] for each in made} == {"alpha": "1.1", "beta": "1.0", "told": "1.0"}
    assert told(folder) is None


def test_settings_behind_a_requirement_reach_its_back_end(tmp_path, index_folder, lpack, index, cache):
    path = write_sdist_files(tmp_path, "told-1.0", {"pyproject.toml": PROJECT, "backend.py": BACKEND})
    path.rename(index_folder / path.name)
    folder = function(tmp_path / "fn", b'told==1.0 --config-settings "--build-option=-j 4" -C x=1 -C x=2\n')
    assert lpack("build", ".", "--runtime", "python3.12", cwd=folder).returncode == 0
    assert told(folder) == {"--build-option": "-j 4", "x": ["1", "2"]}
    (folder / "requirements.txt").write_text("told==1.0 --config-settings y=z\n")
    assert lpack("build", ".", "--runtime", "python3.12", cwd=folder).returncode == 0
    assert told(folder) == {"y": "z"}
