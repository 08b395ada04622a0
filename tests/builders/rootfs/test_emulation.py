"""Emulators that the kernel knows of, as binfmt_misc lists them."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from builders.rootfs.emulation import is_emulated, runs_programs
from builders.runtimes import MACHINES

ARM64 = """\
enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: PF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""


@pytest.mark.parametrize(
    ("rule", "emulated"),
    [
        (ARM64, True),
        (ARM64.replace("enabled", "disabled"), False),
        (ARM64.replace("PF", "POC"), False),  # the emulator would have to lie in the other root folder
        (ARM64.replace("b700", "2800"), False),  # 32-bit ARM
        (ARM64.replace("7f454c46", "cafebabe"), False),
        (ARM64.replace("magic 7f", "magic zz"), False),
        ("enabled\n", False),
    ],
)
def test_an_emulator_counts_that_the_kernel_has_open(tmp_path: Path, rule: str, emulated: bool) -> None:
    (tmp_path / "qemu-aarch64").write_text(rule)
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "register").touch(0o200)
    assert is_emulated("arm64", tmp_path) == emulated
    assert not is_emulated("x86_64", tmp_path)


def test_the_machine_runs_its_own_programs_without_an_emulator(tmp_path: Path) -> None:
    assert runs_programs(MACHINES[platform.machine()], tmp_path / "absent")
    assert not is_emulated("arm64", tmp_path / "absent")
