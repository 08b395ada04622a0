"""pip's requirements files (pip documentation, "Requirements File Format"), as far as lpack must understand them itself.

uv reads them again when it resolves, or a text that says the same where it cannot read what pip can. lpack needs to know which
files and folders count, which hashes are demanded, which indexes are named, and how packages are to be built.
"""

from __future__ import annotations

import codecs
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct, field

from builders.documents import decode_text
from packer.core.errors import ResolveError
from packer.core.redaction import hide_user_parts
from packer.formats.distribution_names import canonical_name, outline_requirement, parse_wheel_name

_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_OPTION = re.compile(r"(?P<name>-[^\s=]*)(?:\s*=\s*|\s+|$)(?P<value>.*)")
_QUOTED_OR_NEXT = re.compile(r"(?P<quoted>\"[^\"]*\"|'[^']*')|(?P<next>\s+(?=--?[a-zA-Z]))|.")
_EGG = re.compile(r"egg=(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?P<extras>\[[^\]]*\])?$")
_CODING = re.compile(rb"^#.*?coding[:=]\s*([-\w.]+)")
"""The comment in one of the first two lines by which pip decodes a file (PEP 263)."""
_UTF_32_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UNICODE_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, *_UTF_32_MARKS)
# Options that lead to another file, that name an index, and that stand alone or take a value; all others are errors.
_NESTED = {"-r": "requirements", "--requirement": "requirements", "-c": "constraints", "--constraint": "constraints"}
_INDEXES = frozenset({"-i", "--index-url", "--extra-index-url"})
_OTHER_NAMES = {"--pypi-url": "--index-url"}
_FOLDERS = frozenset({"-f", "--find-links"})
_WITH_VALUE = _FOLDERS | {"--trusted-host", "--only-binary", "--no-binary", "--use-feature"}
_ALONE = frozenset({"--no-index", "--pre", "--prefer-binary", "--require-hashes"})
_EDITABLE = frozenset({"-e", "--editable"})
_CONFIG_SETTINGS = frozenset({"--config-settings", "--config-setting", "-C"})
_GLOBAL_OPTION = "--global-option"
_EFFECTIVE = _CONFIG_SETTINGS | {"--hash"}
_OF_REQUIREMENTS = _EFFECTIVE | {_GLOBAL_OPTION}
"""Options that stand behind a requirement alone, and those of them that have an effect there."""
ARCHIVE_SUFFIXES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz")
_SHA256_LENGTH = 64
_FIX_OPTION = "Fix its name, or remove it: pip does not know it either."


class RequirementLine(Struct, frozen=True, kw_only=True):
    """One requirement.

    ``name`` is normalized, and empty for a path or URL that does not contain it; ``address`` is the path or URL that it points
    to, as written, and empty where it points to none; ``hashes`` are SHA-256 in hex. ``config_settings`` are the (key, value)
    that the package's build back end gets.
    """

    file: Path
    number: int
    text: str
    name: str
    address: str = ""
    hashes: frozenset[str] = frozenset()
    config_settings: tuple[tuple[str, str], ...] = ()
    is_constraint: bool = False


class RequirementsFile(Struct, frozen=True, kw_only=True):
    """A requirements file with everything that it includes; paths are absolute, ``files`` in the order of reading.

    ``option_lines`` limit where distributions come from and of what kind they are, as they would be written in a file of any
    other folder; ``links`` are the folders of archives on this machine among them; ``variables`` are the names of those that
    were expanded. ``foreign`` says that uv cannot read the files as they are, or reads something else in them than pip does;
    ``warnings`` say what has no effect.
    """

    files: tuple[Path, ...]
    lines: tuple[RequirementLine, ...]
    local_paths: tuple[Path, ...]
    index_urls: tuple[str, ...]
    option_lines: tuple[str, ...]
    links: tuple[Path, ...]
    variables: tuple[str, ...]
    hash_mode: bool
    foreign: bool = False
    warnings: tuple[str, ...] = ()


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
    foreign: bool = False
    warnings: list[str] = field(default_factory=list)


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
        foreign=gathered.foreign,
        warnings=tuple(dict.fromkeys(gathered.warnings)),
    )


def _read(path: Path, gathered: _ParsedLines, *, is_constraint: bool, origin: str) -> None:
    if (path, is_constraint) in gathered.seen:
        return
    gathered.seen.add((path, is_constraint))
    text = _read_text(path, gathered, origin)
    gathered.files.append(path)
    gathered.variables.update(_VARIABLE.findall(text))
    for number, line in _logical_lines(text):
        _take(path, number, line, gathered, is_constraint=is_constraint)


