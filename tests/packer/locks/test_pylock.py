"""pylock.toml: what applies to a target, what is refused, and what stays the same in another folder."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from msgspec.structs import replace
from packaging.pylock import Pylock

from builders.runtimes import Target
from packer.core.errors import ResolveError, UsageError
from packer.core.model import Archive, Lock, Repository, SourceFolder
from packer.core.process import uv_command
from packer.locks.pylock import parse_pylock, parse_tool_table, read_pylock, relocate_lock

X86, ARM = Target.of("python3.12", "x86_64"), Target.of("python3.12", "arm64")
HEAD = 'lock-version = "1.0"\ncreated-by = "hand"\n'
ONE, TWO = "1" * 64, "b" * 64


def package(name: str, *lines: str, version: str = "1.0") -> str:
    wheel = f'{{ url = "https://host/{name}-{version}-py3-none-any.whl", hashes = {{ sha256 = "{ONE}" }} }}'
    return "\n".join(("[[packages]]", f'name = "{name}"', f'version = "{version}"', *(lines or (f"wheels = [{wheel}]",)), ""))


def marked(name: str, marker: str, version: str = "1.0") -> str:
    return package(name, version=version) + f'marker = "{marker}"\n'


def parse(text: str, target: Target = X86, path: str = "/project/pylock.toml") -> Lock:
    return parse_pylock(HEAD + text, Path(path), target)


def read(
    folder: Path, text: str, target: Target = X86, extras: tuple[str, ...] = (), groups: tuple[str, ...] = ()
) -> list[str]:
    (folder / "pylock.toml").write_text(HEAD + text)
    return [each.name for each in read_pylock(folder / "pylock.toml", target, extras=extras, groups=groups).packages]


def names(lock: Lock) -> list[str]:
    return [each.name for each in lock.packages]


def test_markers_are_evaluated_for_the_target():
    text = marked("c", "platform_machine == 'aarch64'") + marked("b", "sys_platform == 'win32'")
    text += marked("a", "python_version >= '3.12' and implementation_name == 'cpython'") + marked(
        "d", "python_version < '3.12'"
    )
    assert names(parse(text)) == ["a"]
    assert names(parse(text, ARM)) == ["a", "c"]
    assert names(parse(text, Target.of("python3.9", "x86_64"))) == ["d"]


def test_every_wheel_of_the_lock_is_kept():
    wheels = ", ".join(
        f'{{ url = "https://host/a-1.0-{tag}.whl", size = 7, hashes = {{ sha256 = "{ONE}" }} }}'
        for tag in ("cp312-cp312-win_amd64", "cp312-cp312-manylinux_2_17_aarch64")
    )
    sdist = f'sdist = {{ url = "https://host/x/a-1.0.tar.gz?token=1", hashes = {{ sha256 = "{TWO.upper()}" }} }}'
    (found,) = parse(package("a", f"wheels = [{wheels}]", sdist.replace("?token=1", ""))).packages
    assert [wheel.filename for wheel in found.wheels] == [
        "a-1.0-cp312-cp312-win_amd64.whl",
        "a-1.0-cp312-cp312-manylinux_2_17_aarch64.whl",
    ]
    assert found.wheels[0].size == 7
    assert found.source == Archive(filename="a-1.0.tar.gz", location="https://host/x/a-1.0.tar.gz", sha256=TWO)


@pytest.mark.parametrize(
    ("line", "source"),
    [
        ('directory = { path = "../lib", editable = true }', SourceFolder(path=Path("/lib"))),
        ('directory = { path = "/abs", subdirectory = "sub" }', SourceFolder(path=Path("/abs/sub"))),
        (
            'vcs = { type = "git", url = "https://me:pw@host/r.git", commit-id = "abc", subdirectory = "sub" }',
            Repository(url="git+https://host/r.git@abc", subdirectory="sub"),
        ),
        (
            'vcs = { type = "git", url = "ssh://git@host/r.git", commit-id = "abc" }',
            Repository(url="git+ssh://git@host/r.git@abc"),
        ),
        ('vcs = { type = "git", path = "../r", commit-id = "abc" }', Repository(url="git+file:///r@abc")),
        (
            f'archive = {{ path = "a-1.0.zip", hashes = {{ sha256 = "{ONE}" }} }}',
            Archive(filename="a-1.0.zip", location="/project/a-1.0.zip", sha256=ONE),
        ),
    ],
)
def test_sources_of_every_kind(line, source):
    (found,) = parse(package("a", line)).packages
    assert found.source == source
    assert found.wheels == ()


def test_an_archive_that_is_a_wheel_is_one():
    name = "a-1.0-py3-none-any.whl"
    (found,) = parse(package("a", f'archive = {{ url = "https://u:p@host/{name}", hashes = {{ sha256 = "{ONE}" }} }}')).packages
    assert found.wheels == (Archive(filename=name, location=f"https://host/{name}", sha256=ONE),)
    assert found.source is None


def test_two_entries_for_one_name_may_not_both_apply():
    text = marked("a", "sys_platform == 'linux'") + marked("a", "python_version >= '3'", version="2.0")
    with pytest.raises(ResolveError, match=r"packages\[1\]: a second entry for a applies to python3.12-x86_64"):
        parse(text)
    assert [each.version for each in parse(text.replace("'linux'", "'win32'")).packages] == ["2.0"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('requires-python = ">=3.13"\n', r"the lock requires Python >=3.13, and python3.12-x86_64 has 3\.12"),
        (package("a") + 'requires-python = "<3.12"\n', r"packages\[0\]: a 1.0 requires Python <3.12, and python3.12-x86_64"),
        (
            "environments = [\"sys_platform == 'win32'\"]\n",
            "none of the lock's environments is python3.12-x86_64: sys_platform",
        ),
        ("environments = [\"extra == 'a'\"]\n", r"environments\[0\] cannot be evaluated"),
        (marked("a", "extra == 'b'"), r"packages\[0\]\.marker cannot be evaluated: extra"),
        (marked("a", "no marker"), r"packages\[0\].marker"),
        (package("A"), r"packages\[0\].name"),
        (package("a", "wheels = [{ url = 3 }]"), r"packages\[0\]\.wheels\[0\]"),
        (package("a", 'wheels = [{ url = "https://host/a-1.0-py3-none-any.whl" }]'), r"packages\[0\].wheels\[0\].*hashes"),
        (package("a", "index = 'x'"), r"packages\[0\]"),
        ("[[packages", "is not valid TOML"),
    ],
)
def test_what_is_refused_is_named(text, expected):
    # Keys of the whole lock must stand above its packages.
    packages = "" if "packages" in text else package("a")
    with pytest.raises(ResolveError, match=expected) as caught:
        parse(text + packages)
    assert "/project/pylock.toml" in caught.value.what
    assert caught.value.remedy


def test_other_hashes_than_sha256_are_not_enough():
    line = f'wheels = [{{ url = "https://host/a-1.0-py3-none-any.whl", hashes = {{ sha512 = "{ONE * 2}" }} }}]'
    with pytest.raises(ResolveError, match=r"packages\[0\].wheels\[0\].hashes has no sha256"):
        parse(package("a", line))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('created-by = "x"\npackages = []\n', "lock-version"),
        ('lock-version = "1.0"\ncreated-by = "x"\n', "packages"),
        ('lock-version = "2.0"\ncreated-by = "x"\npackages = []\n', "2.0 is not supported"),
        ('lock-version = "1.0"\ncreated-by = "x"\npackages = 3\n', "packages"),
    ],
)
def test_malformed_lock_is_refused_with_file_and_key(text, expected):
    with pytest.raises(ResolveError, match=expected):
        parse_pylock(text, Path("/p/pylock.toml"), X86)


def test_groups_come_beside_the_default_ones(tmp_path):
    head = 'extras = ["fast"]\ndependency-groups = ["aws", "dev"]\ndefault-groups = ["main"]\n'
    text = head + marked("a", "'main' in dependency_groups") + marked("b", "'aws' in dependency_groups")
    text += marked("c", "'dev' in dependency_groups") + marked("d", "'fast' in extras") + package("e")
    assert read(tmp_path, text) == ["a", "e"]
    assert read(tmp_path, text, groups=("aws",)) == ["a", "b", "e"]
    assert read(tmp_path, text, extras=("Fast",), groups=("dev",)) == ["a", "c", "d", "e"]


def test_unknown_extra_or_group_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"has no extra 'slow'\.\nKnown are: fast"):
        read(tmp_path, 'extras = ["fast"]\n' + package("a"), extras=("slow",))
    with pytest.raises(UsageError, match=r"has no group 'aws'\.\nKnown are: none"):
        read(tmp_path, package("a"), groups=("aws",))


def test_unreadable_lock_is_an_error(tmp_path):
    with pytest.raises(ResolveError, match="No such file"):
        read_pylock(tmp_path / "pylock.toml", X86)
    (tmp_path / "pylock.toml").write_bytes(b"\xff")
    with pytest.raises(ResolveError, match="not valid UTF-8"):
        read_pylock(tmp_path / "pylock.toml", X86)


EVERYTHING = "".join(
    (
        package("a", 'directory = { path = "sub/lib" }'),
        package("b", f'archive = {{ path = "../b-1.0.zip", hashes = {{ sha256 = "{ONE}" }} }}'),
        package("c", 'vcs = { type = "git", url = "ssh://git@host/r", commit-id = "abc" }'),
        package("d", 'vcs = { type = "git", path = "r", commit-id = "abc" }'),
        package("e", f'wheels = [{{ path = "w/e-1.0-py3-none-any.whl", hashes = {{ sha256 = "{ONE}" }} }}]'),
        package("f", f'sdist = {{ url = "https://host/f-1.0.tar.gz", hashes = {{ sha256 = "{TWO}" }} }}'),
        marked("g", "sys_platform == 'linux'"),
        package("h", 'directory = { path = "/elsewhere/h" }'),
        package("i", 'vcs = { type = "git", url = "file:///elsewhere/r", commit-id = "abc" }'),
    )
)


def test_a_relocated_lock_gives_the_same_packages():
    before, after = Path("/one/two"), Path("/one/three/four")
    text = relocate_lock("# uv wrote this\n" + HEAD + EVERYTHING, before, after, {"target": "t", "locals": {"../lib": "x"}})
    old = parse_pylock(HEAD + EVERYTHING, before / "pylock.toml", X86)
    assert parse_pylock(text, after / "pylock.toml", X86) == old
    assert len(old.packages) == 9
    assert "uv wrote this" not in text
    document = tomllib.loads(text)
    assert document["created-by"] == "lpack"
    assert document["tool"] == {"lpack": {"target": "t", "locals": {"../lib": "x"}}}
    assert document["packages"][0]["directory"]["path"] == "../../two/sub/lib"
    assert document["packages"][7]["directory"]["path"] == "/elsewhere/h"
    assert document["packages"][8]["vcs"]["url"] == "file:///elsewhere/r"
    assert text.count("\n\n[[packages]]") == 9
    Pylock.from_dict(document)


def test_relocating_twice_changes_nothing_more():
    there = Path("/one/three/four")
    once = relocate_lock(HEAD + EVERYTHING, Path("/one/two"), there, {"target": "t"})
    assert relocate_lock(once, there, there, {"target": "t"}) == once


def test_a_lock_says_the_same_wherever_the_project_lies():
    def at(project: str) -> str:
        wheel = f'{{ url = "file://{project}/my%20wheels/a-1.0-py3-none-any.whl", hashes = {{ sha256 = "{ONE}" }} }}'
        text = HEAD + package("a", f'index = "file://{project}/my%20wheels"', f"wheels = [{wheel}]")
        return relocate_lock(text, Path("/tmp/workspace"), Path(project) / "fn", {})

    assert at("/one") == at("/another/two")
    assert "/one" not in at("/one")
    (found,) = parse_pylock(at("/one"), Path("/one/fn/pylock.toml"), X86).packages
    assert found.wheels[0].location == "/one/my wheels/a-1.0-py3-none-any.whl"


def test_a_relocated_lock_keeps_no_credentials():
    url = "https://me:s3cret@host/a-1.0-py3-none-any.whl"
    lines = ('index = "https://me:s3cret@host/simple"', f'wheels = [{{ url = "{url}", hashes = {{ sha256 = "{ONE}" }} }}]')
    vcs = package("b", 'vcs = { type = "git", url = "https://me:s3cret@host/r", commit-id = "abc" }')
    text = relocate_lock(HEAD + package("a", *lines) + vcs, Path("/a"), Path("/a"), {})
    assert "s3cret" not in text
    assert "me" not in {url.partition("@")[0] for url in text.split("//")}
    assert 'index = "https://host/simple"' in text


@pytest.mark.parametrize(("tail", "expected"), [("[tool.lpack]\na = 1\n", {"a": 1}), ("", {}), ("[tool]\nlpack = 3\n", {})])
def test_tool_table_is_read(tmp_path, tail, expected):
    path = tmp_path / "pylock.toml"
    path.write_text(HEAD + "packages = []\n" + tail)
    assert parse_tool_table(path.read_text(), path) == expected
    path.write_text('tool = "x"\n')
    assert parse_tool_table(path.read_text(), path) == {}


def test_what_uv_writes_reads_the_same_after_relocation(tmp_path, index):
    (tmp_path / "fn").mkdir()
    shutil.copytree(Path(__file__).parents[3] / "fixtures" / "packages" / "shared_lib", tmp_path / "lib")
    (tmp_path / "fn" / "requirements.txt").write_text("native\nmarked\n../lib\n")
    command = [uv_command(), "pip", "compile", "-q", "--format", "pylock.toml", "--python-platform", "x86_64-manylinux_2_34"]
    command += ["--python-version", "3.12", "requirements.txt", "-o", "pylock.toml"]
    subprocess.run(command, cwd=tmp_path / "fn", check=True, capture_output=True)
    lock = read_pylock(tmp_path / "fn" / "pylock.toml", X86)
    assert {"native", "marked", "gamma", "shared-lib"} <= set(names(lock))
    (shared,) = (each for each in lock.packages if each.name == "shared-lib")
    assert shared.source == SourceFolder(path=tmp_path / "lib")
    moved = tmp_path / "pylock.fn.toml"
    moved.write_text(relocate_lock((tmp_path / "fn" / "pylock.toml").read_text(), tmp_path / "fn", tmp_path, {}))
    assert read_pylock(moved, X86) == replace(lock, origin="pylock.fn.toml")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('vcs = { type = "hg", url = "https://host/r", commit-id = "abc" }', "vcs.type is 'hg', and lpack builds from"),
        ('vcs = { type = "git", url = "https://[bad/r", commit-id = "abc" }', "vcs.url is not a valid URL"),
        ('directory = { path = "file://[bad/r" }', "directory.path is not a valid URL"),
        (f'archive = {{ url = "https://[bad/a-1.0.zip", hashes = {{ sha256 = "{ONE}" }} }}', "archive.url is not a valid URL"),
    ],
)
def test_source_that_cannot_be_fetched_is_refused_with_its_key(line, said):
    with pytest.raises(ResolveError) as caught:
        parse(package("a", line))
    assert f"/project/pylock.toml: packages[0].{said}" in caught.value.what
