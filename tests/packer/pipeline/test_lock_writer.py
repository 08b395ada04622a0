"""Locks that are written together: every error is reported, and the lock of bases goes with the last of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from builders.runtimes import RuntimeImage, Target
from packer.core.errors import ManyErrors, ResolveError
from packer.core.events import Reporter
from packer.core.model import Function, Requirements
from packer.core.options import ImageOptions
from packer.locks.base_pins import PINS_FILE, pins_text, read_pins
from packer.pipeline.lock_writer import lock_all, lock_bases, lock_runtimes


def function(folder: Path, name: str) -> Function:
    path = folder / "requirements.txt"
    path.write_text("alpha\n")
    return Function(
        name=name,
        source=folder,
        handler="app.handler",
        target=Target.of("python3.12", "x86_64"),
        requirements=Requirements(path=path, kind="requirements"),
        lock_path=folder / f"pylock.{name}.toml",
        image=ImageOptions(root=folder),
    )


class FailingResolver:
    """Resolves only the function ``good``."""

    def lock_text(self, wanted: Function) -> str:
        if wanted.name != "good":
            raise ResolveError(f"{wanted.name} cannot be resolved.")
        return "a lock"


def test_all_functions_that_cannot_be_resolved_are_reported_and_nothing_is_written(tmp_path: Path) -> None:
    resolver: Any = FailingResolver()
    with pytest.raises(ManyErrors) as caught:
        lock_all([function(tmp_path, name) for name in ("one", "good", "two")], resolver, Reporter())
    assert [each.what for each in caught.value.errors] == ["one cannot be resolved.", "two cannot be resolved."]
    assert not list(tmp_path.glob("pylock.*"))
    good = function(tmp_path, "good")
    assert lock_all([good], resolver, Reporter()) == {good.lock_path: True}
    assert lock_all([good], resolver, Reporter()) == {good.lock_path: False}


def test_lock_of_bases_that_another_configuration_may_use_is_left(tmp_path: Path) -> None:
    class Imaging:
        def pin(self, _function: Function) -> dict[tuple[str, str], str]:
            return {("base:1", "linux/amd64"): f"sha256:{'0' * 64}"}

    imaging: Any = Imaging()
    zipped = function(tmp_path, "one")
    image = replace(zipped, image=replace(zipped.image, wanted=True))
    path = tmp_path / PINS_FILE
    assert lock_bases([zipped], lambda: imaging) == {}
    assert lock_bases([zipped, image], lambda: imaging) == {path: True}
    assert lock_bases([zipped, image], lambda: imaging) == {path: False}
    assert lock_bases([zipped], lambda: imaging) == {}
    assert path.exists()


def test_runtime_images_are_locked_beside_bases_and_stay_locked(tmp_path: Path) -> None:
    one = function(tmp_path, "one")
    named = (one.target.runtime_image, "linux/amd64")
    other = ("other/base:1", "linux/amd64")
    path = tmp_path / PINS_FILE
    path.write_text(pins_text({other: f"sha256:{'1' * 64}"}))
    digests = {named: f"sha256:{'2' * 64}", ("not/used:1", "linux/amd64"): f"sha256:{'3' * 64}"}
    assert lock_runtimes([one], digests) == {path: True}
    assert lock_runtimes([one], digests) == {path: False}
    assert read_pins(tmp_path) == {other: f"sha256:{'1' * 64}", named: f"sha256:{'2' * 64}"}
    locked = replace(one, target=replace(one.target, image=RuntimeImage(digest=f"sha256:{'2' * 64}")))
    imaging: Any = None
    assert lock_bases([locked], lambda: imaging) == {path: True}
    assert read_pins(tmp_path) == {named: f"sha256:{'2' * 64}"}
