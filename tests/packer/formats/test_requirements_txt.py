"""Requirements files: what they include, demand and name."""

import re
from pathlib import Path

import pytest

from packer.core.errors import ResolveError
from packer.formats.requirements_txt import RequirementsFile, allowed_hashes, read_requirements

ONE, TWO = "1" * 64, "b" * 64


def read(folder: Path, text: str, **others: str) -> RequirementsFile:
    for name, content in others.items():
        path = folder / name.replace("__", "/").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "requirements.txt").write_text(text)
    return read_requirements(folder / "requirements.txt")


def names(file: RequirementsFile) -> list[str]:
    return [line.name for line in file.lines]


def test_names_are_normalized_and_comments_are_not_read(tmp_path):
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
    file = read(tmp_path, f"a==1 \\\n    --hash=sha256:{ONE} \\\n    --hash=sha512:abc --hash=sha256:{TWO.upper()}\n")
    assert file.hash_mode
    assert allowed_hashes(file) == {"a": frozenset({ONE, TWO})}
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
        ("./lib;python_version>'3'", "lib"),
        ("./my@lib", "my@lib"),
        ("file:lib", "lib"),
        ("file:///abs/my%20lib", "/abs/my lib"),
        ("lib @ ./lib", "lib"),
        ("a-1-py3-none-any.whl", "a-1-py3-none-any.whl"),
        (".[fast]", "."),
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
        ("a\n-r missing.txt\n", "requirements.txt:2: Cannot read the requirements file"),
        ("a\n--colour red\n", "requirements.txt:2: --colour is not an option"),
        ("-r\n", "needs a value|Cannot read"),
        ("a b c\n", "requirements.txt:1: 'a b c' is not a requirement"),
        (f"a==1 --hash=sha256:{ONE}\nb\n", "requirements.txt:2: b is not pinned by ==, and other requirements have hashes"),
        (f"a==1 --hash=sha256:{ONE}\nb==1\n", "requirements.txt:2: b==1 has no hash"),
        ("a==1 --hash=md5:abc\n", "none of the hashes is a sha256"),
        (f"a==1 --hash sha384:{ONE}\n", "requirements.txt:1: none of the hashes is a sha256"),
        (f"a @ https://host/a-1.zip#sha512={ONE}\n", "none of the hashes is a sha256"),
        ("a==1 --hash=sha256:abc\n", "abc is not a sha256: it has 3 digits"),
        (f"a==1,>0 --hash=sha256:{ONE}\n", "a==1,>0 is not pinned by ==, and other requirements have hashes"),
        (f"a==1 --hash=sha256:{ONE}\n./b-1-py3-none-any.whl\n", "./b-1-py3-none-any.whl has no hash"),
        (f"a==1 --hash=sha256:{ONE}\nb @ https://host/b-1.zip\n", "b-1.zip has no hash"),
        ("a --config-settings=x\n", "'x' is not of the form KEY=VALUE"),
        ("a --colour=red\n", "requirements.txt:1: --colour is not an option"),
        ("--hash=sha256:abc\n", "--hash belongs behind a requirement"),
        ("--pre 1\n", "--pre takes no value"),
        ("-rmore.txt\n", "requirements.txt:1: Cannot read the requirements file"),
        ("-r https://host/more.txt\n", "not read from the network"),
        ("a\n\n--extra-index-url\n", "requirements.txt:3: --extra-index-url needs a value"),
        ("a 'b\n", "is not a requirement"),
        ("a==1 --hash=sha256\n", "not of the form"),
        ("--require-hashes\na==1\n", "a==1 has no hash"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, expected):
    with pytest.raises(ResolveError, match=expected):
        read(tmp_path, text)


def test_nested_files_that_cannot_be_read_are_blamed_on_the_line_that_names_them(tmp_path):
    with pytest.raises(ResolveError, match=r"sub/more.txt:2: Cannot read the requirements file .*/sub/deep.txt: No such file"):
        read(tmp_path, "-r sub/more.txt\n", sub__more_txt="a\n-r deep.txt\n")


def test_a_file_may_be_requirements_and_constraints(tmp_path):
    file = read(tmp_path, "-c both.txt\n-r both.txt\n", both_txt="a==1\n")
    assert [line.is_constraint for line in file.lines] == [True, False]
    assert [path.name for path in file.files] == ["requirements.txt", "both.txt"]


