"""`lpack diff`: any two of archives, builds, images, baselines, commits, and the project as it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.images import write_base
from tests.monorepo import Monorepo
from tests.repository import git, make_repository


def build_two(repo: Monorepo) -> Monorepo:
    """Build a project in two states, into `old` and `dist`."""
    (repo.folder / "wheels").mkdir(parents=True, exist_ok=True)
    common, alone = repo.wheel("common"), repo.wheel("alone", "1.0")
    repo.function("one", common)
    repo.function("two", common, alone)
    repo.function("gone")
    repo.configure("one", "two", "gone")
    repo.build()
    shutil.copytree(repo.folder / "dist", repo.folder / "old")
    repo.function("two", common, repo.wheel("alone", "2.0", files={"alone/more.txt": b"x" * 5000}))
    (repo.folder / "one" / "new.txt").write_text("new")
    repo.configure("one", "two")
    repo.build()
    return repo


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("two")
    return folder


@pytest.fixture
def two(place, lpack, monkeypatch) -> Iterator[Monorepo]:
    """Give a project that was built in two states; what a test adds to its folder goes, what is in it must stay as it is."""
    monkeypatch.setenv("LPACK_CACHE_DIR", str(place / "cache"))
    repo = Monorepo(folder=place / "project", lpack=lpack)
    if not repo.folder.exists():
        build_two(repo)
    before = {*repo.folder.iterdir()}
    yield repo
    for path in {*repo.folder.iterdir()} - before:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@pytest.fixture
def two_to_change(repo) -> Monorepo:
    """Give such a project for one test alone."""
    return build_two(repo)


def compared(repo: Monorepo, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(repo.run("diff", *arguments, "--format", "json").stdout)
    return found


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {name: each["status"] for name, each in document["functions"].items()}


def test_two_builds_differ_by_function_distribution_kind_and_file(two):
    document = compared(two, "old", "dist/lpack.json")
    assert statuses(document) == {"gone": "removed", "one": "changed", "two": "changed"}
    changed = document["functions"]["two"]
    [part] = [each for each in changed["distributions"] if each["status"] != "same"]
    assert (part["name"], part["versions"]) == ("alone", ["1.0", "2.0"])
    assert part["bytes"][1] - part["bytes"][0] >= 5000
    assert "alone/more.txt" in [each["path"] for each in changed["files"]["added"]]
    assert "alone-1.0.dist-info/METADATA" in [each["path"] for each in changed["files"]["removed"]]
    assert "alone/data.bin" in [each["path"] for each in changed["files"]["changed"]]
    assert changed["kinds"]["data"][1] - changed["kinds"]["data"][0] == 5000
    own = document["functions"]["one"]
    assert [each["path"] for each in own["files"]["added"]] == ["new.txt"]
    assert [each["name"] for each in own["distributions"] if each["status"] != "same"] == ["the function's own source"]
    assert {name: each["status"] for name, each in document["layers"].items()} == {"common": "same"}


def test_sizes_are_those_of_the_files(two):
    document = compared(two, "old", "dist")
    for side, folder in enumerate(("old", "dist")):
        for name, each in document["functions"].items():
            path = two.folder / folder / f"{name}.zip"
            if path.exists():
                assert each["zip_bytes"][side] == path.stat().st_size
                with zipfile.ZipFile(path) as archive:
                    assert each["unzipped_bytes"][side] == sum(info.file_size for info in archive.infolist())
            else:
                assert each["zip_bytes"][side] == 0


def test_what_is_the_same_does_not_differ(two):
    assert two.run("diff", "dist", "dist").stdout == "Nothing differs.\n"
    assert two.run("diff", "dist").stdout == "Nothing differs.\n"  # the project as it is


def test_single_archives_are_compared(two):
    document = compared(two, "old/two.zip", "dist/two.zip")
    assert statuses(document) == {"the archive": "changed"}
    shutil.copy(two.folder / "old" / "two.zip", two.folder / "a.zip")
    with zipfile.ZipFile(two.folder / "a.zip") as archive:
        archive.extractall(two.folder / "plain")
    subprocess.run(["zip", "-qr", "../b.zip", "."], cwd=two.folder / "plain", check=True)
    again = compared(two, "a.zip", "b.zip")["functions"]["the archive"]
    assert again["files"] == {"added": [], "removed": [], "changed": []}
    assert {each["name"] for each in again["distributions"]} == {"alone", "the function's own source"}
    assert again["distributions"][0]["versions"] == ["1.0", "1.0"]


def test_commits_and_baselines_are_compared(two_to_change):
    two = two_to_change
    two.run("baseline")
    make_repository(two.folder)
    before = git(two.folder, "rev-parse", "HEAD")
    (two.folder / "one" / "new.txt").write_text("newer")
    document = compared(two, f"git:{before}")
    assert statuses(document) == {"one": "changed", "two": "same"}
    assert document["functions"]["one"]["unzipped_bytes"][1] - document["functions"]["one"]["unzipped_bytes"][0] == 2
    assert "files" not in document["functions"]["one"]
    assert compared(two, "lpack-baseline.json", "now")["functions"]["one"]["status"] == "changed"


def test_after_a_baseline_nothing_differs_from_it(two_to_change):
    two = two_to_change
    two.run("baseline")
    for side in ("now", "dist", "dist/lpack.json"):
        assert two.run("diff", "lpack-baseline.json", side).stdout == "Nothing differs.\n"
        assert two.run("diff", side, "lpack-baseline.json").stdout == "Nothing differs.\n"
    two.function("one", two.wheel("common", "2.0", files={"common/more.bin": b"x" * 9000}))
    changed = compared(two, "lpack-baseline.json")["functions"]["one"]
    [part] = [each for each in changed["distributions"] if each["status"] != "same" and each["name"] == "common"]
    assert part["versions"] == ["", ""]
    assert part["bytes"][1] - part["bytes"][0] > 8000


def test_an_image_by_itself_is_what_lpack_put_upon_its_base(repo):
    repo.function("one", repo.wheel("common"))
    write_base(repo.folder / "base")
    settings = 'format = "image"\nverify = "none"\nbytecode = "off"'
    repo.configure("one", settings=settings, more='[oci]\nbase = "oci:base"\nwrite = ["oci", "docker-archive"]\n')
    repo.run("build")
    shutil.copytree(repo.folder / "dist", repo.folder / "old")
    repo.function("one", repo.wheel("common", "2.0"))
    repo.run("build")
    [changed] = compared(repo, "old/images/one", "dist/images/one")["functions"].values()
    parts = {each["name"]: each["versions"] for each in changed["distributions"]}
    assert parts == {"common": ["1.0", "2.0"], "the function's own source": ["", ""]}
    archives = compared(repo, "old/images/one.tar", "dist/images/one.tar")["functions"]["the image"]
    assert "etc/os-release" not in [each["path"] for each in archives["files"]["changed"]]
    assert "var/task/common/data.bin" in [each["path"] for each in archives["files"]["changed"]]


def test_table_and_markdown_show_the_differences(two):
    lines = two.run("diff", "old", "dist", "--files").stdout.splitlines()
    assert lines[0].startswith("- function gone  removed: ")
    assert "~ function two" in " ".join(lines)
    assert any(line.strip().startswith("~ alone 1.0 -> 2.0  +") for line in lines)
    assert any(line.strip().startswith("+ alone/more.txt  4.9 KB") for line in lines)
    comment = two.run("diff", "old", "dist", "--format", "markdown").stdout
    assert comment.startswith("### Package sizes: `old` → `dist`\n")
    assert "| Function **two** | " in comment
    assert "- changed: alone 1.0 -> 2.0" in comment
    assert "1 more without a change." in comment
    rows = [line for line in comment.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {6}
    assert "No change in 3 functions and layers." in two.run("diff", "dist", "dist", "--format", "markdown").stdout


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "There is no other"),
        (b"no archive", "is not a readable archive"),
        (b"", "is not a readable archive"),
    ],
)
def test_what_cannot_be_compared_is_told(two, content, expected):
    if content is not None:
        (two.folder / "other").write_bytes(content)
    finished = two.run("diff", "other", "dist", status=2 if content is None else 1)
    assert expected in finished.stderr


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.json", "[]", "neither a manifest nor a baseline"),
        ("x.json", '{"functions": {"a": {}}}', "neither a manifest nor a baseline"),
        ("x.tar", "nothing", "no docker-archive that can be read"),
        ("x/oci-layout", "{}", "no OCI layout that can be read"),
        ("x/other", "", "has neither an lpack.json nor an OCI layout"),
    ],
)
def test_what_is_broken_is_told(two, name, content, expected):
    path = two.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    assert expected in two.run("diff", name.partition("/")[0], "dist", status=2).stderr
