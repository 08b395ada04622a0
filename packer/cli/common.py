"""What several commands share: options, finding the project, and picking the concrete parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import Struct, field

from builders.runtimes import ARCHITECTURES, RUNTIMES, WARN_BEFORE
from packer.cache.local import LocalStore, store_folder
from packer.cache.signatures import Signature, signature
from packer.cache.store import Store
from packer.cli.terminal import NORMAL, QUIET, VERBOSE, LineReporter, make_reporter
from packer.core.errors import UsageError
from packer.core.names import CONFIG_FILE, PROJECT_FILE
from packer.core.options import BYTECODE_MODES, TRIM_CHOICES

Command = TypeVar("Command", bound=Callable[..., Any])

CONFIG_NAMES = (CONFIG_FILE, PROJECT_FILE)
CONFIG, TEMPLATE, FOLDER = "config", "template", "folder"
"""Kinds of projects."""


def place_options(command: Command) -> Command:
    """Add the options that say where the functions are configured."""
    file = click.Path(path_type=Path)
    options = (
        click.option("--config", type=file, metavar="FILE", help="Configuration: an lpack.toml or pyproject.toml."),
        click.option("--template", type=file, metavar="FILE", help="AWS SAM template to take the functions from."),
        click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter of the template."),
    )
    return _with(options, command)


def message_options(command: Command) -> Command:
    """Add the options that say how much is told."""
    options = (
        click.option("-v", "--verbose", is_flag=True, help="Say more."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors and results."),
    )
    return _with(options, command)


def project_options(command: Command) -> Command:
    """Add the options that say what to build."""
    options = (
        click.option("--runtime", metavar="|".join(RUNTIMES), help="Build for this runtime, whatever is configured."),
        click.option("--arch", metavar="|".join(ARCHITECTURES), help="Build for this architecture, whatever is configured."),
        click.option("--offline", is_flag=True, help="Never touch the network."),
        click.option("--upgrade", is_flag=True, help="Resolve to the newest versions, not those resolved before."),
    )
    return place_options(_with(options, message_options(command)))


def shape_options(command: Command) -> Command:
    """Add the options that say how functions are trimmed and compiled."""
    trim = click.Choice(TRIM_CHOICES)
    options = (
        click.option("--trim", type=trim, help="What to remove (default: safe; auto keeps what turns out to be needed)."),
        click.option("--bytecode", type=click.Choice(BYTECODE_MODES), help="Where bytecode goes (default: auto)."),
    )
    return _with(options, command)


def _with(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


class Project(Struct, frozen=True, kw_only=True):
    """What the command line points at, not read yet. ``path`` is a configuration file, a template, or a function's folder.

    ``config`` is the configuration of a template's functions, if there is one. All functions are asked for where ``names`` has
    none, but with ``nobody``.
    """

    kind: str
    path: Path
    config: Path | None = None
    names: tuple[str, ...] = ()
    nobody: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of its file, or the function's own."""
        return self.path if self.kind == FOLDER else self.path.parent

    def asks_for(self, name: str) -> bool:
        """Say whether a function was asked for."""
        return not self.nobody and (not self.names or name in self.names)


def find_project(
    arguments: Sequence[str],
    config: Path | None,
    template: Path | None,
    parameters: Sequence[str] = (),
    *,
    built: str = "",
) -> Project:
    """Tell function names from a path, and find the configuration; raises `UsageError`.

    ``built`` is the command, where it works on what was built already.
    """
    if template is not None:
        return Project(
            kind=TEMPLATE,
            path=template.absolute(),
            config=config.absolute() if config else _config_in(template.absolute().parent),
            names=tuple(arguments),
            parameters=_parameters(parameters),
        )
    if parameters:
        raise UsageError("--parameter needs a template.", remedy="Add --template FILE.")
    if config is not None:
        return Project(kind=CONFIG, path=config.absolute(), names=tuple(arguments))
    if len(arguments) == 1 and (os.sep in arguments[0] or Path(arguments[0]).is_dir()):
        found = _config_above(Path.cwd())
        if found is None or os.sep in arguments[0] or arguments[0] in (".", ".."):
            return _of_path(Path(arguments[0]).absolute())
    found = _config_above(Path.cwd())
    if found is not None:
        return Project(kind=CONFIG, path=found, names=tuple(arguments))
    if arguments:
        raise UsageError(
            f"{arguments[0]} is no folder, and no configuration names it.", remedy="Name a folder, or run `lpack init`."
        )
    raise UsageError(
        f"There is no lpack.toml, and no pyproject.toml with [tool.lpack], in {Path.cwd()} or above.", remedy=_way_out(built)
    )


