"""Requirements files: what they include, demand and name."""

from pathlib import Path

import pytest

from packer.errors import ResolveError
from packer.requirements import RequirementsFile, demanded_hashes, read_requirements

ONE, TWO = "1" * 64, "2" * 64


def read(folder: Path, text: str, **others: str) -> RequirementsFile:
    for name, content in others.items():
        path = folder / name.replace("__", "/").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "requirements.txt").write_text(text)
    return read_requirements(folder / "requirements.txt")


def names(file: RequirementsFile) -> list[str]:
    return [line.name for line in file.lines]


def test_names_are_normalised_and_comments_are_not_read(tmp_path):
    file = read(
        tmp_path, "\ufeff# first\nFoo_Bar[fast]>=1 ; python_version > '3.8'  # why\n\nurl @ https://host/x.whl#sha256=1\n"
    )
    assert names(file) == ["foo-bar", "url"]
    assert not file.hash_mode


def test_nested_files_are_found_from_the_file_that_names_them(tmp_path):
    file = read(
        tmp_path,
        "-r sub/more.txt\n-c limits.txt\na\n",
        sub__more_txt="--requirement=deep.txt\nb\n",
        sub__deep_txt="c\n-r more.txt\n",
        limits_txt="d<2\n",
    )
    assert names(file) == ["c", "b", "d", "a"]
    assert [line.is_constraint for line in file.lines] == [False, False, True, False]
    assert [path.name for path in file.files] == ["requirements.txt", "more.txt", "deep.txt", "limits.txt"]


def test_hashes_over_continued_lines(tmp_path):
    file = read(tmp_path, f"a==1 \\\n    --hash=sha256:{ONE} \\\n    --hash=sha512:abc --hash=sha256:{TWO}\n")
    assert file.hash_mode
    assert demanded_hashes(file) == {"a": frozenset({ONE, TWO})}
    assert file.lines[0].number == 1
    assert file.lines[0].text == "a==1"


def test_indexes_and_other_options(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    text = "-i https://${TOKEN}@one/simple\n--extra-index-url=https://two/${UNSET}/simple\n"
    text += "--pre\n--find-links ./wheels\n--no-index\na\n"
    file = read(tmp_path, text)
    assert file.index_urls == ("https://secret@one/simple", "https://two/${UNSET}/simple")
    assert names(file) == ["a"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("./lib", "lib"),
        ("-e ../lib[extra]", "../lib"),
        ("--editable=./lib", "lib"),
        ("lib @ file:///somewhere/lib", "/somewhere/lib"),
        ("./wheels/a-1-py3-none-any.whl", "wheels/a-1-py3-none-any.whl"),
        ("/abs/lib ; python_version > '3'", "/abs/lib"),
    ],
)
def test_local_paths_are_absolute(tmp_path, line, expected):
    file = read(tmp_path, line + "\n")
    assert file.local_paths == ((tmp_path / expected).resolve(),)


@pytest.mark.parametrize("line", ["git+https://host/repo@abc", "https://host/a-1.tar.gz", "a"])
def test_what_is_elsewhere_is_no_local_path(tmp_path, line):
    assert read(tmp_path, line + "\n").local_paths == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n-r missing.txt\n", "requirements.txt:2: Cannot read the requirements"),
        ("a\n--colour red\n", "requirements.txt:2: --colour is not an option"),
        ("-r\n", "needs a value|Cannot read"),
        ("a b c\n", "requirements.txt:1: 'a b c' is not a requirement"),
        (f"a==1 --hash=sha256:{ONE}\nb\n", "requirements.txt:2: b has hashes around it and is not pinned"),
        (f"a==1 --hash=sha256:{ONE}\nb==1\n", "requirements.txt:2: b==1 has no hash"),
        ("a==1 --hash=md5:abc\n", "none of the hashes is a sha256"),
        ("a==1 --hash=sha256\n", "not of the form"),
        ("--require-hashes\na==1\n", "a==1 has no hash"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, expected):
    with pytest.raises(ResolveError, match=expected):
        read(tmp_path, text)
