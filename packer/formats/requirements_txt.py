"""pip's requirements files (pip documentation, "Requirements File Format"), as far as lpack must understand them itself.

uv reads them again when it resolves. lpack needs to know which files and folders count, which hashes are demanded, and which
indexes are named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct, field

from builders.documents import read_text
from packer.core.errors import ResolveError
from packer.core.redaction import hide_user_parts
from packer.formats.distribution_names import canonical_name, outline_requirement, parse_wheel_name

_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_OPTION = re.compile(r"(?P<name>-[^\s=]*)(?:\s*=\s*|\s+|$)(?P<value>.*)")
_NEXT_OPTION = re.compile(r"\s+(?=--?[a-zA-Z])")
# Options that lead to another file, that name an index, and that stand alone or take a value; all others are errors.
_NESTED = {"-r": "requirements", "--requirement": "requirements", "-c": "constraints", "--constraint": "constraints"}
_INDEXES = frozenset({"-i", "--index-url", "--extra-index-url"})
_FOLDERS = frozenset({"-f", "--find-links"})
_WITH_VALUE = _FOLDERS | {"--trusted-host", "--only-binary", "--no-binary", "--use-feature"}
_ALONE = frozenset({"--no-index", "--pre", "--prefer-binary", "--require-hashes"})
_EDITABLE = frozenset({"-e", "--editable"})
ARCHIVE_SUFFIXES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz")
_SHA256_LENGTH = 64
_ONE_A_LINE = "Write one option a line, with a space before its value (uv reads no other form)."


class RequirementLine(Struct, frozen=True, kw_only=True):
    """One requirement.

    ``name`` is normalized, and empty for a path or URL that does not contain it; ``address`` is the path or URL that it points
    to, as written, and empty where it points to none; ``hashes`` are SHA-256 in hex.
    """

    file: Path
    number: int
    text: str
    name: str
    address: str = ""
    hashes: frozenset[str] = frozenset()
    is_constraint: bool = False


class RequirementsFile(Struct, frozen=True, kw_only=True):
    """A requirements file with everything that it includes; paths are absolute, ``files`` in the order of reading.

    ``option_lines`` limit where distributions come from and of what kind they are, as they would be written in a file of any
    other folder; ``links`` are the folders of archives on this machine among them; ``variables`` are the names of those that
    were expanded.
    """

    files: tuple[Path, ...]
    lines: tuple[RequirementLine, ...]
    local_paths: tuple[Path, ...]
    index_urls: tuple[str, ...]
    option_lines: tuple[str, ...]
    links: tuple[Path, ...]
    variables: tuple[str, ...]
    hash_mode: bool


class _ParsedLines(Struct, kw_only=True):
    seen: set[tuple[Path, bool]] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    lines: list[RequirementLine] = field(default_factory=list)
    local_paths: list[Path] = field(default_factory=list)
    index_urls: list[str] = field(default_factory=list)
    option_lines: list[str] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)
    hash_mode: bool = False


def read_requirements(path: Path) -> RequirementsFile:
    """Read a requirements file; raise `ResolveError` that names the file and the line."""
    gathered = _ParsedLines()
    _read(path.absolute(), gathered, is_constraint=False, origin="")
    if gathered.hash_mode:
        for line in gathered.lines:
            _check_hashed(line)
    return RequirementsFile(
        files=tuple(dict.fromkeys(gathered.files)),
        lines=tuple(gathered.lines),
        local_paths=tuple(dict.fromkeys(gathered.local_paths)),
        index_urls=tuple(dict.fromkeys(gathered.index_urls)),
        option_lines=tuple(dict.fromkeys(gathered.option_lines)),
        links=tuple(dict.fromkeys(gathered.links)),
        variables=tuple(sorted(gathered.variables)),
        hash_mode=gathered.hash_mode,
    )


def _read(path: Path, gathered: _ParsedLines, *, is_constraint: bool, origin: str) -> None:
    if (path, is_constraint) in gathered.seen:
        return
    gathered.seen.add((path, is_constraint))
    remedy = "Fix the path, or save the file as UTF-8."
    try:
        text = read_text(path, ResolveError, remedy, noun="the requirements file", encoding="utf-8-sig")
    except ResolveError as error:
        error.what = f"{origin}{error.what}"
        raise
    gathered.files.append(path)
    gathered.variables.update(_VARIABLE.findall(text))
    for number, line in _logical_lines(text):
        _take(path, number, line, gathered, is_constraint=is_constraint)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Join continued lines, remove comments, expand variables; yield each with the number of its first physical line."""
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        start = start or number
        is_comment = _COMMENT.match(line) is not None
        if line.endswith("\\") and not is_comment:
            pending += line.strip("\\")  # on both sides, as pip does
            continue
        # As in pip: a comment ends a continued line, even where it starts at the margin.
        yield from _expanded_line(start, f"{pending} {line}" if is_comment else pending + line)
        pending, start = "", 0
    yield from _expanded_line(start, pending)


