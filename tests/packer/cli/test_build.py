"""`lpack build` from end to end, against a real index on this machine."""

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.schemas import check_document

CONFIG = """
runtime = "python3.12"
[functions.orders]
source = "orders"
handler = "app.handler"
[functions.users]
source = "users"
handler = "app.handler"
"""


def project(folder: Path, orders: str = "alpha\nnative\n", users: str = "gamma\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lpack.toml").write_text(CONFIG)
    for name, requirements in (("orders", orders), ("users", users)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "app.py").write_text(f"def handler(event, context):\n    return {name!r}\n")
        (folder / name / "requirements.txt").write_text(requirements)
    return folder


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def build(lpack, folder: Path, *flags: str) -> dict[str, Any]:
    finished = lpack("build", "--json", *flags, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    manifest: dict[str, Any] = json.loads(finished.stdout)
    return manifest


@pytest.fixture
def built(tmp_path, lpack, index, cache) -> Path:
    folder = project(tmp_path / "project")
    build(lpack, folder)
    return folder


def test_archives_hold_source_and_dependencies(built):
    found = names(built / "dist" / "orders.zip")
    assert found == sorted(found)
    for name in ("app.py", "alpha/__init__.py", "beta/__init__.py", "native/_core.so", "alpha-1.1.dist-info/METADATA"):
        assert name in found
    assert "requirements.txt" not in found
    subprocess.run(["unzip", "-tqq", str(built / "dist" / "orders.zip")], check=True)


def test_the_newest_fitting_wheel_is_chosen(built):
    with zipfile.ZipFile(built / "dist" / "orders.zip") as archive:
        assert b"'cp312-cp312-manylinux_2_34_x86_64'" in archive.read("native/__init__.py")


def test_every_entry_has_neutral_metadata(built):
    with zipfile.ZipFile(built / "dist" / "orders.zip") as archive:
        for entry in archive.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.external_attr >> 16 in (0o100644, 0o100755)
            assert (entry.extra, entry.comment, entry.create_system) == (b"", b"", 3)


def test_the_manifest_follows_its_schema_and_tells_the_truth(built):
    manifest = json.loads((built / "dist" / "lpack.json").read_text())
    check_document("manifest", manifest)
    import hashlib

    for name, function in manifest["functions"].items():
        data = (built / "dist" / f"{name}.zip").read_bytes()
        artifact = function["artifact"]
        assert artifact["sha256"] == hashlib.sha256(data).hexdigest()
        assert artifact["zip_bytes"] == len(data)
        with zipfile.ZipFile(built / "dist" / f"{name}.zip") as archive:
            sizes = [entry.file_size for entry in archive.infolist()]
        assert (artifact["files"], artifact["unzipped_bytes"]) == (len(sizes), sum(sizes))
        parts = [function["source"], *function["distributions"]]
        assert sum(part["unzipped_bytes"] for part in parts) == sum(sizes)


def test_two_checkouts_give_the_same_bytes(tmp_path, lpack, index, cache, built, monkeypatch):
    other = project(tmp_path / "elsewhere" / "deeper")
    os.utime(other / "orders" / "app.py", (1, 1))
    monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path / "another-cache"))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    before = os.umask(0o077)
    try:
        build(lpack, other, "--jobs", "1")
    finally:
        os.umask(before)
    for name in ("orders.zip", "users.zip"):
        assert (other / "dist" / name).read_bytes() == (built / "dist" / name).read_bytes()


def test_unchanged_project_writes_nothing(built, lpack, index):
    asked = len(index.requests)
    before = {path: path.stat().st_mtime_ns for path in (built / "dist").iterdir()}
    finished = lpack("build", cwd=built)
    assert finished.stdout.count("unchanged") == 2
    assert {path: path.stat().st_mtime_ns for path in (built / "dist").iterdir()} == before
    assert len(index.requests) == asked


def test_a_touched_file_with_the_same_content_changes_nothing(built, lpack):
    (built / "orders" / "app.py").touch()
    finished = lpack("build", cwd=built)
    assert finished.stdout.count("unchanged") == 2


