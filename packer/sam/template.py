"""Reads AWS SAM and CloudFormation templates: which Python functions they hold, and what of each lpack must know."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any, cast

from msgspec import Struct, field
from msgspec.structs import replace

from packer.core.errors import UsageError
from packer.sam.document import line_of, parse_template, read_text
from packer.sam.function_reader import TemplateFunction, read_function
from packer.sam.intrinsics import IntrinsicError, Scope, UnknownValueError, condition, nearest
from packer.sam.local_layers import LAYER_CONTENTS, find_local_layers
from packer.sam.loops import LOOP, Pair, UnknownLoopError, expand_loop
from packer.sam.resource import CODE_PROPERTIES, REMOTE_PREFIXES, SERVERLESS_FUNCTION, Resource, building_scope, read_mapping
from packer.sam.samconfig import SamConfig
from packer.sam.skipped import SkippedResource, find_skipped

_NESTED = {"AWS::Serverless::Application": "Location", "AWS::CloudFormation::Stack": "TemplateURL"}


class UnreadFunction(Struct, frozen=True, kw_only=True):
    """A function that was not asked for, and of which something is not known that a build needs; ``error`` says what."""

    logical_id: str
    error: UsageError


class WrittenLoop(Struct, frozen=True, kw_only=True):
    """A loop that makes functions: its key among the resources, and what it stands for."""

    key: str
    resources: Mapping[str, Any]


class Template(Struct, frozen=True, kw_only=True):
    """A template that was read: its absolute path and text, and what it holds, in the template's order.

    ``unread`` are functions that were not asked for and could not be read. ``warnings`` are for the user. ``loops`` are those
    that make functions. ``given`` are the values that its parameters were given; those of ``secret`` ones are not to be shown.
    ``config`` is what AWS SAM CLI's configuration says.
    """

    path: Path
    text: str
    functions: tuple[TemplateFunction, ...]
    skipped: tuple[SkippedResource, ...]
    unread: tuple[UnreadFunction, ...] = ()
    warnings: tuple[str, ...] = ()
    loops: tuple[WrittenLoop, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()
    config: SamConfig | None = None

    @property
    def defaults(self) -> tuple[str, ...]:
        """What is to be said of the parameters that nobody gave and that decide what is built."""
        users: dict[tuple[str, str], list[str]] = {}
        for function in self.functions:
            for key, parameter, value in function.defaults:
                users.setdefault((parameter, value), []).append(f"{key} of {function.logical_id}")
        return tuple(
            f"{', '.join(places)}: {parameter} has its default, {value}; --parameter {parameter}=VALUE gives it another"
            for (parameter, value), places in users.items()
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all functions that lpack can build, or could if more were known."""
        return (*(each.logical_id for each in self.functions), *(each.logical_id for each in self.unread))


def read_template(
    path: Path,
    parameters: Mapping[str, str],
    text: str | None = None,
    *,
    names: Collection[str] = (),
    base: Path | None = None,
    config: SamConfig | None = None,
) -> Template:
    """Read a template, with parameter values that come before its own defaults; ``text`` is another content for it.

    ``names`` are the functions that are asked for; all are where it is empty. Paths of code start from the folder ``base``, by
    default that of the template. ``config`` has more values for parameters, of which those count that the template has. Raises
    `UsageError` with file, line and key path for whatever lpack must know of these and cannot.
    """
    text = read_text(path) if text is None else text
    warnings: list[str] = []
    document = parse_template(
        text,
        path,
        lambda line, key: warnings.append(f"{path}:{line}: {key} is there twice in one mapping, and only this one counts."),
    )
    scope = _scope(path, document, parameters)
    scope = _with_config(scope, config) if config else scope
    reader = _Reader(path=path, base=(base or path.parent).absolute(), document=document, scope=scope, names=frozenset(names))
    found = list(reader.read())
    return Template(
        path=path.absolute(),
        text=text,
        functions=tuple(item for item in found if isinstance(item, TemplateFunction)),
        skipped=tuple(item for item in found if isinstance(item, SkippedResource)),
        unread=tuple(item for item in found if isinstance(item, UnreadFunction)),
        warnings=tuple(warnings),
        loops=tuple(item for item in found if isinstance(item, WrittenLoop)),
        given={name: value for name, value in scope.given.items() if name in scope.parameters},
        config=config,
        secret=frozenset(name for name, each in scope.parameters.items() if _is_secret(each)),
    )


def _is_secret(parameter: Any) -> bool:
    return isinstance(parameter, dict) and str(parameter.get("NoEcho")).lower() == "true"


def _with_config(scope: Scope, config: SamConfig) -> Scope:
    """Return a scope with what AWS SAM CLI's configuration says; what the command line says goes first."""
    known = {name: value for name, value in config.parameters.items() if name in scope.parameters or name.startswith("AWS::")}
    region = {"AWS::Region": config.region} if config.region else {}
    return replace(scope, given={**region, **known, **scope.given})


def _scope(path: Path, document: Mapping[str, Any], given: Mapping[str, str]) -> Scope:
    parameters = read_mapping(path, document, "Parameters", "Parameters")
    for name in given:
        if name not in parameters and not name.startswith("AWS::"):
            raise UsageError(
                f"{path} has no parameter {name}{nearest(name, parameters)}",
                remedy="Correct --parameter, or declare it under the template's Parameters.",
            )
    return Scope(
        parameters=parameters,
        mappings=read_mapping(path, document, "Mappings", "Mappings"),
        conditions=read_mapping(path, document, "Conditions", "Conditions"),
        resources=frozenset(read_mapping(path, document, "Resources", "Resources")),
        given=given,
    )


