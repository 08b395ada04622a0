"""Secrets are kept out of texts in every spelling, and texts stay readable whatever the secret is."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer.core.redaction import Redaction, escape_controls

PROSE = "Cannot download a-1.0-py3-none-any.whl: the test server at host/simple/a answers 401; try `abc` again (pass 1 of 2)."


def redacted(text: str, *secrets: str) -> str:
    redaction = Redaction()
    for secret in secrets:
        redaction.add(secret)
    return redaction.redacted(text)


@pytest.mark.parametrize("secret", ["a", "1", "-", ".", " ", "an", "own", "est", "load", "swer", "****"])
def test_short_secret_leaves_prose_as_it_is(secret):
    assert redacted(PROSE, secret) == PROSE


@pytest.mark.parametrize(
    "secret", ["a", "@", "%", "/", "'", "?", "ö", "a b", "p@s", "s3cr", "p/ss", "it's", "secret", "hunter2!"]
)
@pytest.mark.parametrize("encode", [str, lambda each: quote(each, safe=""), lambda each: quote(quote(each, safe=""), safe="")])
def test_secret_of_any_length_is_hidden_in_urls(secret, encode):
    text = f"see https://me:{encode(secret)}@host:8080/simple/a and https://{encode(secret)}@other/, please"
    assert redacted(text, secret) == "see https://****@host:8080/simple/a and https://****@other/, please"


@pytest.mark.parametrize(
    "text", ["password=a", "UV_INDEX_CORP_PASSWORD=a", "'token': 'a'", "Password: a, b", "http://h/x?token=a&b=c"]
)
def test_short_secret_is_hidden_after_the_word_that_says_what_it_is(text):
    before, after = text.rsplit("a", 1)
    assert redacted(text, "a") == f"{before}****{after}"


def test_secret_of_some_letters_is_hidden_as_a_word_and_not_within_one():
    assert redacted("s3cr s3cret (s3cr) _s3cr: xs3cr", "s3cr") == "**** s3cret (****) _****: xs3cr"


def test_long_secret_is_hidden_wherever_it_stands():
    assert redacted("xlong-secretx LONG long%2dsecret", "long-secret") == "x****x LONG ****"


def test_letters_may_be_encoded_in_either_case_and_one_by_one():
    assert redacted("%6cong%2Dsecret p%c3%b6p-w%C3%B6rd", "long-secret", "pöp-wörd") == "**** ****"


def test_longer_secret_goes_before_one_that_is_a_part_of_it():
    assert redacted("long-secret-more", "long-secret", "long-secret-more") == "****"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("git+ssh://git@host/repo@v1", "git+ssh://****@host/repo@v1"),
        ("https://host/repo@v1", "https://host/repo@v1"),
        ("http://host:8080/repo@v1 http://[::1]:8080/repo@v1", "http://host:8080/repo@v1 http://[::1]:8080/repo@v1"),
        ("https://me:p@ss@host/x@1", "https://****@host/x@1"),
        ("https://me:p/ss@host/x@1", "https://****@host/x@1"),
        ("https://me:p?s#s@host/x", "https://****@host/x"),
        ("https://me:it's@host/x 'https://me:it\"s@host/x'", "https://****@host/x 'https://****@host/x'"),
        ("see 'https://host': 'me@host'", "see 'https://host': 'me@host'"),
        ('{"a":"http://host:1","b":"me@host"}', '{"a":"http://host:1","b":"me@host"}'),
        (
            '<a href="https://host">me@host</a> <https://host>me@host',
            '<a href="https://host">me@host</a> <https://host>me@host',
        ),
        ('["https://host","me@host"]', '["https://host","me@host"]'),
    ],
)
def test_user_part_of_any_url_is_hidden(text, shown):
    assert redacted(text) == shown


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
        lambda each: each not in ("host", "https")
    )
)
def test_no_secret_survives_percent_encoded_in_a_url(secret):
    assert redacted(f"at https://me:{quote(secret, safe='')}@host/x", secret) == "at https://****@host/x"


def test_secret_that_is_no_unicode_is_hidden():
    assert redacted("at \udcff-12345678 and %FF-12345678", "\udcff-12345678") == "at **** and ****"


@pytest.mark.parametrize("code", [0x1B, 0x0D, 0x7F, 0x9B, 0x61C, 0x200E, 0x200F, 0x2028, 0x202A, 0x202E, 0x2066, 0x2069])
def test_character_that_changes_what_is_shown_is_escaped(code):
    assert escape_controls(f"a{chr(code)}b") == f"a\\{f'x{code:02x}' if code < 256 else f'u{code:04x}'}b"


def test_text_of_any_script_with_lines_and_tabs_is_shown_as_it_is():
    text = "one\n\ttwo: é, שלום, 你好, \u200d"
    assert escape_controls(text) == text
