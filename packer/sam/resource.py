"""One resource of a template: its sections and properties, looked up and evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from packer.core.errors import UsageError
from packer.sam.document import line_of
from packer.sam.intrinsics import NO_VALUE, IntrinsicError, Scope, evaluate
from packer.sam.local_layers import LocalLayer

SERVERLESS_FUNCTION = "AWS::Serverless::Function"
CODE_PROPERTIES = {SERVERLESS_FUNCTION: "CodeUri", "AWS::Lambda::Function": "Code"}
"""The resource types that are functions, and the property that holds the path of their code."""
REMOTE_PREFIXES = ("s3://", "http://", "https://")
"""How values start that name no local path."""


PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": "local",
    "AWS::URLSuffix": "amazonaws.com",
}
"""What a build takes pseudo parameters for that nobody gave: the values of AWS SAM CLI (its symbol table)."""


class Resource(Struct, frozen=True, kw_only=True):
    """One resource with what is needed to look its properties up. ``shared`` is Globals.Function, where that holds for it.

    ``scope`` has what is known of the stack. ``base`` is the absolute folder that paths of code start from. ``layers`` are
    those of the template whose content is here, by their logical ids.
    """

    file: Path
    base: Path
    logical_id: str
    line: int
    body: Mapping[str, Any]
    shared: Mapping[str, Any]
    scope: Scope
    layers: Mapping[str, LocalLayer]

    @property
    def kind(self) -> str:
        return str(self.body.get("Type"))

    def section(self, name: str) -> Mapping[str, Any]:
        return read_mapping(self.file, self.body, name, f"Resources.{self.logical_id}.{name}")

    def find(self, key: str) -> tuple[Mapping[str, Any], str] | None:
        """Find the mapping that has a property, and the property's key path; its own come before Globals."""
        own = self.section("Properties")
        if key in own:
            return own, f"Resources.{self.logical_id}.Properties.{key}"
        return (self.shared, f"Globals.Function.{key}") if key in self.shared else None

    def raw(self, key: str) -> Any:
        found = self.find(key)
        return found[0][key] if found else None

    def value(self, key: str) -> Any:
        """Evaluate a property; None where it is absent."""
        found = self.find(key)
        if found is None:
            return None
        try:
            value = evaluate(found[0][key], building_scope(self.scope))
        except IntrinsicError as error:
            raise self.fault(key, f"cannot be used: {error.what}", error.remedy) from error
        return None if value is NO_VALUE else value

    def defaults(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return the parameters, with their values, that nobody gave and a property of known value hangs on."""
        taken: dict[str, str] = {}
        evaluate(self.raw(key), replace(building_scope(self.scope), on_default=taken.__setitem__))
        return tuple(taken.items())

    def metadata(self, *keys: str) -> Any:
        """Evaluate an attribute of Metadata, which may lie in other ones; None where it is absent."""
        node: Any = self.section("Metadata")
        for key in keys:
            node = node.get(key) if isinstance(node, dict) else None
        try:
            value = evaluate(node, building_scope(self.scope))
        except IntrinsicError as error:
            place = f"{self.file}:{self.line}: Resources.{self.logical_id}.Metadata.{'.'.join(keys)}"
            raise UsageError(f"{place} cannot be used: {error.what}", remedy=error.remedy) from error
        return None if value is NO_VALUE else value

    def has(self, key: str) -> bool:
        """Return whether a property exists, even with a value that cannot be known."""
        try:
            return evaluate(self.raw(key), self.scope) not in (None, NO_VALUE)
        except IntrinsicError:
            return True

    def text(self, key: str) -> str:
        """Evaluate a property that must be there and be text."""
        value = self.value(key)
        if value is None:
            also = " (nor has Globals.Function one)" if self.kind == SERVERLESS_FUNCTION else ""
            raise self.fault(key, f"is missing{also}", "Add it to the function.")
        if not isinstance(value, str) or not value:
            raise self.fault(key, "must be text", "Correct the template.")
        return value

    def fault(self, key: str, what: str, remedy: str) -> UsageError:
        """Make the error of one property, with its place."""
        found = self.find(key)
        line = line_of(found[0], key) if found else self.line
        keys = found[1] if found else f"Resources.{self.logical_id}.Properties.{key}"
        return UsageError(f"{self.file}:{line}: {keys} {what}", remedy=remedy)


def building_scope(scope: Scope) -> Scope:
    """Return the scope of what decides a build: pseudo parameters that nobody gave have values, as in AWS SAM CLI."""
    return replace(scope, assumed={**PSEUDO_PARAMETERS, **scope.assumed})


def read_mapping(path: Path, parent: Mapping[str, Any], key: str, keys: str) -> Mapping[str, Any]:
    """Return a section that must be a mapping; an empty one where it is absent."""
    section = parent.get(key)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise UsageError(f"{path}:{line_of(parent, key)}: {keys} must be a mapping", remedy="Correct the template.")
    return section
