"""Reads AWS SAM and CloudFormation templates: which Python functions they hold, and what of each lpack must know."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, cast

from msgspec import Struct, field
from msgspec.structs import replace

from packer.core.errors import UsageError
from packer.core.names import TEMPLATE_FILE
from packer.sam.document import line_of, parse_template, read_text
from packer.sam.function_reader import TemplateFunction, qualified_name, read_function
from packer.sam.intrinsics import NO_VALUE, IntrinsicError, Scope, UnknownValueError, condition, evaluate, leading_text, nearest
from packer.sam.local_layers import LAYER_CONTENTS, find_local_layers
from packer.sam.loops import LOOP, Pair, UnknownLoopError, expand_loop
from packer.sam.resource import CODE_PROPERTIES, REMOTE_PREFIXES, SERVERLESS_FUNCTION, Resource, building_scope, read_mapping
from packer.sam.samconfig import SamConfig
from packer.sam.skipped import SkippedResource, find_skipped

STACKS_FOLDER = "stacks"
"""The folder for templates of nested stacks in the output folder."""
_JOINT = "-"  # no logical id has one
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

    ``place`` are the logical ids of the nested stacks that lead to it, none for the template that was asked for. ``nested`` are
    the templates of all stacks in it, at any depth; ``functions``, ``skipped``, ``unread`` and ``warnings`` are of these, too.
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
    place: tuple[str, ...] = ()
    nested: tuple[Template, ...] = ()

    @property
    def stack(self) -> str:
        """The ``stack`` of its own functions."""
        return _JOINT.join(self.place)

    @property
    def written(self) -> Path:
        """Where it is written, relative to the output folder."""
        return Path(STACKS_FOLDER, *self.place, TEMPLATE_FILE) if self.place else Path(TEMPLATE_FILE)

    @property
    def own(self) -> tuple[TemplateFunction, ...]:
        """The functions that stand in this very template."""
        return tuple(each for each in self.functions if each.stack == self.stack)

    @property
    def children(self) -> dict[str, Template]:
        """The templates of the stacks in this very template, by their logical ids."""
        return {each.place[-1]: each for each in self.nested if each.place[:-1] == self.place}

    @property
    def defaults(self) -> tuple[str, ...]:
        """What is to be said of the parameters that nobody gave and that decide what is built."""
        users: dict[tuple[str, str, str], list[str]] = {}
        for function in self.functions:
            for key, parameter, value in function.defaults:
                users.setdefault((function.stack, parameter, value), []).append(f"{key} of {function.name}")
        return tuple(
            f"{', '.join(places)}: {parameter} has its default, {value}; {_who_gives(stack, parameter)} gives it another"
            for (stack, parameter, value), places in users.items()
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all functions that lpack can build, or could if more were known."""
        return (*(each.name for each in self.functions), *(each.logical_id for each in self.unread))


def _who_gives(stack: str, parameter: str) -> str:
    inner = stack and not parameter.startswith("AWS::")
    return f"Parameters of the stack {stack}" if inner else f"--parameter {parameter}=VALUE"


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
    found = _read(path, text, parameters, _Context(names=frozenset(names), base=base, config=config))
    return replace(found, config=config)


class _Context(Struct, frozen=True, kw_only=True):
    """What holds for a template and for those nested in it.

    ``place`` and ``chain`` are the logical ids and the true paths that led to it, ``withheld`` as in `Scope`.
    """

    names: frozenset[str]
    base: Path | None
    config: SamConfig | None = None
    place: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    withheld: frozenset[str] = frozenset()


def _read(path: Path, text: str, given: Mapping[str, str], context: _Context) -> Template:
    warnings: list[str] = []
    document = parse_template(
        text,
        path,
        lambda line, key: warnings.append(f"{path}:{line}: {key} is there twice in one mapping, and only this one counts."),
    )
    scope = replace(_scope(path, document, given), withheld=context.withheld)
    scope = _with_config(scope, context.config) if context.config else scope
    context = replace(context, chain=(*context.chain, os.path.realpath(path)))
    base = (context.base or path.parent).absolute()
    found = list(_Reader(path=path, base=base, document=document, scope=scope, context=context).read())
    children = [item for item in found if isinstance(item, Template)]
    own = Template(
        path=path.absolute(),
        text=text,
        functions=tuple(item for item in found if isinstance(item, TemplateFunction)),
        skipped=tuple(item for item in found if isinstance(item, SkippedResource)),
        unread=tuple(item for item in found if isinstance(item, UnreadFunction)),
        warnings=tuple(warnings),
        loops=tuple(item for item in found if isinstance(item, WrittenLoop)),
        given={name: value for name, value in scope.given.items() if name in scope.parameters},
        secret=frozenset(name for name, each in scope.parameters.items() if _is_secret(each)),
        place=context.place,
    )
    return _with_children(own, children)


