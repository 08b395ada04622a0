"""Turns functions of a template into images: PackageType and ImageUri, and none of what only archives have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from packer.sam.layer_references import LAYERS
from packer.sam.yaml_edit import Edit, EditableText, EditConflict, Node, Value

SERVERLESS_FUNCTION = "AWS::Serverless::Function"
_ONLY_OF_ARCHIVES = ("Handler", "Runtime", LAYERS)
"""What AWS SAM refuses beside PackageType: Image; the image's own CMD names the handler."""
_CODE = "CodeUri"
_IGNORED = "IgnoreGlobals"
"""The attribute of a resource that lists what it does not take from Globals (AWS SAM specification, "Globals")."""


def image_properties(kind: str, uri: str) -> Mapping[str, Value]:
    """Give the properties of a function of a resource type that is an image."""
    return {"PackageType": "Image", **({"ImageUri": uri} if kind == SERVERLESS_FUNCTION else {"Code": {"ImageUri": uri}})}


def image_edits(text: EditableText, resource: Node, properties: Node, kind: str, uri: str) -> Iterator[Edit]:
    """Let a function be the image that ``uri`` names: the path of a docker-archive, or a name that the engine knows.

    Raises `EditConflict` where an alias brings what an image must not have.
    """
    serverless = kind == SERVERLESS_FUNCTION
    if properties.target is not None:
        raise EditConflict(properties.line)
    yield from text.recast(properties, image_properties(kind, uri), (*_ONLY_OF_ARCHIVES, *((_CODE,) if serverless else ())))
    shared = text.root.get("Globals")
    inherited = shared.get("Function") if shared is not None and serverless else None
    names = [name for name in (*_ONLY_OF_ARCHIVES, _CODE) if inherited is not None and inherited.get(name) is not None]
    known = resource.own(_IGNORED)
    if known is not None and known.is_list:
        told = {item.text for item in known.items}
        more = [name for name in names if name not in told]
        if more:
            yield text.extend(known, _IGNORED, more)
    elif names and known is None:
        yield text.put(resource, _IGNORED, names)