_Found = TemplateFunction | SkippedResource | UnreadFunction | WrittenLoop


class _Reader(Struct, frozen=True, kw_only=True):
    """Reads the resources of one template, of which the functions ``names`` are asked for, or all."""

    path: Path
    base: Path
    document: Mapping[str, Any]
    scope: Scope
    names: frozenset[str]

    def read(self) -> Iterator[_Found]:
        """Yield what the template holds; raises `UsageError`."""
        resources = read_mapping(self.path, self.document, "Resources", "Resources")
        if not resources:
            raise UsageError(f"{self.path} has no Resources", remedy="Name an AWS SAM or CloudFormation template.")
        pairs: list[Pair] = []
        for logical_id, body in resources.items():
            line = line_of(resources, logical_id)
            if str(logical_id).startswith(LOOP):
                loop = self._write_out(str(logical_id), body, line)
                if isinstance(loop, SkippedResource):
                    yield loop
                elif loop:
                    yield WrittenLoop(key=str(logical_id), resources={name: node for name, node, _ in loop})
                    pairs += loop
            elif not str(logical_id).startswith("Fn::"):  # transforms stay as they are
                pairs.append((str(logical_id), body, line))
        yield from self._read_pairs(pairs)

    def _write_out(self, key: str, loop: Any, line: int) -> list[Pair] | SkippedResource:
        """Return what a loop that makes functions stands for, or why that is not known; nothing for other loops."""
        if not _makes_functions(loop):
            return []
        try:
            return list(expand_loop(key, loop, building_scope(self.scope)))
        except UnknownLoopError as error:
            if self.names and isinstance(error, UnknownLoopError):
                return SkippedResource(logical_id=key, reason=error.what, unbuilt=True)
            raise UsageError(
                f"{self.path}:{line}: Resources.{key} cannot be used: {error.what}", remedy=error.remedy
            ) from error
        except IntrinsicError as error:
            raise UsageError(
                f"{self.path}:{line}: Resources.{key} cannot be used: {error.what}", remedy=error.remedy
            ) from error

    def _read_pairs(self, pairs: list[Pair]) -> Iterator[_Found]:
        resources = {name: body for name, body, _ in pairs}
        scope = replace(self.scope, resources=frozenset((*self.scope.resources, *resources)))
        layers = find_local_layers(self.base, resources, scope)
        known = read_mapping(self.path, self.document, "Globals", "Globals")
        defaults = read_mapping(self.path, known, "Function", "Globals.Function")
        for logical_id, body, line in pairs:
            if not isinstance(body, dict):
                raise UsageError(
                    f"{self.path}:{line}: Resources.{logical_id} must be a mapping", remedy="Correct the template."
                )
            resource = Resource(
                file=self.path,
                base=self.base,
                logical_id=logical_id,
                line=line,
                body=body,
                shared=_inherited(defaults, body),
                scope=scope,
                layers=layers,
            )
            yield from self._read_resource(resource)

    def _read_resource(self, resource: Resource) -> Iterator[TemplateFunction | SkippedResource | UnreadFunction]:
        logical_id = resource.logical_id
        if resource.kind in CODE_PROPERTIES:
            yield self._read_function(resource)
        elif resource.kind in LAYER_CONTENTS and resource.section("Metadata").get("BuildMethod"):
            reason = "it is a layer with a BuildMethod of its own"
            yield SkippedResource(logical_id=logical_id, reason=reason, unbuilt=True)
        elif resource.kind in _NESTED and _is_local(resource.raw(_NESTED[resource.kind])):
            reason = "it is a nested template, to be built by itself"
            yield SkippedResource(logical_id=logical_id, reason=reason, unbuilt=True)

    def _read_function(self, resource: Resource) -> TemplateFunction | SkippedResource | UnreadFunction:
        """Read a function, also one whose condition is false: with other parameters, the same template deploys it."""
        absent = _is_absent(resource)
        try:
            return find_skipped(resource) or read_function(resource)
        except UsageError as error:
            if absent:
                reason = f"its condition {resource.body['Condition']} is false"
                return SkippedResource(logical_id=resource.logical_id, reason=reason)
            if self.names and resource.logical_id not in self.names:
                return UnreadFunction(logical_id=resource.logical_id, error=error)
            raise


def _inherited(defaults: Mapping[str, Any], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a resource takes from Globals.Function (AWS SAM specification, "Globals")."""
    if body.get("Type") != SERVERLESS_FUNCTION:
        return {}
    ignored = body.get("IgnoreGlobals")
    if ignored == "*":
        return {}
    kept: Any = copy(defaults)
    for key in ignored if isinstance(ignored, list) else ():
        kept.pop(key, None)
    return cast("Mapping[str, Any]", kept)


def _makes_functions(node: Any) -> bool:
    if isinstance(node, dict):
        return str(node.get("Type")) in CODE_PROPERTIES or any(map(_makes_functions, node.values()))
    return isinstance(node, list) and any(map(_makes_functions, node))


def _is_absent(resource: Resource) -> bool:
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


def _is_local(value: Any) -> bool:
    return isinstance(value, str) and not value.startswith(REMOTE_PREFIXES)
