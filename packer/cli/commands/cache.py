"""`lpack cache`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from datetime import timedelta

import click
from msgspec import Struct

from packer.cli.common import open_store
from packer.core.records import Bytes, Count, json_text
from packer.core.units import format_size

_AGE = re.compile(r"([0-9]+)\s*([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


class KindUsage(Struct, frozen=True, kw_only=True):
    """What the cache holds of one kind."""

    files: Count
    bytes: Bytes


class CacheDocument(Struct, frozen=True, kw_only=True):
    """What `lpack cache info --json` prints."""

    path: str
    kinds: Mapping[str, KindUsage]


def _parse_age(_context: click.Context, _parameter: click.Parameter, value: str) -> timedelta:
    found = _AGE.fullmatch(value)
    if not found:
        raise click.BadParameter(f"{value!r} is not an age: write a number and h, d or w, such as 30d.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.group()
def command() -> None:
    """Show, verify or prune the cache that all projects share."""


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(*, as_json: bool) -> None:
    """Show where the cache is and what it holds."""
    from packer.cache.prune import measure_usage

    store = open_store()
    usage = measure_usage(store)
    if as_json:
        kinds = {each.kind: KindUsage(files=each.files, bytes=each.size) for each in usage}
        sys.stdout.write(json_text(CacheDocument(path=str(store.root), kinds=kinds), ascii_only=True))
        return
    sys.stdout.write(f"{store.root}\n")
    for each in usage:
        sys.stdout.write(f"{each.kind:<24} {each.files:>7} files {format_size(each.size):>12}\n")


@command.command()
def verify() -> None:
    """Check every file's digest, and remove the broken ones (exit status 1 where there were any)."""
    from packer.cache.prune import verify_store

    checked, broken = verify_store(open_store())
    for path in broken:
        sys.stdout.write(f"removed  {path}\n")
    sys.stdout.write(f"{checked} files checked, {len(broken)} broken\n")
    if broken:
        sys.exit(1)


@command.command()
@click.option(
    "--older-than", callback=_parse_age, default="30d", show_default=True, metavar="AGE", help="Not used for so long (h, d, w)."
)
def prune(*, older_than: timedelta) -> None:
    """Remove what has not been used for long."""
    from packer.cache.prune import prune_old

    files, size = prune_old(open_store(), older_than)
    sys.stdout.write(f"removed {files} files, {format_size(size)}\n")
