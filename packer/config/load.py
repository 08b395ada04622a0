"""Configuration: ``[tool.lpack]`` of a pyproject.toml, or the same keys in lpack.toml, checked at the door.

What is wrong is an error of `packer.config.section`, which names the file and the key's path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from builders.documents import parse_toml, read_text
from builders.runtimes import (
    ARCHITECTURES,
    DEFAULT_ARCHITECTURE,
    DEFAULT_RUNTIME,
    EXEC_WRAPPER,
    LONGEST_HANDLER,
    RUNTIME_DISTRIBUTIONS,
    RUNTIMES,
    Target,
)
from packer.config.budget_table import BUDGET, read_budget
from packer.config.build_table import BUILD_KEYS, PACKAGES, read_build_settings, read_package_settings
from packer.config.discovery import DISCOVER, Discovery, discover
from packer.config.execution_table import EXECUTION_KEYS, read_execution_settings
from packer.config.image_table import IMAGE_KEYS, read_image_options, without_layers
from packer.config.layer_table import LAYER_KEYS, read_layer_options
from packer.config.runtime_table import RUNTIME_IMAGE, with_runtime_image
from packer.config.section import Section, suggest_names
from packer.config.shape_table import SHAPE_KEYS, read_shape
from packer.core.errors import UsageError
from packer.core.model import OWN_SOURCE, RUNTIME_WORD, Function, Requirements
from packer.core.names import DEFAULT_OUT, PYPROJECT_FILE, check_name
from packer.core.options import ShapeFlags
from packer.formats.distribution_names import canonical_name
from packer.source.dependency_files import find_requirements

_SHARED_KEYS = (
    *("runtime", "arch", "glibc", RUNTIME_IMAGE, "exclude", "ignore", "allow", "overlap", BUDGET, "provided"),
    *BUILD_KEYS,
    *SHAPE_KEYS,
    *EXECUTION_KEYS,
    *LAYER_KEYS,
    *IMAGE_KEYS,
    PACKAGES,
)
_PROJECT_KEYS = (*_SHARED_KEYS, "out", "remote", "sbom", "functions", "resolution", DISCOVER)
_FUNCTION_KEYS = (*_SHARED_KEYS, "source", "handler", "requirements", "package", "extras", "groups")
_RESOLUTIONS = ("separate", "shared")
_WRITE_ONCE = 'Write a key once, as a value or as a table: beside [layers.NAME], [layers] with others = "auto" plans the rest.'
_ADD_FUNCTION = "Add a table [functions.NAME], or run `lpack init`."

_IN_PATTERNS = re.compile(r"[][*?!#\\ ]")
_ESCAPED = r"\\\g<0>"
_GLIBC = re.compile(r"2\.([0-9]{1,2})")
_HANDLER = re.compile(r"[A-Za-z_][\w-]*([./][A-Za-z_][\w-]*)*\.[A-Za-z_]\w*")


Setting = tuple[str, str]
"""A value, and the place that it comes from."""


class CodePlace(Struct, frozen=True, kw_only=True):
    """Where the code of a function lies: in the absolute ``folder``, of which the file ``only`` is packed, or all of it.

    It is packed below the folder ``prefix``, which ends in a slash; it is empty where the code lies on top.
    """

    folder: Path
    only: str = ""
    prefix: str = ""

    @property
    def ignore(self) -> tuple[str, ...]:
        """Ignore patterns that leave out of the folder what is not to be packed."""
        return ("/*", f"!/{_IN_PATTERNS.sub(_ESCAPED, self.only)}") if self.only else ()


class Overrides(Struct, frozen=True, kw_only=True):
    """Command-line flags that hold for all functions; None where a flag was not given."""

    runtime: str | None = None
    architecture: str | None = None
    out: Path | None = None
    sbom: bool | None = None
    shape: ShapeFlags = field(default_factory=ShapeFlags)

    def target(self, runtime: Setting, architecture: Setting) -> Target:
        """Return the target that the flags name, or these settings where they name none; raises `UsageError`."""
        return make_target(
            (self.runtime, "--runtime") if self.runtime else runtime,
            (self.architecture, "--arch") if self.architecture else architecture,
        )


class Config(Struct, frozen=True, kw_only=True):
    """What is to be built. ``out`` is absolute; ``warnings`` are for the user, ``notes`` for one who asks for more.

    ``files`` are the files that it was read from, and the folders that were searched for functions. ``remote`` is the address
    of a remote store, empty for none. ``sbom`` says whether bills of materials are written.
    """

    root: Path
    out: Path
    functions: tuple[Function, ...]
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    remote: str = ""
    sbom: bool = True


def load_config(path: Path, overrides: Overrides) -> Config:
    """Read an lpack.toml or pyproject.toml; raises `UsageError`."""
    section = project_section(path)
    root = path.parent.absolute()
    out = (overrides.out or root / section.string("out", DEFAULT_OUT)).absolute()
    found = discover(section, root, out)
    names = tuple(dict.fromkeys((*section.tables("functions"), *found.functions)))
    if not names:
        what = f"{section.where('functions')}: no function is configured."
        remedy = f"Fix {DISCOVER}, or add a table [functions.NAME]." if found.searched else _ADD_FUNCTION
        raise UsageError(what, detail="\n".join((*found.warnings, *found.notes)), remedy=remedy)
    return Config(
        root=root,
        out=out,
        functions=share_versions(section, tuple(_function(root, section, name, found, overrides) for name in names)),
        files=(path.absolute(), *found.searched),
        warnings=found.warnings,
        notes=found.notes,
        remote=read_remote(section),
        sbom=wants_sbom(section, overrides),
    )


def wants_sbom(section: Section, overrides: Overrides) -> bool:
    """Return whether bills of materials are to be written; raises `UsageError`."""
    if overrides.sbom is not None:
        return overrides.sbom
    return section.boolean("sbom") if "sbom" in section.table else True


def read_remote(section: Section) -> str:
    """Return the address of a project's remote store, a path made absolute; raises `UsageError`."""
    remote = section.string("remote")
    return remote if "://" in remote or not remote else str((section.file.parent / Path(remote).expanduser()).absolute())