def _with_children(template: Template, children: Sequence[Template]) -> Template:
    return replace(
        template,
        functions=(*template.functions, *(each for child in children for each in child.functions)),
        skipped=(*template.skipped, *(each for child in children for each in child.skipped)),
        unread=(*template.unread, *(each for child in children for each in child.unread)),
        warnings=(*template.warnings, *(each for child in children for each in child.warnings)),
        nested=tuple(each for child in children for each in (child, *child.nested)),
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


_Found = TemplateFunction | SkippedResource | UnreadFunction | WrittenLoop | Template


class _Reader(Struct, frozen=True, kw_only=True):
    """Reads the resources of one template."""

    path: Path
    base: Path
    document: Mapping[str, Any]
    scope: Scope
    context: _Context

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
            if self.context.names and isinstance(error, UnknownLoopError):
                return SkippedResource(logical_id=self._name(key), reason=error.what, unbuilt=True)
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

    def _name(self, logical_id: str) -> str:
        return qualified_name(_JOINT.join(self.context.place), logical_id)

    def _read_resource(self, resource: Resource) -> Iterator[_Found]:
        logical_id = self._name(resource.logical_id)
        if resource.kind in CODE_PROPERTIES:
            yield self._read_function(resource)
        elif resource.kind in LAYER_CONTENTS and resource.section("Metadata").get("BuildMethod"):
            reason = "it is a layer with a BuildMethod of its own"
            yield SkippedResource(logical_id=logical_id, reason=reason, unbuilt=True)
        elif resource.kind in _NESTED:
            found = self._read_nested(resource)
            if found is not None:
                yield found

    def _read_function(self, resource: Resource) -> TemplateFunction | SkippedResource | UnreadFunction:
        """Read a function, also one whose condition is false: with other parameters, the same template deploys it."""
        absent, name = _is_absent(resource), self._name(resource.logical_id)
        try:
            skipped = find_skipped(resource)
            return replace(skipped, logical_id=name) if skipped else read_function(resource, _JOINT.join(self.context.place))
        except UsageError as error:
            if absent:
                return SkippedResource(logical_id=name, reason=f"its condition {resource.body['Condition']} is false")
            if self.context.names and name not in self.context.names:
                return UnreadFunction(logical_id=name, error=error)
            raise

    def _read_nested(self, resource: Resource) -> Template | SkippedResource | None:
        """Read the template of a nested stack; None where it is not on this machine."""
        key, name = _NESTED[resource.kind], self._name(resource.logical_id)
        if leading_text(resource.raw(key)).startswith(REMOTE_PREFIXES):
            return None
        try:
            location = resource.value(key)
        except UsageError as error:
            return SkippedResource(logical_id=name, reason=f"its {key} is not known ({error.what})", unbuilt=True)
        if not isinstance(location, str) or location.startswith(REMOTE_PREFIXES):
            return None
        path = Path(os.path.normpath(self.path.absolute().parent / location.removeprefix("file://")))
        if not path.is_file():
            if _is_absent(resource):
                return SkippedResource(logical_id=name, reason=f"its condition {resource.body['Condition']} is false")
            raise resource.fault(key, f"names no file: {location}", f"Write the template {path}, or correct the path.")
        if os.path.realpath(path) in self.context.chain:
            what = f"names a template that it is nested in itself: {location}"
            raise resource.fault(key, what, "Leave one of the two stacks out.")
        text = read_text(path)
        given, withheld = self._hand_down(resource, parse_template(text, path).get("Parameters"))
        place = (*self.context.place, resource.logical_id)
        return _read(path, text, given, replace(self.context, config=None, place=place, withheld=withheld))

    def _hand_down(self, resource: Resource, declared: Any) -> tuple[dict[str, str], frozenset[str]]:
        """Return the values that a nested stack's parameters get, and the names of those with values that are not known."""
        given = {name: value for name, value in self.scope.given.items() if name.startswith("AWS::")}
        withheld = set()
        handed = resource.raw("Parameters")
        for name, node in handed.items() if isinstance(handed, dict) else ():
            if not isinstance(declared, dict) or name not in declared:
                continue
            try:
                value = evaluate(node, building_scope(resource.scope))
            except IntrinsicError:
                withheld.add(str(name))
                continue
            if value not in (None, NO_VALUE):
                given[str(name)] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        return given, frozenset(withheld)


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
        return str(node.get("Type")) in (*CODE_PROPERTIES, *_NESTED) or any(map(_makes_functions, node.values()))
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