def _way_out(built: str) -> str:
    """Say what to do where no configuration is found; ``built`` as for `find_project`."""
    has_template = Path("template.yaml").is_file()
    if built:
        hint = " Or its template: --template template.yaml." if has_template else ""
        return f"Name what was built as the build did: lpack {built} PATH for a folder, or --config FILE.{hint}"
    hint = " Or build its functions: lpack build --template template.yaml." if has_template else ""
    return f"Run `lpack init` to write one, or name a function's folder: lpack build PATH.{hint}"


def looked_for(project: Project, arguments: Sequence[str]) -> dict[str, Signature]:
    """Give the signatures of all that decided which project was meant: also of what could appear, and decide otherwise."""
    folders = [project.folder, project.path, *map(Path, arguments)]
    for parent in (Path.cwd(), *Path.cwd().parents):
        folders.append(parent)
        if parent == project.folder:
            break
    paths = [each.absolute() for each in map(Path, arguments)]
    paths += [folder.absolute() / name for folder in folders for name in CONFIG_NAMES]
    return {str(path): signature(path) for path in dict.fromkeys(paths)}


def _of_path(path: Path) -> Project:
    path = Path(os.path.normpath(path))
    if path.is_file():
        return Project(kind=CONFIG, path=path)
    if not path.is_dir():
        raise UsageError(f"There is no folder {path}.", remedy="Name a folder with a handler, or one with a configuration.")
    found = _config_in(path)
    return Project(kind=CONFIG, path=found) if found else Project(kind=FOLDER, path=path)


def _config_in(folder: Path) -> Path | None:
    for name in CONFIG_NAMES:
        path = folder / name
        if path.is_file() and (name == CONFIG_NAMES[0] or _configures_lpack(path)):
            return path
    return None


def _configures_lpack(path: Path) -> bool:
    data = path.read_bytes()
    if b"lpack" not in data:
        return False  # a plain search first: parsing each pyproject.toml above a folder would cost start-up time
    import tomllib

    try:
        tool = tomllib.loads(data.decode()).get("tool", {})
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.", remedy="Mend the file at that place.") from error
    return isinstance(tool, dict) and "lpack" in tool


def _config_above(folder: Path) -> Path | None:
    for parent in (folder, *folder.parents):
        found = _config_in(parent)
        if found is not None:
            return found
    return None


def _parameters(words: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise UsageError(f"--parameter {word!r} is not of the form NAME=VALUE.", remedy="Write --parameter Stage=prod.")
        given[name] = value
    return given


def verbosity(verbose: bool, quiet: bool) -> int:
    """Give how much to say."""
    return QUIET if quiet else VERBOSE if verbose else NORMAL


@contextmanager
def reporting(verbose: bool, quiet: bool) -> Iterator[LineReporter]:
    """Give the reporter for this command, and put the terminal in order at the end."""
    with make_reporter(verbosity(verbose, quiet)) as reporter:
        yield reporter


def open_store() -> Store:
    """Give the user's store."""
    return LocalStore(store_folder())


def warn_of_runtimes(names: Collection[str], reporter: LineReporter) -> None:
    """Warn of runtimes that are deprecated, or will be soon."""
    from datetime import UTC, datetime

    today = datetime.now(UTC).date()
    for runtime in (RUNTIMES[name] for name in sorted(names)):
        if today >= runtime.deprecated:
            reporter.warn(
                f"{runtime.name} is deprecated since {runtime.deprecated}: creating functions is blocked from "
                f"{runtime.create_blocked}, updating them from {runtime.update_blocked}."
            )
        elif today + WARN_BEFORE >= runtime.deprecated:
            reporter.warn(f"{runtime.name} will be deprecated on {runtime.deprecated}.")
