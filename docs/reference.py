"""Writes the reference from the code while MkDocs builds the site: commands, keys, rules, runtimes, exit statuses, schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from builders.runtimes import ARCHITECTURES, RUNTIMES
from packer.cli.app import COMMANDS, INTERNAL_ERROR
from packer.config.key_reference import inner_key_table, key_table, rule_table
from packer.core import errors
from packer.manifest.schemas import NAMES, schema_text

_WIDTH = 96
_BEFORE_KEYS = """# Configuration

`[tool.lpack]` in pyproject.toml, or the same keys in lpack.toml; flags go over both. A key that is not known is an error that
names the nearest known one. Sizes are written `10 MB` (1 MB is 1,048,576 bytes, as Lambda counts), durations `400 ms`.
"""
_AFTER_KEYS = """Keys of a function stand in `[functions.NAME]`, those of a package in `[packages.NAME]` of the project or of a
function, those of a named layer in `[layers.NAME]`.

## Keys of inner tables
"""
_AFTER_INNER = "The keys of `oci` are told of with [container images](../images.md).\n"
_BEFORE_RULES = """# Rules of trimming

Rules look at distributions, never at your own source. METADATA, entry points and licence texts stay whatever they say.
`trim = { without = ["tests"] }` leaves one out, `rules = ["locales"]` asks for one.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those that are written by hand."""
    pages = {
        "commands": _commands(),
        "configuration": _configuration(),
        "rules": _rules(),
        "runtimes": _runtimes(),
        "exit-statuses": _exit_statuses(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def _commands() -> str:
    """Give the help of every command, as click makes it."""
    parts = ["# Commands\n\nThe same as `lpack COMMAND --help`.\n"]
    for name in COMMANDS:
        command: click.Command = import_module(f"packer.cli.commands.{name}").command
        parts.append(f"## lpack {name}\n\n{_help(command, f'lpack {name}')}")
        if isinstance(command, click.Group):
            parts += [
                f"### lpack {name} {inner}\n\n{_help(each, f'lpack {name} {inner}')}"
                for inner, each in command.commands.items()
            ]
    return "\n".join(parts)


def _help(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, max_content_width=_WIDTH, terminal_width=_WIDTH)
    return f"```text\n{command.get_help(context)}\n```\n"


def _configuration() -> str:
    table = re.sub(r"\]\(docs/", "](../", key_table()).replace("](#many-functions)", "](../monorepo.md)")
    return f"{_BEFORE_KEYS}\n{table}\n{_AFTER_KEYS}\n{inner_key_table()}\n{_AFTER_INNER}"


def _rules() -> str:
    return f"{_BEFORE_RULES}\n{rule_table()}"


def _runtimes() -> str:
    rows = [
        f"| `{each.name}` | {each.operating_system} | {each.deprecated} | {each.create_blocked} | {each.update_blocked} |"
        for each in RUNTIMES.values()
    ]
    head = "| runtime | operating system | deprecated | creating blocked | updating blocked |\n|---|---|---|---|---|\n"
    where = "AWS's table of runtimes"
    return f"# Runtimes\n\nFor {' and '.join(ARCHITECTURES)}; dates are those of {where}.\n\n{head}" + "\n".join(rows) + "\n"


def _exit_statuses() -> str:
    rows = [f"| {status} | {what} |" for status, what in sorted(_statuses())]
    schemas = "\n".join(f"## {name}\n\n```json\n{schema_text(name)}```\n" for name in NAMES)
    return (
        "# Exit statuses and JSON\n\n| status | |\n|---|---|\n"
        + "\n".join(rows)
        + "\n\nstdout has results only, stderr messages and "
        "progress. The schemas below are what `lpack schema NAME` prints.\n\n" + schemas
    )


def _statuses() -> Iterator[tuple[int, str]]:
    found = {errors.LpackError.exit_status: "the build failed"}
    for each in (errors.UsageError, errors.LimitError, errors.VerificationError):
        found[each.exit_status] = (each.__doc__ or "").strip().rstrip(".")
    yield from {0: "good", **found, INTERNAL_ERROR: "an internal error of lpack"}.items()
