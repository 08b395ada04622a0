"""CloudFormation's intrinsic functions, evaluated as far as a value can be known before the stack is deployed.

Both spellings are read: the short tags (``!Ref``) and the mappings (``Fn::Sub``). Sources: AWS CloudFormation "Intrinsic
function reference", "Pseudo parameters reference" and "Parameters".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum, auto
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from packer.core.errors import UsageError


class Nothing(Enum):
    """What ``AWS::NoValue`` stands for: the property is absent."""

    NO_VALUE = auto()


NO_VALUE = Nothing.NO_VALUE


class IntrinsicError(UsageError):
    """A value is written in a way that CloudFormation would refuse; ``what`` does not say where."""

    def __init__(self, what: str, *, remedy: str = "Correct the template.") -> None:
        super().__init__(what, remedy=remedy)


class UnknownValueError(IntrinsicError):
    """A value is well written, but known only when the stack is deployed."""

    def __init__(
        self, what: str, *, remedy: str = "Write the value itself, or take it from a parameter with --parameter NAME=VALUE."
    ) -> None:
        super().__init__(what, remedy=remedy)


class Scope(Struct, frozen=True, kw_only=True):
    """What names stand for in a template.

    The sections are as parsed; ``given`` are parameter values from the command line; ``asked`` are the conditions that are
    being decided just now. ``assumed`` are values of pseudo parameters that nobody gave. ``on_default`` is called with a
    parameter and its value wherever one that nobody gave is taken. ``withheld`` are parameters that the stack around this one
    gives values which only a deployment knows.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    mappings: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    resources: Collection[str] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    assumed: Mapping[str, str] = field(default_factory=dict)
    on_default: Callable[[str, str], None] | None = None
    withheld: frozenset[str] = frozenset()

    def take_default(self, name: str, value: str) -> str:
        """Return the value that a parameter has by default, and tell of it."""
        if self.on_default is not None:
            self.on_default(name, value)
        return value


def evaluate(node: Any, scope: Scope) -> Any:
    """Return the value of a parsed node: text, None, `NO_VALUE`, a list of such, or a mapping (left as it is).

    Raises `UnknownValueError` or another `IntrinsicError`.
    """
    called = call_of(node)
    if called is not None:
        name, argument = called
        if name not in _FUNCTIONS:
            raise UnknownValueError(f"{name} is not known before the stack is deployed")
        return _without_reference(_FUNCTIONS[name](argument, scope))
    if isinstance(node, list):
        values = [evaluate(item, scope) for item in node]
        return [value for value in values if value is not NO_VALUE]
    return _without_reference(_scalar(node))


def _without_reference(value: Any) -> Any:
    """Return a value; raise `UnknownValueError` where it is, or lists, text with a dynamic reference."""
    for each in value if isinstance(value, list) else (value,):
        if isinstance(each, str) and "{{resolve:" in each:
            raise UnknownValueError(f"the dynamic reference {each} is not known before the stack is deployed")
    return value


def holds(node: Any, scope: Scope) -> bool:
    """Decide a node of the Conditions section; raises `UnknownValueError` or another `IntrinsicError`."""
    called = call_of(node)
    if called is None or called[0] not in _TESTS:
        raise IntrinsicError(f"a condition must be one of {', '.join(_TESTS)}")
    name, argument = called
    return _TESTS[name](argument, scope)


def condition(name: Any, scope: Scope) -> bool:
    """Decide a condition by its name; raises `UnknownValueError` or another `IntrinsicError`."""
    if not isinstance(name, str) or name not in scope.conditions:
        raise IntrinsicError(f"no condition is named {name}{nearest(name, scope.conditions)}")
    if name in scope.asked:
        raise IntrinsicError(f"the condition {name} refers to itself")
    return holds(scope.conditions[name], replace(scope, asked=scope.asked | {name}))


def call_of(node: Any) -> tuple[str, Any] | None:
    """Return an intrinsic function's full name and its argument, whichever way it is spelled; None for any other node."""
    tag = _tag(node)
    if tag.startswith("!"):
        name = tag.removeprefix("!")
        return name if name in {"Ref", "Condition"} else f"Fn::{name}", _scalar(node)
    if isinstance(node, dict) and len(node) == 1:
        [(key, argument)] = node.items()
        if isinstance(key, str) and (key in {"Ref", "Condition"} or key.startswith("Fn::")):
            return key, argument
    return None


