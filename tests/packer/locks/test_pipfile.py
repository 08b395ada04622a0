"""Pipfile.lock: its categories on a target, its indexes, and what does not come from an index."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from builders.runtimes import Target
from packer.core.errors import ResolveError, UsageError
from packer.core.model import Archive, LockedPackage, Repository, Requirements, SourceFolder
from packer.formats.requirements_txt import ARCHIVE_SUFFIXES
from packer.locks.pins import Pin
from packer.locks.pipfile import PipfileReader

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"
REAL = FIXTURES / "locks" / "pipfile" / "Pipfile.lock"
X86, ARM = Target.of("python3.12", "x86_64"), Target.of("python3.12", "arm64")
FIRST, SECOND = "ab" * 32, "cd" * 32
PUBLIC = {"name": "pypi", "url": "https://pypi.example/simple", "verify_ssl": True}
OWN = {"name": "own", "url": "https://${NAME}:${WORD}@index.example.com/simple", "verify_ssl": True}
ALPHA = {"hashes": [f"sha256:{FIRST}"], "index": "pypi", "version": "==1.0"}
LOCK: dict[str, Any] = {
    "_meta": {"hash": {"sha256": ""}, "pipfile-spec": 6, "requires": {"python_version": "3.12"}, "sources": [PUBLIC]},
    "default": {"Alpha": ALPHA},
    "develop": {},
}


def read(path: Path, target: Target = X86, **asked: tuple[str, ...]) -> tuple[Pin | LockedPackage, ...]:
    return PipfileReader().read(Requirements(kind="Pipfile.lock", path=path, **asked), target)  # type: ignore[arg-type]


def write(folder: Path, lock: dict[str, Any]) -> Path:
    path = folder / "Pipfile.lock"
    path.write_text(json.dumps(lock, indent=4))
    return path


def with_entry(folder: Path, entry: dict[str, Any], *, sources: tuple[dict[str, Any], ...] = (PUBLIC,)) -> Path:
    return write(folder, {**LOCK, "_meta": {**LOCK["_meta"], "sources": list(sources)}, "default": {"alpha": entry}})


def only(folder: Path, entry: dict[str, Any], *sources: dict[str, Any]) -> Pin | LockedPackage:
    (package,) = read(with_entry(folder, entry, sources=sources or (PUBLIC,)))
    return package


# A real lock


def test_the_default_category_on_the_target():
    packages = read(REAL)
    assert [(package.name, package.version) for package in packages] == [
        ("click", "8.1.8"),
        ("exceptiongroup", "1.2.2"),
        ("greeting", ""),
    ]
    assert packages[0] == Pin(
        name="click",
        version="8.1.8",
        sha256=frozenset(
            {
                "63c132bbbed01578a06712a2d1f497bb62d9c1c0d329b7903a866228027263b2",
                "ed53c9d8990d83c2a27deae68e4ee337473f6330c040a31d4225c9574d16096a",
            }
        ),
    )
    assert packages[2] == LockedPackage(name="greeting", source=SourceFolder(path=FIXTURES / "packages" / "greeting"))


def test_markers_are_the_targets():
    assert {package.name for package in read(REAL, ARM)} - {package.name for package in read(REAL)} == {"sniffio"}


@pytest.mark.parametrize(("category", "added"), [("develop", "iniconfig"), ("docs", "idna"), ("default", None)])
def test_other_categories_come_when_named(category, added):
    names = {package.name for package in read(REAL, groups=(category,))}
    assert names - {package.name for package in read(REAL)} == ({added} if added else set())


def test_an_unknown_category_is_a_usage_error_with_the_known_ones():
    with pytest.raises(UsageError) as caught:
        read(REAL, groups=("nonesuch",))
    assert "'nonesuch'" in caught.value.what
    assert caught.value.remedy == "Known are: develop, docs."


def test_extras_are_refused():
    with pytest.raises(UsageError, match="has no extras"):
        read(REAL, extras=("http",))


def test_another_python_than_the_locks_is_refused():
    with pytest.raises(ResolveError, match=r"_meta\.requires asks for Python 3\.12, and python3\.13-x86_64 has 3\.13"):
        read(REAL, Target.of("python3.13", "x86_64"))


# Categories that share a package


def test_one_version_in_two_categories_is_given_once(tmp_path):
    again = {**ALPHA, "hashes": [f"sha256:{SECOND}"]}
    path = write(tmp_path, {**LOCK, "develop": {"Alpha": again}})
    assert read(path, groups=("develop",)) == read(path)


def test_two_versions_in_two_categories_are_refused(tmp_path):
    path = write(tmp_path, {**LOCK, "develop": {"alpha": {**ALPHA, "version": "==2.0"}}})
    with pytest.raises(ResolveError, match=r"develop\.alpha is a second entry for alpha"):
        read(path, groups=("develop",))


# Indexes


def test_the_public_index_needs_no_name_where_it_is_the_only_one(tmp_path):
    assert only(tmp_path, ALPHA) == Pin(name="alpha", version="1.0", sha256=frozenset({FIRST}), index="")


@pytest.mark.parametrize(
    ("index", "sources", "expected"),
    [
        ("own", (PUBLIC, OWN), "https://index.example.com/simple"),
        ("pypi", (PUBLIC, OWN), "https://pypi.example/simple"),
        (None, (OWN, PUBLIC), "https://index.example.com/simple"),
        (None, (OWN,), "https://index.example.com/simple"),
        (None, (PUBLIC,), ""),
    ],
)
def test_an_index_is_named_by_its_address_without_credentials(tmp_path, index, sources, expected):
    entry = {key: value for key, value in {**ALPHA, "index": index}.items() if value}
    package = only(tmp_path, entry, *sources)
    assert isinstance(package, Pin)
    assert package.index == expected


def test_a_variable_elsewhere_in_an_address_is_refused(tmp_path):
    source = {"name": "own", "url": "https://index.example.com/${TOKEN}/simple"}
    with pytest.raises(ResolveError, match=r"_meta\.sources\[0\]\.url is .* only in the place of user and password"):
        only(tmp_path, {**ALPHA, "index": "own"}, source)


def test_an_index_that_is_not_listed_is_named(tmp_path):
    with pytest.raises(ResolveError, match=r"default\.alpha\.index names the index 'gone'"):
        only(tmp_path, {**ALPHA, "index": "gone"}, PUBLIC, OWN)


# What comes from elsewhere


def test_a_wheel_behind_a_url_has_one_archive_for_each_digest(tmp_path):
    url = "https://files.example.com/alpha-1.0-py3-none-any.whl"
    hashes = [f"sha256:{FIRST}", f"sha256:{SECOND}"]
    wheels = tuple(Archive(filename="alpha-1.0-py3-none-any.whl", location=url, sha256=digest) for digest in (FIRST, SECOND))
    assert only(tmp_path, {"file": url, "hashes": hashes}) == LockedPackage(name="alpha", wheels=wheels)


def test_a_source_archive_behind_a_url_loses_its_credentials(tmp_path):
    entry = {"file": "https://user:word@files.example.com/alpha.zip", "hashes": [f"sha256:{FIRST}"]}
    archive = Archive(filename="alpha.zip", location="https://files.example.com/alpha.zip", sha256=FIRST)
    assert only(tmp_path, entry) == LockedPackage(name="alpha", source=archive)


@pytest.mark.parametrize(("hashes", "count"), [([], "no"), ([f"sha256:{FIRST}", f"sha256:{SECOND}"], "2"), (["md5:ab"], "no")])
def test_a_source_archive_behind_a_url_needs_one_digest(tmp_path, hashes, count):
    with pytest.raises(ResolveError, match=rf"default\.alpha\.file \(alpha\) has {count} sha256"):
        only(tmp_path, {"file": "https://files.example.com/alpha.tar.gz", "hashes": hashes})


def test_a_local_wheel_is_known_by_its_own_digest(tmp_path):
    (tmp_path / "alpha-1.0-py3-none-any.whl").write_bytes(b"")
    package = only(tmp_path, {"path": "./alpha-1.0-py3-none-any.whl"})
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert isinstance(package, LockedPackage)
    assert [(wheel.location, wheel.sha256) for wheel in package.wheels] == [
        (str(tmp_path / "alpha-1.0-py3-none-any.whl"), empty)
    ]


def test_a_local_folder_with_its_subdirectory(tmp_path):
    entry = {"path": "../libraries", "subdirectory": "alpha", "editable": True, "version": "*"}
    assert only(tmp_path, entry) == LockedPackage(
        name="alpha", source=SourceFolder(path=tmp_path.parent / "libraries" / "alpha")
    )


def test_a_commit_with_its_subdirectory(tmp_path):
    entry = {"git": "https://user:word@git.example.com/a/b.git", "ref": "c0ffee", "subdirectory": "src"}
    source = Repository(url="git+https://git.example.com/a/b.git@c0ffee", subdirectory="src")
    assert only(tmp_path, entry) == LockedPackage(name="alpha", source=source)


# What is wrong with a file


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("_meta",), None, "the file has no key '_meta'"),
        (("_meta",), [], "_meta must be a table"),
        (("_meta", "pipfile-spec"), 7, "_meta.pipfile-spec is 7, and lpack knows 6"),
        (("_meta", "pipfile-spec"), None, "_meta has no key 'pipfile-spec'"),
        (("_meta", "sources"), {}, "_meta.sources must be a list"),
        (("_meta", "sources"), [{"name": "pypi", "url": "https://[x"}, OWN], "_meta.sources[0].url is not a valid URL"),
        (("default",), None, "the file has no key 'default'"),
        (("default", "Alpha"), "==1.0", "default.Alpha must be a table"),
        (("default", "Alpha", "version"), None, "default.Alpha has neither a version nor a file, path or repository"),
        (("default", "Alpha", "version"), 1, "default.Alpha.version must be a string"),
        (("default", "Alpha", "hashes"), None, "default.Alpha has no sha256 among its hashes"),
        (("default", "Alpha", "hashes"), [1], "default.Alpha.hashes[0] must be a string"),
        (("default", "Alpha", "markers"), "python", "default.Alpha.markers is not a valid environment marker"),
        (("default", "Alpha", "git"), "https://git.example.com/a", "default.Alpha has no key 'ref'"),
    ],
)
def test_a_malformed_lock_is_refused_with_file_and_key(tmp_path, keys, value, message):
    lock = copy.deepcopy(LOCK)
    table = lock
    for key in keys[:-1]:
        table = table[key]
    table[keys[-1]] = value
    if value is None:
        del table[keys[-1]]
    path = write(tmp_path, lock)
    with pytest.raises(ResolveError) as caught:
        read(path)
    assert message in caught.value.what
    assert str(path) in caught.value.what
    assert caught.value.remedy


def test_a_file_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "Pipfile.lock"
    path.write_text("{")
    with pytest.raises(ResolveError, match="is not valid JSON"):
        read(path)


@pytest.mark.parametrize("kind", ["hg", "svn", "bzr"])
def test_repositories_of_others_than_git_are_refused(tmp_path, kind):
    with pytest.raises(ResolveError, match=rf"default\.alpha\.{kind} \(alpha\) is a repository of {kind}"):
        only(tmp_path, {kind: "https://host/alpha", "ref": "c0ffee"})


def test_archive_of_every_suffix_is_a_file(tmp_path):
    for suffix in ARCHIVE_SUFFIXES:
        name = f"alpha-1.0-py3-none-any{suffix}"
        (tmp_path / name).write_bytes(b"")
        package = only(tmp_path, {"path": f"./{name}"})
        assert isinstance(package, LockedPackage)
        assert [each.location for each in (*package.wheels, package.source) if isinstance(each, Archive)] == [
            str(tmp_path / name)
        ]


def test_local_path_that_is_not_a_url_is_refused_with_its_key(tmp_path):
    with pytest.raises(ResolveError, match=r"default\.alpha\.path is not a valid URL"):
        only(tmp_path, {"path": "file://[bad/alpha"})
