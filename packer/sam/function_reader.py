"""The functions of a template that lpack can build: what of each it must know."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from builders.runtimes import ARCHITECTURES, DEFAULT_ARCHITECTURE, RUNTIMES, Architecture
from packer.core.errors import UsageError
from packer.sam.intrinsics import NO_VALUE, IntrinsicError, Scope, call_of, evaluate
from packer.sam.local_layers import LocalLayer, referenced_resource
from packer.sam.loops import expand_loops
from packer.sam.resource import CODE_PROPERTIES, Resource

_LONGEST_NAME = 64  # of a function (AWS Lambda, CreateFunction)
_DIGITS = 8


class TemplateFunction(Struct, frozen=True, kw_only=True):
    """A function that lpack can build. ``source`` is an absolute folder; ``line`` is where the template declares it, from 1.

    ``stack`` is the path of the nested stack that it is in, with hyphens between; it is empty in the template itself.
    ``only`` names the one file of the folder that is its code, empty where all of it is. ``package`` is the dotted name of the
    packages that AWS SAM puts the source below (``ParentPackageMode``), empty for none.
    ``memory`` and ``storage`` are in MB and ``timeout`` is in seconds, None where they are not known; ``unset`` are those of
    ``memory`` and ``timeout`` that the template leaves to Lambda. Of the ``environment``, ``undecided`` variables get their
    values when the stack is deployed. ``attached`` are its layers: ARNs, or whatever else stands for one; ``contents`` are
    those that the template declares itself, by what stands for them. ``uncounted`` says why none can be added to them.
    ``defaults`` are properties that decide the build and hang on a parameter that nobody gave, each with that parameter and
    the value it was taken for.
    """

    logical_id: str
    runtime: str
    architecture: Architecture
    handler: str
    source: Path
    line: int
    stack: str = ""
    only: str = ""
    package: str = ""
    memory: int | None = None
    timeout: int | None = None
    storage: int | None = None
    unset: frozenset[str] = frozenset()
    environment: tuple[tuple[str, str], ...] = ()
    undecided: tuple[str, ...] = ()
    attached: tuple[str, ...] = ()
    contents: tuple[tuple[str, LocalLayer], ...] = ()
    uncounted: UsageError | None = None
    defaults: tuple[tuple[str, str, str], ...] = ()

    @property
    def name(self) -> str:
        """Its name among the functions of all stacks."""
        return qualified_name(self.stack, self.logical_id)

    @property
    def prefix(self) -> str:
        """The folder of its ``package`` in the artifact, with a slash behind it; empty for none."""
        return f"{self.package.replace('.', '/')}/" if self.package else ""


def qualified_name(stack: str, logical_id: str) -> str:
    """Return the name of what a stack has among all stacks; one that is too long for a function ends in a digest."""
    name = f"{stack}-{logical_id}" if stack else logical_id
    if stack and len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
        return f"{name[: _LONGEST_NAME - _DIGITS - 1]}-{digest}"
    return name


def read_function(resource: Resource, stack: str = "") -> TemplateFunction:
    """Read what lpack must know of a function; raises `UsageError` with the place of what it cannot."""
    attached, contents, uncounted = _attached_layers(resource)
    environment = dict(_environment(resource))
    handler = resource.text("Handler")
    source, only = _source(resource)
    return TemplateFunction(
        logical_id=resource.logical_id,
        stack=stack,
        runtime=_runtime(resource),
        architecture=_architecture(resource),
        handler=handler,
        source=source,
        line=resource.line,
        only=only,
        package=_parent_packages(resource, handler, source),
        memory=_number(resource, "MemorySize"),
        timeout=_number(resource, "Timeout"),
        storage=_number(resource, "EphemeralStorage", "Size"),
        unset=frozenset(name for name, key in (("memory", "MemorySize"), ("timeout", "Timeout")) if not resource.has(key)),
        environment=tuple((name, value) for name, value in environment.items() if value is not None),
        undecided=tuple(name for name, value in environment.items() if value is None),
        attached=attached,
        contents=contents,
        uncounted=uncounted,
        defaults=tuple(_list_defaults(resource)),
    )


def _list_defaults(resource: Resource) -> Iterator[tuple[str, str, str]]:
    for key in ("Runtime", "Architectures", "Handler", CODE_PROPERTIES[resource.kind]):
        yield from ((key, name, value) for name, value in resource.defaults(key))


def _attached_layers(
    resource: Resource,
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


def _number(resource: Resource, key: str, inner: str = "") -> int | None:
    """Return a number of the function's configuration; None where there is none, or it is only known in a deployment."""
    node = resource.raw(key)
    if inner:
        node = node.get(inner) if isinstance(node, dict) else None
    try:
        value = evaluate(node, resource.scope)
    except IntrinsicError:
        return None
    return int(value) if isinstance(value, int | str) and re.fullmatch(r"[1-9][0-9]{0,5}", str(value)) else None


