"""AWS SAM CLI's configuration file, as far as it decides what is built, and how that is deployed.

It lies beside the template, and has tables ``[ENVIRONMENT.COMMAND.parameters]``: what stands under the command ``global`` holds
for every one that says nothing else. Source: AWS SAM, "AWS SAM CLI configuration file".
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from builders.documents import parse_toml, read_text
from packer.core.errors import UsageError
from packer.core.names import SAM_CONFIG_NAMES

DEFAULT_ENVIRONMENT = "default"
_GLOBAL = "global"
_SECTION = "parameters"
_CORRECT = "Fix the file at that place."
# ParameterKey=Name,ParameterValue=Value, or Name=Value; a value may be quoted, and a backslash keeps what follows.
_WORD = r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?:\\.|[^\s\\])*)"""
_LONG = re.compile(rf"ParameterKey=(?P<name>[A-Za-z0-9\"']+),ParameterValue=(?P<value>{_WORD})")
_SHORT = re.compile(rf"(?:^|\s)(?P<name>[A-Za-z0-9\"']+)=(?P<value>{_WORD})")


class SamConfig(Struct, frozen=True, kw_only=True):
    """What a configuration file says of the build in one environment, and of the deployment.

    ``path`` is its absolute path, and ``template`` and ``base`` are absolute paths too, None where it names none.
    ``parameters`` are values for parameters of the template. ``deploy`` are the options of ``sam deploy``, by their names.
    """

    path: Path
    environment: str = DEFAULT_ENVIRONMENT
    template: Path | None = None
    base: Path | None = None
    region: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    deploy: Mapping[str, Any] = field(default_factory=dict)


def find_sam_config(folder: Path) -> Path | None:
    """Return the configuration file that lies in a folder, if there is one."""
    return next((folder / name for name in SAM_CONFIG_NAMES if (folder / name).is_file()), None)


def read_sam_config(path: Path, environment: str = "") -> SamConfig:
    """Read what a file says of an environment, by default the one that is called default; raises `UsageError`."""
    document = _read_document(path)
    chosen = environment or DEFAULT_ENVIRONMENT
    tables = document.get(chosen)
    if tables is None and environment:
        known = [name for name, table in document.items() if isinstance(table, dict)]
        what = f"{path} has no environment {environment}"
        raise UsageError(what, remedy=f"Correct --config-env: known are {', '.join(known) or 'none'}.")
    build, deploy = (_read_command(path, chosen, tables, command) for command in ("build", "deploy"))
    template = build.get("template_file") or build.get("template")
    base = build.get("base_dir")
    return SamConfig(
        path=path.absolute(),
        environment=chosen,
        # As words of the command line, they start from the current folder.
        template=Path(str(template)).absolute() if template else None,
        base=Path(str(base)).absolute() if base else None,
        region=str(build.get("region") or ""),
        parameters=_read_overrides(path, build.get("parameter_overrides")),
        deploy={**deploy, "parameter_overrides": _read_overrides(path, deploy.get("parameter_overrides"))},
    )


def _read_document(path: Path) -> dict[str, Any]:
    document = _parse(path)
    if not isinstance(document, dict):
        raise UsageError(f"{path} is not a mapping", remedy=_CORRECT)
    return document


def _parse(path: Path) -> Any:
    text = read_text(path, UsageError, "Name a file that exists, in UTF-8.")
    return parse_toml(text, path, UsageError, _CORRECT) if path.suffix == ".toml" else _parse_yaml(text, path)


