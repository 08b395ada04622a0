"""The house holds: imports go down or stay on their floor, files and functions stay small, and start-up stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST_FILE = 400
LONGEST_FUNCTION = 50

# The one table of floors. A name stands for a module, or for a package with all that is in it; every new file is entered here.
BUILDERS = 0
FLOORS = {
    "builders": BUILDERS,
    **dict.fromkeys(
        ("packer", "packer.model", "packer.errors", "packer.names", "packer.options", "packer.ports", "packer.units"), 1
    ),
    **dict.fromkeys(
        (
            "packer.basepins",
            "packer.budgetconfig",
            "packer.buildconfig",
            "packer.coldstart",
            "packer.compress",
            "packer.config",
            "packer.credentials",
            "packer.discover",
            "packer.discovery",
            "packer.dockerlogin",
            "packer.elf",
            "packer.git",
            "packer.image",
            "packer.imageconfig",
            "packer.intrinsics",
            "packer.layerconfig",
            "packer.localprojects",
            "packer.kinds",
            "packer.line",
            "packer.locks",
            "packer.objects",
            "packer.oci",
            "packer.once",
            "packer.process",
            "packer.remote",
            "packer.packs",
            "packer.pycache",
            "packer.requirements",
            "packer.rules",
            "packer.scan",
            "packer.schemas",
            "packer.section",
            "packer.shapeconfig",
            "packer.settings",
            "packer.store",
            "packer.template",
            "packer.templatefile",
            "packer.upkeep",
            "packer.watch",
            "packer.web",
            "packer.wheel",
            "packer.workspace",
            "packer.zipformat",
            "packer.zipheaders",
        ),
        2,
    ),
    **dict.fromkeys(
        (
            "packer.affected",
            "packer.assemble",
            "packer.blame",
            "packer.baseline",
            "packer.budget",
            "packer.checks",
            "packer.directories",
            "packer.estimate",
            "packer.needs",
            "packer.needsreport",
            "packer.contents",
            "packer.diff",
            "packer.history",
            "packer.keytable",
            "packer.outline",
            "packer.snapshot",
            "packer.imagefiles",
            "packer.reports",
            "packer.metadata",
            "packer.secrets",
            "packer.starts",
            "packer.attempts",
            "packer.bases",
            "packer.build",
            "packer.builtimages",
            "packer.bytecode",
            "packer.choose",
            "packer.conflicts",
            "packer.declared",
            "packer.definitions",
            "packer.doctor",
            "packer.elfcheck",
            "packer.explain",
            "packer.faults",
            "packer.fetch",
            "packer.graph",
            "packer.graphlayout",
            "packer.graphparts",
            "packer.graphstyle",
            "packer.graphtext",
            "packer.handoff",
            "packer.layering",
            "packer.imagelayers",
            "packer.imageplan",
            "packer.imagetrial",
            "packer.imagestart",
            "packer.imaging",
            "packer.inputs",
            "packer.hashes",
            "packer.layercheck",
            "packer.layers",
            "packer.layersearch",
            "packer.layout",
            "packer.loadable",
            "packer.material",
            "packer.manifest",
            "packer.native",
            "packer.obtain",
            "packer.origin",
            "packer.outputs",
            "packer.placing",
            "packer.profile",
            "packer.prove",
            "packer.repair",
            "packer.report",
            "packer.resolve",
            "packer.sbom",
            "packer.scaffold",
            "packer.sharedask",
            "packer.sharedsolve",
            "packer.shape",
            "packer.sharedlibs",
            "packer.source",
            "packer.stale",
            "packer.starter",
            "packer.state",
            "packer.strip",
            "packer.summary",
            "packer.tooling",
            "packer.trim",
            "packer.union",
            "packer.verify",
            "packer.versions",
        ),
        3,
    ),
    **dict.fromkeys(
        (
            "packer.advice",
            "packer.bills",
            "packer.appraise",
            "packer.cluster",
            "packer.gather",
            "packer.imaged",
            "packer.jobs",
            "packer.layered",
            "packer.locking",
            "packer.makelayer",
            "packer.pieces",
            "packer.pipeline",
            "packer.planreport",
            "packer.record",
            "packer.site",
            "packer.trials",
            "packer.workshop",
        ),
        4,
    ),
    **dict.fromkeys(("packer.cli", "packer.ui"), 5),
}

HEAVY = frozenset(
    (
        "requests",
        "rich",
        "ruamel",
        "uv",
        "docker",
        "packaging",
        "pathspec",
        "deflate",
        "elftools",
        "obstore",
        "boto3",
        "distributed",
        "zstandard",
    )
)


def modules() -> Iterator[tuple[str, Path]]:
    """Give every module of both import packages with its file."""
    for package in ("packer", "builders"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def floor_of(name: str) -> int | None:
    """Find a module's floor, or its package's; the top package alone stands for nothing but itself."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in FLOORS and (prefix != "packer" or name == "packer"):
            return FLOORS[prefix]
    return None


def imported_modules(tree: ast.AST, package: str) -> Iterator[str]:
    """Give what a module imports, wherever in it the import stands; a name may be a module or an object in one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imported_neighbours(name: str, path: Path) -> Iterator[str]:
    """Give the modules of this project that a module imports."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for found in imported_modules(parsed(path), package):
        if found.partition(".")[0] in ("packer", "builders"):
            yield found if found in MODULES else found.rpartition(".")[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_floor(name: str) -> None:
    assert floor_of(name) is not None, f"enter {name} in the table FLOORS of tests/test_floors.py"


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name: str) -> None:
    own = floor_of(name)
    assert own is not None
    tilted = {found for found in imported_neighbours(name, MODULES[name]) if (floor_of(found) or 0) > own}
    assert not tilted, f"{name} on floor {own} imports from above: {sorted(tilted)}"


def test_builders_never_import_packer() -> None:
    # Above, floor 0 already says so; this holds even if somebody gives a builder another floor.
    for name, path in MODULES.items():
        if name.startswith("builders"):
            assert not [found for found in imported_neighbours(name, path) if found.startswith("packer")], name


def test_the_import_reader_sees_every_form() -> None:
    source = "import packer.ui\ndef late():\n    from . import pipeline\n    from .cli import app\nfrom packer.ui import x\n"
    found = set(imported_modules(ast.parse(source), "packer"))
    assert found == {"packer.ui", "packer.pipeline", "packer.cli.app", "packer.ui.x"}
    assert set(imported_modules(ast.parse("from ..ui import y"), "packer.cli")) == {"packer.ui.y"}


def code_files() -> list[Path]:
    return [path for room in ("packer", "builders", "tests", "bench") for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize("path", code_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


def imported_by(code: str) -> set[str]:
    """Run code in a Python of its own and give the top-level names of all modules that it imported."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, stdin=subprocess.DEVNULL)
    lines = [line for line in finished.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_imported_by_sees_an_import() -> None:
    assert {"json", "deflate"} <= imported_by("import json, deflate")


@pytest.mark.parametrize(
    "code",
    [
        "import packer.cli",
        "import sys; sys.argv = ['lpack', '--help']; import packer.cli; packer.cli.main()",
        "import packer.cli.app",
        "import packer.model, packer.errors, packer.ports",
        "import packer.cli.build, packer.cli.common",
        "import packer.watch, packer.state",
    ],
)
def test_starting_up_stays_light(code: str) -> None:
    assert not imported_by(code) & HEAVY


def test_the_help_page_needs_no_click() -> None:
    assert "click" not in imported_by("import sys; sys.argv = ['lpack', '--help']; import packer.cli; packer.cli.main()")
