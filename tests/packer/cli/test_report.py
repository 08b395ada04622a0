"""`lpack report` and `lpack build --report`."""

from __future__ import annotations

import pytest


def test_a_report_is_of_what_was_built(repo):
    repo.function("one", repo.wheel("common"))
    repo.configure("one")
    assert "Run `lpack build` first." in repo.run("report", status=2).stderr
    finished = repo.run("build", "--report")
    assert "report: dist/lpack-report.html" in finished.stderr
    first = (repo.folder / "dist" / "lpack-report.html").read_bytes()
    assert b'<th scope="row">one</th>' in first
    assert repo.run("report").stdout == "dist/lpack-report.html\n"
    assert (repo.folder / "dist" / "lpack-report.html").read_bytes() == first
    assert repo.run("report", "--file", "other.html").stdout == "other.html\n"
    assert (repo.folder / "other.html").read_bytes() == first
    assert "a report always covers all functions" in repo.run("report", "one", status=2).stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[]", "the file is missing, or not what it should be"),
        ('{"functions": {"one": {}}}', "functions.one.format is missing, or not what it should be"),
        ('{"functions": ' + '{"a": ' * 100_000, "nested too deeply"),
    ],
)
def test_a_damaged_manifest_is_told(repo, content, expected):
    repo.function("one")
    repo.configure("one")
    repo.build()
    (repo.folder / "dist" / "lpack.json").write_text(content)
    finished = repo.run("report", status=2)
    assert expected in finished.stderr
    assert "run `lpack build`" in finished.stderr


def test_a_report_stays_when_nothing_is_built_and_when_something_is(repo):
    repo.function("one")
    repo.configure("one")
    repo.run("build", "--report")
    assert "unchanged" in repo.run("build").stdout
    assert (repo.folder / "dist" / "lpack-report.html").is_file()
    (repo.folder / "one" / "more.py").write_text("VALUE = 1\n")
    repo.run("build")
    assert (repo.folder / "dist" / "lpack-report.html").is_file()


def test_the_sizes_of_builds_are_remembered(repo):
    repo.function("one")
    repo.configure("one")
    for number in range(3):
        (repo.folder / "one" / "data.txt").write_text("x" * number * 5000)
        repo.run("build")
    repo.run("build")
    repo.run("report")
    page = (repo.folder / "dist" / "lpack-report.html").read_text()
    assert "over 3 builds on this machine" in page
