"""What counts as up to date: nothing that can change an archive may be missed, whatever it is and whenever it changes."""

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from packer.core.process import uv_command
from tests.index import Fault
from tests.packer.cli.test_build import CONFIG, build, names, project
from tests.wheels import make_wheel


def versions(lpack, folder: Path, *flags: str) -> dict[str, str]:
    manifest = build(lpack, folder, *flags)
    return {each["name"]: each["version"] for each in manifest["functions"]["orders"]["distributions"]}


@pytest.fixture
def folder(tmp_path: Path, index, cache) -> Path:
    return project(tmp_path / "project", orders="beta\n")


def test_a_changed_configuration_reaches_functions_that_were_not_built_with_it(folder, lpack):
    (folder / "users" / "notes.md").write_text("x")
    build(lpack, folder)
    (folder / "lpack.toml").write_text(CONFIG + 'ignore = ["notes.md"]\n')
    build(lpack, folder, "orders")
    build(lpack, folder)
    assert "notes.md" not in names(folder / "dist" / "users.zip")


def test_a_partial_build_from_another_folder_keeps_the_rest(folder, lpack):
    build(lpack, folder)
    for flags in ((), ("--runtime", "python3.13")):
        assert lpack("build", *flags, "orders", cwd=folder / "orders").returncode == 0
        manifest = json.loads((folder / "dist" / "lpack.json").read_text())
        assert set(manifest["functions"]) == {"orders", "users"}


def test_a_variable_in_a_requirements_file_is_seen(folder, lpack, monkeypatch):
    (folder / "orders" / "requirements.txt").write_text("-r ${STAGE}.txt\n")
    (folder / "orders" / "one.txt").write_text("alpha==1.0\n")
    (folder / "orders" / "two.txt").write_text("alpha==1.1\n")
    monkeypatch.setenv("STAGE", "one")
    assert versions(lpack, folder)["alpha"] == "1.0"
    monkeypatch.setenv("STAGE", "two")
    assert versions(lpack, folder)["alpha"] == "1.1"


def test_uvs_own_settings_are_seen(folder, lpack, monkeypatch):
    monkeypatch.delenv("UV_NO_CONFIG")
    assert versions(lpack, folder) == {"beta": "2.0"}
    (folder / "limits.txt").write_text("beta<2\n")
    monkeypatch.setenv("UV_CONSTRAINT", str(folder / "limits.txt"))
    assert versions(lpack, folder) == {"beta": "1.0"}
    monkeypatch.delenv("UV_CONSTRAINT")
    assert versions(lpack, folder) == {"beta": "2.0"}
    (folder / "uv.toml").write_text('resolution = "lowest"\n')
    assert versions(lpack, folder) == {"beta": "1.0"}


