"""Reads a project into a configuration: from its file, from a template with the file beside it, or from a bare folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from builders.runtimes import DEFAULT_ARCHITECTURE, DEFAULT_MEMORY, DEFAULT_RUNTIME, DEFAULT_TIMEOUT, EXEC_WRAPPER
from packer.config.discovery import DISCOVER
from packer.config.execution_table import check_names, check_size
from packer.config.image_table import check_image_names, read_image_options
from packer.config.layer_table import attach_layers, check_patterns, list_layer_files
from packer.config.load import (
    CodePlace,
    Config,
    Overrides,
    function_section,
    load_config,
    lock_path,
    make_function,
    project_section,
    read_remote,
    share_versions,
    wants_sbom,
)
from packer.config.project import CONFIG_NAMES, FOLDER, TEMPLATE, Project
from packer.config.runtime_table import with_runtime_image
from packer.config.section import Section, suggest_names
from packer.config.shape_table import read_shape
from packer.core.errors import UsageError
from packer.core.model import Function
from packer.core.names import DEFAULT_OUT, SAM_CONFIG_NAMES, TEMPLATE_FILE, check_name
from packer.core.options import ExecutionSettings
from packer.source.dependency_files import find_handler, find_requirements

if TYPE_CHECKING:
    from packer.sam.function_reader import TemplateFunction
    from packer.sam.template import Template

_OF_TEMPLATES = ("source", "handler", "runtime", "arch")
"""Keys of a function that its template has in words of its own."""


def read_project(project: Project, overrides: Overrides) -> tuple[Config, Template | None]:
    """Read a configuration, a template, or a folder without either; raises `UsageError`."""
    template = None
    if project.kind == TEMPLATE:
        template = read_project_template(project)
        _check_names(project, template)
        config = _read_template_config(project, template, overrides)
    elif project.kind == FOLDER:
        config = _read_folder(project.path, overrides)
    else:
        config = load_config(project.path, overrides)
    _check_out(config, project)
    check_image_names(config.functions)
    layers = dict.fromkeys(layer for function in config.functions for layer in function.layers.named)
    check_patterns(layers, [function.name for function in config.functions], project.config or project.path)
    return config, template


def read_project_template(project: Project, text: str | None = None) -> Template:
    """Read the template of a project, or another content for it; raises `UsageError`."""
    from packer.sam.template import read_template

    return read_template(project.path, project.parameters, text, names=project.names, base=project.base, config=project.sam)


def _check_names(project: Project, template: Template) -> None:
    """Refuse to build what the template has and lpack leaves as it is; raises `UsageError`."""
    for skipped in template.skipped:
        if skipped.logical_id in project.names:
            what = f"{project.path}: {skipped.logical_id} cannot be built, because {skipped.reason}."
            known = ", ".join(template.names) or "none of this template"
            raise UsageError(what, remedy=f"Name others: lpack can build {known}.")


def _check_out(config: Config, project: Project) -> None:
    """Refuse an output folder that would mix artifacts with the user's own files; raises `UsageError`."""
    out = os.path.realpath(config.out)
    for function in config.functions:
        source = os.path.realpath(function.source)
        if source == out or source.startswith(out + os.sep):
            what = f"The output folder {config.out} is, or holds, the source of {function.name}."
            raise UsageError(what, remedy="Choose another: --out DIR.")
    if project.kind == TEMPLATE and os.path.realpath(config.out / TEMPLATE_FILE) == os.path.realpath(project.path):
        raise UsageError(f"The written template would replace {project.path}.", remedy="Choose another folder: --out DIR.")


def _read_folder(folder: Path, overrides: Overrides) -> Config:
    name = folder.name.replace(".", "-").replace(" ", "-") or "function"
    shape = read_shape(folder, name, (), overrides.shape)
    target = overrides.target((DEFAULT_RUNTIME, "the default"), (DEFAULT_ARCHITECTURE, "the default"))
    function = Function(
        name=check_name(name, str(folder)),
        source=folder,
        handler=find_handler(folder),
        target=with_runtime_image(target, (), folder),
        requirements=find_requirements(folder, None, str(folder)),
        lock_path=lock_path(folder, name),
        trim=shape.trim,
        bytecode=shape.bytecode,
        verify=shape.verify,
        image=read_image_options(folder, (), overrides.shape.format),
    )
    out = overrides.out or Path.cwd() / DEFAULT_OUT
    return Config(root=folder, out=out.absolute(), functions=(function,), sbom=overrides.sbom is not False)