def _expanded_line(number: int, line: str) -> Iterator[tuple[int, str]]:
    whole = _COMMENT.sub("", line).strip()
    if whole:
        yield number, _VARIABLE.sub(_value, whole)


def _value(match: re.Match[str]) -> str:
    # As in pip: a variable that is not set stays as it is.
    return os.environ.get(match[1]) or match[0]


def _take(path: Path, number: int, line: str, gathered: _ParsedLines, *, is_constraint: bool) -> None:
    place = f"{path}:{number}"
    if not line.startswith("-"):
        _take_requirement(path, number, line, gathered, is_constraint=is_constraint)
        return
    option, value = _split_option(line, place)
    if option in _NESTED:
        constrains = is_constraint or _NESTED[option] == "constraints"
        _read(_nested(value, path, place), gathered, is_constraint=constrains, origin=f"{place}: ")
    elif option in _EDITABLE:
        _take_requirement(path, number, value, gathered, is_constraint=is_constraint)
    elif option == "--require-hashes":
        gathered.hash_mode = True
    else:
        if "://" in value:
            _check_url(value, place)
        if option in _INDEXES:
            gathered.index_urls.append(value)
        elif option in _FOLDERS and "://" not in value:
            gathered.links.append(
                Path(os.path.realpath(path.parent / value))
            )  # the same name, whichever part of the line gives it
            value = str(path.parent / value)
        gathered.option_lines.append(f"{option} {value}".rstrip())


def _split_option(line: str, place: str) -> tuple[str, str]:
    """Return an option line's option and value, which is empty for flags; raise `ResolveError` for any other form."""
    found = _OPTION.match(line)
    assert found is not None  # noqa: S101 every line that starts with "-" matches
    option, value = found["name"], found["value"].strip()
    if option not in _NESTED and option not in _INDEXES | _WITH_VALUE | _ALONE | _EDITABLE:
        raise ResolveError(f"{place}: {option} is not an option of requirements files that lpack knows.", remedy=_ONE_A_LINE)
    if option in _ALONE:
        if value:
            raise ResolveError(f"{place}: {option} takes no value.", remedy=_ONE_A_LINE)
    elif not value:
        raise ResolveError(f"{place}: {option} needs a value.", remedy="Give one, or remove the line.")
    elif option not in _EDITABLE and _NEXT_OPTION.search(value):
        raise ResolveError(f"{place}: a second option follows {option}.", remedy=_ONE_A_LINE)
    return option, value.strip("\"'")


def _nested(value: str, path: Path, place: str) -> Path:
    if "://" in value and not value.startswith("file:"):
        raise ResolveError(
            f"{place}: requirements files are not read from the network.",
            remedy="Download the file, and use the path of the copy.",
        )
    _check_url(value, place)
    return local_path(value, path.parent)


def _take_requirement(path: Path, number: int, line: str, gathered: _ParsedLines, *, is_constraint: bool) -> None:
    place = f"{path}:{number}"
    text, *options = _NEXT_OPTION.split(line)
    name, address = _name_and_address(text, place)
    hashes = _sha256_of(options, address, place)
    gathered.hash_mode |= bool(options)  # as in pip, a hash in a URL does not turn on hash mode
    if address:
        local = _local_path(address, path)
        if local is not None:
            gathered.local_paths.append(local)
    gathered.lines.append(
        RequirementLine(
            file=path, number=number, text=text, name=name, address=address, hashes=hashes, is_constraint=is_constraint
        )
    )


def _sha256_of(options: list[str], address: str, place: str) -> frozenset[str]:
    """Return the digests that a requirement's ``--hash`` options and its URL's fragment (``#sha256=``) allow."""
    found = [_hash(option, place) for option in options]
    fragment = dict(pair.partition("=")[::2] for pair in urlsplit(address).fragment.split("&"))
    found += [(key, fragment[key]) for key in ("sha256", "sha384", "sha512", "md5") if key in fragment]
    digests = frozenset(digest.lower() for algorithm, digest in found if algorithm == "sha256")
    if found and not digests:
        raise ResolveError(f"{place}: none of the hashes is a sha256, which lpack needs.", remedy="Add one.")
    return digests


