"""Attaches layers to the functions of a template, beside those that they have, and to no other function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from packer.core.errors import UsageError
from packer.sam.yaml_edit import Edit, EditableText, Node, Value

LAYERS = "Layers"
"""The property of a function that lists its layers."""


def attach_layers(
    text: EditableText, where: Path, functions: Mapping[str, Node], added: Mapping[str, Sequence[Value]]
) -> Iterator[Edit]:
    """Give functions the layers that are ``added`` for them, behind their own.

    ``functions`` maps the logical ids of all functions of the template ``where`` to their Properties, which are mappings or
    aliases of such. One that takes its layers from elsewhere gets a list of its own, so that no other function's list changes;
    so does one that would inherit what another one gets. Raises `UsageError` for what cannot be copied or extended.
    """
    changed = {id(functions[name].real) for name, new in added.items() if new and functions[name].target is None}
    for name, properties in functions.items():
        new, own = added.get(name, ()), properties.own(LAYERS)
        if own is not None and own.is_list and not own.anchor:
            if new:
                yield text.extend(own, LAYERS, new)
        elif new or (own is None and any(id(each) in changed for each in _sources(properties))):
            yield text.put(properties, LAYERS, [*_copied(properties, name, where), *new])


def _sources(properties: Node) -> Iterator[Node]:
    """Give the mappings that this one takes keys from, by an alias or by merge keys."""
    if properties.target is not None:
        yield properties.target
    merged = properties.real.own("<<")
    for source in (merged.real.items or (merged,)) if merged is not None else ():
        yield source.real
        yield from _sources(source)


def _copied(properties: Node, name: str, where: Path) -> list[str]:
    """Give the layers that a function has, which must be plain text to be written a second time."""
    listed = properties.get(LAYERS)
    if listed is None or listed.real.is_null:
        return []
    texts = [item.real.text for item in listed.real.items if item.real.text is not None]
    is_shared = listed.target is None and properties.own(LAYERS) is listed and bool(listed.anchor)
    if is_shared or not listed.real.is_list or len(texts) < len(listed.real.items):
        why = "others share the list by a YAML alias" if is_shared else "they are not a list of its own, and not all plain text"
        raise UsageError(
            f"{where}:{listed.line}: no layer can be added to the Layers of {name}, because {why}",
            remedy=f'Write the Layers of {name} out as a list, or set layers = "none" for this function.',
        )
    return texts
