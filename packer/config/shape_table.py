"""The part of the configuration that says how functions are trimmed, compiled and proved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from packer.config.build_table import PATTERN_KEYS
from packer.config.section import Section, suggest_names
from packer.core.model import RUNTIME_WORD
from packer.core.names import profile_path
from packer.core.options import (
    AUTO,
    BYTECODE_MODES,
    EXPECTED,
    TRIM_CHOICES,
    VERIFY_LEVELS,
    VERIFY_PLACES,
    BytecodeOptions,
    ShapeFlags,
    TrimOptions,
    VerifyOptions,
)
from packer.formats.distribution_names import canonical_name
from packer.trim.rules import ASKED, BY_NAME, STRIP

SHAPE_KEYS = ("trim", "bytecode", "verify")
_TRIM_KEYS = ("level", "repair", "rules", "without", *PATTERN_KEYS, "services")
_BYTECODE_KEYS = ("mode", "optimize", "pause-gc", "prefetch")
_VERIFY_KEYS = ("level", "events", "environment", "time", "where")
_OPTIMIZE = (0, 1, 2)


class Shape(Struct, frozen=True, kw_only=True):
    """All options of a function's shape."""

    trim: TrimOptions
    bytecode: BytecodeOptions
    verify: VerifyOptions


def read_shape(root: Path, name: str, sections: Sequence[Section], flags: ShapeFlags) -> Shape:
    """Return the options that sections make up, the most particular one last; raises `UsageError`.

    ``root`` is the project's folder, ``name`` the function's.
    """
    trim = TrimOptions(level="safe", profile=profile_path(root, name))
    bytecode, verify = BytecodeOptions(mode="auto"), VerifyOptions(level="import")
    for section in sections:
        trim = _trim(trim, section)
        bytecode = _bytecode(bytecode, section)
        verify = _verify(verify, section)
        trim = replace(trim, keep=(*trim.keep, *_patterns(section, "keep")), drop=(*trim.drop, *_patterns(section, "drop")))
    if flags.trim is not None:
        trim = _with_level(trim, flags.trim)
    if flags.bytecode is not None:
        bytecode = replace(bytecode, mode=flags.bytecode)  # click has checked it
    if flags.verify is not None:
        verify = replace(verify, level=flags.verify, demanded=flags.verify != "none")
    return Shape(trim=trim, bytecode=bytecode, verify=verify)


def _with_level(options: TrimOptions, word: str) -> TrimOptions:
    if word == AUTO:
        return replace(options, level=options.level if options.level != "none" else "safe", repair=True)
    return replace(options, level=word, repair=False)  # the caller has checked it


def _trim(options: TrimOptions, section: Section) -> TrimOptions:
    if not isinstance(section.table.get("trim"), dict):
        return _with_level(options, section.choice("trim", TRIM_CHOICES)) if "trim" in section.table else options
    table = section.section("trim")
    table.check_keys(_TRIM_KEYS)
    if "level" in table.table:
        options = _with_level(options, table.choice("level", TRIM_CHOICES))
    if "repair" in table.table:
        options = replace(options, repair=table.boolean("repair"))
    if "services" in table.table:
        options = replace(options, services=table.strings("services"))
    return replace(
        options,
        rules=(*options.rules, *_rules(table, "rules", ASKED)),
        without=(*options.without, *_rules(table, "without", (*BY_NAME, STRIP))),
        keep=(*options.keep, *(("", pattern) for pattern in table.strings("keep"))),
        drop=(*options.drop, *(("", pattern) for pattern in table.strings("drop"))),
    )


def _rules(section: Section, key: str, known: Sequence[str]) -> tuple[str, ...]:
    for name in section.strings(key):
        if name == RUNTIME_WORD:
            remedy = f'Write exclude = ["{RUNTIME_WORD}"] beside trim: what the runtime has is left out whole.'
            raise section.error(key, f"{name!r} is no rule of trimming any more", remedy)
        if name not in known:
            raise section.error(key, f"{name!r} is no rule that can stand here", suggest_names(name, known))
    return section.strings(key)