def leading_text(node: Any) -> str:
    """Return the text that a node's value surely starts with, even where the rest is not known."""
    called = call_of(node)
    if called is None:
        return node if isinstance(node, str) else ""
    name, argument = called
    template = argument[0] if isinstance(argument, list) and argument else argument
    return template.partition("${")[0] if name == "Fn::Sub" and isinstance(template, str) else ""


def nearest(name: Any, known: Collection[str]) -> str:
    """Return `` (did you mean X?)`` where a known name is close, else nothing."""
    from difflib import get_close_matches

    close = get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _tag(node: Any) -> str:
    tag = getattr(node, "tag", None)
    return str(getattr(tag, "value", None) or "")


def _scalar(node: Any) -> Any:
    """Take a scalar out of its tag; sequences and mappings are their own values."""
    return node if isinstance(node, dict | list) or not _tag(node) else node.value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise IntrinsicError(f"{what} must be text")
    return value


def _items(argument: Any, name: str, lengths: range) -> list[Any]:
    if not isinstance(argument, list) or len(argument) not in lengths:
        count = str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
        raise IntrinsicError(f"{name} must have a list of {count} items")
    return list(argument)


def _ref(argument: Any, scope: Scope) -> Any:
    name = _text(argument, "the name after Ref")
    if name == "AWS::NoValue":
        return NO_VALUE
    if name in scope.parameters:
        return _parameter(name, scope)
    if name in scope.given:
        return scope.given[name]
    if name in scope.assumed:
        return scope.take_default(name, scope.assumed[name])
    if name.startswith("AWS::"):
        raise _parameter_wanted(name, f"{name} is not known before the stack is deployed")
    if name in scope.resources:
        raise UnknownValueError(f"what the resource {name} will be called is not known before the stack is deployed")
    known = (*scope.parameters, *scope.resources)
    raise IntrinsicError(f"{name} is neither a parameter nor a resource{nearest(name, known)}")


def _parameter(name: str, scope: Scope) -> Any:
    declared = scope.parameters[name]
    if not isinstance(declared, dict):
        raise IntrinsicError(f"the parameter {name} must be a mapping")
    kind = str(declared.get("Type"))
    if name in scope.given:
        value = scope.given[name]
    elif name in scope.withheld:
        raise UnknownValueError(
            f"the parameter {name} gets a value of the stack around this one that is not known before that is deployed",
            remedy=f"Write a known value for {name} in the Parameters of the nested stack.",
        )
    elif kind.startswith("AWS::SSM::Parameter::"):
        raise _parameter_wanted(name, f"the parameter {name} gets its value from Systems Manager when the stack is deployed")
    elif declared.get("Default") is None:
        raise _parameter_wanted(name, f"the parameter {name} has no Default and no value was given")
    else:
        value = scope.take_default(name, _text(_scalar(declared["Default"]), f"the Default of the parameter {name}"))
    if kind == "CommaDelimitedList" or "List<" in kind:
        return [item.strip() for item in value.split(",")]
    return value


def _parameter_wanted(name: str, reason: str) -> UnknownValueError:
    return UnknownValueError(reason, remedy=f"Give it with --parameter {name}=VALUE.")


_PLACEHOLDER = re.compile(r"\$\{(!?)([^}]*)\}")


def _sub(argument: Any, scope: Scope) -> str:
    template, variables = argument, {}
    if isinstance(argument, list):
        template, variables = _items(argument, "Fn::Sub", range(2, 3))
    if not isinstance(variables, dict):
        raise IntrinsicError("the second item of Fn::Sub must be a mapping")

    def fill(match: re.Match[str]) -> str:
        literal, name = match[1], match[2].strip()
        if literal:
            return f"${{{match[2]}}}"
        if name in variables:
            value = evaluate(variables[name], scope)
        elif "." in name:
            value = _get_att(name, scope)
        else:
            value = _ref(name, scope)
        return _text(value, f"what ${{{name}}} stands for")

    return _PLACEHOLDER.sub(fill, _text(_scalar(template), "the template of Fn::Sub"))