def project_section(path: Path) -> Section:
    """Read the keys of a project, and check that each is known; raises `UsageError`."""
    document = _read_toml(path)
    tool = document.get("tool", {})
    table = tool.get("lpack") if isinstance(tool, dict) else None
    section = Section(file=path, prefix="", table=document)
    if isinstance(table, dict):
        section = Section(file=path, prefix="tool.lpack", table=table)
    elif path.name == PYPROJECT_FILE:
        raise UsageError(f"{path} has no table [tool.lpack].", remedy="Run `lpack init` to write one, or name another file.")
    section.check_keys(_PROJECT_KEYS)
    return section


def share_versions(project: Section, functions: tuple[Function, ...]) -> tuple[Function, ...]:
    """Tell functions of those whose versions are to agree with theirs, where the project says so; raises `UsageError`."""
    resolution = project.string("resolution", _RESOLUTIONS[0])
    if resolution not in _RESOLUTIONS:
        what = f"{resolution!r} is no way to resolve dependencies"
        raise project.error("resolution", what, suggest_names(resolution, _RESOLUTIONS))
    if resolution == _RESOLUTIONS[0]:
        return functions
    return tuple(replace(function, sharing=functions) for function in functions)


def function_section(project: Section, name: str) -> Section:
    """Return the keys of a function, none where the project has no table for it; raises `UsageError`."""
    functions = project.section("functions")
    table = functions.table.get(name, {})
    if not isinstance(table, dict):
        raise functions.error(name, f"a table is expected, not {table!r}", f"Write [{functions.prefix}.{name}].")
    check_name(name, functions.where(name))
    section = functions.section(name)
    section.check_keys(_FUNCTION_KEYS)
    return section


def make_target(runtime: Setting, architecture: Setting) -> Target:
    """Look a target up; raises `UsageError` that names the place and the nearest runtime or architecture."""
    name, where = runtime
    if name not in RUNTIMES:
        raise UsageError(
            f"{where}: {name!r} is not a Python runtime of Lambda that lpack knows.",
            remedy=suggest_names(name, tuple(RUNTIMES)),
        )
    machine, where = architecture
    if machine not in ARCHITECTURES:
        raise UsageError(
            f"{where}: {machine!r} is not an architecture of Lambda.", remedy=suggest_names(machine, ARCHITECTURES)
        )
    return Target.of(name, machine)


def check_handler(handler: str, where: str, *, anything: bool = False) -> str:
    """Return a handler back if it has the form ``module.function``; raises `UsageError`.

    It may be ``anything`` that Lambda takes where something else than the runtime may make sense of it.
    """
    if anything and len(handler) <= LONGEST_HANDLER and not re.search(r"\s", handler):
        return handler
    if not _HANDLER.fullmatch(handler):
        raise UsageError(
            f"{where}: {handler!r} is not a handler.",
            remedy="Write module.function, such as app.handler for the function `handler` in app.py.",
        )
    return handler


def lock_path(root: Path, function: str) -> Path:
    """Return the place of a function's own lock."""
    return root / f"pylock.{function}.toml"


def _read_toml(path: Path) -> dict[str, Any]:
    text = read_text(path, UsageError, "Name a file that exists, in UTF-8.")
    try:
        return parse_toml(text, path, UsageError, "Fix the file at that place.")
    except UsageError as error:
        if "overwrite" in error.what:
            error.remedy = _WRITE_ONCE
        raise