def _read_template_config(project: Project, template: Template, overrides: Overrides) -> Config:
    """Return the functions of a template, with the build settings of the configuration beside it, if any."""
    path = project.path
    section = project_section(project.config) if project.config else Section(file=path, prefix="", table={})
    out = overrides.out or section.file.parent / section.string("out", DEFAULT_OUT)
    return Config(
        root=path.parent,
        out=out.absolute(),
        functions=share_versions(
            section, tuple(_make_template_function(path, section, function, overrides) for function in template.functions)
        ),
        warnings=(*template.warnings, *_warn_of_vain_tables(section, template)),
        # One that appears beside the template counts from then on.
        files=(
            path,
            *(each.path for each in template.nested),
            *([project.config] if project.config else []),
            *([project.sam.path] if project.sam else []),
            *(path.parent / name for name in (*CONFIG_NAMES, *SAM_CONFIG_NAMES)),
        ),
        remote=read_remote(section),
        sbom=wants_sbom(section, overrides),
    )


def _warn_of_vain_tables(project: Section, template: Template) -> Iterator[str]:
    """Return warnings of settings that a template overrides; raises `UsageError` for wrong ones."""
    if DISCOVER in project.table:
        yield f"{project.where(DISCOVER)}: ignored, because the template lists the functions."
    functions = project.section("functions")
    known = template.names
    for name in functions.table:
        section = function_section(project, name)
        vain = [key for key in _OF_TEMPLATES if key in section.table]
        if name in known and vain:
            yield f"{section.where(vain[0])}: ignored, because the template sets {', '.join(vain)} of {name}."
        elif name not in known and "handler" not in section.table:  # with one, it is a function of the configuration's own
            what = "the template has no function of that name that lpack can build."
            yield f"{functions.where(name)}: {what} {suggest_names(name, known)}"


def _make_template_function(path: Path, project: Section, function: TemplateFunction, overrides: Overrides) -> Function:
    where = f"{path}:{function.line}: {function.name}"
    name = check_name(function.name, where)
    made = make_function(
        path.parent,
        project,
        function_section(project, name),
        name=name,
        place=CodePlace(folder=function.source, only=function.only, prefix=function.prefix),
        handler=(function.handler, where),
        target=overrides.target((function.runtime, where), (function.architecture, where)),
        flags=overrides.shape,
        attached=bool(function.attached) or EXEC_WRAPPER in dict(function.environment),
    )
    if function.uncounted is not None and made.layers.wanted:
        raise function.uncounted
    return replace(
        made,
        execution=_execution_settings(made.execution, function, where),
        layers=attach_layers(made.layers, function.attached, where, dict(function.contents)),
    )


def _execution_settings(settings: ExecutionSettings, function: TemplateFunction, where: str) -> ExecutionSettings:
    """Return what the template sets, what the configuration beside it says of all else, and Lambda's defaults of the rest.

    A variable that only the deployment gives a value has its own name for one, unless the configuration knows better. Raises
    `UsageError` for variables that a deployment would be refused for.
    """
    check_names((*dict(function.environment), *function.undecided), f"{where}: Environment.Variables.")
    check_size({**dict.fromkeys(function.undecided, ""), **dict(function.environment)}, f"{where}: Environment.Variables")
    unknown = {name: name for name in function.undecided}
    environment = {**unknown, **dict(settings.environment), **dict(function.environment)}
    return ExecutionSettings(
        memory=function.memory or settings.memory or (DEFAULT_MEMORY if "memory" in function.unset else None),
        timeout=function.timeout or settings.timeout or (DEFAULT_TIMEOUT if "timeout" in function.unset else None),
        storage=function.storage or settings.storage,
        environment=tuple(sorted(environment.items())),
    )


def select_functions(config: Config, project: Project) -> tuple[Function, ...]:
    """Return the functions of a project that were asked for; raises `UsageError` for a name that is not configured."""
    return () if project.nothing_selected else select_named(config, project.names)


def select_named(config: Config, names: tuple[str, ...]) -> tuple[Function, ...]:
    """Return the named functions, or all; raises `UsageError` for a name that is not configured."""
    known = {function.name: function for function in config.functions}
    for name in names:
        if name not in known:
            folder = f" To build the folder of that name, write .{os.sep}{name}." if Path(name).is_dir() else ""
            raise UsageError(f"There is no function {name!r}.", remedy=f"Known are: {', '.join(known)}.{folder}")
    return tuple(function for function in config.functions if not names or function.name in names)


def list_watched_files(config: Config) -> Iterator[str]:
    """Return the paths that decide what is to be built at all, and into which layers."""
    yield from map(str, config.files or (config.root,))
    yield from dict.fromkeys(str(path) for function in config.functions for path in list_layer_files(function.layers))
