"""`lpack check` and `lpack baseline`: what they say before a build is what the build then is."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.emulator import use_no_emulator
from tests.images import plain_layer, tar_of, write_base
from tests.index import Fault
from tests.monorepo import Monorepo, noise
from tests.packages import source_files
from tests.repository import commit, git, make_repository
from tests.wheels import make_wheel


@pytest.fixture
def shared(repo):
    """Give a project of three functions, two of which share a distribution."""
    common, alone = (
        repo.wheel("common"),
        repo.wheel("alone", files={"alone/tests/test_it.py": b"# " + noise("tests", 50_000).hex().encode()}),
    )
    repo.function("one", common)
    repo.function("two", common, alone)
    repo.function("three")
    repo.configure("one", "two", "three")
    return repo


def checked(repo: Monorepo, *flags: str, status: int = 0) -> dict[str, Any]:
    """Give what the command prints as JSON."""
    found: dict[str, Any] = json.loads(repo.run("check", "--json", *flags, status=status).stdout)
    return found


def test_what_is_predicted_is_what_is_built(shared):
    before = checked(shared)
    assert not (shared.folder / "dist").exists()
    manifest = shared.build()
    assert set(before["layers"]) == set(manifest["layers"]) != set()
    for name, layer in manifest["layers"].items():
        expected = {key: layer[key] for key in ("zip_bytes", "unzipped_bytes", "functions")}
        assert {key: before["layers"][name][key] for key in expected} == expected
    for name, function in manifest["functions"].items():
        expected = {key: function["artifact"][key] for key in ("zip_bytes", "unzipped_bytes")}
        assert {key: before["functions"][name][key] for key in expected} == expected
        assert before["functions"][name]["exact"]
        assert before["functions"][name]["layers"] == function.get("layers", [])
    after = checked(shared)
    assert after == before


def test_a_build_after_a_check_writes_every_archive(shared):
    shared.run("check")
    assert set(shared.build()["functions"]) == {"one", "two", "three"}  # which holds them against their files


def test_over_a_budget_ends_with_three_and_says_what_would_help(shared):
    shared.configure("one", "two", "three", settings='trim = "none"', of={"two": 'budget = { zip = "60 KB" }'})
    finished = shared.run("check", status=3)
    assert "two takes" in finished.stderr
    assert "over its budget for the ZIP of 60.0 KB" in finished.stderr
    assert "Largest, unzipped: alone 1.0" in finished.stderr
    assert re.search(r"drop tests: -5[0-9]\.[0-9] KB", finished.stderr)  # zipped, as the budget is
    assert "move alone to a layer" in finished.stderr
    assert "OVER" in next(line for line in finished.stdout.splitlines() if line.startswith("two"))
    document = checked(shared, status=3)
    [problem] = document["problems"]
    assert (problem["of"], problem["limit"]) == ("two", "zip")
    assert "over its budget for the ZIP" in shared.run("build", status=3).stderr
    assert checked(shared, "one") == {**document, "functions": {"one": document["functions"]["one"]}, "problems": []}


@pytest.mark.parametrize(("more", "expected"), [("", True), ('[oci]\nbase = "oci:base"\n', False)])
def test_what_the_runtime_has_is_advised_to_be_left_out_unless_the_base_is_another(shared, more, expected):
    write_base(shared.folder / "base")
    shared.function("one", shared.wheel("boto3"))
    image = 'format = "image"\n' if more else ""
    shared.configure("one", settings=f'{image}trim = "none"\nbudget = {{ unzipped = "1 KB" }}', more=more)
    finished = shared.run("check", status=3)
    assert ('exclude = ["runtime"]: the runtime has boto3' in finished.stderr) is expected


def test_a_package_without_a_wheel_counts_by_its_source_and_then_as_it_was_built(shared):
    (shared.folder / "local").mkdir()
    for name, content in {**source_files("mine"), "notes.txt": b"x" * 50_000}.items():
        (shared.folder / "local" / name).write_bytes(content)
    shared.function("one")
    (shared.folder / "one" / "requirements.txt").write_text("../local\n")
    shared.configure("one", settings='bytecode = "off"')
    [found] = checked(shared)["functions"]["one"]["distributions"]
    assert (found["name"], found["known_by"]) == ("mine", "source")
    assert 0 < found["unzipped_bytes"] < 9000  # its modules, and not what else lies beside them
    manifest = shared.build()
    [found] = checked(shared)["functions"]["one"]["distributions"]
    [built] = manifest["functions"]["one"]["distributions"]
    assert (found["known_by"], found["unzipped_bytes"]) == ("wheel", built["unzipped_bytes"])


def test_a_layer_has_a_budget(shared):
    shared.configure("one", "two", settings='layers = "auto"\nlayer-budget = { zip = "1 KB" }')
    finished = shared.run("check", status=3)
    assert "The layer common-" in finished.stderr
    assert "over its budget for the ZIP of 1.0 KB" in finished.stderr
    assert "The layer common-" in shared.run("build", status=3).stderr


def test_every_problem_is_told_at_once(shared):
    shared.configure("one", "two", "three", settings='budget = { unzipped = "10 B" }')
    document = checked(shared, status=3)
    assert [each["of"] for each in document["problems"]] == ["one", "two", "three"]


def test_a_second_look_says_the_same_and_loads_nothing(shared):
    shared.configure("one", "two", "three", settings='layers = "auto"\nbudget = { unzipped = "10 B" }')
    first, second, third = (shared.run("check", status=3) for _ in range(3))
    assert (first.stdout, first.stderr) == (second.stdout, second.stderr) == (third.stdout, third.stderr)
    (shared.folder / "quick.py").write_text(
        "import sys\nfrom packer.cli import main\nsys.argv = ['lpack', 'check']\n"
        "heavy = {'click', 'packer.cli.app', 'rich', 'docker', 'requests'}\n"
        "try:\n    main()\nfinally:\n    sys.stderr.write(f'loaded {sorted(heavy & set(sys.modules))}')\n"
    )
    # Run three times: what decides an answer must be settled before it is believed.
    command = [sys.executable, "quick.py"]
    runs = [subprocess.run(command, cwd=shared.folder, capture_output=True, text=True, check=False) for _ in range(3)]
    assert {each.returncode for each in runs} == {3}
    assert {each.stdout for each in runs} == {first.stdout}
    assert runs[-1].stderr == f"{first.stderr}loaded []"


@pytest.mark.parametrize("what", ["source", "requirements", "configuration", "baseline", "start"])
def test_any_change_of_inputs_is_noticed(shared, what, monkeypatch, index_folder):
    use_no_emulator(monkeypatch, index_folder)
    before = checked(shared)
    assert checked(shared) == before
    folder = shared.folder
    if what == "source":
        (folder / "one" / "more.py").write_text("VALUE = 1\n")
    elif what == "requirements":
        shared.function("three", shared.wheel("common"))
    elif what == "configuration":
        shared.configure("one", "two", "three", settings='layers = "none"')
    elif what == "baseline":
        shared.run("baseline")
        shared.configure("one", "two", "three", settings='layers = "auto"\nbudget = { growth = "0 %" }')
        baseline = json.loads((folder / "lpack-baseline.json").read_text())
        assert checked(shared)["problems"] == []
        baseline["functions"]["one"]["unzipped_bytes"] -= 1
        (folder / "lpack-baseline.json").write_text(json.dumps(baseline))
    else:
        shared.function("three", source="import time\ntime.sleep(0.05)")
        shared.configure("one", "two", "three", of={"three": 'budget = { init = "1 ms" }'})
        [warning] = checked(shared)["warnings"]
        assert "run `lpack coldstart three`" in warning
        assert "over its budget of 1 ms" in shared.run("coldstart", "three", "--rounds", "1", status=3).stderr
    status = 3 if what in ("baseline", "start") else 0
    assert checked(shared, status=status) != before


def test_growth_is_measured_against_a_baseline(shared):
    assert "written  lpack-baseline.json  (3 functions)" in shared.run("baseline").stdout
    shared.configure("one", "two", "three", settings='layers = "auto"\nbudget = { growth = "1 KB" }')
    assert checked(shared)["problems"] == []
    (shared.folder / "three" / "data.txt").write_text("x" * 3000)
    document = checked(shared, status=3)
    [problem] = document["problems"]
    assert problem["of"] == "three (unzipped)"
    assert problem["limit"] == "growth"
    assert problem["largest"] == [{"name": "the function's own source", "bytes": 3000}]


def test_the_growth_of_a_layer_is_told(shared):
    shared.run("baseline")
    larger = shared.wheel("common", "2.0", {"common/more.bin": noise("more", 9000)})
    shared.function("one", larger)
    shared.function("two", larger, shared.wheel("alone"))
    settings = 'layers = "auto"\nlayer-budget = { growth = "1 KB" }'
    shared.configure("one", "two", "three", settings=settings)
    document = checked(shared, status=3)
    [(name, layer)] = document["layers"].items()
    assert [(each["what"], each["over"]) for each in layer["limits"]][-2:] == [("growth", True), ("growth", True)]
    assert [each["of"] for each in document["problems"]] == [f"The layer {name} (unzipped)", f"The layer {name} (zipped)"]
    finished = shared.run("check", status=3)
    assert "growth, OVER" in next(line for line in finished.stdout.splitlines() if line.startswith(name))
    assert "divide it between several layers" in finished.stderr


def test_a_layers_budget_that_is_tightened_after_a_build_holds(shared):
    shared.build()
    shared.configure("one", "two", "three", settings='layers = "auto"\nlayer-budget = { zip = "1 KB" }')
    finished = shared.run("build", status=3)
    assert "The layer common-" in finished.stderr
    shared.configure("one", "two", "three", settings='layers = "auto"\nlayer-budget = { zip = "1 MB" }')
    assert "unchanged" in shared.run("build").stdout


def test_an_images_budget_that_is_tightened_after_a_build_holds(shared):
    write_base(shared.folder / "base")
    settings, more = 'format = "image"\nverify = "none"\nbytecode = "off"', '[oci]\nbase = "oci:base"\n'
    shared.configure("one", settings=settings, more=more)
    shared.run("build")
    shared.configure("one", settings=f'{settings}\nbudget = {{ image = "1 KB" }}', more=more)
    assert "over its budget for the image of 1.0 KB" in shared.run("build", status=3).stderr
    assert checked(shared, status=3)["problems"][0]["limit"] == "image"


def test_a_base_that_cannot_be_read_is_told_and_looked_for_again(shared):
    settings, more = 'format = "image"\nbudget = {{ image = "1 KB" }}', '[oci]\nbase = "localhost:{}/base:1"\n'
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    shared.configure("one", settings=settings.format(), more=more.format(port))
    for _ in range(2):
        document = checked(shared)
        assert document["problems"] == []
        [warning] = document["warnings"]
        assert f"one: its base localhost:{port}/base:1 is not counted" in warning


def test_what_was_in_an_old_commit_is_not_held_against_it(shared):
    (shared.folder / "one" / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n")
    make_repository(shared.folder)
    first = git(shared.folder, "rev-parse", "HEAD")
    (shared.folder / "one" / "key.pem").unlink()
    assert checked(shared, "--strict", "--baseline", f"git:{first}")["problems"] == []


def test_growth_is_measured_against_a_commit(shared):
    shared.configure("one", "two", "three", settings='layers = "auto"\nbudget = { growth = "3 %" }')
    make_repository(shared.folder)
    first = git(shared.folder, "rev-parse", "HEAD")
    (shared.folder / "three" / "data.txt").write_text("x" * 3000)
    commit(shared.folder)
    assert checked(shared, "--baseline", "git:HEAD")["problems"] == []
    problems = checked(shared, "--baseline", f"git:{first}", status=3)["problems"]
    assert {each["of"] for each in problems} == {"three (unzipped)", "three (zipped)"}
    assert git(shared.folder, "status", "--porcelain") == ""
    assert "git knows no commit 'nosuch'" in shared.run("check", "--baseline", "git:nosuch", status=2).stderr


def test_a_folder_that_is_in_no_commit_is_told(shared):
    make_repository(shared.folder)
    (shared.folder / "lpack.toml").unlink()
    shared.function("fresh")
    finished = shared.run("check", "./fresh", "--baseline", "git:HEAD", status=2)
    assert "HEAD has no fresh." in finished.stderr


def test_a_manifest_is_a_baseline(shared):
    shared.build()
    shared.configure("one", "two", "three", settings='layers = "auto"\nbudget = { growth = "0 %" }')
    assert checked(shared, "--baseline", "dist/lpack.json")["problems"] == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "Cannot read"),
        ("nonsense", "is neither a manifest nor a baseline"),
        ("{}", "is neither a manifest nor a baseline"),
        ("[]", "is neither a manifest nor a baseline"),
        ('{"functions": {"one": {}}, "layers": {}}', "is neither a manifest nor a baseline"),
        ("[" * 100_000, "is neither a manifest nor a baseline"),
        (
            '{"functions": {"one": {"zip_bytes": 1, "unzipped_bytes": 1, "parts": []}}, "layers": {}}',
            "is neither a manifest nor a baseline",
        ),
        (
            '{"functions": {"one": {"zip_bytes": 1, "unzipped_bytes": 1, "parts": {"x": "5"}}}, "layers": {}}',
            "sizes that are no numbers",
        ),
        (
            '{"functions": {"one": {"zip_bytes": "1", "unzipped_bytes": 1, "parts": {}}}, "layers": {}}',
            "sizes that are no numbers",
        ),
    ],
)
def test_a_baseline_that_is_none_is_refused(shared, content, expected):
    if content is not None:
        (shared.folder / "old.json").write_text(content)
    assert expected in shared.run("check", "--baseline", "old.json", status=2).stderr


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ('{ zipp = "1 MB" }', "Did you mean 'zip'?"),
        ('{ growth = "5 percent" }', "10 MB or 5 %"),
        ("{ growth = 5 }", "a string that is not empty is expected"),
        ('{ image = "ten" }', 'such as image = "10 MB"'),
    ],
)
def test_a_budget_that_cannot_be_read_is_refused(shared, budget, expected):
    shared.configure("one", settings=f"budget = {budget}")
    assert expected in shared.run("check", status=2).stderr


def test_what_a_server_did_not_tell_is_asked_for_again(repo, index):
    wheel = make_wheel(index.folder, "pkg", "1.0", {"pkg/__init__.py": b"", "pkg/data.bin": noise("pkg")})
    repo.function("one", "pkg")
    (repo.folder / "one" / "requirements.txt").write_text("pkg\n")
    repo.configure("one")
    repo.run("lock")
    index.fault(wheel.name, Fault(status=404, times=1))
    first = checked(repo)
    assert [each["known_by"] for each in first["functions"]["one"]["distributions"]] == ["size"]
    assert "one: no server says what is in pkg: sizes are rough." in first["warnings"]
    second = checked(repo)
    assert [each["known_by"] for each in second["functions"]["one"]["distributions"]] == ["directory"]
    assert second["warnings"] == []
    asked = len(index.requests)
    assert checked(repo) == second
    assert len(index.requests) == asked


def test_package_of_unknown_size_is_reported(repo, index):
    wheel = make_wheel(index.folder, "pkg", "1.0", {"pkg/__init__.py": b""})
    repo.function("one")
    (repo.folder / "one" / "requirements.txt").write_text("pkg\n")
    repo.configure("one")
    repo.run("lock")
    [lock] = repo.folder.rglob("pylock*.toml")
    lock.write_text(re.sub(r"size = \d+,? ?", "", lock.read_text()))
    index.fault(wheel.name, Fault(status=404))
    document = checked(repo, "--offline")
    assert [each["known_by"] for each in document["functions"]["one"]["distributions"]] == ["nothing"]
    assert "one: nothing says the size of pkg, which counts as none." in document["warnings"]


def test_a_baseline_is_of_all_functions(shared):
    assert "a baseline always covers all functions" in shared.run("baseline", "one", status=2).stderr


def test_an_image_is_checked_with_what_is_known_of_its_base(shared):
    shared.configure("one", settings='format = "image"\nbudget = { unzipped = "10 KB" }')
    document = checked(shared, "--offline", status=3)
    assert document["functions"]["one"]["format"] == "image"
    assert not document["functions"]["one"]["exact"]
    [problem] = document["problems"]
    assert problem["limit"] == "unzipped"
    assert "base" not in "".join(problem["advice"])


def test_an_image_has_no_zip_and_may_have_a_smaller_base(shared):
    write_base(shared.folder / "base", plain_layer(), tar_of(("large.bin", noise("large", 3_000_000))))
    shared.configure(
        "one",
        settings='format = "image"\nbudget = { zip = "1 KB", image = "1 MB", growth = "1 KB" }',
        more='[oci]\nbase = "oci:base"\n',
    )
    shared.run("baseline")
    (shared.folder / "one" / "more.bin").write_bytes(noise("more"))
    finished = shared.run("check", status=3)
    assert " stored " in finished.stdout
    assert "over its budget for what is stored of an image (zip)" in finished.stderr
    assert "one (stored) takes" in finished.stderr
    assert "name a smaller base (oci.base): oci:base takes 2.9 MB packed" in finished.stderr
    assert "zipped" not in finished.stdout.replace("unzipped", "")
    assert "zipped" not in finished.stderr.replace("unzipped", "")