def test_one_changed_line_rebuilds_one_function(built, lpack):
    with (built / "orders" / "app.py").open("a") as file:
        file.write("# changed\n")
    lines = lpack("build", cwd=built).stdout.splitlines()
    assert [line.split()[0] for line in lines if " built " in line] == ["orders"]
    with zipfile.ZipFile(built / "dist" / "orders.zip") as archive:
        assert archive.read("app.py").endswith(b"# changed\n")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "orders" / "new.py").write_text("x = 1\n"),
        lambda folder: (folder / "orders" / "app.py").chmod(0o755),
        lambda folder: (
            (folder / "orders" / ".lpackignore").write_text("data\n") and (folder / "orders" / "x.bin").write_text("x")
        ),
        lambda folder: (folder / "orders" / "requirements.txt").write_text("alpha==1.0\nnative\n"),
        lambda folder: (folder / "dist" / "orders.zip").write_bytes(b"damaged"),
        lambda folder: (folder / "dist" / "orders.zip").unlink(),
    ],
)
def test_every_kind_of_change_is_seen(built, lpack, change):
    change(built)
    lines = lpack("build", cwd=built).stdout.splitlines()
    assert [line.split()[0] for line in lines if " built " in line] == ["orders"]
    names(built / "dist" / "orders.zip")


def test_a_lost_manifest_is_written_again(built, lpack):
    (built / "dist" / "lpack.json").unlink()
    assert lpack("build", cwd=built).stdout.count("unchanged") == 2
    assert (built / "dist" / "lpack.json").exists()


def test_named_functions_alone_are_built_and_the_manifest_keeps_the_rest(built, lpack):
    for name in ("orders", "users"):
        (built / name / "extra.py").write_text("x = 1\n")
    assert set(build(lpack, built, "users")["functions"]) == {"users"}
    manifest = json.loads((built / "dist" / "lpack.json").read_text())
    assert set(manifest["functions"]) == {"orders", "users"}
    assert "extra.py" in names(built / "dist" / "users.zip")
    assert "extra.py" not in names(built / "dist" / "orders.zip")


def test_a_function_that_is_no_longer_configured_leaves_the_output(built, lpack):
    (built / "lpack.toml").write_text(CONFIG.partition("[functions.users]")[0])
    (built / "dist" / "notes.txt").write_text("mine")
    build(lpack, built)
    assert sorted(path.name for path in (built / "dist").iterdir()) == [
        *("lpack.json", "notes.txt", "orders.cdx.json", "orders.zip")
    ]


