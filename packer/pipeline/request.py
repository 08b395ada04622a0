"""What a build is asked for, and the digest of all of that which can change its result."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from packer import __version__
from packer.cache.store import digest_of
from packer.config.image_table import EPOCH_VARIABLE
from packer.config.project import Project
from packer.core.fingerprint import fingerprint
from packer.core.options import ShapeFlags
from packer.core.version_variables import version_variables
from packer.pipeline.state import FunctionState, State
from packer.resolve.uv_settings import relevant_variables

if TYPE_CHECKING:
    from packer.config.load import Overrides


class BuildRequest(Struct, frozen=True, kw_only=True):
    """What is asked of a build.

    ``key`` names the state of the output folder, ``digest`` is that of the version and of every flag and variable that can
    change what is built (`command_digest`). With ``afresh`` nothing that was built before is believed. ``started`` is the
    time of the build's start in nanoseconds since the epoch. With ``strict`` nothing that must be built is left as it is.
    """

    project: Project
    overrides: Overrides
    key: str
    digest: str
    afresh: bool
    started: int
    strict: bool = False

    def known(self, last: State | None) -> Mapping[str, FunctionState]:
        """Return what is remembered of functions, as far as it is of use for this request."""
        return last.functions if last and last.command == self.digest and not self.afresh else {}


def digest_flags(project: Project, flags: Mapping[str, Any], shape: ShapeFlags) -> str:
    """Return `command_digest` of a command's flags, by their names; ``shape`` are those of how functions are shaped."""
    more = [f"{name} {flags[name]}" for name in ("strict", "sbom", "allow_incomplete") if flags.get(name)]
    more += ["no sbom"] if flags.get("sbom") is False else []
    frozen = flags.get("frozen", False)
    return command_digest(project, flags["runtime"], flags["arch"], shape, frozen=frozen, more=more)


def command_digest(
    project: Project, runtime: str | None, arch: str | None, shape: ShapeFlags, *, frozen: bool, more: Sequence[str] = ()
) -> str:
    """Return the digest of the version and of every flag and variable that can change what is built.

    ``more`` are flags that a build alone has, where they were given.
    """
    given = {**(project.sam.parameters if project.sam else {}), **project.parameters}
    parameters = [f"{name}={value}" for name, value in sorted(given.items())]
    variables = (*relevant_variables(os.environ), fingerprint(version_variables(os.environ)))
    named = (
        project.kind,
        str(project.config),
        str(project.base or ""),
        *((str(project.sam.path), project.sam.environment, project.sam.region) if project.sam else ()),
        runtime or "",
        arch or "",
        fingerprint(shape),
        str(frozen),
        *more,
    )
    variables = (*variables, os.environ.get(EPOCH_VARIABLE, ""))
    return digest_of(__version__, *named, *parameters, "", *variables)
