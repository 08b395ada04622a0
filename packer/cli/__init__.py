"""The command line: parses flags, picks the concrete classes, prints results; errors become exit statuses here.

May import: everything.
To add an option that commands share: `common`.
"""

from __future__ import annotations

import gc
import os
import sys

COMPLETE_VARIABLE = "_LPACK_COMPLETE"
"""Set by a shell's completion function, which calls lpack without arguments (click documentation, "Shell Completion")."""
_ALLOCATIONS = 50_000
"""Objects that are made, and not freed, before Python looks for cycles among the young ones (its default is 700)."""


def main() -> None:
    """Run lpack; ends the process with the designed exit status."""
    completes = bool(os.environ.get(COMPLETE_VARIABLE))
    if not completes and sys.argv[1:] in (["--help"], ["-h"], []):
        # Kept ready because importing click takes longer than starting Python; a test holds it to click's own page.
        from packer.cli.help_page import HELP

        sys.stdout.write(HELP)
        return
    if not completes:
        from packer.cli.answer_cache import answer

        answer(sys.argv[1:])
    # What a command holds, it holds to its end: looking through it again and again for cycles was a tenth of its time.
    gc.set_threshold(_ALLOCATIONS)
    from packer.cli.app import run

    run()
