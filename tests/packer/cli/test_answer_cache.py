"""Answers that are given again: only where nothing that decided them has changed, wherever it may lie."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from packer.cache.local import store_folder
from packer.cli.answer_cache import _find_cache_folder
from tests.forkserver import CommandServer
from tests.monorepo import Monorepo

CHANGES = ("source", "new file", "requirements", "configuration", "nearer configuration", "variable", "flag")
_FRESH = (
    "import sys\nfrom packer.cli import main\n"
    "try:\n    main()\nfinally:\n    sys.stderr.write('SLOW' if 'click' in sys.modules else 'QUICK')\n"
)
"""Says whether the command line itself was imported, in a Python that had imported nothing."""
_FORKED = """\
import sys
from packer.cli import app, main
asked, run = [], app.run
app.run = lambda: (asked.append(True), run())
try:
    main()
finally:
    sys.stderr.write('SLOW' if asked else 'QUICK')
"""
"""Says whether the command line itself was asked."""


class Project(Monorepo, frozen=True, kw_only=True):
    """A project, and what runs commands in it."""

    server: CommandServer


@pytest.fixture
def project(repo, command_server) -> Project:
    project = Project(folder=repo.folder, lpack=repo.lpack, server=command_server)
    project.function("one", project.wheel("common"))
    project.function("two")
    project.configure("one", "two", settings="")
    return project


def run(project: Project, *arguments: str, cwd: str = ".", **variables: str) -> tuple[str, bool]:
    """Run a command, and give what it printed, and whether that was given again."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return answer_of(project.server.run(arguments, project.folder / cwd, 60, _FORKED))


def run_fresh(project: Project, *arguments: str) -> tuple[str, bool]:
    """Do the same in a new Python."""
    command = [sys.executable, "-c", _FRESH, *arguments]
    return answer_of(subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False))


def answer_of(done: subprocess.CompletedProcess[str]) -> tuple[str, bool]:
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.endswith("QUICK")


def settled(project: Project, *arguments: str, cwd: str = ".") -> str:
    """Run a command until its answer is given again, and give that."""
    for _ in range(4):
        text, quick = run(project, *arguments, cwd=cwd)
        if quick:
            return text
    raise AssertionError("never given again")


def test_in_a_hook_it_does_not_matter_who_commits_and_when(project):
    for number in range(4):
        _, quick = run(
            project, "check", GIT_AUTHOR_DATE=f"@{number} +0000", GIT_COMMITTER_NAME=str(number), GIT_INDEX_FILE=str(number)
        )
    assert quick


def test_at_most_eight_answers_to_a_command_are_kept(project):
    for number in range(12):
        run(project, "check", ANYTHING=str(number))
    folder = Path(os.environ["LPACK_CACHE_DIR"]) / "projects"
    assert len([path for path in folder.iterdir() if "-" in path.name]) == 8
    assert run(project, "check", ANYTHING="11")[1]


@pytest.mark.parametrize("command", ["build", "check"])
def test_an_answer_is_given_again_as_it_was(project, command):
    run(project, command)
    slow, _ = run(project, command)
    assert settled(project, command) == slow


@pytest.mark.parametrize("command", ["build", "check"])
def test_what_is_given_again_imports_no_command_line(project, command):
    answers = [run_fresh(project, command) for _ in range(5)]
    assert [quick for _, quick in answers] == sorted(quick for _, quick in answers)
    (slow, _), (text, quick) = answers[1], answers[-1]
    assert quick
    assert text == slow


@pytest.mark.parametrize("command", ["build", "check"])
@pytest.mark.parametrize(
    "what", ["source", "new file", "requirements", "configuration", "nearer configuration", "variable", "flag"]
)
def test_changed_input_discards_the_answer(project, command, what):
    settled(project, command)
    folder: Path = project.folder
    arguments, variables, cwd = [command], {}, "."
    if what == "source":
        (folder / "one" / "app.py").write_text((folder / "one" / "app.py").read_text() + "\n# changed\n")
    elif what == "new file":
        (folder / "two" / "new.txt").write_text("new")
    elif what == "requirements":
        (folder / "two" / "requirements.txt").write_text((folder / "one" / "requirements.txt").read_text())
    elif what == "configuration":
        project.configure("one", settings="")
    elif what == "nearer configuration":
        cwd = "one"
        settled(project, command, cwd=cwd)
        (folder / "one" / "lpack.toml").write_text(
            (folder / "lpack.toml").read_text().replace('source = "one"', 'source = "."')
        )
        with pytest.raises(AssertionError):
            run(project, command, cwd=cwd)  # which names a function that is not there from here
        return
    elif what == "variable":
        variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    else:
        arguments.append("--offline")
    assert not run(project, *arguments, cwd=cwd, **variables)[1]


@pytest.mark.parametrize("what", ["archive", "manifest", "bill", "touched"])
def test_a_build_looks_at_what_it_wrote(project, what):
    settled(project, "build")
    out = project.folder / "dist"
    path = {
        "archive": out / "one.zip",
        "manifest": out / "lpack.json",
        "bill": out / "one.cdx.json",
        "touched": out / "one.zip",
    }[what]
    before = path.read_bytes()
    if what == "touched":
        path.write_bytes(before[:-1] + b"x")
    else:
        path.unlink()
    assert not run(project, "build")[1]
    assert path.read_bytes() == before


def test_an_argument_that_becomes_a_folder_is_another_one(project):
    settled(project, "check", "one")
    text, quick = run(project, "check", "one")
    assert quick
    assert text.startswith("one")
    (project.folder / "one" / "lpack.toml").write_text('[functions.other]\nsource = "."\nhandler = "app.handler"\n')
    assert not run(project, "check", "one")[1]


def test_damaged_answer_is_ignored(project):
    text = settled(project, "check")
    for path in (Path(os.environ["LPACK_CACHE_DIR"]) / "projects").iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    again, quick = run(project, "check")
    assert again == text
    assert not quick


@pytest.mark.parametrize(
    "variables", [{}, {"XDG_CACHE_HOME": "/somewhere"}, {"LPACK_CACHE_DIR": "relative"}, {"XDG_CACHE_HOME": ""}]
)
def test_the_cache_is_where_the_store_says(monkeypatch, variables):
    for name in ("LPACK_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Path(_find_cache_folder()) == store_folder()


def test_what_is_not_a_plain_build_is_never_remembered(project):
    project.run("build")
    for flags in (("--upgrade",), ("--report",), ("--explain", "app.py")):
        for _ in range(3):
            assert not run(project, "build", *flags)[1]


def test_closed_pipe_is_no_traceback(project):
    settled(project, "check", "--json")
    command = f"{sys.executable} -m packer.cli check --json | true"
    done = subprocess.run(["bash", "-c", command], cwd=project.folder, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