def test_excluded_distributions_are_not_packed(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    (folder / "lpack.toml").write_text('exclude = ["Beta"]\n' + CONFIG)
    manifest = build(lpack, folder)
    assert [each["name"] for each in manifest["functions"]["orders"]["distributions"]] == ["alpha", "native"]


def test_a_table_for_a_package_that_nobody_needs_is_told(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    tables = "".join(f'[packages.{name}]\nbuilder = "host"\n' for name in ("alpa", "alpha", "left-out"))
    (folder / "lpack.toml").write_text(f'exclude = ["left-out"]\n{CONFIG}{tables}')
    finished = lpack("build", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert "[packages.alpa], and no function needs" in finished.stderr
    assert "[packages.alpha]" not in finished.stderr
    assert "left-out" not in finished.stderr


def test_warnings_of_the_project_are_printed_once_by_every_build(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    searched = 'discover = ["*", "!gone"]\n'
    (folder / "lpack.toml").write_text(f'{searched}{CONFIG}[packages.alpa]\nbuilder = "host"\n')
    for _ in range(3):  # built, looked at again, and answered from what is remembered
        stderr = lpack("build", cwd=folder).stderr
        assert stderr.count("[packages.alpa], and no function needs") == 1
        assert stderr.count("'!gone' leaves no folder out") == 1


def test_markers_are_those_of_the_target(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project", orders="marked\n")
    found = {}
    for arch in ("x86_64", "arm64"):
        manifest = build(lpack, folder, "--arch", arch, "orders")
        found[arch] = {f"{each['name']} {each['version']}" for each in manifest["functions"]["orders"]["distributions"]}
    assert found == {"x86_64": {"marked 1.0", "gamma 1.0", "beta 1.0"}, "arm64": {"marked 1.0", "beta 1.0"}}


def test_a_folder_needs_no_configuration(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    (folder / "lpack.toml").unlink()
    manifest = build(lpack, folder, "orders/")
    assert manifest["functions"]["orders"]["handler"] == "app.handler"
    assert "alpha/__init__.py" in names(folder / "dist" / "orders.zip")


def test_a_path_to_a_configured_folder_builds_it_in_place(tmp_path, lpack, index, cache):
    project(tmp_path / "project")
    build(lpack, tmp_path, "project/")
    assert (tmp_path / "project" / "dist" / "lpack.json").exists()


def test_stale_lock_is_used_with_a_warning(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project", orders="alpha==1.0\n")
    assert "pylock.orders.toml" in lpack("lock", cwd=folder).stdout
    (folder / "orders" / "requirements.txt").write_text("alpha==1.1\n")
    finished = lpack("build", "--json", cwd=folder)
    assert "pylock.orders.toml is stale" in finished.stderr
    orders = json.loads(finished.stdout)["functions"]["orders"]
    assert (orders["lock"], orders["distributions"][0]["version"]) == ("pylock.orders.toml", "1.0")
    refused = lpack("build", "--frozen", cwd=folder)
    assert refused.returncode == 2
    assert "stale" in refused.stderr
    assert lpack("lock", cwd=folder).stdout.split() == ["written", "pylock.orders.toml", "unchanged", "pylock.users.toml"]
    assert build(lpack, folder, "--frozen")["functions"]["orders"]["distributions"][0]["version"] == "1.1"


def test_frozen_without_a_lock_is_refused(tmp_path, lpack, index, cache):
    finished = lpack("build", "--frozen", cwd=project(tmp_path / "project"))
    assert finished.returncode == 2
    assert "lpack lock" in finished.stderr


def test_a_lock_for_another_target_is_refused(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    assert lpack("lock", cwd=folder).returncode == 0
    finished = lpack("build", "--arch", "arm64", cwd=folder)
    assert finished.returncode == 2
    assert "was made for python3.12-x86_64" in finished.stderr


def test_offline_builds_from_what_is_there(built, lpack, index, cache):
    for path in (built / "dist").iterdir():
        path.unlink()
    asked = len(index.requests)
    assert lpack("build", "--offline", cwd=built).returncode == 0
    assert len(index.requests) == asked


def test_sources_and_local_projects_are_built_once(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project", orders="greeting\n./lib\n", users="greeting\n")
    library = folder / "orders" / "lib"
    (library / "mylib").mkdir(parents=True)
    fixture = Path(__file__).parents[3] / "fixtures" / "packages" / "shared_lib"
    for path in fixture.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            to = folder / "lib" / path.relative_to(fixture)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
    (folder / "orders" / "requirements.txt").write_text("greeting\n../lib\n")
    finished = lpack("build", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("building greeting") == 1
    assert any(name.startswith("shared_lib/") for name in names(folder / "dist" / "orders.zip"))
    assert any(name.startswith("greeting/") for name in names(folder / "dist" / "users.zip"))
    left = sorted(path.name for path in (folder / "lib").iterdir())
    assert "build" not in left
    module = next((folder / "lib").rglob("__init__.py"))
    module.write_text(module.read_text() + "\nNEW = 1\n")
    lines = lpack("build", cwd=folder).stdout.splitlines()
    assert [line.split()[0] for line in lines if " built " in line] == ["orders"]


def test_over_a_budget_exits_with_three_and_names_the_largest(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    (folder / "lpack.toml").write_text(CONFIG.replace("[functions.users]", 'budget = { unzipped = "1 KB" }\n[functions.users]'))
    finished = lpack("build", cwd=folder)
    assert finished.returncode == 3
    assert "orders takes" in finished.stderr
    assert "Largest, unzipped: native 1.0" in finished.stderr
    assert not (folder / "dist" / "orders.zip").exists()
