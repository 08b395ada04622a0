"""What is remembered of whether this machine allows namespaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builders.sandbox.surroundings import find_refusal


def test_only_that_they_are_allowed_is_remembered():
    known: dict[str, Any] = {}
    answers = iter(("unshare: No space left on device", "", "never asked for"))

    def remember(key: str, _form: type, find: Callable[[], Any]) -> Any:
        if key not in known:
            known[key] = find()
        return known[key]

    found = [find_refusal("overlay", remember, lambda: next(answers)) for _ in range(3)]
    assert found == ["unshare: No space left on device", "", ""]
    assert len(known) == 1
