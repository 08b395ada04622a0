"""The loops of CloudFormation's language extensions, written out.

A loop is a key ``Fn::ForEach::NAME`` with a list of an identifier, the values that it takes, and a mapping that is repeated for
each of them. In its keys and values ``${Identifier}`` and ``Ref`` stand for the value, and ``&{Identifier}`` for its letters
and digits alone. Source: AWS CloudFormation, "Fn::ForEach".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any

from packer.sam.document import line_of
from packer.sam.intrinsics import IntrinsicError, Scope, call_of, evaluate

LOOP = "Fn::ForEach::"
"""How the keys of loops start."""
_PARTS = 3
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9]")

Pair = tuple[str, Any, int]
"""A key, its value, and the line that it stands in, from 1."""


def expand_loops(mapping: Mapping[str, Any], scope: Scope) -> Iterator[Pair]:
    """Yield the pairs of a mapping with its loops written out.

    A loop whose values are not known stays one pair. Raises `IntrinsicError` for a loop that is not well written.
    """
    for key, value in mapping.items():
        if str(key).startswith(LOOP):
            try:
                yield from expand_loop(str(key), value, scope)
            except UnknownLoopError:
                yield str(key), value, line_of(mapping, key)
        else:
            yield str(key), value, line_of(mapping, key)


class UnknownLoopError(IntrinsicError):
    """The values that a loop goes through are not known."""


def expand_loop(key: str, loop: Any, scope: Scope) -> Iterator[Pair]:
    """Yield what a loop stands for, with the loops in it written out.

    Raises `UnknownLoopError` where the values of one are not known, and `IntrinsicError` for one that is not well written.
    """
    if not isinstance(loop, list) or len(loop) != _PARTS or not isinstance(loop[0], str) or not isinstance(loop[2], dict):
        raise IntrinsicError(f"{key} must be a list of an identifier, a list of values, and a mapping")
    identifier, _, body = loop
    for value in _find_values(key, loop[1], scope):
        bound = bind(body, identifier, value)
        for name, node in bound.items():
            if str(name).startswith(LOOP):
                yield from expand_loop(str(name), node, scope)
            else:
                yield str(name), node, line_of(bound, name)


def _find_values(key: str, node: Any, scope: Scope) -> list[str]:
    try:
        values = evaluate(node, scope)
    except IntrinsicError as error:
        raise UnknownLoopError(f"the values of {key} are not known: {error.what}", remedy=error.remedy) from error
    if not isinstance(values, list):
        raise IntrinsicError(f"the second item of {key} must be a list")
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [str(value) for value in flat]


def bind(node: Any, identifier: str, value: str) -> Any:
    """Return a copy of a parsed node in which a loop's identifier has a value; lines, tags and styles stay."""
    called = call_of(node)
    if called == ("Ref", identifier):
        return value
    if isinstance(node, str):
        return type(node)(_bind_text(node, identifier, value))
    if isinstance(node, list):
        items = type(node)(bind(item, identifier, value) for item in node)
        return _with_marks(node, items)
    if isinstance(node, dict):
        return _bind_mapping(node, identifier, value)
    if isinstance(getattr(node, "value", None), str):  # a scalar with a tag
        bound = copy(node)
        bound.value = _bind_text(node.value, identifier, value)
        return bound
    return node


def _bind_text(text: str, identifier: str, value: str) -> str:
    bound = text.replace(f"${{{identifier}}}", value)
    return bound.replace(f"&{{{identifier}}}", _NOT_IN_IDS.sub("", value))


def _bind_mapping(node: Any, identifier: str, value: str) -> Any:
    bound = type(node)()
    lines = {}
    for key, item in node.items():
        name = _bind_text(key, identifier, value) if isinstance(key, str) else key
        bound[name] = bind(item, identifier, value)
        lines[name] = (line_of(node, key) - 1, 0, 0, 0)
    if hasattr(bound, "lc"):
        bound.lc.line, bound.lc.col, bound.lc.data = line_of(node, "") - 1, 0, lines
    return _with_marks(node, bound)


def _with_marks(old: Any, new: Any) -> Any:
    """Give a copied collection the tag and the style of the old one."""
    if hasattr(old, "fa") and hasattr(new, "fa"):
        if old.fa.flow_style():
            new.fa.set_flow_style()
        if str(getattr(old.tag, "value", None) or ""):
            new.yaml_set_ctag(old.tag)
    return new
