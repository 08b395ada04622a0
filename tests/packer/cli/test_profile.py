"""`lpack profile`, and what `--trim max` makes of it: small functions, run for real."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.shaped import ARCHITECTURE, RUNTIME, Project, make_project
from tests.wheels import make_wheel

HANDLER = """\
import shop


def handler(event, context):
    if event.get("extra"):
        return __import__("shop.extra").extra.VALUE
    try:
        return shop.price() + __import__("shop.never").never.VALUE if event.get("never") else shop.price()
    except ImportError:
        return "swallowed"
"""
SHOP = b"""\
import pathlib

PLACE = pathlib.Path(__file__).parent


def price():
    return PLACE.joinpath("prices.txt").read_text().strip()
"""
EVENTS = 'verify = { events = ["events/*.json"] }'
FORM = 'profile = 1\nfunction = "one"\nruntime = "python3.11"\narchitecture = "x86_64"\n'
MAX = f'trim = "max"\n{EVENTS}'


def write_shop(folder: Path, version: str = "1.0") -> None:
    files = {
        "shop/__init__.py": SHOP,
        "shop/extra.py": b"VALUE = 'extra'\n",
        "shop/never.py": b"VALUE = 'never'\n",
        "shop/unused/__init__.py": b"",
        "shop/unused/deep.py": b"",
        "shop/prices.txt": b"1.50\n",
        "shop/large.bin": b"\1" * 20_000,
        f"shop-{version}.dist-info/licenses/LICENSE": b"MIT",
    }
    make_wheel(folder, "shop", version, files)


@pytest.fixture
def project(tmp_path, lpack, index, index_folder, cache) -> Project:
    write_shop(index_folder)
    project = make_project(tmp_path / "project", lpack, HANDLER, "shop\n", EVENTS)
    project.write({"events/plain.json": "{}", "events/extra.json": '{"extra": true}'})
    return project


def profile(project: Project) -> dict[str, Any]:
    return tomllib.loads((project.folder / "lpack-profile.one.toml").read_text())


def test_what_an_import_and_the_events_open_is_written_down(project):
    finished = project.run("profile")
    assert finished.stdout.startswith("written    lpack-profile.one.toml: ")
    assert "shop 19." in finished.stdout
    found = profile(project)
    assert (found["function"], found["distributions"]["shop"]["version"]) == ("one", "1.0")
    assert found["distributions"]["shop"]["opened"] == ["shop/__init__.py", "shop/extra.py", "shop/prices.txt"]
    assert not project.archive.exists()


def test_it_says_in_its_head_how_to_make_it_and_what_it_is_for(project):
    project.run("profile")
    lines = (project.folder / "lpack-profile.one.toml").read_text().splitlines()
    head = "\n".join(line for line in lines if line.startswith("#"))
    assert "lpack profile one" in head
    assert "lpack build --trim max" in head


def test_without_events_the_import_alone_is_seen_and_that_is_told(project):
    project.configure()
    assert "one has no sample events: only what its import opens is seen" in project.run("profile").stderr
    assert profile(project)["distributions"]["shop"]["opened"] == ["shop/__init__.py"]


def test_two_runs_give_the_same_bytes(project, tmp_path, monkeypatch):
    path = project.folder / "lpack-profile.one.toml"
    project.run("profile")
    first = path.read_bytes()
    project.run("profile")
    assert path.read_bytes() == first
    monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path / "another-cache"))
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    # Neither does what was built with it, or how, come into it.
    project.configure(MAX + '\nbytecode = "only"')
    project.run("build")
    project.run("profile")
    assert path.read_bytes() == first


@pytest.mark.parametrize("mode", ["beside", "only", "off"])
def test_level_max_removes_the_rest(project, mode):
    project.run("profile")
    project.configure(MAX)
    report = project.build("--bytecode", mode)
    gone = {each["rule"]: each for each in report["trim"]["removed"]}
    assert gone["profile"]["files"] == 5  # with the WHEEL of its dist-info
    assert gone["profile"]["bytes"] > 20_000
    assert "shop/large.bin" not in project.names()
    assert {"shop/prices.txt", "shop-1.0.dist-info/METADATA", "shop-1.0.dist-info/licenses/LICENSE"} <= project.names()
    assert project.answer({}) == "1.50"
    assert project.answer({"extra": True}) == "extra"


def test_a_module_that_is_gone_says_so_and_is_no_import_error(project):
    project.run("profile")
    project.configure(MAX)
    project.build()
    code = "import app\ntry: result = app.handler({'never': True}, None)\nexcept RuntimeError as error: result = str(error)"
    told = project.result(code)
    assert told.startswith("lpack removed the module shop.never from this package: the profile of the function one")
    assert "Run `lpack profile one` with a sample event that needs it" in told
    assert 'trim = { level = "max", keep = ["shop/never.py"] }' in told


def test_what_the_stub_says_mends_it(project):
    project.run("profile")
    project.configure(f'trim = {{ level = "max", keep = ["shop/never.py"] }}\n{EVENTS}')
    project.build()
    assert project.answer({"never": True}) == "1.50never"


def test_an_event_for_it_mends_it_too(project):
    project.write({"events/never.json": '{"never": true}'})
    project.run("profile")
    project.configure(MAX)
    project.build()
    assert project.answer({"never": True}) == "1.50never"


def test_a_whole_package_that_is_gone_leaves_one_stub(project):
    project.run("profile")
    project.configure(MAX)
    project.build("--bytecode", "off")
    assert {name for name in project.names() if "unused" in name} == {"shop/unused/__init__.py"}
    code = "try: import shop.unused.deep\nexcept RuntimeError as error: result = str(error)"
    assert "lpack removed the module shop.unused " in project.result(code)


def test_level_max_without_a_profile_says_what_to_run(project):
    project.configure(MAX)
    stderr = project.run("build", status=2).stderr
    assert "no profile says what it needs" in stderr
    assert "lpack profile one" in stderr


def test_level_max_without_distributions_needs_no_profile(project):
    project.write({"src/requirements.txt": "", "src/app.py": "def handler(event, context):\n    return 1\n"})
    project.configure(MAX)
    assert project.build()["trim"]["removed_bytes"] == 0


def test_an_event_that_the_profile_has_not_seen_is_caught_by_verification(project):
    project.run("profile")
    project.configure(MAX)
    project.write({"events/never.json": '{"never": true}'})
    stderr = project.run("build", status=4).stderr
    assert "profile of shop" in stderr
    assert "lpack removed the module shop.never" in stderr


def test_another_profile_is_another_build(project):
    project.run("profile")
    project.configure(MAX)
    project.build()
    path = project.folder / "lpack-profile.one.toml"
    path.write_text(path.read_text().replace('"shop/prices.txt"', '"shop/prices.txt",\n    "shop/large.bin"'))
    project.build()
    assert "shop/large.bin" in project.names()


def test_a_distribution_of_another_version_stays_whole_and_that_is_told(project, index_folder):
    project.run("profile")
    project.configure(MAX)
    write_shop(index_folder, "1.1")
    project.write({"src/requirements.txt": "shop==1.1\n"})
    finished = project.run("build")
    assert "shop" in finished.stderr
    assert "lpack profile one" in finished.stderr
    assert {"shop/large.bin", "shop/unused/deep.py"} <= project.names()


def test_sources_that_are_read_as_text_stay_beside_their_bytecode(project, index_folder):
    reflective = b"import pathlib\n\nVALUE = pathlib.Path(__file__).with_suffix('.py').read_text().count('VALUE')\n"
    make_wheel(index_folder, "reflective", "1.0", {"reflective/__init__.py": reflective, "reflective/other.py": b"1\n"})
    project.write({"src/requirements.txt": "reflective\n"})
    project.write({"src/app.py": "import reflective\n\ndef handler(event, context):\n    return reflective.VALUE\n"})
    project.run("profile")
    assert profile(project)["distributions"]["reflective"]["read"] == ["reflective/__init__.py"]
    project.configure(MAX)
    project.build("--bytecode", "only")
    assert "reflective/__init__.py" in project.names()
    assert project.answer({}) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not TOML", "is no profile"),
        ("profile = 9\n", "its form is 9"),
        ('profile = 1\nruntime = "python3.11"\n', "'function' is missing"),
        (
            f"{FORM}[distributions.shop]\nopened = []\n",
            "'version' is missing",
        ),
    ],
)
def test_a_profile_that_cannot_be_understood_is_named(project, text, told):
    project.configure(MAX)
    project.write({"lpack-profile.one.toml": text})
    stderr = project.run("build", status=2).stderr
    assert "lpack-profile.one.toml is no profile" in stderr
    assert told in stderr


def test_a_function_that_cannot_start_writes_no_profile(project):
    project.write({"src/app.py": "import os\nTABLE = os.environ['TABLE']\n\ndef handler(event, context):\n    return TABLE\n"})
    stderr = project.run("profile", status=4).stderr
    assert "one cannot be started here: KeyError: 'TABLE'" in stderr
    assert not (project.folder / "lpack-profile.one.toml").exists()


def test_a_profile_of_another_machine_removes_nothing_and_is_told_of(project):
    project.run("profile")
    path = project.folder / "lpack-profile.one.toml"
    other = "arm64" if ARCHITECTURE == "x86_64" else "x86_64"
    path.write_text(path.read_text().replace(f'architecture = "{ARCHITECTURE}"', f'architecture = "{other}"'))
    project.configure(MAX)
    stderr = project.run("build").stderr
    assert f"is for {RUNTIME} on {other}, and nothing is removed by it: run `lpack profile one` again." in stderr
    assert "shop/never.py" in project.names()


def test_an_event_that_fails_is_told_of(project):
    project.write({"src/app.py": "import shop\n\ndef handler(event, context):\n    raise LookupError('no table')\n"})
    assert "fails for the event extra.json (LookupError: no table)" in project.run("profile").stderr


def test_a_profile_that_cannot_be_written_is_no_crash(project):
    (project.folder / "lpack-profile.one.toml").mkdir()
    stderr = project.run("profile", status=1).stderr
    assert "Cannot write" in stderr
    assert "Traceback" not in stderr


def test_a_stub_is_explained_as_one(project):
    project.run("profile")
    project.configure(MAX)
    assert (
        "is there: a stub in the place of what the profile removed of shop 1.0"
        in project.run("build", "--explain", "shop/never.py").stdout
    )


def test_certificates_are_not_removed(project, index_folder):
    make_wheel(index_folder, "certs", "1.0", {"certs/__init__.py": b"", "certs/cacert.pem": b"x", "certs/other.txt": b"x"})
    project.write({"src/requirements.txt": "shop\ncerts\n"})
    project.run("profile")
    project.configure(MAX)
    project.build()
    assert "certs/cacert.pem" in project.names()
    assert "certs/other.txt" not in project.names()
