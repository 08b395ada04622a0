"""Looks for what should not be packed: private keys, AWS keys, files of passwords, and repositories.

What is found is named, and never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from packer.core.errors import PackageError
from packer.core.model import Entry, Tree

_READ = 1 << 20
"""Bytes of a file that are looked through at most: keys lie in small files, or at the top of large ones."""
_SHOWN = 5
# RFC 7468, section 2, and OpenSSH's and PGP's own labels; a public key or a certificate is no secret.
# Headers may stand before the key itself (RFC 1421), which may be written as one line of a JSON text.
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\n)[\s\S]{0,200}?[A-Za-z0-9+/=]{40}")
# AWS "IAM identifiers", unique ids: access keys begin with AKIA, those of a session with ASIA. Documents use ...EXAMPLE.
_AWS_KEY = re.compile(rb"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])(?<!EXAMPLE)")
_AWS_SECRET = re.compile(
    rb"(?i)aws_?secret_?(?:access_?)?key[\"']?\s*[:=]\s*[\"']?"
    rb"(?=[A-Za-z0-9/+]*[0-9])(?![A-Za-z0-9/+]*EXAMPLE)[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
)
_CONTENTS = ((_PRIVATE_KEY, "a private key"), (_AWS_KEY, "an AWS access key"), (_AWS_SECRET, "an AWS secret key"))
_MARKS = (b"PRIVATE KEY", b"AKIA", b"ASIA", b"ecret", b"ECRET")
_SAMPLES = (".env.example", ".env.sample", ".env.template", ".env.dist")
_PASSWORDS = frozenset(
    (".netrc", ".pypirc", ".npmrc", ".git-credentials", ".pgpass", ".htpasswd", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519")
)
_REPOSITORIES = frozenset((".git", ".hg", ".svn", ".bzr"))


class SecretFinding(Struct, frozen=True, kw_only=True):
    """A file of the source that should not be packed, and what is in it."""

    path: str
    what: str


def find_secrets(tree: Tree, allowed: Sequence[str] = ()) -> tuple[SecretFinding, ...]:
    """Look through a function's own source; ``allowed`` are patterns of paths that the user has looked at.

    Raises `BuildError` where a file changes meanwhile.
    """
    found = (SecretFinding(path=entry.path, what=what) for entry in tree if (what := _describe_entry(entry)))
    return tuple(each for each in found if not any(fnmatchcase(each.path, pattern) for pattern in allowed))


def _describe_entry(entry: Entry) -> str:
    """Return what a file is that should not be packed; empty for any other."""
    *folders, name = entry.path.split("/")
    if not _REPOSITORIES.isdisjoint((*folders, name)):
        return "a part of a repository"
    if (name == ".env" or name.startswith(".env.")) and name not in _SAMPLES:
        return "a file of environment variables"
    if name in _PASSWORDS or (name == "credentials" and folders[-1:] == [".aws"]):
        return "a file of passwords or keys"
    return next(_find_in_content(entry), "") if entry.content.size else ""


def _find_in_content(entry: Entry) -> Iterator[str]:
    data = entry.content.read()[:_READ]
    if any(mark in data for mark in _MARKS):
        yield from (what for pattern, what in _CONTENTS if pattern.search(data))


def describe_secrets(function: str, findings: Sequence[SecretFinding]) -> tuple[str, ...]:
    """Return warnings of what a function is about to pack; the first few of many."""
    named = [f"{function} packs {each.path}, which is {each.what}: {_remedy(each)}" for each in findings[:_SHOWN]]
    more = len(findings) - _SHOWN
    return (*named, *([f"{function} packs {more} more files that should not be packed."] if more > 0 else ()))


def refuse_secrets(function: str, findings: Sequence[SecretFinding]) -> None:
    """Raise `PackageError` where anything was found."""
    if findings:
        listed = "\n".join(f"{each.path}: {each.what}" for each in findings)
        what = f"{function} would pack what should not be packed, and --strict forbids that."
        raise PackageError(what, detail=listed, remedy=_remedy(findings[0]))


def _remedy(finding: SecretFinding) -> str:
    return f'leave it out (.lpackignore, or ignore = ["{finding.path}"]), or write allow = ["{finding.path}"].'
