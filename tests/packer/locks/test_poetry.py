"""poetry.lock: what the main group, groups and extras bring in on a target, in all three versions of the format."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from builders.runtimes import Target
from packer.core.errors import ResolveError, UsageError
from packer.core.model import Archive, LockedPackage, Repository, Requirements, SourceFolder
from packer.locks.pins import Pin
from packer.locks.poetry import PoetryReader

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"
PROJECTS = FIXTURES / "locks" / "poetry"
X86, ARM = Target.of("python3.12", "x86_64"), Target.of("python3.12", "arm64")
MARKED, WALKED, OLD = "v2.1", "v2.0", "v1.1"
FIRST, SECOND = "ab" * 32, "cd" * 32


def read(path: Path, target: Target = X86, **asked: tuple[str, ...]) -> tuple[Pin | LockedPackage, ...]:
    return PoetryReader().read(Requirements(kind="poetry.lock", path=path, **asked), target)  # type: ignore[arg-type]


def names(project: str, runtime: str = "python3.12", **asked: tuple[str, ...]) -> list[str]:
    packages = read(PROJECTS / project / "poetry.lock", Target.of(runtime, "x86_64"), **asked)
    return [f"{package.name} {package.version}" for package in packages]


def entry(name: str = "alpha", version: str = "1.0", more: str = "", *, digest: str = FIRST, python: str = ">=3.9") -> str:
    return f"""
