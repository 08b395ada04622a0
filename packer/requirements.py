"""pip's requirements files (pip documentation, "Requirements File Format"), as far as lpack must understand them itself.

uv reads them again when it resolves. lpack needs to know which files and folders count, which hashes are demanded, and which
indexes are named.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from packer.errors import ResolveError

_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_COMMENT = re.compile(r"(^|\s+)#.*$")
# Options that lead to another file, that name an index, and that stand alone or take a value; all others are errors.
_NESTED = {"-r": "requirements", "--requirement": "requirements", "-c": "constraints", "--constraint": "constraints"}
_INDEXES = frozenset({"-i", "--index-url", "--extra-index-url"})
_WITH_VALUE = frozenset({"-f", "--find-links", "--trusted-host", "--only-binary", "--no-binary", "--use-feature"})
_ALONE = frozenset({"--no-index", "--pre", "--prefer-binary", "--require-hashes"})
_EDITABLE = frozenset({"-e", "--editable"})
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementLine:
    """One requirement: ``name`` is normalised, and empty for a bare path or URL; ``hashes`` are SHA-256 in hex."""

    file: Path
    number: int
    text: str
    name: str
    hashes: frozenset[str] = frozenset()
    is_constraint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementsFile:
    """A requirements file with everything that it includes; paths are absolute, ``files`` in the order of reading."""

    files: tuple[Path, ...]
    lines: tuple[RequirementLine, ...]
    local_paths: tuple[Path, ...]
    index_urls: tuple[str, ...]
    hash_mode: bool


@dataclass(slots=True, kw_only=True)
class _Gathered:
    files: list[Path] = field(default_factory=list)
    lines: list[RequirementLine] = field(default_factory=list)
    local_paths: list[Path] = field(default_factory=list)
    index_urls: list[str] = field(default_factory=list)
    require_hashes: bool = False


def read_requirements(path: Path) -> RequirementsFile:
    """Read a requirements file; raises `ResolveError` that names the file and the line."""
    gathered = _Gathered()
    _read(path.absolute(), gathered, is_constraint=False, origin="")
    hash_mode = gathered.require_hashes or any(line.hashes for line in gathered.lines)
    if hash_mode:
        for line in gathered.lines:
            _check_hashed(line)
    return RequirementsFile(
        files=tuple(gathered.files),
        lines=tuple(gathered.lines),
        local_paths=tuple(dict.fromkeys(gathered.local_paths)),
        index_urls=tuple(dict.fromkeys(gathered.index_urls)),
        hash_mode=hash_mode,
    )


def _read(path: Path, gathered: _Gathered, *, is_constraint: bool, origin: str) -> None:
    if path in gathered.files:
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ResolveError(
            f"{origin}Cannot read the requirements {path}: {error.strerror}.", remedy="Mend the path, or remove the line."
        ) from error
    except UnicodeDecodeError as error:
        raise ResolveError(f"{path} is not valid UTF-8: {error}.", remedy="Save it as UTF-8.") from error
    gathered.files.append(path)
    for number, line in _logical_lines(text):
        _take(path, number, line, gathered, is_constraint=is_constraint)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Join continued lines, remove comments, expand variables; give each with the number of its first physical line."""
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        start = start or number
        if line.endswith("\\") and not _COMMENT.match(line):
            pending += line[:-1]
            continue
        whole = _COMMENT.sub("", pending + line).strip()
        if whole:
            yield start, _VARIABLE.sub(_expanded, whole)
        pending, start = "", 0
    if pending.strip():
        yield start, _VARIABLE.sub(_expanded, pending.strip())


def _expanded(match: re.Match[str]) -> str:
    # As in pip: a variable that is not set stays as it is.
    return os.environ.get(match[1]) or match[0]


def _take(path: Path, number: int, line: str, gathered: _Gathered, *, is_constraint: bool) -> None:
    place = f"{path}:{number}"
    if not line.startswith("-"):
        _take_requirement(path, number, line, gathered, is_constraint=is_constraint)
        return
    option, value = _split_option(line)
    if option in _NESTED:
        constrains = is_constraint or _NESTED[option] == "constraints"
        _read(_local(value, path), gathered, is_constraint=constrains, origin=f"{place}: ")
    elif option in _INDEXES:
        gathered.index_urls.append(value)
    elif option in _EDITABLE:
        _take_requirement(path, number, value, gathered, is_constraint=is_constraint)
    elif option == "--require-hashes":
        gathered.require_hashes = True
    elif option not in _WITH_VALUE and option not in _ALONE:
        raise ResolveError(f"{place}: {option} is not an option of requirements files.", remedy="Remove it.")
    if not value and option not in _ALONE:
        raise ResolveError(f"{place}: {option} needs a value.", remedy="Give one, or remove the line.")


