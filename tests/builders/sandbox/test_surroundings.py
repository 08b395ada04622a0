"""What is remembered of whether this machine allows namespaces."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from builders.sandbox.surroundings import find_refusal, withdrawn_error
from packer.cache.derived_values import remember_fact
from packer.cache.local import LocalStore


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


def test_what_has_turned_out_to_be_refused_is_asked_again(tmp_path: Path):
    remember = partial(remember_fact, LocalStore(tmp_path))
    assert find_refusal("overlay", remember, lambda: "") == ""
    error = withdrawn_error("overlay", remember, lambda: "unshare: Operation not permitted")
    assert (error.what, "Build again" in error.remedy) == (
        "this machine does not allow namespaces any more (unshare: Operation not permitted)",
        True,
    )
    assert find_refusal("overlay", remember, lambda: "refused") == "refused"
    assert find_refusal("overlay", remember, lambda: "") == ""
    assert find_refusal("overlay", remember, lambda: "never asked for") == ""