def _read_text(path: Path, gathered: _ParsedLines, origin: str) -> str:
    """Return a file's text by its byte order mark, its comment of PEP 263, or as UTF-8: as pip decodes it."""
    try:
        data = path.read_bytes()
        named = next(filter(None, map(_CODING.match, data.split(b"\n", 2)[:2])), None)
        if named is None or data.startswith(_UNICODE_MARKS):
            gathered.foreign |= data.startswith(_UTF_32_MARKS)
            return decode_text(data)
        gathered.foreign = True
        return data.decode(named[1].decode("ascii"))
    except OSError as error:
        what = f"{origin}Cannot read the requirements file {path}: {error.strerror}."
        raise ResolveError(what, remedy="Fix the path.") from error
    except (UnicodeDecodeError, LookupError) as error:  # LookupError: the comment names no encoding
        what = f"{origin}The requirements file {path} is not valid UTF-8: {error}."
        raise ResolveError(what, remedy="Save the file as UTF-8.") from error


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
    text, *words = _split_options(line)
    if not line.startswith("-"):
        options = [_split_option(word, place) for word in words]
        _take_requirement(path, number, text, options, gathered, is_constraint=is_constraint)
        return
    options = [_split_option(word, place) for word in (text, *words)]
    gathered.foreign |= len(options) > 1 or text.startswith(tuple(_OTHER_NAMES)) or _is_glued(text)
    editable = next((value for option, value in options if option in _EDITABLE), "")
    if editable:
        rest = [each for each in options if each[0] not in _EDITABLE]
        gathered.foreign |= "+" in editable.partition("://")[0]  # a repository: uv wants a folder
        _take_requirement(path, number, editable, rest, gathered, is_constraint=is_constraint)
        return
    for option, value in options:
        if option in _NESTED:
            constrains = is_constraint or _NESTED[option] == "constraints"
            _read(_nested(value, path, place), gathered, is_constraint=constrains, origin=f"{place}: ")
        elif option in _OF_REQUIREMENTS:
            raise ResolveError(f"{place}: {option} belongs behind a requirement.", remedy="Move it there, or remove it.")
        else:
            _take_option(path, option, value, gathered, place)


def _take_option(path: Path, option: str, value: str, gathered: _ParsedLines, place: str) -> None:
    """Take an option that stands for all requirements."""
    if option == "--require-hashes":
        gathered.hash_mode = True
        return
    if "://" in value:
        _check_url(value, place)
    if option in _INDEXES:
        gathered.index_urls.append(value)
    elif option in _FOLDERS and "://" not in value:
        # By the same name, whichever part of the line gives it.
        gathered.links.append(Path(os.path.realpath(path.parent / value)))
        value = str(path.parent / value)
    gathered.option_lines.append(f"{option} {value}".rstrip())


def _split_options(line: str) -> list[str]:
    """Split a line before each of its options, but for what is quoted; the first part may be a requirement."""
    parts = [""]
    for found in _QUOTED_OR_NEXT.finditer(line):
        if found["next"]:
            parts.append("")
        else:
            parts[-1] += found[0]
    return parts


def _is_glued(word: str) -> bool:
    """Return whether a short option has its value directly behind it, as in ``-rmore.txt``."""
    return not word.startswith("--") and len(word) > 2 and not word[2].isspace() and word[2] != "="


def _split_option(word: str, place: str) -> tuple[str, str]:
    """Return an option and its value, which is empty for flags; raise `ResolveError` for what pip does not take."""
    found = _OPTION.match(f"{word[:2]} {word[2:]}" if _is_glued(word) else word)
    assert found is not None  # noqa: S101 every word that starts with "-" matches
    option, value = _OTHER_NAMES.get(found["name"], found["name"]), found["value"].strip()
    if option not in _NESTED and option not in _INDEXES | _WITH_VALUE | _ALONE | _EDITABLE | _OF_REQUIREMENTS:
        what = f"{place}: {_shown(option)} is not an option of requirements files that lpack knows."
        raise ResolveError(what, remedy=_FIX_OPTION)
    if option in _ALONE:
        if value:
            raise ResolveError(f"{place}: {option} takes no value.", remedy="Remove what follows it.")
    elif not value:
        raise ResolveError(f"{place}: {option} needs a value.", remedy="Give one, or remove the line.")
    return option, _unquoted(value) if option in _OF_REQUIREMENTS else value.strip("\"'")


def _unquoted(value: str) -> str:
    """Return a value without the quotes that a shell would take away."""
    try:
        return " ".join(shlex.split(value))
    except ValueError:  # a quote that does not end
        return value


