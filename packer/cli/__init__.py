"""The command line. This module stays small: it runs on every start, and the help page must not wait for imports."""

from __future__ import annotations

import sys


def main() -> None:
    """Run lpack; ends the process with the designed exit status."""
    if sys.argv[1:] in (["--help"], ["-h"], []):
        # Kept ready because importing click takes longer than starting Python; a test holds it to click's own page.
        from packer.cli.help_page import HELP

        sys.stdout.write(HELP)
        return
    from packer.cli.quick import answer

    answer(sys.argv[1:])
    from packer.cli.app import run

    run()