def _parse_yaml(text: str, path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {error}", remedy=_CORRECT) from error


def _read_command(path: Path, environment: str, tables: Any, command: str) -> dict[str, Any]:
    """Return the options of a command: those under ``global``, and its own before them."""
    options: dict[str, Any] = {}
    for name in (_GLOBAL, command):
        node: Any = tables or {}
        for key in (name, _SECTION):
            node = node.get(key, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise UsageError(f"{path}: {environment}.{name}.{_SECTION} must be a table", remedy=_CORRECT)
        options |= {str(key).replace("-", "_"): value for key, value in node.items()}
    return options


def _read_overrides(path: Path, node: Any, seen: tuple[Path, ...] = ()) -> dict[str, str]:
    """Return parameters that are written in any of the forms that AWS SAM CLI takes; raises `UsageError`.

    A text has pairs, or names a file of such (``file://``). A mapping has names and values, or files under ``$include``.
    ``seen`` are the files that led to this.
    """
    found: dict[str, str] = {}
    for item in node if isinstance(node, list) else [node]:
        if isinstance(item, list):
            found |= _read_overrides(path, item, seen)
        elif isinstance(item, dict):
            for name, value in item.items():
                if name == "$include":
                    found |= _read_overrides(path, value, seen)
                else:
                    found[str(name)] = _value_text(value)
        elif isinstance(item, str) and item.startswith("file://"):
            found |= _read_override_file(path, item.removeprefix("file://"), seen)
        elif isinstance(item, str) and item.strip():
            found |= _parse_pairs(path, item)
        elif item not in (None, ""):
            raise UsageError(f"{path}: parameter_overrides cannot be {item!r}", remedy='Write "Name=Value Other=Value".')
    return found


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item).strip() for item in value if item not in (None, ""))
    return "" if value is None else str(value)


def _read_override_file(path: Path, name: str, seen: tuple[Path, ...]) -> dict[str, str]:
    """Read the file that is named in ``path``: from the folder of the last file that led here, first from the current one."""
    file = Path(os.path.normpath((seen[-1].parent if seen else Path.cwd()) / name))
    if file in seen:
        raise UsageError(f"{path}: {file} includes itself", remedy=_CORRECT)
    return _read_overrides(file, _parse(file), (*seen, file))


def _parse_pairs(path: Path, text: str) -> dict[str, str]:
    pairs = dict(_find_pairs(text))
    if not pairs:
        raise UsageError(f"{path}: parameter_overrides has no pair in {text!r}", remedy='Write "Name=Value Other=Value".')
    return pairs


def _find_pairs(text: str) -> Iterator[tuple[str, str]]:
    for match in (_LONG if _LONG.search(text) else _SHORT).finditer(text):
        yield _unquote(match["name"]), _unquote(match["value"])


def _unquote(word: str) -> str:
    if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'":
        word = word[1:-1]
    return word.replace("\\ ", " ").replace('\\"', '"').replace("\\'", "'")


def list_deploy_options(
    config: SamConfig | None, given: Mapping[str, str], secret: Collection[str], *, nested: bool = False
) -> tuple[str, ...]:
    """Return what ``sam deploy`` needs beside its ``--template`` to deploy what was built with the parameters ``given``.

    The configuration file must lie beside the template. What ``sam deploy`` would ask for, or refuse to go on without, is
    there. Values of parameters that are ``secret`` are left for the user to write.
    Nested stacks need a capability of their own (AWS CloudFormation, "CreateStack").
    """
    options = config.deploy if config is not None else {}
    words: list[str] = []
    if config is not None and config.environment != DEFAULT_ENVIRONMENT:
        words += ["--config-env", config.environment]
    if not options.get("stack_name"):
        words.append("--guided")
    elif not options.get("guided"):
        if not (options.get("resolve_s3") or options.get("s3_bucket")):
            words.append("--resolve-s3")
        if not options.get("capabilities"):
            words += ["--capabilities", "CAPABILITY_IAM", *(["CAPABILITY_AUTO_EXPAND"] if nested else [])]
    known: Mapping[str, str] = options.get("parameter_overrides") or {}
    if any(known.get(name) != value for name, value in given.items()):
        pairs = {**known, **given}
        words += ["--parameter-overrides", *(f"{name}={'VALUE' if name in secret else pairs[name]}" for name in pairs)]
    return tuple(words)
