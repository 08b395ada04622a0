"""Reads AWS SAM and CloudFormation templates: which Python functions they hold, and what of each lpack must know."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from builders.documents import decode_text
from builders.runtimes import ARCHITECTURES, DEFAULT_ARCHITECTURE, RUNTIMES, Architecture
from packer.core.errors import UsageError
from packer.sam.intrinsics import (
    NO_VALUE,
    IntrinsicError,
    Scope,
    UnknownValueError,
    call_of,
    condition,
    evaluate,
    leading_text,
    nearest,
)
from packer.sam.local_layers import LAYER_CONTENTS, LocalLayer, find_local_layers, referenced_resource

if TYPE_CHECKING:
    from ruamel.yaml import YAML

SERVERLESS_FUNCTION = "AWS::Serverless::Function"
CODE_PROPERTIES = {SERVERLESS_FUNCTION: "CodeUri", "AWS::Lambda::Function": "Code"}
"""The resource types that are functions, and the property that holds the path of their code."""
LOOP = "Fn::ForEach::"
"""How the keys of the language extensions' loops start (AWS::LanguageExtensions)."""

_NESTED = {"AWS::Serverless::Application": "Location", "AWS::CloudFormation::Stack": "TemplateURL"}
REMOTE_PREFIXES = ("s3://", "http://", "https://")
"""How values start that name no local path."""


class TemplateFunction(Struct, frozen=True, kw_only=True):
    """A function that lpack can build. ``source`` is an absolute folder; ``line`` is where the template declares it, from 1.

    ``memory`` and ``storage`` are in MB and ``timeout`` is in seconds, None where they are not known; ``unset`` are those of
    ``memory`` and ``timeout`` that the template leaves to Lambda. Of the ``environment``,
    ``undecided`` variables get their values when the stack is deployed. ``attached`` are its layers: ARNs, or whatever else
    stands for one; ``contents`` are those that the template declares itself, by what stands for them. ``uncounted`` says why
    none can be added to them.
    """

    logical_id: str
    runtime: str
    architecture: Architecture
    handler: str
    source: Path
    line: int
    memory: int | None = None
    timeout: int | None = None
    storage: int | None = None
    unset: frozenset[str] = frozenset()
    environment: tuple[tuple[str, str], ...] = ()
    undecided: tuple[str, ...] = ()
    attached: tuple[str, ...] = ()
    contents: tuple[tuple[str, LocalLayer], ...] = ()
    uncounted: UsageError | None = None


class SkippedResource(Struct, frozen=True, kw_only=True):
    """A resource that lpack leaves as it is, and why: ``reason`` ends the sentence "it is left as it is because"."""

    logical_id: str
    reason: str


class Template(Struct, frozen=True, kw_only=True):
    """A template that was read: its absolute path and text, and what it holds, in the template's order."""

    path: Path
    text: str
    functions: tuple[TemplateFunction, ...]
    skipped: tuple[SkippedResource, ...]


def read_template(path: Path, parameters: Mapping[str, str], text: str | None = None) -> Template:
    """Read a template, with parameter values that come before its own defaults; ``text`` is another content for it.

    Raises `UsageError` with file, line and key path for whatever lpack must know and cannot.
    """
    text = read_text(path) if text is None else text
    document = parse_template(text, path)
    found = list(_read_resources(path, document, _scope(path, document, parameters)))
    functions = tuple(item for item in found if isinstance(item, TemplateFunction))
    skipped = tuple(item for item in found if isinstance(item, SkippedResource))
    if not functions:
        raise UsageError(
            f"{path} has no Python function that lpack can build",
            detail="\n".join(f"  {item.logical_id} is left as it is because {item.reason}" for item in skipped),
            remedy="Name another template with --template, or build a folder with lpack build PATH.",
        )
    return Template(path=path.absolute(), text=text, functions=functions, skipped=skipped)


