"""The row of the runtimes' file systems: what was not pulled is pulled only where the configuration says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from builders.errors import UnavailableError
from builders.runtimes import ARCHITECTURES, RuntimeImage, Target
from packer.cache.local import LocalStore
from packer.core.errors import RegistryError
from packer.verify.runtime_kind import open_runtime_sandbox, runtime_kind
from tests.shaped import ARCHITECTURE, RUNTIME

TARGET = Target.of(RUNTIME, ARCHITECTURE)


def anew(_key, _form, find):
    return find()


@pytest.mark.parametrize("allowed", [False, True])
def test_it_is_pulled_where_the_configuration_allows_that(tmp_path: Path, allowed: bool) -> None:
    pulled: list[Target] = []
    target = replace(TARGET, image=RuntimeImage(pull=allowed))
    with pytest.raises(UnavailableError, match="was not pulled") as caught:
        open_runtime_sandbox(target, LocalStore(tmp_path), anew, pulled.append)
    assert pulled == [target] * allowed
    assert f"`lpack runtime pull {RUNTIME} --arch {ARCHITECTURE}`" in caught.value.remedy


def test_pull_that_fails_leaves_the_place_to_the_next_kind_with_the_reason(tmp_path: Path) -> None:
    def fail(_target: Target) -> None:
        raise RegistryError("The registry is away.", remedy="Check the network.")

    target = replace(TARGET, image=RuntimeImage(pull=True))
    with pytest.raises(UnavailableError) as caught:
        open_runtime_sandbox(target, LocalStore(tmp_path), anew, fail)
    assert (caught.value.what, caught.value.remedy) == ("The registry is away", "Check the network.")


def test_nothing_runs_on_another_system_or_for_another_machine_without_emulation(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("builders.rootfs.emulation.is_emulated", lambda *_: False)
    other = Target.of(RUNTIME, next(each for each in ARCHITECTURES if each != ARCHITECTURE))
    row = runtime_kind(LocalStore(tmp_path), anew, None)
    assert (row.runs(TARGET), row.runs(other)) == (True, False)
    with pytest.raises(UnavailableError, match="runs no programs of Linux"):
        row.open(other, False)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert not row.runs(TARGET)