def _function(root: Path, project: Section, name: str, discovery: Discovery, overrides: Overrides) -> Function:
    section = function_section(project, name)
    found = discovery.functions.get(name)
    if found is None and DISCOVER in project.table and "source" not in section.table:
        nearest = suggest_names(name, tuple(discovery.functions)) if discovery.functions else ""
        what = f"no folder that {DISCOVER} finds has this name, and there is no source"
        raise project.section("functions").error(name, what, f"{nearest} Or name its folder: source.".lstrip())
    source = found.source if found else (root / section.string("source", ".")).absolute()
    if not source.is_dir():
        raise section.error("source", f"there is no folder {source}", "Name the folder that holds the handler's module.")
    handler = section.string("handler", found.handler if found else "")
    if not handler:
        raise section.error("handler", "this key is missing", 'Write handler = "module.function".')
    runtime = _setting("runtime", section, project, DEFAULT_RUNTIME)
    target = overrides.target(runtime, _setting("arch", section, project, DEFAULT_ARCHITECTURE))
    where = section.where("handler")
    return make_function(
        root,
        project,
        section,
        name=name,
        place=CodePlace(folder=source),
        handler=(handler, where),
        target=target,
        flags=overrides.shape,
    )


def make_function(
    root: Path,
    project: Section,
    section: Section,
    *,
    name: str,
    place: CodePlace,
    handler: Setting,
    target: Target,
    flags: ShapeFlags,
    attached: bool = False,
) -> Function:
    """Make a function of what a project and the function's own ``section`` say of how it is built; raises `UsageError`.

    ``attached`` says whether it has layers that these do not name.
    """
    shape = read_shape(root, name, (project, section), flags)
    folder = project.file.parent.absolute()
    layers = read_layer_options(folder, project, section, flags.layers)
    image = read_image_options(folder, (project, section), flags.format)
    execution = read_execution_settings((project, section))
    elsewhere = attached or bool(layers.attached) or EXEC_WRAPPER in dict(execution.environment) or shape.verify.level == "none"
    return Function(
        name=name,
        source=place.folder,
        handler=check_handler(*handler, anything=elsewhere or (place.folder / handler[0]).is_file()),
        target=with_runtime_image(_with_glibc(target, section, project), (project, section), folder),
        requirements=_find_requirements(place, section),
        lock_path=lock_path(root, name),
        prefix=place.prefix,
        exclude=_excluded((*project.strings("exclude"), *section.strings("exclude"))),
        ignore=(*place.ignore, *project.strings("ignore"), *section.strings("ignore")),
        allow=(*project.strings("allow"), *section.strings("allow")),
        overlap=(*_overlap(section), *_overlap(project)),
        budget=read_budget((project, section)),
        provided=tuple(sorted({*project.strings("provided"), *section.strings("provided")})),
        building=read_build_settings((project, section)),
        packages=read_package_settings(project, section),
        trim=shape.trim,
        bytecode=shape.bytecode,
        verify=shape.verify,
        execution=execution,
        layers=without_layers(layers, section) if image.wanted else layers,
        image=image,
    )


def _find_requirements(place: CodePlace, section: Section) -> Requirements | None:
    requirements = section.string("requirements")
    if place.only and not requirements:
        return None  # one file, alone
    return find_requirements(
        place.folder,
        section.file.parent.absolute() / requirements if requirements else None,
        section.where("requirements"),
        package=section.string("package"),
        extras=section.strings("extras"),
        groups=section.strings("groups"),
    )


def _with_glibc(target: Target, function: Section, project: Section) -> Target:
    section = function if "glibc" in function.table else project
    if "glibc" not in section.table:
        return target
    found = _GLIBC.fullmatch(section.string("glibc"))
    if not found:
        what = f"{section.table['glibc']!r} is not a version of glibc 2"
        raise section.error("glibc", what, 'Write that of your own run-time image, such as "2.36".')
    return replace(target, ceiling=int(found[1]))


def _setting(key: str, function: Section, project: Section, default: str) -> Setting:
    """Return what the function says, else the project, with the place that says it."""
    section = function if key in function.table else project
    return section.string(key, default), section.where(key)


def _excluded(words: Iterable[str]) -> tuple[str, ...]:
    names = {canonical_name(word) for word in words}
    return tuple(sorted(names.union(RUNTIME_DISTRIBUTIONS) if RUNTIME_WORD in names else names))


def _overlap(section: Section) -> tuple[tuple[str, str], ...]:
    inner = section.section("overlap")
    return tuple((pattern, _winner(inner.string(pattern))) for pattern in inner.table)


def _winner(name: str) -> str:
    return OWN_SOURCE if name == "source" else canonical_name(name)