def test_what_a_constraint_includes_constrains(tmp_path):
    file = read(tmp_path, "-c limits.txt\n", limits_txt="-r more.txt\n", more_txt="a<2\n")
    assert [line.is_constraint for line in file.lines] == [True]


def test_constraints_need_no_hashes(tmp_path):
    file = read(tmp_path, f"a==1 --hash=sha256:{ONE}\n-c limits.txt\n", limits_txt="b<2\n")
    assert allowed_hashes(file) == {"a": frozenset({ONE})}


def test_comments_and_continued_lines_as_pip_joins_them(tmp_path):
    file = read(tmp_path, "a==1\\\n# why\nb\\\n<2\n   # indented\nc>1\\\n")
    assert [(line.number, line.text) for line in file.lines] == [(1, "a==1"), (3, "b<2"), (6, "c>1")]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("./wheels/My_Lib-1-py3-none-any.whl", "my-lib"),
        ("https://host/My_Lib-1.0.tar.gz", "my-lib"),
        ("git+https://host/repo@abc#egg=My_Lib&subdirectory=x", "my-lib"),
        ("lib@https://host/a-1-py3-none-any.whl", "lib"),
        ("lib [fast] @ ./folder", "lib"),
        ("./lib", ""),
        ("https://host/a-latest.zip", ""),
    ],
)
def test_names_of_addresses(tmp_path, line, name):
    file = read(tmp_path, line + "\n")
    assert names(file) == [name]
    assert file.lines[0].address


def test_archives_with_hashes_count_among_the_demanded(tmp_path):
    text = f"./a-1-py3-none-any.whl --hash=sha256:{ONE}\nb @ https://host/b-1.zip#sha256={TWO}\n"
    assert allowed_hashes(read(tmp_path, text)) == {"a": frozenset({ONE}), "b": frozenset({TWO})}


def test_a_path_that_is_named_twice_is_one(tmp_path):
    assert read(tmp_path, "./lib\n-e lib/../lib\n").local_paths == (tmp_path / "lib",)


def test_folders_and_repositories_may_stand_beside_hashes(tmp_path):
    text = f"a==1 --hash=sha256:{ONE}\n./lib\nb @ git+https://host/r@abc\n-e ./other\n"
    assert allowed_hashes(read(tmp_path, text)) == {"a": frozenset({ONE})}


def test_a_hash_in_an_address_demands_nothing_of_other_lines(tmp_path):
    assert not read(tmp_path, f"b @ https://host/b-1.zip#sha256={TWO}\na\n").hash_mode


@pytest.mark.parametrize(
    "text", ["a @ https://u:${TOKEN}@host/x y\n", "--require-hashes\na @ https://u:${TOKEN}@host/a-1.zip\n"]
)
def test_no_error_shows_a_password(tmp_path, monkeypatch, text):
    monkeypatch.setenv("TOKEN", "s3cret")
    with pytest.raises(ResolveError) as caught:
        read(tmp_path, text)
    assert "s3cret" not in str(caught.value)
    assert "****@host" in str(caught.value)


def test_no_error_shows_a_part_of_a_password_that_is_not_encoded(tmp_path):
    with pytest.raises(ResolveError, match=re.escape("https://****@host/x")) as caught:
        read(tmp_path, "a @ https://u:p@s3cret@host/x y\n")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"])
def test_file_with_a_byte_order_mark_is_read_by_it(tmp_path, encoding):
    mark = "" if encoding == "utf-16" else "\ufeff"
    (tmp_path / "requirements.txt").write_bytes(f"{mark}a==1 \\\r\n  --hash=sha256:{ONE}\r\n-r more.txt\r\n".encode(encoding))
    (tmp_path / "more.txt").write_bytes(f"\ufeffb==1 --hash=sha256:{ONE}\r\n".encode("utf-16-le"))
    assert names(read_requirements(tmp_path / "requirements.txt")) == ["a", "b"]


