"""The project that a command is about: a configuration file, a template, or a function's folder; found, and not read yet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from builders.documents import read_toml
from packer.cache.signatures import Signature, signature
from packer.core.errors import UsageError
from packer.core.names import CONFIG_FILE, DEFAULT_OUT, PYPROJECT_FILE, SAM_CONFIG_NAMES

if TYPE_CHECKING:
    from packer.sam.samconfig import SamConfig

CONFIG_NAMES = (CONFIG_FILE, PYPROJECT_FILE)
CONFIG, TEMPLATE, FOLDER = "config", "template", "folder"
"""Kinds of projects."""


class Project(Struct, frozen=True, kw_only=True):
    """What the command line points at, not read yet. ``path`` is a configuration file, a template, or a function's folder.

    ``config`` is the configuration of a template's functions, if there is one, and ``base`` the absolute folder that its paths
    of code start from, if that is not its own. ``sam`` is what AWS SAM CLI's configuration beside it says. All functions are
    asked for where ``names`` has none; with ``nothing_selected``, none is.
    """

    kind: str
    path: Path
    config: Path | None = None
    names: tuple[str, ...] = ()
    nothing_selected: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    base: Path | None = None
    sam: SamConfig | None = None

    @property
    def folder(self) -> Path:
        """The folder of its file, or the function's own."""
        return self.path if self.kind == FOLDER else self.path.parent

    def asks_for(self, name: str) -> bool:
        """Return whether a function was asked for."""
        return not self.nothing_selected and (not self.names or name in self.names)


def find_project(
    arguments: Sequence[str],
    config: Path | None,
    template: Path | None,
    parameters: Sequence[str] = (),
    *,
    base: Path | None = None,
    environment: str = "",
    built: str = "",
) -> Project:
    """Return the project that arguments mean, be they function names or a path; raises `UsageError`.

    ``base`` is the folder that a template's paths of code start from, and ``environment`` that of AWS SAM CLI's configuration
    which is to be read. ``built`` is the command, where it works on what was built already.
    """
    templated = _find_template(arguments, config, template, environment)
    if templated is not None:
        path, sam = templated
        return Project(
            kind=TEMPLATE,
            path=path,
            config=config.absolute() if config else _find_config_in(path.parent),
            names=tuple(each.replace("/", "-") for each in arguments),  # SAM CLI writes a slash between stack and function
            parameters=_parse_parameters(parameters),
            base=base.absolute() if base else sam.base if sam else None,
            sam=sam,
        )
    for option, given in (("--parameter", parameters), ("--base-dir", base), ("--config-env", environment)):
        if given:
            raise UsageError(f"{option} needs a template.", remedy="Add --template FILE.")
    if config is not None:
        return Project(kind=CONFIG, path=config.absolute(), names=tuple(arguments))
    if len(arguments) == 1 and _is_path(arguments[0]):
        found = _find_config_above(Path.cwd())
        if found is None or os.sep in arguments[0] or arguments[0] in (".", ".."):
            return _find_at_path(Path(arguments[0]).absolute())
    found = _find_config_above(Path.cwd())
    if found is not None:
        return Project(kind=CONFIG, path=found, names=tuple(arguments))
    if arguments:
        raise UsageError(
            f"There is no folder {arguments[0]}, and no configuration names it.", remedy="Name a folder, or run `lpack init`."
        )
    raise UsageError(
        f"There is no lpack.toml, and no pyproject.toml with [tool.lpack], in {Path.cwd()} or above.",
        remedy=_suggest_remedy(built),
    )


def _find_template(
    arguments: Sequence[str], config: Path | None, template: Path | None, environment: str
) -> tuple[Path, SamConfig | None] | None:
    """Return the absolute path of the template that is meant, and what AWS SAM CLI's configuration says of it.

    Where neither the command line nor a configuration of lpack says what to build, the template counts that AWS SAM CLI's
    configuration in the current folder names.
    """
    if template is not None:
        return template.absolute(), _find_sam_config(template.absolute().parent, environment)
    if config is not None or any(map(_is_path, arguments)) or _find_config_above(Path.cwd()) is not None:
        return None
    sam = _find_sam_config(Path.cwd(), environment)
    return (sam.template, sam) if sam is not None and sam.template is not None else None


def _find_sam_config(folder: Path, environment: str) -> SamConfig | None:
    """Read AWS SAM CLI's configuration in a folder; raises `UsageError`, also where it lacks the environment that was named."""
    from packer.sam.samconfig import find_sam_config, read_sam_config

    found = find_sam_config(folder)
    if found is None and environment:
        what = f"There is no samconfig.toml in {folder}, which --config-env needs"
        raise UsageError(what, remedy="Leave --config-env out, or write the file.")
    return read_sam_config(found, environment) if found else None


def _is_path(argument: str) -> bool:
    return os.sep in argument or Path(argument).is_dir()


def _suggest_remedy(built: str) -> str:
    """Return what to try where no configuration is found; ``built`` as for `find_project`."""
    has_template = Path("template.yaml").is_file()
    if built:
        hint = " Or its template: --template template.yaml." if has_template else ""
        return f"Name what was built as the build did: lpack {built} PATH for a folder, or --config FILE.{hint}"
    hint = " Or build its functions: lpack build --template template.yaml." if has_template else ""
    return f"Run `lpack init` to write one, or name a function's folder: lpack build PATH.{hint}"


def sign_searched_paths(project: Project, arguments: Sequence[str]) -> dict[str, Signature]:
    """Return the signatures of all that decided which project was meant: also of what could appear, and decide otherwise."""
    folders = [project.folder, project.path, *map(Path, arguments)]
    for parent in (Path.cwd(), *Path.cwd().parents):
        folders.append(parent)
        if parent == project.folder:
            break
    paths = [each.absolute() for each in map(Path, arguments)]
    paths += [folder.absolute() / name for folder in folders for name in (*CONFIG_NAMES, *SAM_CONFIG_NAMES)]
    return {str(path): signature(path) for path in dict.fromkeys(paths)}


def _find_at_path(path: Path) -> Project:
    path = Path(os.path.normpath(path))
    if path.is_file():
        return Project(kind=CONFIG, path=path)
    if not path.is_dir():
        raise UsageError(f"There is no folder {path}.", remedy="Name a folder with a handler, or one with a configuration.")
    found = _find_config_in(path)
    return Project(kind=CONFIG, path=found) if found else Project(kind=FOLDER, path=path)


def _find_config_in(folder: Path) -> Path | None:
    for name in CONFIG_NAMES:
        path = folder / name
        if path.is_file() and (name == CONFIG_NAMES[0] or _configures_lpack(path)):
            return path
    return None


def _configures_lpack(path: Path) -> bool:
    data = path.read_bytes()
    if b"lpack" not in data:
        return False  # a plain search first: parsing each pyproject.toml above a folder would cost start-up time
    tool = read_toml(path, UsageError, "Fix the file at that place.").get("tool", {})
    return isinstance(tool, dict) and "lpack" in tool


def _find_config_above(folder: Path) -> Path | None:
    for parent in (folder, *folder.parents):
        found = _find_config_in(parent)
        if found is not None:
            return found
    return None


def _parse_parameters(words: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise UsageError(f"--parameter {word!r} is not of the form NAME=VALUE.", remedy="Write --parameter Stage=prod.")
        given[name] = value
    return given


def find_output_folder(project: Project, out: Path | None) -> Path | None:
    """Return the output folder as far as no configuration decides it."""
    if out is None and project.kind == FOLDER:
        return Path.cwd() / DEFAULT_OUT
    return out.absolute() if out else None
