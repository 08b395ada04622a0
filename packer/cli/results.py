"""Prints what `lpack build` has built: the manifest, or a table."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from packer.manifest import make_manifest, write_manifest
from packer.names import TEMPLATE_FILE
from packer.state import FunctionState, State
from packer.units import size_text


def print_results(state: State, chosen: Mapping[str, FunctionState], changed: Collection[str], *, as_json: bool) -> None:
    """Print the chosen functions with their layers; ``changed`` are those that were built now."""
    template = TEMPLATE_FILE if any(path.endswith(os.sep + TEMPLATE_FILE) for path in state.outputs) else ""
    manifest = make_manifest({name: each.report for name, each in chosen.items()}, template)
    if as_json:
        sys.stdout.write(write_manifest(manifest).decode())
        return
    out = Path(next(iter(state.outputs))).parent
    shown = os.path.relpath(out)
    place = out if shown.startswith("..") else Path(shown)
    width = max(map(len, chosen), default=0)
    for name, each in chosen.items():
        report = each.report
        where = f"{report['runtime']} {report['architecture']:<6}"
        done = "built" if name in changed else "unchanged"
        held = len(report.get("layers", ())) + len(report.get("attached", ()))
        total = report["artifact"]["unzipped_bytes"] + sum(each["unzipped_bytes"] for each in report.get("layers", {}).values())
        layers = f"  with {held} layer{'' if held == 1 else 's'}: {size_text(total)} unzipped" if held else ""
        sys.stdout.write(
            f"{name:<{width}}  {where}  {_sizes(report['artifact'])}  {done:<9}  {place / report['artifact']['path']}{layers}\n"
        )
    for layer in manifest.get("layers", {}).values():
        sys.stdout.write(f"{_sizes(layer)}  layer of {', '.join(layer['functions'])}  {place / layer['path']}\n")


def _sizes(artifact: Mapping[str, Any]) -> str:
    key, word = ("zip_bytes", "zipped") if "zip_bytes" in artifact else ("stored_bytes", "stored")  # of an image's own layers
    return f"{size_text(artifact[key]):>9} {word}  {size_text(artifact['unzipped_bytes']):>9} unzipped"
