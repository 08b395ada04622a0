"""The variables by which users give their own projects a version that no file states."""

from __future__ import annotations

import re
from collections.abc import Mapping

# setuptools-scm's (and hatch-vcs's), pbr's and pdm-backend's.
_VARIABLES = ("SETUPTOOLS_SCM_PRETEND_VERSION", "PBR_VERSION", "PDM_BUILD_SCM_VERSION")
_FOR = "SETUPTOOLS_SCM_PRETEND_VERSION_FOR_"


def version_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of this kind that are set, sorted by name."""
    return {name: value for name, value in sorted(variables.items()) if name in _VARIABLES or name.startswith(_FOR)}


def variables_for_package(package: str, variables: Mapping[str, str], *, own: bool) -> dict[str, str]:
    """Return the variables for the build of a package: those with its name, and for a project of the user's ``own`` the others.

    Any other source would get a wrong version from them.
    """
    named = _FOR + re.sub(r"[-_.]+", "_", package).upper()
    found = version_variables(variables)
    return {name: value for name, value in found.items() if name == named or (own and name in _VARIABLES)}