class _Resource(Struct, frozen=True, kw_only=True):
    """One resource with what is needed to look its properties up. ``shared`` is Globals.Function, where that holds for it.

    ``layers`` are those of the template whose content is here, by their logical ids.
    """

    file: Path
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
        return _mapping(self.file, self.body, name, f"Resources.{self.logical_id}.{name}")

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
            value = evaluate(found[0][key], self.scope)
        except IntrinsicError as error:
            raise self.fault(key, f"cannot be used: {error.what}", error.remedy) from error
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


def _scope(path: Path, document: Mapping[str, Any], given: Mapping[str, str]) -> Scope:
    parameters = _mapping(path, document, "Parameters", "Parameters")
    for name in given:
        if name not in parameters and not name.startswith("AWS::"):
            raise UsageError(
                f"{path} has no parameter {name}{nearest(name, parameters)}",
                remedy="Correct --parameter, or declare it under the template's Parameters.",
            )
    return Scope(
        parameters=parameters,
        mappings=_mapping(path, document, "Mappings", "Mappings"),
        conditions=_mapping(path, document, "Conditions", "Conditions"),
        resources=frozenset(_mapping(path, document, "Resources", "Resources")),
        given=given,
    )


def _mapping(path: Path, parent: Mapping[str, Any], key: str, keys: str) -> Mapping[str, Any]:
    """Return a section that must be a mapping; an empty one where it is absent."""
    section = parent.get(key)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise UsageError(f"{path}:{line_of(parent, key)}: {keys} must be a mapping", remedy="Correct the template.")
    return section


def _read_resources(path: Path, document: Mapping[str, Any], scope: Scope) -> Iterator[TemplateFunction | SkippedResource]:
    resources = _mapping(path, document, "Resources", "Resources")
    if not resources:
        raise UsageError(f"{path} has no Resources", remedy="Name an AWS SAM or CloudFormation template.")
    defaults = _mapping(path, _mapping(path, document, "Globals", "Globals"), "Function", "Globals.Function")
    layers = find_local_layers(path.absolute().parent, resources, scope)
    for logical_id, body in resources.items():
        line = line_of(resources, logical_id)
        if str(logical_id).startswith("Fn::"):
            _refuse_loop(path, line, str(logical_id), body)
            continue
        if not isinstance(body, dict):
            raise UsageError(f"{path}:{line}: Resources.{logical_id} must be a mapping", remedy="Correct the template.")
        shared = defaults if body.get("Type") == SERVERLESS_FUNCTION else {}
        yield from _read_resource(
            _Resource(file=path, logical_id=str(logical_id), line=line, body=body, shared=shared, scope=scope, layers=layers)
        )


def _refuse_loop(path: Path, line: int, key: str, body: Any) -> None:
    """Refuse a loop that makes functions; other loops, and transforms, stay in the template as they are."""
    if key.startswith(LOOP) and _makes_functions(body):
        raise UsageError(
            f"{path}:{line}: Resources.{key} makes functions in a loop, which lpack does not support",
            remedy="Write the functions out one by one.",
        )


def _makes_functions(node: Any) -> bool:
    if isinstance(node, dict):
        return str(node.get("Type")) in CODE_PROPERTIES or any(map(_makes_functions, node.values()))
    return isinstance(node, list) and any(map(_makes_functions, node))


def _read_resource(resource: _Resource) -> Iterator[TemplateFunction | SkippedResource]:
    if resource.kind in CODE_PROPERTIES:
        reason = _why_skipped(resource)
        yield SkippedResource(logical_id=resource.logical_id, reason=reason) if reason else _read_function(resource)
    elif resource.kind in LAYER_CONTENTS and resource.section("Metadata").get("BuildMethod"):
        yield SkippedResource(logical_id=resource.logical_id, reason="it is a layer with a BuildMethod of its own")
    elif resource.kind in _NESTED and _is_local(resource.raw(_NESTED[resource.kind])):
        yield SkippedResource(logical_id=resource.logical_id, reason="it is a nested template, to be built by itself")


def _why_skipped(resource: _Resource) -> str:
    """Return why a function is not lpack's to build; nothing where it is."""
    if _is_absent(resource):
        return f"its condition {resource.body['Condition']} is false"
    code = CODE_PROPERTIES[resource.kind]
    if resource.value("PackageType") == "Image":
        return "it is a container image (PackageType: Image)"
    if resource.has("InlineCode"):
        return "its code stands in the template (InlineCode)"
    return _why_built_otherwise(resource) or _why_not_python(resource) or _why_ready(resource, code)


