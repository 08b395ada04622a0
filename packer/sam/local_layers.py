"""The layers that a template declares itself, and whose content lies beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from packer.sam.intrinsics import IntrinsicError, Scope, call_of, condition, evaluate

LAYER_CONTENTS = {"AWS::Serverless::LayerVersion": "ContentUri", "AWS::Lambda::LayerVersion": "Content"}
"""The resource types that are layers, and the property that holds the path of their content."""
_WHOLE_NAME = re.compile(r"\$\{(\w+)\}")
_REQUIREMENTS = "requirements.txt"
_PACKAGES = "python"


class LocalLayer(Struct, frozen=True, kw_only=True):
    """The content of a layer: an absolute folder, or a ZIP.

    In the layer it lies below ``prefix``; it is ``complete`` unless AWS SAM adds dependencies to it (AWS SAM, "Building Lambda
    layers").
    """

    content: Path
    prefix: str = ""
    complete: bool = True


def find_local_layers(folder: Path, resources: Mapping[str, Any], scope: Scope) -> dict[str, LocalLayer]:
    """Return the layers among resources whose content is in the template's folder or elsewhere on this machine."""
    found = ((str(name), _read_layer(folder, body, scope)) for name, body in resources.items() if isinstance(body, dict))
    return {name: layer for name, layer in found if layer is not None}


def _read_layer(folder: Path, body: Mapping[str, Any], scope: Scope) -> LocalLayer | None:
    key = LAYER_CONTENTS.get(str(body.get("Type")))
    properties, metadata = body.get("Properties"), body.get("Metadata")
    if key is None or not isinstance(properties, dict):
        return None
    try:
        value = evaluate(properties.get(key), scope)
    except IntrinsicError:
        return None
    content = Path(os.path.normpath(folder / value)) if isinstance(value, str) and "://" not in value else None
    if content is None or not (content.is_dir() or (content.is_file() and content.suffix in {".zip", ".jar"})):
        return None
    method = str(metadata.get("BuildMethod") or "") if isinstance(metadata, dict) else ""
    if not method:
        return LocalLayer(content=content)
    # Whatever another method builds is known once it has been built.
    is_folder = method.startswith("python") and content.is_dir()
    return LocalLayer(content=content, prefix=_PACKAGES, complete=not _requires(content)) if is_folder else None


def _requires(folder: Path) -> bool:
    """Return whether a folder's requirements name anything."""
    try:
        lines = (folder / _REQUIREMENTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return any(line.strip() and not line.lstrip().startswith("#") for line in lines)


def referenced_resource(node: Any, scope: Scope) -> str:
    """Return the logical id of the resource that an item of Layers stands for; empty where it is none, or is not known.

    A list of one item is that item: a condition may choose between lists.
    """
    if isinstance(node, list) and len(node) == 1:
        node = node[0]
    name, argument = call_of(node) or ("", None)
    if name == "Ref":
        return str(argument)
    if name == "Fn::Sub":
        found = _WHOLE_NAME.fullmatch(argument) if isinstance(argument, str) else None
        return found[1] if found else ""
    if name == "Fn::GetAtt":
        return str(argument[0] if isinstance(argument, list) and argument else argument).partition(".")[0]
    if name == "Fn::If" and isinstance(argument, list) and len(argument) == 3:
        with suppress(IntrinsicError):
            return referenced_resource(argument[1 if condition(argument[0], scope) else 2], scope)
    return ""