def _get_att(argument: Any, scope: Scope) -> str:
    name = ".".join(map(str, argument)) if isinstance(argument, list) else str(argument)
    resource = name.partition(".")[0]
    if resource not in scope.resources:
        raise IntrinsicError(f"no resource is named {resource}{nearest(resource, scope.resources)}")
    raise UnknownValueError(f"the attribute {name} is not known before the stack is deployed")


def _find_in_map(argument: Any, scope: Scope) -> Any:
    items = _items(argument, "Fn::FindInMap", range(3, 5))
    names = [_text(evaluate(key, scope), "a key of Fn::FindInMap") for key in items[:3]]
    found: Any = scope.mappings
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    if found is not None:
        return evaluate(found, scope)
    for default in items[3:]:
        if isinstance(default, dict) and "DefaultValue" in default:
            return evaluate(default["DefaultValue"], scope)
    raise IntrinsicError(f"Mappings has no {'.'.join(names)}")


def _if(argument: Any, scope: Scope) -> Any:
    name, then, otherwise = _items(argument, "Fn::If", range(3, 4))
    return evaluate(then if condition(name, scope) else otherwise, scope)


def _join(argument: Any, scope: Scope) -> str:
    delimiter, parts = _items(argument, "Fn::Join", range(2, 3))
    values = evaluate(parts, scope)
    if not isinstance(values, list):
        raise IntrinsicError("the second item of Fn::Join must be a list")
    return _text(_scalar(delimiter), "the delimiter of Fn::Join").join(_text(value, "an item of Fn::Join") for value in values)


def _select(argument: Any, scope: Scope) -> Any:
    index, choices = _items(argument, "Fn::Select", range(2, 3))
    position, values = str(evaluate(index, scope)), evaluate(choices, scope)
    if not isinstance(values, list) or not position.isascii() or not position.isdigit() or int(position) >= len(values):
        raise IntrinsicError(f"Fn::Select finds no item {position}")
    return values[int(position)]


def _split(argument: Any, scope: Scope) -> list[str]:
    delimiter, whole = _items(argument, "Fn::Split", range(2, 3))
    separator = _text(_scalar(delimiter), "the delimiter of Fn::Split")
    if not separator:
        raise IntrinsicError("the delimiter of Fn::Split is empty")
    return _text(evaluate(whole, scope), "the second item of Fn::Split").split(separator)


def _equals(argument: Any, scope: Scope) -> bool:
    left, right = (evaluate(item, scope) for item in _items(argument, "Fn::Equals", range(2, 3)))
    return bool(left == right)


def _and(argument: Any, scope: Scope) -> bool:
    return not _any(_items(argument, "Fn::And", range(2, 11)), scope, wanted=False)


def _or(argument: Any, scope: Scope) -> bool:
    return _any(_items(argument, "Fn::Or", range(2, 11)), scope, wanted=True)


def _any(nodes: list[Any], scope: Scope, *, wanted: bool) -> bool:
    """Return whether any condition is ``wanted``; one that is decides, even beside others that cannot be known."""
    unknown: UnknownValueError | None = None
    for node in nodes:
        try:
            if holds(node, scope) is wanted:
                return True
        except UnknownValueError as error:
            unknown = unknown or error
    if unknown is not None:
        raise unknown
    return False


def _not(argument: Any, scope: Scope) -> bool:
    [node] = _items(argument, "Fn::Not", range(1, 2))
    return not holds(node, scope)


_FUNCTIONS: dict[str, Callable[[Any, Scope], Any]] = {
    "Ref": _ref,
    "Fn::Sub": _sub,
    "Fn::GetAtt": _get_att,
    "Fn::FindInMap": _find_in_map,
    "Fn::If": _if,
    "Fn::Join": _join,
    "Fn::Select": _select,
    "Fn::Split": _split,
}
_TESTS: dict[str, Callable[[Any, Scope], bool]] = {
    "Condition": condition,
    "Fn::Equals": _equals,
    "Fn::And": _and,
    "Fn::Or": _or,
    "Fn::Not": _not,
}
