"""What locks say is parsed once for a store, and read back as it was."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from builders.runtimes import Target
from packer.cache.local import LocalStore
from packer.core.errors import ResolveError
from packer.core.model import Archive, Repository, SourceFolder
from packer.locks.pylock import parse_pylock
from packer.resolve.lock_memory import LockMemory

X86, ARM = Target.of("python3.12", "x86_64"), Target.of("python3.12", "arm64")
DIGEST = "a" * 64
HEAD = 'lock-version = "1.0"\ncreated-by = "test"\n'
WHEEL = f'{{ url = "https://host/%s-1.0-py3-none-any.whl", hashes = {{ sha256 = "{DIGEST}" }} }}'
TEXT = f"""{HEAD}
[[packages]]
name = "a"
version = "1.0"
wheels = [{WHEEL % "a"}]
sdist = {{ url = "https://host/a-1.0.tar.gz", size = 7, hashes = {{ sha256 = "{DIGEST}" }} }}
[[packages]]
name = "b"
marker = "platform_machine == 'x86_64'"
directory = {{ path = "../b" }}
[[packages]]
name = "c"
vcs = {{ type = "git", url = "https://host/c", commit-id = "abc" }}
[tool.lpack]
inputs = "x"
[tool.lpack.locals]
"../b" = "digest"
"""


@pytest.fixture
def memory(tmp_path) -> LockMemory:
    return LockMemory(LocalStore(tmp_path / "store"))


def parse(memory: LockMemory, target: Target = X86, path: str = "/project/pylock.toml", text: str = TEXT):
    return memory.parse(text, Path(path), target)


def forget_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "packer.locks.pylock", None)


def test_a_lock_is_read_back_as_it_was_parsed(memory, monkeypatch):
    expected = parse_pylock(TEXT, Path("/project/pylock.toml"), X86)
    assert {type(each.source) for each in expected.packages} == {Archive, SourceFolder, Repository}
    assert parse(memory) == expected
    forget_parser(monkeypatch)
    assert parse(memory) == expected


def test_target_folder_text_and_groups_are_told_apart(memory):
    assert [each.name for each in parse(memory).packages] == ["a", "b", "c"]
    assert [each.name for each in parse(memory, ARM).packages] == ["a", "c"]
    assert parse(memory, path="/other/pylock.toml").packages[1].source == SourceFolder(path=Path("/b"))
    assert parse(memory, path="/deep/er/pylock.toml").packages[1].source == SourceFolder(path=Path("/deep/b"))
    marked = TEXT.replace("platform_machine == 'x86_64'", "'dev' in dependency_groups")
    marked = marked.replace(HEAD, HEAD + 'dependency-groups = ["dev"]\n')
    assert len(parse(memory, text=marked).packages) == 2
    assert len(memory.parse(marked, Path("/project/pylock.toml"), X86, groups=("dev",)).packages) == 3


def test_the_tool_table_is_read_back(memory, monkeypatch):
    path, expected = Path("/project/pylock.toml"), {"inputs": "x", "locals": {"../b": "digest"}}
    assert memory.tool_table(TEXT, path) == expected
    forget_parser(monkeypatch)
    assert memory.tool_table(TEXT, path) == expected


def test_what_is_wrong_with_a_lock_is_reported_each_time(memory):
    for _ in range(2):
        with pytest.raises(ResolveError, match="no sha256"):
            parse(memory, text=TEXT.replace(DIGEST, "", 1))
