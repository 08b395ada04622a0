"""The group of commands; each is imported when it is called, and errors become messages and exit statuses here alone."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from builders.errors import LpackError
from packer import __version__
from packer.cli.terminal import QUIET, make_reporter
from packer.core.errors import ManyErrors

COMMANDS = {
    "affected": "List the functions that what git has changed affects.",
    "baseline": "Write down what functions take, to check later states against.",
    "build": "Build functions into reproducible archives or images, trimmed and proved.",
    "cache": "Show, verify or prune the cache that all projects share.",
    "check": "Check functions against budgets and limits, without building them.",
    "coldstart": "Measure how long functions take to start, untrimmed and built.",
    "completion": "Print a shell's completion script.",
    "diff": "Compare two builds, archives, images or commits by what they hold.",
    "doctor": "Say whether what builds rely on is there, and what would bring it.",
    "graph": "Draw functions, layers and distributions as an SVG picture.",
    "init": "Write a configuration from what a folder holds.",
    "load": "Put built images into the local container engine.",
    "lock": "Write each function's exact versions to pylock.NAME.toml.",
    "plan": "Show which layers functions would share, and what that saves.",
    "profile": "Write down which files functions open, for `build --trim max`.",
    "push": "Push built images to a registry, without a daemon.",
    "report": "Write an HTML report of what was built: one file that needs nothing else.",
    "runtime": "Pull the runtimes' file systems, in which functions are proved.",
    "schema": "Print the JSON Schema of a file, or of what a command prints as JSON.",
    "tree": "Show what functions require, as a tree with bytes.",
    "verify": "Run what was built, with the configured sample events.",
    "why": "Say which requirements bring a package in, and what it costs.",
}
_INTERRUPTED, _SIGNALLED = 130, 128  # 128 + the signal's number, as shells report them
INTERNAL_ERROR = 70
"""The exit status of an internal error (sysexits.h, EX_SOFTWARE)."""
_EPILOG = (
    "Exit status: 0 good, 1 the build failed, 2 wrong usage or configuration, 3 over a budget or a limit of Lambda's, "
    "4 verification failed, 70 an internal error of lpack."
)


class LazyGroup(click.Group):
    """A group whose commands live in one module each, imported only when needed."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"packer.cli.commands.{cmd_name}").command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="lpack", message="%(prog)s %(version)s")
def lpack() -> None:
    """Package Python functions for AWS Lambda.

    Dependencies are resolved for the runtime that will run them, and written to byte-for-byte reproducible archives or images.
    """


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process."""
    # As an exception, so that what runs elsewhere (containers) is stopped too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup has it ignored, and is right
            signal.signal(number, lambda received, _frame: sys.exit(_SIGNALLED + received))
    try:
        status = lpack.main(args=arguments, prog_name="lpack", standalone_mode=False)
    except LpackError as error:
        reporter = make_reporter(QUIET)
        for each in error.errors if isinstance(error, ManyErrors) else (error,):
            reporter.error(str(each))
        sys.exit(error.exit_status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has enough of it. Closing keeps Python from complaining again at exit.
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 whatever it is, it is no fault of the user
        _report_bug(error)
        sys.exit(INTERNAL_ERROR)
    sys.exit(status if isinstance(status, int) else 0)


def _report_bug(error: Exception) -> None:
    """Print the traceback of an internal error, and ask for a report."""
    import platform
    import traceback

    from packer.core.redaction import Redaction

    sys.stderr.write(Redaction().redacted("".join(traceback.format_exception(error))))
    sys.stderr.write(
        f"error: Internal error of lpack {__version__} (Python {platform.python_version()}, {platform.platform()}). "
        "Please report it, with the traceback above and the command that failed.\n"
    )