def _hash(option: str, place: str) -> tuple[str, str]:
    """Return algorithm and digest of a ``--hash`` option; raise `ResolveError` for any other option of a requirement."""
    name, value = _split_pair(option)
    if name != "--hash":
        raise ResolveError(
            f"{place}: {_shown(name)} is not an option of a requirement that lpack knows.", remedy="Remove it; only --hash is."
        )
    algorithm, _, digest = value.partition(":")
    if not algorithm or not re.fullmatch(r"[0-9a-fA-F]+", digest):
        raise ResolveError(f"{place}: {option} is not of the form --hash=sha256:DIGEST.", remedy="Fix the hash.")
    if algorithm == "sha256" and len(digest) != _SHA256_LENGTH:
        raise ResolveError(f"{place}: {digest} is not a sha256: it has {len(digest)} digits.", remedy="Fix the hash.")
    return algorithm, digest


def _split_pair(option: str) -> tuple[str, str]:
    name, _, value = re.sub(r"\s*=\s*|\s+", "=", option.strip(), count=1).partition("=")
    return name, value.strip()


def _name_and_address(text: str, place: str) -> tuple[str, str]:
    """Return a requirement's normalized name, and the path or URL it points to, empty where it has none."""
    address = _bare_address(text)
    if address:
        _check_url(address, place)
        return _name_in(address), address
    try:
        requirement = outline_requirement(text)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise ResolveError(
            f"{place}: {_shown(text)!r} is not a requirement: {reason}.", remedy="Fix the line (PEP 508)."
        ) from None
    _check_url(requirement.url, place)
    return requirement.name, requirement.url


def _check_url(address: str, place: str) -> None:
    """Raise `ResolveError` for an address that is not a valid URL."""
    try:
        urlsplit(address)
    except ValueError:
        raise ResolveError(f"{place}: {_shown(address)!r} is not a valid URL.", remedy="Fix the address.") from None


def _bare_address(text: str) -> str:
    """Return the path or URL of a line without extras and marker; empty for a requirement by name."""
    first = re.split(r"\s+", text, maxsplit=1)[0]
    if "://" not in first:
        first = first.partition(";")[0]
    address = re.sub(r"\[[^\]/]*\]$", "", first)
    if re.match(r"[\w.-]+\s*(\[[^\]]*\]\s*)?@", text):
        return ""
    is_path = address.startswith((".", "file:")) or "/" in address
    return address if is_path or address.endswith(ARCHIVE_SUFFIXES) else ""


def _name_in(address: str) -> str:
    """Return the normalized name in an address, by its archive's file name or ``#egg=``; empty where it has none."""
    parts = urlsplit(address)
    egg = re.search(r"(?:^|&)egg=([A-Za-z0-9._-]+)", parts.fragment)
    if egg is not None:
        return canonical_name(egg[1])
    filename = unquote(parts.path).rpartition("/")[2]
    try:
        return parse_wheel_name(filename).name if filename.endswith(".whl") else _name_of_sdist(filename)
    except ValueError:
        return ""


def _name_of_sdist(filename: str) -> str:
    from packaging.utils import parse_sdist_filename

    return parse_sdist_filename(filename)[0]


def _local_path(address: str, path: Path) -> Path | None:
    scheme = urlsplit(address).scheme
    return None if scheme not in ("", "file") else local_path(address, path.parent)


def _shown(text: str) -> str:
    """Return a line's text for messages: one of the variables expanded in it may be a password."""
    return hide_user_parts(text)


def _check_hashed(line: RequirementLine) -> None:
    """Check what pip checks in hash mode: every requirement is pinned and has a hash; raise `ResolveError`.

    Unlike pip, this allows local folders and repositories, which have no hash: no index could replace them.
    """
    is_archive = urlsplit(line.address).path.endswith(ARCHIVE_SUFFIXES)
    if line.is_constraint or (line.address and not is_archive):
        return
    place = f"{line.file}:{line.number}"
    if not line.address and [each in ("==", "===") for each in outline_requirement(line.text).operators] != [True]:
        raise ResolveError(
            f"{place}: {_shown(line.text)} is not pinned by ==, and other requirements have hashes.", remedy="Pin it."
        )
    if not line.hashes:
        raise ResolveError(
            f"{place}: {_shown(line.text)} has no hash, and others have.", remedy="Give every requirement a hash, or none."
        )


def local_path(place: str, folder: Path) -> Path:
    """Return the absolute path of what a path or a ``file:`` URL (RFC 8089) names; relative ones start from ``folder``.

    Raises ``ValueError`` for what is not a valid URL.
    """
    path = unquote(urlsplit(place).path) if place.startswith("file:") else place
    return Path(os.path.normpath(folder.absolute() / path))


def allowed_hashes(file: RequirementsFile) -> Mapping[str, frozenset[str]]:
    """Return the hashes that the file allows for each name; empty where it lists none at all."""
    if not file.hash_mode:
        return {}
    found: dict[str, frozenset[str]] = {}
    for line in file.lines:
        if line.name and line.hashes:
            found[line.name] = found.get(line.name, frozenset()) | line.hashes
    return found