def _is_absent(resource: _Resource) -> bool:
    """Return whether the resource's condition is false; one that cannot be known may well hold."""
    name = resource.body.get("Condition")
    if name is None:
        return False
    try:
        return not condition(name, resource.scope)
    except UnknownValueError:
        return False
    except IntrinsicError as error:
        place = f"{resource.file}:{line_of(resource.body, 'Condition')}: Resources.{resource.logical_id}.Condition"
        raise UsageError(f"{place} cannot be used: {error.what}", remedy=error.remedy) from error


def _why_built_otherwise(resource: _Resource) -> str:
    metadata = resource.section("Metadata")
    method = metadata.get("BuildMethod")
    if method is not None and not str(method).startswith("python"):
        return f"its Metadata names another build method ({method})"
    if str(metadata.get("SkipBuild", "")).lower() == "true":
        return "its Metadata says SkipBuild"
    return ""


def _why_not_python(resource: _Resource) -> str:
    runtime = resource.text("Runtime")
    return "" if runtime.startswith("python3.") else f"its runtime is {runtime}"


def _why_ready(resource: _Resource, code: str) -> str:
    if leading_text(resource.raw(code)).startswith(REMOTE_PREFIXES):
        return f"its {code} is in S3"
    value = resource.value(code)
    if isinstance(value, dict):
        if "ZipFile" in value:
            return "its code stands in the template (ZipFile)"
        if "ImageUri" in value:
            return "it is a container image (ImageUri)"
        if not value.keys().isdisjoint({"Bucket", "S3Bucket"}):
            return f"its {code} is in S3"
        raise resource.fault(code, "must be the path of a folder", "Name the folder that holds the handler's module.")
    value = resource.text(code)
    if value.startswith(REMOTE_PREFIXES):
        return f"its {code} is in S3"
    return f"its {code} is already an archive" if value.endswith(".zip") else ""


def _read_function(resource: _Resource) -> TemplateFunction:
    attached, contents, uncounted = _attached_layers(resource)
    environment = dict(_environment(resource))
    return TemplateFunction(
        logical_id=resource.logical_id,
        runtime=_runtime(resource),
        architecture=_architecture(resource),
        handler=resource.text("Handler"),
        source=_source(resource),
        line=resource.line,
        memory=_number(resource, "MemorySize"),
        timeout=_number(resource, "Timeout"),
        storage=_number(resource, "EphemeralStorage", "Size"),
        unset=frozenset(name for name, key in (("memory", "MemorySize"), ("timeout", "Timeout")) if not resource.has(key)),
        environment=tuple((name, value) for name, value in environment.items() if value is not None),
        undecided=tuple(name for name, value in environment.items() if value is None),
        attached=attached,
        contents=contents,
        uncounted=uncounted,
    )


def _attached_layers(
    resource: _Resource,
) -> tuple[tuple[str, ...], tuple[tuple[str, LocalLayer], ...], UsageError | None]:
    """Return the layers of a function, as far as they are known, which content is here, and an error if they are no plain list.

    AWS SAM joins the list of Globals with the function's own behind it; where one of the two is no list, its own one holds.
    The error is only of interest where layers are made: what a call gives now may be something else in a deployment.
    """
    given = [properties.get("Layers") for properties in (resource.shared, resource.section("Properties"))]
    listed = [each for each in given if each is not None]
    if not all(map(_is_plain_list, listed)):
        listed = listed[-1:]
    items = [item for each in listed for item in (each if _is_plain_list(each) else [each])]
    uncounted = None
    if not all(map(_is_plain_list, listed)):
        what = "cannot be counted or added to, and a function can have five layers in all"
        uncounted = resource.fault("Layers", what, 'Write them as a list, or layers = "none" for this function.')
    words = [(item, word) for item in items for word in _layer_words(item, resource.scope)]
    named = ((word, resource.layers.get(referenced_resource(item, resource.scope))) for item, word in words)
    return tuple(word for _, word in words), tuple((word, layer) for word, layer in named if layer), uncounted