def _split_option(line: str) -> tuple[str, str]:
    found = re.match(r"(--[a-z-]+|-[a-zA-Z])(?:\s*=\s*|\s+|(?<=^-[a-zA-Z])(?=\S))?(.*)$", line)
    if found is None:
        return line, ""
    return found[1], found[2].strip().strip("\"'")


def _take_requirement(path: Path, number: int, line: str, gathered: _Gathered, *, is_constraint: bool) -> None:
    place = f"{path}:{number}"
    text, options = _split_options(line)
    hashes = frozenset(_sha256(option, place) for option in options if option.startswith("--hash"))
    name, address = _name_and_address(text, place)
    if address:
        local = _local_path(address, path)
        if local is not None:
            gathered.local_paths.append(local)
    gathered.lines.append(
        RequirementLine(file=path, number=number, text=text, name=name, hashes=hashes - {""}, is_constraint=is_constraint)
    )
    if hashes and not hashes - {""}:
        raise ResolveError(f"{place}: none of the hashes is a sha256, which lpack verifies by.", remedy="Add one.")


def _split_options(line: str) -> tuple[str, list[str]]:
    """Split the options of one requirement (``--hash``, ``--config-settings``) from it."""
    text, separator, rest = line.partition(" --")
    if not separator:
        return line, []
    return text.strip(), [f"--{option.strip()}" for option in re.split(r"(?:^|\s)--", rest)]


def _sha256(option: str, place: str) -> str:
    found = re.fullmatch(r"--hash(?:=|\s+)([a-z0-9]+):([0-9a-fA-F]+)", option)
    if found is None:
        raise ResolveError(f"{place}: {option} is not of the form --hash=sha256:DIGEST.", remedy="Mend the hash.")
    return found[2].lower() if found[1] == "sha256" else ""


def _name_and_address(text: str, place: str) -> tuple[str, str]:
    """Give a requirement's normalised name, and the path or URL it points to where it does."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        if _looks_like_address(text):
            return "", shlex.split(text)[0].partition("[")[0]
        reason = str(error).partition("\n")[0]
        raise ResolveError(f"{place}: {text!r} is not a requirement: {reason}.", remedy="Mend the line (PEP 508).") from None
    if requirement.url is None and text.startswith(".") and "/" in text:
        return "", text
    return canonicalize_name(requirement.name), requirement.url or ""


def _looks_like_address(text: str) -> bool:
    return text.startswith((".", "/", "~")) or "/" in text or "://" in text or text.endswith(_ARCHIVES)


def _local_path(address: str, path: Path) -> Path | None:
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(os.path.normpath(unquote(parts.path)))
    return None if parts.scheme else _local(address, path)


def _local(place: str, path: Path) -> Path:
    """Give the absolute path of what a line of the file ``path`` names."""
    if place.startswith("file:"):
        return Path(unquote(urlsplit(place).path))
    return Path(os.path.normpath(path.parent / Path(place).expanduser()))


def _check_hashed(line: RequirementLine) -> None:
    """Demand what pip demands in hash mode: every requirement pinned, and with a hash."""
    if line.is_constraint or not line.name:
        return
    place, requirement = f"{line.file}:{line.number}", Requirement(line.text)
    pinned = requirement.url is not None or any(spec.operator in ("==", "===") for spec in requirement.specifier)
    if not pinned:
        raise ResolveError(f"{place}: {line.text} has hashes around it and is not pinned by ==.", remedy="Pin it.")
    if not line.hashes:
        raise ResolveError(
            f"{place}: {line.text} has no hash, and others have.", remedy="Give every requirement a hash, or none."
        )


def demanded_hashes(file: RequirementsFile) -> Mapping[str, frozenset[str]]:
    """Give, for each name, the hashes that the file allows; empty where it lists none at all."""
    if not file.hash_mode:
        return {}
    found: dict[str, frozenset[str]] = {}
    for line in file.lines:
        if line.name and line.hashes:
            found[line.name] = found.get(line.name, frozenset()) | line.hashes
    return found
