"""Messages and progress on standard error: bars on a terminal, plain lines elsewhere, nothing but errors when quiet."""

from __future__ import annotations

import os
import sys
import time
from threading import Lock
from typing import TYPE_CHECKING, Self, TextIO

from packer.core.events import Reporter
from packer.core.redaction import escape_controls
from packer.core.units import format_size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET, NORMAL, VERBOSE = -1, 0, 1
_TOLD = 2
_LABEL = 40  # characters of a line for the name of what is downloaded
_STYLES = {"error": "1;31", "warning": "33", "note": "2", "debug": "2"}


def make_reporter(verbosity: int) -> LineReporter:
    """Return the reporter for standard error as it is: a terminal gets bars."""
    plain = verbosity == QUIET or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb"
    return LineReporter(sys.stderr, verbosity) if plain else BarReporter(sys.stderr, verbosity)


class LineReporter(Reporter):
    """Writes one line for each message, and for each download when it is complete."""

    def __init__(self, stream: TextIO, verbosity: int) -> None:
        self._stream = stream
        self._verbosity = verbosity
        # https://no-color.org: any value that is not empty.
        self._colour = stream.isatty() and not os.environ.get("NO_COLOR")
        self._annotates = os.environ.get("GITHUB_ACTIONS") == "true"
        self._lock = Lock()
        self._said: set[str] = set()
        self._doing: dict[str, str] = {}
        self._received: dict[str, int] = {}
        self._partial: dict[str, str] = {}
        self.told = ""
        """All messages that were shown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def error(self, message: str) -> None:
        """Show what made the command fail, even when quiet."""
        self._write_message("error", message)

    def warn(self, message: str) -> None:
        if self._verbosity > QUIET:
            self._write_message("warning", message)

    def note(self, message: str) -> None:
        if self._verbosity > QUIET:
            self._write_message("note", message)

    def debug(self, message: str) -> None:
        if self._verbosity >= VERBOSE:
            self._write_message("debug", message)

    def stage(self, function: str, name: str) -> None:
        self.debug(f"{function}: {name}")

    def output(self, name: str, text: str) -> None:
        if self._verbosity < VERBOSE:
            return
        with self._lock:
            *lines, self._partial[name] = (self._partial.get(name, "") + text).split("\n")
            for line in lines:
                self._write(f"{name}: {escape_controls(line.rstrip())}")

    def transfer_started(self, name: str, size: int | None, doing: str = "download") -> None:
        self._doing[name] = doing
        self.debug(f"{doing}ing {name}" + (f" ({format_size(size)})" if size else ""))

    def transfer_advanced(self, name: str, received: int) -> None:
        self._received[name] = received

    def transfer_ended(self, name: str, *, complete: bool = True) -> None:
        doing, received = self._doing.pop(name, "download"), format_size(self._received.pop(name, 0))
        if complete:
            self.note(f"{doing}ed {name} ({received})")
        else:
            self.debug(f"the {doing} of {name} ended after {received}")

    def _write_message(self, kind: str, message: str) -> None:
        with self._lock:
            if message in self._said:
                return  # many functions may find the same thing
            self._said.add(message)
            self._write(self.style(kind, message))

    def style(self, kind: str, message: str) -> str:
        """Return a message as it is shown; ``kind`` is error, warning, note or debug."""
        message = escape_controls(message)  # file names, and what other programs say, may have any
        style = _STYLES[kind] if self._colour else ""
        if self._annotates and kind in ("error", "warning"):
            return f"::{kind} title=lpack::{_escape_for_github(message)}"
        label = "" if kind in ("note", "debug") else f"{kind}: "
        text = f"{label}{message}"
        return f"\x1b[{style}m{text}\x1b[0m" if style else text

    def _write(self, text: str) -> None:
        self.told += f"{text}\n"
        self._show(text)

    def _show(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


def _escape_for_github(message: str) -> str:
    """Write a message as a workflow command has it (GitHub documentation, "Workflow commands")."""
    return message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _shorten_name(filename: str) -> str:
    """Return a wheel's name and version: with all its tags the name would leave no room for the bar."""
    return " ".join(filename.split("-")[:2]) if filename.endswith(".whl") else filename


_SOON = 0.5
"""Seconds after which somebody who waits wants to know for what."""
_ENDED = ("done", "unchanged")


class BarReporter(LineReporter):
    """Shows at the bottom of the terminal what is being done, and running downloads as bars.

    rich is loaded when there is something to wait for.
    """

    def __init__(self, stream: TextIO, verbosity: int) -> None:
        super().__init__(stream, verbosity)
        self._progress: Progress | None = None
        self._expected = 0
        self._stages: dict[str, str] = {}
        self._status: TaskID | None = None
        self._began = time.monotonic()
        self._tasks: dict[str, TaskID] = {}
        self._bars = Lock()

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def expect(self, functions: int) -> None:
        with self._bars:
            self._expected = functions
            self._began = time.monotonic()

    def stage(self, function: str, name: str) -> None:
        super().stage(function, name)
        with self._bars:
            self._stages[function] = name
            if self._expected and (self._progress is not None or time.monotonic() - self._began > _SOON):
                progress, doing = self._open_progress(), self._describe_stages()
                if self._status is None:
                    self._status = progress.add_task(doing, total=self._expected, status=True)
                done = sum(each in _ENDED for each in self._stages.values())
                progress.update(self._status, completed=done, description=doing)

    def _describe_stages(self) -> str:
        """Return one line with the stages of the functions that are not done yet."""
        doing = [f"{name} {function}" for function, name in self._stages.items() if name not in _ENDED]
        more = f", and {len(doing) - _TOLD} more" if len(doing) > _TOLD else ""
        return ", ".join(doing[:_TOLD]) + more

    def transfer_started(self, name: str, size: int | None, doing: str = "download") -> None:  # noqa: ARG002 its bar says it
        with self._bars:
            self._tasks[name] = self._open_progress().add_task(_shorten_name(name), total=size)

    def transfer_advanced(self, name: str, received: int) -> None:
        with self._bars:
            if name in self._tasks:
                self._open_progress().update(self._tasks[name], completed=received)

    def transfer_ended(self, name: str, *, complete: bool = True) -> None:  # noqa: ARG002 its bar goes in any case
        with self._bars:
            task = self._tasks.pop(name, None)
            if task is not None:
                self._open_progress().remove_task(task)

    def _open_progress(self) -> Progress:
        if self._progress is None:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, Task, TextColumn, TransferSpeedColumn
            from rich.table import Column
            from rich.text import Text

            class Amount(DownloadColumn):
                """Shows bytes, and functions where a task is about these."""

                def render(self, task: Task) -> Text:
                    if task.fields.get("status"):
                        return Text(f"{task.completed:.0f} of {task.total or 0:.0f} functions")
                    return super().render(task)

            class Speed(TransferSpeedColumn):
                """Shows bytes a second, and nothing for functions."""

                def render(self, task: Task) -> Text:
                    return Text("") if task.fields.get("status") else super().render(task)

            console = Console(file=self._stream, highlight=False, soft_wrap=True)
            label = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=_LABEL))
            columns = (label, BarColumn(bar_width=None), Amount(), Speed())
            self._progress = Progress(*columns, console=console, transient=True)
            self._progress.start()
        return self._progress

    def _show(self, text: str) -> None:
        if self._progress is not None:
            from rich.text import Text

            self._progress.console.print(Text.from_ansi(text))
        else:
            super()._show(text)