def test_a_lock_that_appears_above_is_seen(folder, lpack):
    (folder / "orders" / "requirements.txt").unlink()
    text = '[project]\nname = "orders"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["beta"]\n'
    (folder / "orders" / "pyproject.toml").write_text(text)
    assert versions(lpack, folder) == {"beta": "2.0"}
    (folder / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["orders"]\n')
    pinned = text.replace('"beta"', '"beta<2"')
    (folder / "orders" / "pyproject.toml").write_text(pinned)
    subprocess.run([uv_command(), "lock"], cwd=folder, check=True, capture_output=True)
    (folder / "orders" / "pyproject.toml").write_text(text)
    finished = lpack("build", "--json", cwd=folder)
    assert json.loads(finished.stdout)["functions"]["orders"]["lock"] == "uv.lock"
    assert "uv.lock is stale" in finished.stderr


def test_dynamic_dependencies_are_seen(folder, lpack, index):
    (folder / "orders" / "requirements.txt").write_text("../lib\n")
    source = Path(__file__).parents[3] / "fixtures" / "packages" / "greeting"
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            to = folder / "lib" / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
    assert lpack("lock", cwd=folder).returncode == 0
    assert lpack("build", "--frozen", cwd=folder).returncode == 0
    text = (folder / "lib" / "pyproject.toml").read_text()
    (folder / "lib" / "pyproject.toml").write_text(text.replace("[project]\n", '[project]\ndynamic = ["dependencies"]\n'))
    assert lpack("build", "--frozen", cwd=folder).returncode == 2
    assert lpack("lock", cwd=folder).returncode == 0
    (folder / "lib" / "deps.txt").write_text("beta\n")
    finished = lpack("build", "--frozen", cwd=folder)
    assert finished.returncode == 2
    assert "stale" in finished.stderr


def test_an_edit_during_the_build_is_seen_by_the_next(folder, lpack, index):
    make_wheel(index.folder, "big", "1.0", {f"big/{number}.bin": os.urandom(20_000) for number in range(200)})
    (folder / "orders" / "requirements.txt").write_text("big\n")
    index.fault("big", Fault(drip=50, pause=0.05))
    process = subprocess.Popen(
        [sys.executable, "-m", "packer.cli", "build", "-q"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(0.7)
    assert process.poll() is None
    (folder / "orders" / "requirements.txt").write_text("big\nbeta==1.0\n")
    assert process.wait() == 0
    assert versions(lpack, folder) == {"big": "1.0", "beta": "1.0"}


def test_lpack_never_packs_its_own_output(folder, lpack):
    (folder / "lpack.toml").unlink()
    assert lpack("build", ".", cwd=folder / "orders").returncode == 0
    assert lpack("build", "orders/", cwd=folder).returncode == 0
    assert (folder / "orders" / "dist" / "orders.zip").read_bytes() == (folder / "dist" / "orders.zip").read_bytes()
    (folder / "link").symlink_to("orders")
    assert lpack("build", "../link", "--out", str(folder / "orders" / "dist"), cwd=folder / "users").returncode == 0
    assert not any(name.startswith("dist/") for name in names(folder / "orders" / "dist" / "link.zip"))
    finished = lpack("build", "orders/", "--out", "orders", cwd=folder)
    assert finished.returncode == 2
    assert "is, or holds, the source" in finished.stderr


def test_the_users_template_is_never_overwritten(folder, lpack):
    template = folder / "template.yaml"
    template.write_text(
        "Resources:\n  Orders:\n    Type: AWS::Serverless::Function\n    Properties:\n"
        "      {Runtime: python3.12, Handler: app.handler, CodeUri: orders/}\n"
    )
    before = template.read_text()
    finished = lpack("build", "--template", "template.yaml", "--out", ".", cwd=folder)
    assert finished.returncode == 2
    assert "--out" in finished.stderr
    assert template.read_text() == before


def test_the_order_of_hashes_does_not_matter(folder, lpack, monkeypatch):
    (folder / "lpack.toml").write_text('exclude = ["one", "two", "three", "four"]\n' + CONFIG)
    build(lpack, folder)
    for seed in ("1", "2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        (folder / "orders" / "app.py").touch()
        assert lpack("build", cwd=folder).stdout.count("unchanged") == 2


def test_lock_without_requirements_is_used(folder, lpack):
    assert lpack("lock", cwd=folder).returncode == 0
    (folder / "orders" / "requirements.txt").unlink()
    finished = lpack("build", "--json", cwd=folder)
    assert "stale" in finished.stderr
    assert json.loads(finished.stdout)["functions"]["orders"]["lock"] == "pylock.orders.toml"


def test_warnings_are_repeated_as_long_as_they_hold(folder, lpack):
    assert lpack("lock", cwd=folder).returncode == 0
    (folder / "orders" / "requirements.txt").write_text("beta==1.0\n")
    for _ in range(3):
        assert "pylock.orders.toml is stale" in lpack("build", cwd=folder).stderr
    assert lpack("lock", cwd=folder).returncode == 0
    assert "stale" not in lpack("build", cwd=folder).stderr
    (folder / "pylock.users.toml").unlink()
    for _ in range(2):
        finished = lpack("build", "users", "--runtime", "python3.9", cwd=folder)
        assert "python3.9 is deprecated since 2025-12-15" in finished.stderr


def test_a_wheel_exchanged_in_a_folder_of_links_is_seen(folder, lpack):
    links = folder / "wheels"
    links.mkdir()
    make_wheel(links, "linked", "1.0", {"linked.py": b"old"})
    (folder / "orders" / "requirements.txt").write_text("--find-links ../wheels\nlinked\n")
    archive = folder / "dist" / "orders.zip"
    assert lpack("build", "orders", cwd=folder).returncode == 0
    assert zipfile.ZipFile(archive).read("linked.py") == b"old"
    make_wheel(links, "linked", "1.0", {"linked.py": b"new"})
    assert lpack("build", "orders", cwd=folder).returncode == 0
    assert zipfile.ZipFile(archive).read("linked.py") == b"new"
    make_wheel(links, "linked", "1.1", {"linked.py": b"newer"})
    assert lpack("build", "orders", cwd=folder).returncode == 0
    assert zipfile.ZipFile(archive).read("linked.py") == b"newer"
    assert lpack("lock", "orders", cwd=folder).returncode == 0
    make_wheel(links, "linked", "1.2", {"linked.py": b"newest"})
    finished = lpack("build", "orders", "--frozen", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert zipfile.ZipFile(archive).read("linked.py") == b"newer"


def test_a_lock_cannot_reach_out_of_the_store(folder, lpack):
    victim = folder / "victim"
    victim.write_text("precious")
    (folder / "pylock.orders.toml").write_text(
        'lock-version = "1.0"\ncreated-by = "mallory"\n[[packages]]\nname = "beta"\nversion = "1.0"\nwheels = ['
        f'{{ url = "http://127.0.0.1:9/beta-1.0-py3-none-any.whl", hashes = {{ sha256 = "{victim}" }} }}]\n'
    )
    finished = lpack("build", "--offline", cwd=folder)
    assert finished.returncode == 1
    assert "packages[0].wheels[0].hashes" in finished.stderr
    assert victim.read_text() == "precious"


def test_passwords_are_in_no_process_arguments(folder, lpack, private_index, monkeypatch, tmp_path):
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    monkeypatch.delenv("PIP_INDEX_URL")
    (folder / "orders" / "requirements.txt").write_text(f"--index-url {private_index.url_with_login}\ngreeting\n")
    (folder / "users" / "requirements.txt").write_text("")
    log = tmp_path / "arguments"
    code = (
        "import packer.core.process, sys, subprocess\n"
        "real = subprocess.run\n"
        f"def spy(arguments, **options):\n    open({str(log)!r}, 'a').write(repr(arguments) + chr(10))\n"
        "    return real(arguments, **options)\n"
        "subprocess.run = spy\nsys.argv = ['lpack', 'build', '--runtime', 'python3.11']\n"
        "from packer.cli.app import run\nrun()\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "compile" in log.read_text()
    assert "s3cret" not in log.read_text()
    with zipfile.ZipFile(folder / "dist" / "orders.zip") as archive:
        assert "greeting/__init__.py" in archive.namelist()


SPARED = {"cyclonedx", "email", "filelock", "packaging", "pathspec", "requests", "rich", "ruamel", "tarfile", "uv", "zipfile"}
"""What a rebuild after a change of source needs not import: all that it is for is known from the build before."""


@pytest.mark.parametrize("locked", [True, False])
def test_a_rebuild_after_one_line_imports_little(folder, lpack, locked):
    if locked:
        assert lpack("lock", cwd=folder).returncode == 0
    (folder / ".gitignore").write_text("*.log\n/out/\n")
    build(lpack, folder)
    with (folder / "users" / "app.py").open("a") as file:
        file.write("# one line\n")
    command = [sys.executable, "-X", "importtime", "-m", "packer.cli", "build", "--json"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    lines = [line for line in finished.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert {"click", "msgspec", "packer"} <= imported
    assert imported & SPARED == set()
    assert "one line" in zipfile.ZipFile(folder / "dist" / "users.zip").read("app.py").decode()


@pytest.mark.parametrize("text", ["garbage [", ""])
def test_a_broken_lock_is_written_anew(folder, lpack, text):
    assert lpack("lock", cwd=folder).returncode == 0
    lock = folder / "pylock.orders.toml"
    good = lock.read_text()
    lock.write_text(text)
    broken = lpack("build", cwd=folder)
    assert (broken.returncode, "lpack lock" in broken.stderr) == (1, True)
    assert lpack("lock", cwd=folder).returncode == 0
    assert lock.read_text() == good
