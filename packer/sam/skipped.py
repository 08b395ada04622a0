"""Resources that lpack leaves as they are: why, and whether somebody has to build them before they are deployed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec import Struct

from packer.core.errors import UsageError
from packer.sam.intrinsics import call_of, leading_text
from packer.sam.resource import CODE_PROPERTIES, REMOTE_PREFIXES, Resource

_COMPILED = ("java", "dotnet", "go1")
"""How the runtimes start whose functions are always compiled."""
_ARCHIVES = (".zip", ".jar", ".war")


class SkippedResource(Struct, frozen=True, kw_only=True):
    """A resource that lpack leaves as it is, and why: ``reason`` ends the sentence "it is left as it is because".

    ``unbuilt`` says that it cannot be deployed as it is: it has to be built by something else.
    """

    logical_id: str
    reason: str
    unbuilt: bool = False


def find_skipped(resource: Resource) -> SkippedResource | None:
    """Return why a function is not lpack's to build, and None where it is; raises `UsageError`."""
    harmless = _why_inline(resource) or _why_told_to_skip(resource)
    if not harmless:
        unbuilt = _why_built_otherwise(resource) or _why_not_python(resource)
        if unbuilt:
            return SkippedResource(logical_id=resource.logical_id, reason=unbuilt[0], unbuilt=unbuilt[1])
        harmless = _why_ready(resource)
    return SkippedResource(logical_id=resource.logical_id, reason=harmless) if harmless else None


def _why_inline(resource: Resource) -> str:
    if resource.has("InlineCode"):
        return "its code stands in the template (InlineCode)"
    code = CODE_PROPERTIES[resource.kind]
    node = resource.raw(code)
    return _why_elsewhere(resource, code, node) if isinstance(node, dict) and node and call_of(node) is None else ""


def _why_told_to_skip(resource: Resource) -> str:
    return "its Metadata says SkipBuild" if str(resource.metadata("SkipBuild") or "").lower() == "true" else ""


def _why_built_otherwise(resource: Resource) -> tuple[str, bool] | None:
    if resource.value("PackageType") == "Image":
        return "it is a container image (PackageType: Image)", bool(resource.metadata("Dockerfile"))
    method = resource.metadata("BuildMethod")
    if method is not None and not str(method).startswith("python"):
        return f"its Metadata names another build method ({method})", True
    return None


def _why_not_python(resource: Resource) -> tuple[str, bool] | None:
    runtime = resource.text("Runtime")
    return None if runtime.startswith("python3.") else (f"its runtime is {runtime}", _must_be_built(resource, runtime))


def _must_be_built(resource: Resource, runtime: str) -> bool:
    """Return whether a function in another language cannot run as it lies in its folder."""
    folder = _find_folder(resource)
    if folder is None:
        return False
    if runtime.startswith("nodejs"):
        return _has_dependencies(folder / "package.json") and not (folder / "node_modules").is_dir()
    if runtime.startswith("ruby"):
        return (folder / "Gemfile").is_file() and not (folder / "vendor").is_dir()
    return runtime.startswith(_COMPILED)


def _find_folder(resource: Resource) -> Path | None:
    """Return the folder of a function's code; None where it is none, or not known."""
    try:
        value = resource.value(CODE_PROPERTIES[resource.kind])
    except UsageError:
        return None
    if value is not None and (not isinstance(value, str) or value.startswith(REMOTE_PREFIXES)):
        return None
    folder = resource.base / (value or ".")
    return folder if folder.is_dir() else None


def _has_dependencies(path: Path) -> bool:
    """Return whether a package.json names packages to install; one that cannot be read may well do so."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return not isinstance(document, dict) or bool(document.get("dependencies"))


def _why_ready(resource: Resource) -> str:
    code = CODE_PROPERTIES[resource.kind]
    if leading_text(resource.raw(code)).startswith(REMOTE_PREFIXES):
        return f"its {code} is in S3"
    value = resource.value(code)
    if isinstance(value, dict):
        return _why_elsewhere(resource, code, value)
    value = value or "."
    if str(value).startswith(REMOTE_PREFIXES):
        return f"its {code} is in S3"
    return f"its {code} is already an archive" if str(value).endswith(_ARCHIVES) else ""


def _why_elsewhere(resource: Resource, code: str, value: dict[str, Any]) -> str:
    if "ZipFile" in value:
        return "its code stands in the template (ZipFile)"
    if "ImageUri" in value:
        return "it is a container image (ImageUri)"
    if not value.keys().isdisjoint({"Bucket", "S3Bucket"}):
        return f"its {code} is in S3"
    raise resource.fault(code, "must be the path of a folder or file", "Name the folder that holds the handler's module.")
