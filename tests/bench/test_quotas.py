"""Parts of a processor: a command is in a group that has its part, and nothing of the group stays."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bench.measure import CommandFailedError
from bench.quotas import quota

GROUPS = Path("/sys/fs/cgroup")


def test_a_whole_processor_needs_no_group():
    with quota("whole", 1.0) as before:
        assert before == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may make control groups")
def test_a_command_and_what_it_starts_share_their_part():
    with quota("half", 0.5) as before:
        command = [*before, "/bin/sh", "-c", 'cat /proc/self/cgroup; exit "$1"', "sh", "3"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        name = f"lpack-bench-{os.getpid()}-half"
        [group] = [path for path in (GROUPS / name, GROUPS / "cpu" / name) if path.is_dir()]
        limits = {path.name: path.read_text().split() for path in group.glob("cpu.*") if path.stat().st_mode & 0o200}
    assert shown.returncode == 3
    assert f"/{name}\n" in shown.stdout
    assert (limits.get("cpu.max") or [*limits["cpu.cfs_quota_us"], *limits["cpu.cfs_period_us"]]) == ["5000", "10000"]
    assert not group.exists()


def test_where_no_group_can_be_made_that_is_said(monkeypatch):
    monkeypatch.setattr("bench.quotas._ROOT", Path("/nowhere"))
    with pytest.raises(CommandFailedError, match="run this as root"), quota("half", 0.5):
        pass
