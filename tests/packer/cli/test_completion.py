"""`lpack completion`, as shells use what it prints."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from packer.cli import COMPLETE_VARIABLE
from packer.cli.app import COMMANDS
from packer.cli.help_page import HELP

BIN = Path(sys.executable).parent
_LONGEST = 30  # seconds that a shell may take to complete a word


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **more}


def _completed(words: str, *, word: int, by: str) -> list[str]:
    """Return what lpack answers a shell's completion function, which asks in these variables and gives no arguments."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(word), COMPLETE_VARIABLE: f"{by}_complete"}
    if by == "fish":  # its script gives the word itself (click.shell_completion)
        asked["COMP_CWORD"] = words.rpartition(" ")[2]
    finished = subprocess.run(["lpack"], env=_environment(**asked), capture_output=True, text=True, check=True)
    return finished.stdout.splitlines()


def _typed_in_bash(folder: Path, keys: str, wanted: str) -> str:
    """Return what an interactive bash shows for these keys, until it shows what is wanted or too much time has passed."""
    terminal, inside = pty.openpty()
    streams: dict[str, Any] = {"stdin": inside, "stdout": inside, "stderr": inside, "start_new_session": True}
    environment = _environment(PS1="$ ", TERM="dumb", INPUTRC="/dev/null")
    shown = ""
    end = time.monotonic() + _LONGEST
    with subprocess.Popen(["bash", "--norc", "--noprofile", "-i"], cwd=folder, env=environment, **streams) as bash:
        os.close(inside)
        try:
            os.write(terminal, f'eval "$(lpack completion bash)"\n{keys}'.encode())
            while wanted not in shown and time.monotonic() < end:
                if select.select([terminal], [], [], 0.2)[0]:
                    shown += re.sub(r"[\a\r]", "", os.read(terminal, 65536).decode())
        finally:
            bash.kill()
            os.close(terminal)
    return shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_asks_with_the_variable_that_lpack_reads(tmp_path, lpack, shell):
    finished = lpack("completion", shell, cwd=tmp_path)
    assert finished.returncode == 0
    assert f"{COMPLETE_VARIABLE}={shell}_complete" in finished.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=finished.stdout, text=True, check=True)


def test_tab_in_bash_completes_a_command(tmp_path):
    assert "lpack coldstart" in _typed_in_bash(tmp_path, "lpack cold\t", "lpack coldstart")


def test_tab_in_bash_completes_an_option(tmp_path):
    assert "lpack build --changed-since" in _typed_in_bash(tmp_path, "lpack build --chan\t", "--changed-since")


def test_tab_in_bash_completes_a_choice(tmp_path):
    assert "--bytecode beside" in _typed_in_bash(tmp_path, "lpack build --bytecode bes\t", "--bytecode beside")


def test_tab_in_bash_completes_a_file(tmp_path):
    (tmp_path / "staging.toml").write_text("")
    assert "--config staging.toml" in _typed_in_bash(tmp_path, "lpack build --config stag\t", "--config staging.toml")


def test_every_command_is_completed():
    assert _completed("lpack ", word=1, by="bash") == [f"plain,{name}" for name in COMMANDS]


def test_each_shell_is_answered_in_its_form():
    help_begins = COMMANDS["doctor"][:20]
    assert _completed("lpack do", word=1, by="bash") == ["plain,doctor"]
    kind, name, told = _completed("lpack do", word=1, by="zsh")
    assert (kind, name, told[:20]) == ("plain", "doctor", help_begins)
    [line] = _completed("lpack do", word=1, by="fish")
    assert line.startswith(f"plain,doctor\t{help_begins}")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_can_be_had_from_the_variable_too(tmp_path, lpack, shell):
    finished = subprocess.run(
        ["lpack"], env=_environment(**{COMPLETE_VARIABLE: f"{shell}_source"}), capture_output=True, text=True, check=True
    )
    assert finished.stdout == lpack("completion", shell, cwd=tmp_path).stdout


def test_empty_variable_completes_nothing():
    finished = subprocess.run(
        ["lpack"], env=_environment(**{COMPLETE_VARIABLE: ""}), capture_output=True, text=True, check=True
    )
    assert finished.stdout == HELP
