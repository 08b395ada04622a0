"""What thousands of functions that share versions cost beside the questions to uv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from builders.runtimes import Target
from packer.core.model import Function, Requirements
from packer.resolve.shared_resolution import SharedResolver
from tests.counting import Row


def test_names_of_all_functions_are_read_once_and_not_for_each_function(monkeypatch):
    functions = [
        Function(
            name=name,
            source=Path(f"/nowhere/{name}"),
            handler="app.handler",
            target=Target.of("python3.12", "x86_64"),
            requirements=Requirements(kind="requirements", path=Path(f"/nowhere/{name}/requirements.txt")),
            lock_path=Path(f"/nowhere/pylock.{name}.toml"),
        )
        for name in ("one", "two", "three")
    ]
    every = Row(functions)
    asked = []

    def made(_self, sharing, **_options):
        asked.append(sharing)
        return {}

    monkeypatch.setattr(SharedResolver, "_sort_into_families", made)
    nothing: Any = None
    solve = SharedResolver(nothing, nothing, nothing, nothing, upgrade=False)
    sharing = [replace(function, sharing=every) for function in functions]
    before = Row.gone_through
    assert [solve.part(function) for function in sharing] == [None, None, None]
    assert Row.gone_through - before == 1
    assert len(asked) == 1
    assert [solve.part(replace(function, sharing=Row(functions[:2]))) for function in functions] == [None, None, None]
    assert len(asked) == 2