[[package]]
name = "{name}"
version = "{version}"
optional = false
python-versions = "{python}"
groups = ["main"]
files = [{{file = "{name}-{version}-py3-none-any.whl", hash = "sha256:{digest}"}}]
{more}
"""


def write(folder: Path, *entries: str, version: str = "2.1", dependencies: str = "", extras: str = "") -> Path:
    path = folder / "poetry.lock"
    path.write_text(
        "".join(entries)
        + f'\n[extras]\n{extras}\n[metadata]\nlock-version = "{version}"\npython-versions = ">=3.9"\ncontent-hash = ""\n'
    )
    (folder / "pyproject.toml").write_text(f'[tool.poetry.dependencies]\npython = ">=3.9"\n{dependencies}\n')
    return path


# Real locks


def test_the_main_group_without_extras_is_what_a_marked_lock_gives():
    assert names(MARKED) == ["click 8.1.8", "exceptiongroup 1.2.2", "platformdirs 4.3.6"]


def test_the_main_group_without_extras_is_what_walking_finds():
    assert names(WALKED) == [
        "click 8.1.8",
        "exceptiongroup 1.2.2",
        "filelock 3.16.1",
        "greeting 1.2.0",
        "platformdirs 4.3.6",
    ]
    assert names(OLD) == ["click 8.1.8"]


@pytest.mark.parametrize("project", [MARKED, WALKED])
def test_of_two_versions_the_target_takes_its_own(project):
    assert "platformdirs 4.3.6" in names(project, "python3.12")
    assert "platformdirs 4.3.8" in names(project, "python3.13")
    assert "platformdirs 4.3.6" not in names(project, "python3.13")


@pytest.mark.parametrize("project", [MARKED, WALKED, OLD])
def test_an_extra_brings_in_its_packages_with_their_own_extras(project):
    added = set(names(project, extras=("HTTP",))) - set(names(project))
    assert added == {"pysocks 1.7.1", "urllib3 2.2.3"}


@pytest.mark.parametrize("project", [MARKED, WALKED])
def test_a_group_comes_only_when_named_and_with_the_targets_markers(project):
    assert set(names(project, groups=("docs",))) - set(names(project)) == {"six 1.17.0", "greeting 1.2.0"} - set(names(project))
    assert "toml 0.10.2" not in names(project, "python3.12", groups=("docs",))
    assert "toml 0.10.2" in names(project, "python3.10", groups=("docs",))


@pytest.mark.parametrize("project", [MARKED, WALKED, OLD])
def test_the_dev_group_comes_only_when_named(project):
    assert set(names(project, groups=("dev",))) - set(names(project)) == {"iniconfig 2.1.0"}


def test_an_extra_that_a_dependency_asks_for_follows_the_targets_python():
    assert "typing-extensions 4.16.0" in names(WALKED, "python3.10")
    assert "typing-extensions 4.16.0" not in names(WALKED, "python3.12")


@pytest.mark.parametrize("project", [MARKED, WALKED, OLD])
def test_a_pin_carries_the_hashes_of_its_files_and_no_index(project):
    click = read(PROJECTS / project / "poetry.lock")[0]
    assert click == Pin(
        name="click",
        version="8.1.8",
        sha256=frozenset(
            {
                "63c132bbbed01578a06712a2d1f497bb62d9c1c0d329b7903a866228027263b2",
                "ed53c9d8990d83c2a27deae68e4ee337473f6330c040a31d4225c9574d16096a",
            }
        ),
    )


def test_a_local_folder_is_absolute():
    greeting = next(package for package in read(PROJECTS / WALKED / "poetry.lock") if package.name == "greeting")
    assert greeting == LockedPackage(
        name="greeting", version="1.2.0", source=SourceFolder(path=FIXTURES / "packages" / "greeting")
    )


@pytest.mark.parametrize("project", [MARKED, WALKED, OLD])
@pytest.mark.parametrize(("groups", "extras", "known"), [(("nonesuch",), (), "dev, "), ((), ("nonesuch",), "http")])
def test_an_unknown_name_is_a_usage_error_with_the_known_ones(project, groups, extras, known):
    with pytest.raises(UsageError) as caught:
        names(project, groups=groups, extras=extras)
    assert "'nonesuch'" in caught.value.what
    assert known in caught.value.remedy


def test_an_old_lock_without_its_pyproject_says_what_it_needs(tmp_path):
    shutil.copy(PROJECTS / WALKED / "poetry.lock", tmp_path)
    with pytest.raises(ResolveError, match=r"metadata\.lock-version is 2\.0, which needs the pyproject\.toml beside it"):
        read(tmp_path / "poetry.lock")


# Markers of version 2.1


def test_markers_may_differ_by_group(tmp_path):
    markers = 'markers = {main = "platform_machine == \\"aarch64\\"", dev = "sys_platform == \\"linux\\""}'
    path = write(tmp_path, entry(more=markers).replace('["main"]', '["main", "dev"]'))
    assert [package.name for package in read(path, ARM)] == ["alpha"]
    assert read(path, X86) == ()
    assert [package.name for package in read(path, X86, groups=("dev",))] == ["alpha"]


def test_a_group_without_a_marker_of_its_own_is_unconditional(tmp_path):
    markers = 'markers = {dev = "sys_platform == \\"win32\\""}'
    path = write(tmp_path, entry(more=markers).replace('["main"]', '["main", "dev"]'))
    assert len(read(path)) == 1


def test_several_extras_hold_at_once_and_exclude_each_other_as_a_set(tmp_path):
    path = write(
        tmp_path,
        entry("both", more='markers = "extra == \\"one\\" and extra == \\"other\\""'),
        entry("single", more='markers = "extra == \\"one\\" and extra != \\"other\\""'),
        extras='one = ["both"]\nother = ["both"]',
    )
    assert [package.name for package in read(path, extras=("one", "other"))] == ["both"]
    assert [package.name for package in read(path, extras=("one",))] == ["single"]


def test_two_versions_that_apply_at_once_are_refused(tmp_path):
    path = write(tmp_path, entry(version="1.0"), entry(version="2.0"))
    with pytest.raises(ResolveError, match=r"package\[1\] is a second entry for alpha that applies to python3\.12-x86_64"):
        read(path)


# Sources


def sourced(tmp_path: Path, source: str) -> Pin | LockedPackage:
    (package,) = read(write(tmp_path, entry(more=f"[package.source]\n{source}")))
    return package


def test_a_legacy_source_gives_the_index_without_credentials(tmp_path):
    package = sourced(tmp_path, 'type = "legacy"\nurl = "https://user:word@index.example.com/simple"\nreference = "own"')
    assert package == Pin(name="alpha", version="1.0", sha256=frozenset({FIRST}), index="https://index.example.com/simple")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://token@git.example.com/a/b.git", "git+https://git.example.com/a/b.git@c0ffee"),
        ("git@git.example.com:a/b.git", "git+ssh://git@git.example.com/a/b.git@c0ffee"),
        ("ssh://git:word@git.example.com/a/b.git", "git+ssh://git@git.example.com/a/b.git@c0ffee"),
    ],
)
def test_a_commit_keeps_its_address_without_secrets(tmp_path, address, expected):
    source = f'type = "git"\nurl = "{address}"\nreference = "main"\nresolved_reference = "c0ffee"\nsubdirectory = "src"'
    package = sourced(tmp_path, source)
    assert package == LockedPackage(name="alpha", version="1.0", source=Repository(url=expected, subdirectory="src"))


def test_a_wheel_behind_a_url(tmp_path):
    url = "https://files.example.com/alpha-1.0-py3-none-any.whl"
    package = sourced(tmp_path, f'type = "url"\nurl = "{url}"')
    assert package == LockedPackage(
        name="alpha", version="1.0", wheels=(Archive(filename="alpha-1.0-py3-none-any.whl", location=url, sha256=FIRST),)
    )


@pytest.fixture
def vendored(tmp_path: Path) -> Path:
    path = tmp_path / "vendor" / "alpha-1.0.tar.gz"
    path.parent.mkdir()
    path.write_bytes(b"an archive")
    return path


def read_vendored(tmp_path: Path, digest: str) -> tuple[Pin | LockedPackage, ...]:
    source = '[package.source]\ntype = "file"\nurl = "vendor/alpha-1.0.tar.gz"'
    return read(write(tmp_path, entry(more=source, digest=digest)))


def test_a_local_archive_is_absolute(tmp_path, vendored):
    digest = hashlib.sha256(b"an archive").hexdigest()
    archive = Archive(filename="alpha-1.0.tar.gz", location=str(vendored), sha256=digest)
    assert read_vendored(tmp_path, digest) == (LockedPackage(name="alpha", version="1.0", source=archive),)


def test_a_local_archive_that_is_not_the_locked_one_is_refused(tmp_path, vendored):
    with pytest.raises(ResolveError, match=r"package\[0\]\.source\.url names .* not the file that was locked"):
        read_vendored(tmp_path, FIRST)


def test_a_local_archive_that_is_gone_is_named(tmp_path, vendored):
    vendored.unlink()
    with pytest.raises(ResolveError, match="which cannot be read: No such file"):
        read_vendored(tmp_path, FIRST)


# Walking the graph of older locks


def test_an_edge_that_accepts_both_versions_follows_who_accepts_one(tmp_path):
    path = write(
        tmp_path,
        entry("user", more='[package.dependencies]\nalpha = ">=1.0"'),
        entry("alpha", "1.5"),
        entry("alpha", "2.5"),
        version="2.0",
        dependencies='user = "*"\nalpha = [{version = "^1.2", python = "<3.13"}, {version = "^2.0", python = ">=3.13"}]',
    )
    chosen = {runtime: read(path, Target.of(runtime, "x86_64")) for runtime in ("python3.12", "python3.13")}
    assert [package.version for package in chosen["python3.12"]] == ["1.5", "1.0"]
    assert [package.version for package in chosen["python3.13"]] == ["2.5", "1.0"]


def test_where_nobody_decides_the_newest_that_runs_on_the_target_is_taken(tmp_path):
    entries = entry("alpha", "1.0"), entry("alpha", "10.0"), entry("alpha", "11.0", python=">=3.13")
    path = write(tmp_path, *entries, version="2.0", dependencies='alpha = "*"')
    assert [package.version for package in read(path)] == ["10.0"]


@pytest.mark.parametrize(
    ("constraint", "version"),
    [
        ("^1.2.3", "1.9"),
        ("^0.2.3", "0.2.9"),
        ("^0.0.3", "0.0.3"),
        ("~1.2", "1.2.9"),
        ("~1", "1.9"),
        ("~=1.2", "1.9"),
        ("1.2.*", "1.2.9"),
        ("1.9", "1.9"),
        ("=1.9", "1.9"),
        (">= 1.9, < 2", "1.9"),
        (">=1.9 <2", "1.9"),
        ("<0.2.9 || >0.2.9,<1.0", "0.0.3"),
        (">1.2,!=1.9,<2.0", "1.2.9"),
    ],
)
def test_constraints_in_poetrys_language(tmp_path, constraint, version):
    entries = [entry("alpha", known) for known in ("0.0.3", "0.2.9", "1.2.9", "1.9", "2.0")]
    path = write(tmp_path, *entries, version="2.0", dependencies=f'alpha = "{constraint}"')
    assert [package.version for package in read(path)] == [version]


def test_of_two_origins_the_dependencys_own_is_taken(tmp_path):
    own = '[package.source]\ntype = "legacy"\nurl = "https://index.example.com/simple"\nreference = "own"'
    path = write(
        tmp_path,
        entry("alpha", "1.0"),
        entry("alpha", "1.0", own, digest=SECOND),
        version="2.0",
        dependencies='alpha = {version = "1.0", source = "own"}',
    )
    assert [package.index for package in read(path) if isinstance(package, Pin)] == ["https://index.example.com/simple"]


@pytest.mark.parametrize(("platform", "count"), [("linux", 1), ("darwin", 0), ("!=win32", 1), ("win32 || linux", 1)])
def test_a_dependency_may_name_its_platform(tmp_path, platform, count):
    path = write(tmp_path, entry(), version="2.0", dependencies=f'alpha = {{version = "*", platform = "{platform}"}}')
    assert len(read(path)) == count


def test_circular_dependencies_end(tmp_path):
    first = entry("alpha", more='[package.dependencies]\nbeta = "*"')
    second = entry("beta", more='[package.dependencies]\nalpha = "*"')
    path = write(tmp_path, first, second, version="2.0", dependencies='alpha = "*"')
    assert [package.name for package in read(path)] == ["alpha", "beta"]


def test_the_roots_may_stand_in_the_project_table(tmp_path):
    path = write(tmp_path, entry("alpha"), entry("beta"), entry("gamma"), version="2.0", extras='more = ["gamma"]')
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "orders"\ndependencies = ["Alpha>=1", "beta; sys_platform == \'win32\'"]\n'
        'optional-dependencies = {more = ["gamma"]}\n'
    )
    assert [package.name for package in read(path)] == ["alpha"]
    assert [package.name for package in read(path, extras=("more",))] == ["alpha", "gamma"]


def test_a_stale_lock_is_named_where_the_project_asks_for_more(tmp_path):
    path = write(tmp_path, entry(), version="2.0", dependencies='beta = "^1.0"')
    with pytest.raises(ResolveError, match=r"pyproject\.toml: tool\.poetry\.dependencies\.beta asks for beta, which the lock"):
        read(path)


@pytest.mark.parametrize("version", ["one", "1.0 beta"])
def test_a_version_that_is_none_is_named(tmp_path, version):
    path = write(tmp_path, entry("alpha", version), entry("alpha", "2.0"), version="2.0", dependencies='alpha = "*"')
    with pytest.raises(ResolveError, match=r"package\[0\]\.version is not a valid version"):
        read(path)


# What is wrong with a file


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[metadata]", "[metadata", "is not valid TOML"),
        ('lock-version = "2.1"', "", "metadata has no key 'lock-version'"),
        ('lock-version = "2.1"', 'lock-version = "9.0"', "metadata.lock-version is '9.0', and lpack knows 1.1, 2.0, 2.1"),
        ('lock-version = "2.1"', "lock-version = 2", "metadata.lock-version must be a string"),
        ('version = "1.0"', "", "package[0] has no key 'version'"),
        ('groups = ["main"]', "", "package[0] has no key 'groups'"),
        ('groups = ["main"]', "groups = [1]", "package[0].groups[0] must be a string"),
        ('hash = "sha256:', 'hash = "md5:', "package[0] (alpha 1.0) has no sha256"),
        (', hash = "sha256:' + FIRST + '"', "", "package[0].files[0] has no key 'hash'"),
        ("optional = false", 'markers = "python ~ 3"', "package[0].markers is not a valid environment marker"),
        ("optional = false", 'source = {type = "tape"}', "package[0].source.type is 'tape'"),
        ("optional = false", 'source = {type = "git", url = "x"}', "package[0].source has no key 'resolved_reference'"),
        ('python-versions = ">=3.9"\ncontent', 'python-versions = "^3.13"\ncontent', "has Python 3.12.1"),
        ('python-versions = ">=3.9"\ncontent', 'python-versions = "new"\ncontent', "metadata.python-versions holds 'new'"),
    ],
)
def test_a_malformed_lock_is_refused_with_file_and_key(tmp_path, old, new, message):
    path = write(tmp_path, entry())
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ResolveError) as caught:
        read(path)
    assert message in caught.value.what
    assert str(path) in caught.value.what
    assert caught.value.remedy


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ResolveError, match="Cannot read the lock"):
        read(tmp_path / "poetry.lock")


def test_a_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "poetry.lock"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ResolveError, match="is not valid UTF-8"):
        read(path)