def _environment(resource: Resource) -> Iterator[tuple[str, str | None]]:
    """Yield the function's variables; the value of one that only the deployment knows is None."""
    variables: dict[str, Any] = {}
    for properties in (resource.shared, resource.section("Properties")):
        section = properties.get("Environment")
        named = section.get("Variables") if isinstance(section, dict) else None
        variables |= named if isinstance(named, dict) else {}
    for name, node in sorted((str(name), node) for name, node, _ in expand_loops(variables, resource.scope)):
        try:
            value = evaluate(node, resource.scope)
        except IntrinsicError:
            yield str(name), None
            continue
        if value not in (None, NO_VALUE):
            yield str(name), str(value).lower() if isinstance(value, bool) else str(value)


def _runtime(resource: Resource) -> str:
    runtime = resource.text("Runtime")
    if runtime not in RUNTIMES:
        raise resource.fault(
            "Runtime", f"names a runtime that lpack does not know: {runtime}", f"Known are {', '.join(RUNTIMES)}."
        )
    return runtime


def _architecture(resource: Resource) -> Architecture:
    value = resource.value("Architectures")
    if value is None or value == []:
        return DEFAULT_ARCHITECTURE
    for known in ARCHITECTURES:
        if value == [known]:
            return known
    raise resource.fault(
        "Architectures", "must be a list of one known architecture", f"Write [{'] or ['.join(ARCHITECTURES)}]."
    )


def _source(resource: Resource) -> tuple[Path, str]:
    """Return the folder of a function's code, and the name of the one file in it that is all of the code, if it is one.

    Where the template names none, AWS SAM CLI takes the template's folder (its provider's default, ``.``). A single file is
    packed alone, as by ``aws cloudformation package``.
    """
    code = CODE_PROPERTIES[resource.kind]
    value = resource.value(code)
    value = "." if value is None else resource.text(code)
    source = Path(os.path.normpath(resource.base / value))
    if source.is_file():
        return source.parent, source.name
    if not source.is_dir():
        raise resource.fault(code, f"names no folder or file: {value}", f"Make the folder {source}, or correct the path.")
    return source, ""


def _parent_packages(resource: Resource, handler: str, source: Path) -> str:
    """Return the packages that the source is to lie below.

    AWS SAM CLI, "sam build", BuildProperties for Python: ``explicit`` names them, and ``auto`` takes the packages that the
    handler names, as far as the path of the code goes through them. Any other mode means none.
    """
    mode = resource.metadata("BuildProperties", "ParentPackageMode")
    if mode == "explicit":
        named = str(resource.metadata("BuildProperties", "ParentPackages") or "")
    elif mode == "auto":
        named = _infer_packages(handler, Path(os.path.relpath(source, resource.base)).parts)
    else:
        return ""
    if named and not all(re.fullmatch(r"[\w-]+", part) for part in named.split(".")):
        where = f"{resource.file}:{resource.line}: Resources.{resource.logical_id}.Metadata.BuildProperties.ParentPackages"
        raise UsageError(
            f"{where} must be names of packages: {named}", remedy="Write them with dots between, such as src.orders."
        )
    return named


def _infer_packages(handler: str, folders: Sequence[str]) -> str:
    """Return the packages of a handler, such as src and orders of ``src.orders.app.handler``, that a path leads through."""
    packages = handler.split(".")[:-2]
    if not packages or packages[0] not in folders:
        return ""
    start = folders.index(packages[0])
    return ".".join(folders[start : start + len(packages)])
