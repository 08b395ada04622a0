"""Writes loops of a template out in its text, so that what they make can point to artifacts of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import StringIO
from typing import Any

from packer.sam.document import text_yaml
from packer.sam.intrinsics import call_of
from packer.sam.template import Template
from packer.sam.yaml_edit import EditableText, Node


def write_out_loops(template: Template) -> str:
    """Return the text of a template with the resources of its `Template.loops` in the place of the loops."""
    text = template.text
    for loop in template.loops:
        editable = EditableText.of(text)
        resources = editable.root.get("Resources")
        if resources is not None and resources.own(loop.key) is not None:
            text = editable.apply([editable.put_pairs(resources, loop.key, _write(editable, resources, loop.resources))])
    return text


def _write(editable: EditableText, mapping: Node, resources: Mapping[str, Any]) -> str:
    """Return pairs as they stand in a mapping of the text, from the column of its first key on."""
    if mapping.real.flow or editable.json:
        return ", ".join(f"{json.dumps(name)}: {json.dumps(_plain(body))}" for name, body in resources.items())
    buffer = StringIO()
    yaml = text_yaml()
    yaml.width = 1 << 20  # a line that is folded could not be indented
    yaml.dump(dict(resources), buffer)
    between = editable.newline + " " * editable.column(mapping.real.first)
    lines = buffer.getvalue().rstrip("\n").split("\n")
    return lines[0] + "".join(between + line if line else editable.newline for line in lines[1:])


def _plain(node: Any) -> Any:
    """Return a parsed node as JSON has it, with the full names of intrinsic functions."""
    called = call_of(node)
    if called is not None and not isinstance(node, dict):
        name, argument = called
        items = [_plain(item) for item in argument] if isinstance(argument, list) else argument
        return {name: items}
    if isinstance(node, dict):
        plain = {str(key): _plain(item) for key, item in node.items()}
        return {called[0]: next(iter(plain.values()))} if called is not None and len(plain) == 1 else plain
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return node
