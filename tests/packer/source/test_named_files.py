"""Which files, and endings of files, strings in sources name."""

from __future__ import annotations

import pytest

from packer.source.named_files import find_named_files


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ('open("one.h")\n', "one.h"),
        ("open(here / 'data/one.h')\n", "one.h"),
        ('open(f"{here}/one.h")\n', "one.h"),
        ('call("it\'s", "one.h")\n', "one.h"),
        ('call("a", "one.h", "b")\n', "one.h"),
        ('LIST = ["Makefile"]\n', "Makefile"),
    ],
)
def test_a_file_that_a_string_names_is_found(code, name):
    assert name in find_named_files([code.encode()]).names


@pytest.mark.parametrize(
    ("code", "suffix"),
    [
        ('path.endswith(".h")\n', ".h"),
        ('folder.glob("*.h")\n', ".h"),
        ('folder.glob("**/*.h")\n', ".h"),
        ('name = "%s%s.exe" % (kind, bits)\n', ".exe"),
        ('name = f"{kind}.exe"\n', ".exe"),
        ('name = "{}-64.exe".format(kind)\n', ".exe"),
        ('name = "cli" + ".exe"\n', ".exe"),
        ('f"{name}.h.in"\n', ".h.in"),
    ],
)
def test_an_ending_by_itself_or_after_a_placeholder_is_found(code, suffix):
    assert suffix in find_named_files([code.encode()]).suffixes


@pytest.mark.parametrize("code", ['open("one.h")\n', '"a sentence with .h in it"\n', "x = one.h\n", '"h"\n'])
def test_a_whole_name_or_a_sentence_is_no_ending(code):
    assert not find_named_files([code.encode()]).suffixes