def _patterns(section: Section, key: str) -> Iterator[tuple[str, str]]:
    """Return what the tables of packages say of their files."""
    packages = section.section("packages")
    for name in packages.table:
        yield from ((canonical_name(name), pattern) for pattern in packages.section(name).strings(key))


def _bytecode(options: BytecodeOptions, section: Section) -> BytecodeOptions:
    if "bytecode" not in section.table:
        return options
    if not isinstance(section.table["bytecode"], dict):
        return replace(options, mode=section.choice("bytecode", BYTECODE_MODES))
    table = section.section("bytecode")
    table.check_keys(_BYTECODE_KEYS)
    changes: dict[str, Any] = {"mode": table.choice("mode", BYTECODE_MODES)} if "mode" in table.table else {}
    if "optimize" in table.table:
        level = table.table["optimize"]
        if type(level) is not int or level not in _OPTIMIZE:
            raise table.error("optimize", f"{level!r} is no optimization level", "Write 0, 1 or 2, as `python -O` counts.")
        changes["optimize"] = level
    for key, name in (("pause-gc", "pause"), ("prefetch", "prefetch")):
        if key in table.table:
            changes[name] = table.boolean(key)
    return replace(options, **changes)


def _verify(options: VerifyOptions, section: Section) -> VerifyOptions:
    if "verify" not in section.table:
        return options
    if not isinstance(section.table["verify"], dict):
        level = section.choice("verify", VERIFY_LEVELS)
        return replace(options, level=level, demanded=level != "none")
    table = section.section("verify")
    table.check_keys(_VERIFY_KEYS)
    changes: dict[str, Any] = {}
    if "events" in table.table:
        events = tuple(_events(table))
        folders = {event.parent for event in events} | set(_searched(table))
        changes |= {"events": events, "searched": tuple(sorted(folders)), "level": "events", "demanded": True}
    if "level" in table.table:
        level = table.choice("level", VERIFY_LEVELS)
        changes |= {"level": level, "demanded": level != "none"}
    if "environment" in table.table:
        inner = table.section("environment")
        changes["environment"] = tuple((name, inner.string(name)) for name in sorted(inner.table))
    if "time" in table.table:
        changes["seconds"] = table.milliseconds("time", "30 s") / 1000
    if "where" in table.table:
        changes["place"] = table.choice("where", VERIFY_PLACES)
    return replace(options, **changes)


def _searched(section: Section) -> Iterator[Path]:
    """Return the folders in which another file may fit a pattern."""
    folder = section.file.parent.absolute()
    for pattern in section.strings("events"):
        plain = list(takewhile(lambda part: not set(part) & set("*?["), Path(pattern).parts))
        base = folder.joinpath(*plain)
        yield base
        if base.is_dir() and len(plain) < len(Path(pattern).parts) - 1:
            yield from (path for path in base.rglob("*") if path.is_dir())


def _matching_files(folder: Path, pattern: str) -> Iterator[Path]:
    """Return the events that fit a pattern: a wildcard means nothing hidden, such as editors' links.

    Raises ``ValueError`` or ``NotImplementedError``, as pathlib does for absolute patterns and wrong ones.
    """
    parts = Path(pattern).parts
    if not parts:
        raise ValueError("it names the folder itself")  # pathlib fails on it (before Python 3.13)
    for path in folder.glob(pattern):
        hidden = path.name.startswith(".") and not parts[-1].startswith(".")
        if not path.name.endswith(EXPECTED) and not hidden and not path.is_dir():
            yield path


def _events(section: Section) -> Iterator[Path]:
    """Return the files that patterns name, below the configuration's folder; raises `UsageError`."""
    folder = section.file.parent.absolute()
    for pattern in section.strings("events"):
        try:
            found = sorted(_matching_files(folder, pattern))
        except (NotImplementedError, ValueError) as error:
            what = f"{pattern!r} is no pattern for files below {folder} ({error})"
            raise section.error("events", what, 'Write events = ["events/*.json"].') from None
        if not found:
            raise section.error("events", f"no file fits {pattern!r} in {folder}", "Name JSON files that are there.")
        yield from found