def _is_plain_list(node: Any) -> bool:
    return isinstance(node, list) and call_of(node) is None


def _layer_words(node: Any, scope: Scope) -> list[str]:
    """Return the text of a layer, or what stands for it, and nothing where there is none. One that may be there counts."""
    try:
        value = evaluate(node, scope)
    except IntrinsicError:
        return [json.dumps(node, default=str)]
    called = call_of(node)
    if value is NO_VALUE and called is not None and called[0] == "Fn::If":  # another parameter of a deployment brings it
        return [json.dumps(node, default=str)]
    return [str(each) for each in (value if isinstance(value, list) else [value]) if each not in (None, NO_VALUE)]


def _number(resource: _Resource, key: str, inner: str = "") -> int | None:
    """Return a number of the function's configuration; None where there is none, or it is only known in a deployment."""
    node = resource.raw(key)
    if inner:
        node = node.get(inner) if isinstance(node, dict) else None
    try:
        value = evaluate(node, resource.scope)
    except IntrinsicError:
        return None
    return int(value) if isinstance(value, int | str) and re.fullmatch(r"[1-9][0-9]{0,5}", str(value)) else None


def _environment(resource: _Resource) -> Iterator[tuple[str, str | None]]:
    """Yield the function's variables; the value of one that only the deployment knows is None."""
    variables: dict[str, Any] = {}
    for properties in (resource.shared, resource.section("Properties")):
        section = properties.get("Environment")
        named = section.get("Variables") if isinstance(section, dict) else None
        variables |= named if isinstance(named, dict) else {}
    for name, node in sorted(variables.items()):
        try:
            value = evaluate(node, resource.scope)
        except IntrinsicError:
            yield str(name), None
            continue
        if value not in (None, NO_VALUE):
            yield str(name), str(value).lower() if isinstance(value, bool) else str(value)


def _runtime(resource: _Resource) -> str:
    runtime = resource.text("Runtime")
    if runtime not in RUNTIMES:
        raise resource.fault(
            "Runtime", f"names a runtime that lpack does not know: {runtime}", f"Known are {', '.join(RUNTIMES)}."
        )
    return runtime


def _architecture(resource: _Resource) -> Architecture:
    value = resource.value("Architectures")
    if value is None or value == []:
        return DEFAULT_ARCHITECTURE
    for known in ARCHITECTURES:
        if value == [known]:
            return known
    raise resource.fault(
        "Architectures", "must be a list of one known architecture", f"Write [{'] or ['.join(ARCHITECTURES)}]."
    )


def _source(resource: _Resource) -> Path:
    code = CODE_PROPERTIES[resource.kind]
    value = resource.text(code)
    source = Path(os.path.normpath(resource.file.absolute().parent / value))
    if not source.is_dir():
        raise resource.fault(code, f"names no folder: {value}", f"Make the folder {source}, or correct the path.")
    return source


def _is_local(value: Any) -> bool:
    return isinstance(value, str) and not value.startswith(REMOTE_PREFIXES)


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


def parse_template(text: str, path: Path) -> dict[str, Any]:
    """Parse a template into mappings that know their lines; scalars stay text as they are written.

    JSON is read as the YAML that it is too, for the line numbers. `UsageError` names line and column of a mistake.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = _yaml().load(text)
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


def _yaml() -> YAML:
    from ruamel.yaml import YAML
    from ruamel.yaml.resolver import VersionedResolver

    class TextResolver(VersionedResolver):
        """Leaves scalars the text they are, as CloudFormation takes them: 3.10 is no float, 2012-10-17 no date."""

        @cached_property
        def versioned_resolver(self) -> Any:
            rules = super().versioned_resolver
            kept = (":null", ":merge")
            return {first: [rule for rule in known if rule[0].endswith(kept)] for first, known in rules.items()}

    yaml = YAML(typ="rt")
    yaml.Resolver = TextResolver
    return yaml
