from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bench.measure import CommandFailedError, Sample, measure, tree_of

MEGABYTE = 1_000_000


def _python(program: str, tmp_path: Path, *, watch: bool = True) -> Sample:
    return measure((sys.executable, "-c", program), tmp_path, os.environ, tmp_path / "log", watch=watch)


def test_cpu_seconds_of_children_count(tmp_path: Path) -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(20_000_000))'])"
    idle = _python("import time; time.sleep(0.3)", tmp_path)
    busy = _python(program, tmp_path)
    assert idle.wall >= 0.3
    assert idle.cpu < 0.3
    assert busy.cpu > idle.cpu


def test_memory_is_the_sum_over_the_tree(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "block = b'x' * 80_000_000\n"
        "again = 'import time; block = b\"x\" * 80_000_000; time.sleep(1)'\n"
        "subprocess.run([sys.executable, '-c', again])\n"
    )
    sample = _python(program, tmp_path)
    # The kernel counts what a process has inherited from the tests before it becomes another program.
    inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert sample.largest_process < max(120 * MEGABYTE, inherited + MEGABYTE)
    assert sample.tree_pss > 160 * MEGABYTE
    assert sample.memory >= sample.tree_rss >= sample.tree_pss


def test_without_watching_the_kernels_figure_remains(tmp_path: Path) -> None:
    sample = _python("block = b'x' * 80_000_000", tmp_path, watch=False)
    assert sample.tree_rss == 0
    assert sample.memory == sample.largest_process > 80 * MEGABYTE


def test_samples_add_up(tmp_path: Path) -> None:
    first, second = _python("pass", tmp_path), _python("pass", tmp_path)
    both = first.then(second)
    assert both.wall == first.wall + second.wall
    assert both.memory == max(first.memory, second.memory)
    assert [wall for _, wall in both.steps] == [first.wall, second.wall]


def test_a_failure_shows_the_end_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match=r"status 3:\nthe reason"):
        _python("print('the reason', flush=True); raise SystemExit(3)", tmp_path)


def test_a_missing_program_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match="no-such-program"):
        measure((str(tmp_path / "no-such-program"),), tmp_path, os.environ, tmp_path / "log")


def test_the_tree_holds_grandchildren() -> None:
    program = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(flush=True); import sys; sys.stdin.read()'])"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert len(set(tree_of(process.pid))) == 2
        assert process.pid in set(tree_of(process.pid))
        process.communicate()