def test_file_in_the_encoding_that_its_comment_names(tmp_path):
    (tmp_path / "requirements.txt").write_bytes("# Bürgermeister\n# -*- coding: latin-1 -*-\na\n".encode("latin-1"))
    file = read_requirements(tmp_path / "requirements.txt")
    assert names(file) == ["a"]
    assert file.foreign
    (tmp_path / "requirements.txt").write_bytes(b"# coding: klingon\na\n")
    with pytest.raises(ResolveError, match="klingon"):
        read_requirements(tmp_path / "requirements.txt")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("git+https://host/r@v1#egg=a", "a @ git+https://host/r@v1"),
        ("-e git+https://host/r#egg=a[more]&subdirectory=x", "a[more] @ git+https://host/r#subdirectory=x"),
        ("git+ssh://git@host/r#subdirectory=x&egg=A_b[c,d] ; python_version > '3'", None),
        ("git+https://host/r#egg=a%5Bmore%5D;python_version>'3'", "a[more] @ git+https://host/r ;python_version>'3'"),
        ("https://host/a-1.tar.gz#egg=a&sha256=" + ONE, f"a @ https://host/a-1.tar.gz#sha256={ONE}"),
        ("-e git+https://host/r", "git+https://host/r"),
    ],
)
def test_repository_and_archive_by_url_as_pep_508_writes_it(tmp_path, line, text):
    file = read(tmp_path, line + "\n")
    expected = text or "A_b[c,d] @ git+ssh://git@host/r#subdirectory=x ; python_version > '3'"
    assert [each.text for each in file.lines] == [expected]
    assert file.foreign


def test_options_behind_a_requirement_as_pip_takes_them(tmp_path):
    text = """a==1 ; python_version > '3.8' --config-settings "--build-option=-j 4 -g" -C x=1 --config-setting=x=2
b==1 --no-binary=:b: --global-option build
./lib --config-settings=y=z
c
"""
    file = read(tmp_path, text)
    assert [line.text for line in file.lines] == ["a==1 ; python_version > '3.8'", "b==1", "./lib", "c"]
    settings = (("--build-option", "-j 4 -g"), ("x", "1"), ("x", "2"))
    assert [line.config_settings for line in file.lines] == [settings, (), (("y", "z"),), ()]
    assert [each.partition("requirements.txt:")[2] for each in file.warnings] == [
        "2: --no-binary has no effect behind a requirement, as with pip: give it a line of its own.",
        "2: --global-option has no effect behind a requirement, as with pip: use --config-settings.",
    ]
    assert (file.option_lines, file.foreign, file.hash_mode) == ((), True, False)


def test_several_options_in_a_line_and_values_behind_short_ones(tmp_path):
    text = "-i https://one/simple --extra-index-url=https://two/simple --pre\n-rmore.txt\n--pypi-url https://three/simple\n"
    file = read(tmp_path, text, more_txt="a\n")
    assert file.option_lines == (
        "-i https://one/simple",
        "--extra-index-url https://two/simple",
        "--pre",
        "--index-url https://three/simple",
    )
    assert file.index_urls == ("https://one/simple", "https://two/simple", "https://three/simple")
    assert names(file) == ["a"]
    assert file.foreign


@pytest.mark.parametrize("line", ["a", "-e ./lib", "-e .[more]", "a --hash=sha256:" + ONE, "-i https://one/simple", "-r m.txt"])
def test_what_uv_reads_as_pip_does_is_left_as_it_is(tmp_path, line):
    (tmp_path / "m.txt").write_text("")
    assert not read(tmp_path, line.replace("a --", "a==1 --") + "\n").foreign


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "requirements.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(ResolveError, match="is not valid UTF-8"):
        read_requirements(tmp_path / "requirements.txt")


@pytest.mark.parametrize(
    "line",
    [
        "a @ https://u:s3cret@[bad/a-1.0.zip",
        "https://u:s3cret@[bad/a-1.0-py3-none-any.whl",
        "a @ git+https://u:s3cret@[bad/a.git",
        "-e git+https://u:s3cret@[bad/a.git#egg=a",
        "-r file://[bad/more.txt",
        "--index-url https://u:s3cret@[bad/simple",
        "--find-links https://u:s3cret@[bad/wheels",
    ],
)
def test_address_that_is_not_a_url_is_refused_with_its_line(tmp_path, line):
    with pytest.raises(ResolveError, match=r"requirements\.txt:2: ") as caught:
        read(tmp_path, f"b\n{line}\n")
    assert "s3cret" not in str(caught.value)
    assert caught.value.remedy