def _nested(value: str, path: Path, place: str) -> Path:
    if "://" in value and not value.startswith("file:"):
        raise ResolveError(
            f"{place}: requirements files are not read from the network.",
            remedy="Download the file, and use the path of the copy.",
        )
    _check_url(value, place)
    return local_path(value, path.parent)


def _take_requirement(
    path: Path, number: int, text: str, options: list[tuple[str, str]], gathered: _ParsedLines, *, is_constraint: bool
) -> None:
    place = f"{path}:{number}"
    named = _with_name_in_front(text)
    name, address = _name_and_address(named, place)
    digests = [value for option, value in options if option == "--hash"]
    hashes = _sha256_of(digests, address, place)
    gathered.hash_mode |= bool(digests)  # as in pip, a hash in a URL does not turn on hash mode
    gathered.foreign |= named != text or len(digests) != len(options)
    gathered.warnings += [_describe_ignored(option, place) for option, _ in options if option not in _EFFECTIVE]
    if address:
        local = _local_path(address, path)
        if local is not None:
            gathered.local_paths.append(local)
    settings = tuple(_split_setting(value, place) for option, value in options if option in _CONFIG_SETTINGS)
    gathered.lines.append(
        RequirementLine(
            file=path,
            number=number,
            text=named,
            name=name,
            address=address,
            hashes=hashes,
            config_settings=settings,
            is_constraint=is_constraint,
        )
    )


def _describe_ignored(option: str, place: str) -> str:
    """Return the warning that an option behind a requirement has no effect (pip documentation, "Per-requirement options")."""
    instead = "use --config-settings." if option == _GLOBAL_OPTION else "give it a line of its own."
    return f"{place}: {option} has no effect behind a requirement, as with pip: {instead}"


def _split_setting(value: str, place: str) -> tuple[str, str]:
    """Return key and value of a setting for a build back end; raise `ResolveError` for what is none."""
    key, separator, text = value.partition("=")
    if not separator or not key:
        what = f"{place}: {_shown(value)!r} is not of the form KEY=VALUE, as --config-settings needs it."
        raise ResolveError(what, remedy="Fix it.")
    return key, text


def _with_name_in_front(text: str) -> str:
    """Return a requirement by URL with the name and the extras of its ``#egg=`` in front, as PEP 508 writes it.

    pip takes them in any place of the fragment.

        git+https://host/repo#egg=name[extra]&subdirectory=a  ->  name[extra] @ git+https://host/repo#subdirectory=a
    """
    word, space, rest = text.partition(" ")
    address, mark, fragment = word.partition("#")
    if "://" not in address or not mark:
        return text
    fragment, semicolon, marker = fragment.partition(";")
    parts = fragment.split("&")
    egg = next(filter(None, (_EGG.match(unquote(part)) for part in parts)), None)
    if egg is None:
        return text
    kept = "&".join(part for part in parts if not part.startswith("egg="))
    place = f"{address}#{kept}" if kept else address
    behind = f" ;{marker}" if semicolon else ""
    return f"{egg['name']}{egg['extras'] or ''} @ {place}{behind}{space}{rest}"


def _sha256_of(options: list[str], address: str, place: str) -> frozenset[str]:
    """Return the digests that a requirement's ``--hash`` options and its URL's fragment (``#sha256=``) allow."""
    found = [_hash(option, place) for option in options]
    fragment = dict(pair.partition("=")[::2] for pair in urlsplit(address).fragment.split("&"))
    found += [(key, fragment[key]) for key in ("sha256", "sha384", "sha512", "md5") if key in fragment]
    digests = frozenset(digest.lower() for algorithm, digest in found if algorithm == "sha256")
    if found and not digests:
        raise ResolveError(f"{place}: none of the hashes is a sha256, which lpack needs.", remedy="Add one.")
    return digests


def _hash(value: str, place: str) -> tuple[str, str]:
    """Return algorithm and digest of a ``--hash`` option's value; raise `ResolveError` for any other."""
    algorithm, _, digest = value.partition(":")
    if not algorithm or not re.fullmatch(r"[0-9a-fA-F]+", digest):
        raise ResolveError(f"{place}: --hash={value} is not of the form --hash=sha256:DIGEST.", remedy="Fix the hash.")
    if algorithm == "sha256" and len(digest) != _SHA256_LENGTH:
        raise ResolveError(f"{place}: {digest} is not a sha256: it has {len(digest)} digits.", remedy="Fix the hash.")
    return algorithm, digest


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
