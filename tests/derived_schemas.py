"""JSON Schemas derived from types, and published ones brought into the same form: every reference in its place, no order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect as types

_ANNOTATIONS = ("$schema", "$id", "title", "$defs")
Schema = dict[str, Any]


def derive_schema(kind: Any) -> Schema:
    """Return the schema of what a type is written as; of a struct within itself, its name stands for it."""
    return _derived(types.type_info(kind), ())


def any_of(*schemas: Schema) -> Schema:
    """Return the schema of an object whose values have one of these; msgspec knows no such union of structs."""
    return {"type": "object", "additionalProperties": {"anyOf": list(schemas)}}


def _derived(kind: types.Type, within: tuple[type, ...]) -> Schema:
    match kind:
        case types.Metadata():
            found = _plain({**_derived(kind.type, within), **_normal(kind.extra_json_schema or {}, {}, ())})
        case types.StructType():
            found = _of_struct(kind, within)
        case types.UnionType():
            [one] = [each for each in kind.types if not isinstance(each, types.NoneType)]
            found = _derived(one, within)
        case types.DictType():
            pattern = _derived(kind.key_type, within).get("pattern")
            found = {"type": "object", "additionalProperties": _derived(kind.value_type, within)}
            found |= {"propertyNames": {"pattern": pattern}} if pattern else {}
        case types.TupleType():
            items = [_derived(each, within) for each in kind.item_types]
            assert all(each == items[0] for each in items)
            found = {"type": "array", "items": items[0], "minItems": len(items), "maxItems": len(items)}
        case types.VarTupleType() | types.ListType():
            found = {"type": "array", "items": _derived(kind.item_type, within)}
        case _:
            found = _of_scalar(kind)
    return found


def _of_scalar(kind: types.Type) -> Schema:
    match kind:
        case types.AnyType():
            return {}
        case types.LiteralType():
            return {"enum": sorted(kind.values, key=str)}
        case types.StrType():
            return {"type": "string"}
        case types.BoolType():
            return {"type": "boolean"}
    assert isinstance(kind, types.IntType | types.FloatType)
    least = {} if kind.ge is None else {"minimum": kind.ge}
    return {"type": "integer" if isinstance(kind, types.IntType) else "number", **least}


def _of_struct(kind: types.StructType, within: tuple[type, ...]) -> Schema:
    """Return the schema of a struct; a field with a default may be absent where the struct leaves defaults out."""
    if kind.cls in within:
        return {"$ref": len(within) - within.index(kind.cls)}
    inner = (*within, kind.cls)
    optional = [each.encode_name for each in kind.fields if _may_be_absent(each, kind.cls)]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {each.encode_name: _derived(each.type, inner) for each in kind.fields},
        "required": sorted(each.encode_name for each in kind.fields if each.encode_name not in optional),
    }


def _may_be_absent(field: types.Field, owner: type[msgspec.Struct]) -> bool:
    is_unset = field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
    return not field.required and (is_unset or owner.__struct_config__.omit_defaults)


def normal_schema(schema: Mapping[str, Any]) -> Schema:
    """Return a published schema as `derive_schema` would give it, without its title."""
    own = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
    found: Schema = _normal(own, schema.get("$defs", {}), ())
    found.pop("description", None)
    return found


def _normal(schema: Any, definitions: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    if isinstance(schema, list):
        return [_normal(each, definitions, within) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in within:
            return {"$ref": len(within) - within.index(name)}
        inner = _normal(definitions[name], definitions, (*within, name))
        return {**inner, **{key: value for key, value in schema.items() if key != "$ref"}}
    found = {key: _normal(value, definitions, within) for key, value in schema.items()}
    if isinstance(found.get("required"), list):
        found["required"] = sorted(found["required"])
    return _plain(found)


def _plain(schema: Schema) -> Schema:
    """Return a schema that lists its only value as one of several, and says no type of what it lists."""
    found = dict(schema)
    if "const" in found:
        found["enum"] = [found.pop("const")]
    if isinstance(found.get("enum"), list):
        found["enum"] = sorted(found["enum"], key=str)
        found.pop("type", None)
    return found
