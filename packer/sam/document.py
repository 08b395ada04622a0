"""Templates as text: read, and parsed into mappings that know their lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builders.documents import decode_text
from packer.core.errors import UsageError

if TYPE_CHECKING:
    from ruamel.yaml import YAML


def read_text(path: Path) -> str:
    """Read a template's text with its line ends as they are; `UsageError` where there is none."""
    try:
        return decode_text(path.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist", remedy="Name the template with --template.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})", remedy="Save it as UTF-8.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", remedy="Name a template file with --template.") from error


Repeated = Callable[[int, str], None]
"""Called with the line, from 1, of a key that its mapping already has, and with the key."""


def _ignore(_line: int, _key: str) -> None:
    """Say nothing of a repeated key."""


def parse_template(text: str, path: Path, repeated: Repeated = _ignore) -> dict[str, Any]:
    """Parse a template into mappings that know their lines; scalars stay text as they are written.

    JSON is read as the YAML that it is too, for the line numbers. Of a key that a mapping has twice the last value counts, as
    in AWS SAM and CloudFormation; ``repeated`` is told of it. `UsageError` names line and column of a mistake.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = text_yaml(repeated).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        reason = ": ".join(part for part in (error.context, error.problem) if part)
        raise UsageError(f"{place}: {reason}", remedy="Correct the template's YAML.") from error
    except (YAMLError, ValueError) as error:
        raise UsageError(f"{path}: {error}", remedy="Correct the template's YAML.") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path} is not a mapping with Resources", remedy="Name an AWS SAM or CloudFormation template.")
    return document


def line_of(mapping: Mapping[str, Any], key: str) -> int:
    """Return the line, from 1, where a mapping of `parse_template` has a key, or where the mapping starts."""
    place: Any = getattr(mapping, "lc", None)
    if place is None:
        return 1
    known = (place.data or {}).get(key)
    return int(known[0] if known else place.line) + 1


def text_yaml(repeated: Repeated = _ignore) -> YAML:
    """Return what reads and writes YAML as `parse_template` takes it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import RoundTripConstructor
    from ruamel.yaml.resolver import VersionedResolver

    class TextResolver(VersionedResolver):
        """Leaves scalars the text they are, as CloudFormation takes them: 3.10 is no float, 2012-10-17 no date."""

        @cached_property
        def versioned_resolver(self) -> Any:
            rules = super().versioned_resolver
            kept = (":null", ":merge")
            return {first: [rule for rule in known if rule[0].endswith(kept)] for first, known in rules.items()}

    class LastKeyConstructor(RoundTripConstructor):
        """Lets the last of equal keys count, which ruamel.yaml refuses, or else drops."""

        def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:  # noqa: ARG002
            if key in mapping:
                repeated(key_node.start_mark.line + 1, str(key))
            return True

    yaml = YAML(typ="rt")
    yaml.Resolver = TextResolver
    yaml.Constructor = LastKeyConstructor
    return yaml
