"""`lpack profile`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from packer.cli.common import open_reporter, open_store, project_options
from packer.cli.trials import open_trials
from packer.core.units import format_size

if TYPE_CHECKING:
    from packer.trim.material import Material
    from packer.trim.profile import Profile
    from packer.verify.candidates import Candidate

_SHOWN = 5


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…|PATH]")
@project_options
def command(*, names: tuple[str, ...], verbose: bool, quiet: bool, **flags: Any) -> None:
    """Write down which files functions open, for `build --trim max`.

    Each handler is imported and gets its sample events (verify = { events = [...] }), once, in the target's own Python, out of
    one package without layers. What is opened of its distributions goes to lpack-profile.NAME.toml beside the configuration:
    review it, and commit it. Level max removes the rest, and leaves stubs that say so when they are imported.
    """
    from packer.cache.store import replace_file
    from packer.trim.profile import profile_text

    with open_reporter(verbose, quiet) as reporter, open_trials(open_store(), reporter, names, flags) as (trials, functions):
        for function in functions:
            if not function.verify.events:
                reporter.warn(f"{function.name} has no sample events: only what its import opens is seen.")
            profile, material, candidate = trials.profile(function, reporter.warn)
            path = function.trim.profile
            assert path is not None  # noqa: S101 every configured function has one
            replace_file(path, profile_text(profile))
            sys.stdout.write(f"written    {os.path.relpath(path)}: {_summarize_profile(profile, material, candidate)}\n")


def _summarize_profile(profile: Profile, material: Material, candidate: Candidate) -> str:
    """Return what level max would remove beyond safe trimming, in one line."""
    from packer.trim.profile import apply_profile

    versions = {each.name: each.version for each in material.distributions}
    _, removed = apply_profile(candidate.shaped.parts, profile, versions, (), material.function.trim.keep)
    gone: dict[str, int] = {}
    for each in removed:
        gone[each.owner] = gone.get(each.owner, 0) + each.size
    largest = sorted(gone.items(), key=lambda item: -item[1])[:_SHOWN]
    opened = sum(map(len, profile.opened.values()))
    named = ", ".join(f"{name} {format_size(size)}" for name, size in largest)
    return f"{opened} files opened; the others have {format_size(sum(gone.values()))} ({named or 'nothing'})"
