"""Calls a build back end (PEP 517) in its environment: ``python hooks.py request.json SOURCE WORK``, run by `wheel.py`.

Writes ``WORK/more.json``: what the back end asks for beside the requirements that are installed. Where that is nothing, it
builds the wheel into ``WORK/out``.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

# PEP 517: what a source without a build system means.
_LEGACY = "setuptools.build_meta:__legacy__"


def main(request_path: str, source: str, work: str) -> None:
    """Ask, and build where nothing is missing."""
    del sys.path[0]  # this script's folder: what lies in it is nothing to import
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    backend, config = load(request["backend"], Path(source)), request["config"]
    answer = Path(work, "more.json")
    # Each hook gets a process of its own, as PEP 517 wants it, and the imports of the first serve the second.
    child = os.fork()
    if child == 0:
        hook = getattr(backend, "get_requires_for_build_wheel", None)
        answer.write_text(json.dumps(list(hook(config)) if hook else []), encoding="utf-8")
        sys.stdout.flush()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        sys.exit(status if status > 0 else 1)
    known = {normal(line) for line in request["requires"]}
    more = [line for line in json.loads(answer.read_text(encoding="utf-8")) if normal(line) not in known]
    answer.write_text(json.dumps(more), encoding="utf-8")
    if not more:
        backend.build_wheel(str(Path(work, "out")), config, None)


def load(system: dict[str, Any], source: Path) -> Any:
    """Import the back end that the table [build-system] names."""
    name = system.get("build-backend", _LEGACY)
    # A legacy source imports from its own folder.
    paths = ["."] if name == _LEGACY else system.get("backend-path", [])
    sys.path[:0] = [str(source / each) for each in paths]
    module, _, attributes = name.partition(":")
    found = importlib.import_module(module)
    for attribute in filter(None, attributes.split(".")):
        found = getattr(found, attribute)
    return found


def normal(requirement: str) -> str:
    """Return a requirement without the spaces and capitals that change nothing."""
    return re.sub(r"\s+", "", requirement).lower().replace("_", "-")


if __name__ == "__main__":
    main(*sys.argv[1:])
