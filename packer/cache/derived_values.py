"""Values that were computed before: kept in a store as JSON, by a key that has all that decides them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from packer.cache.store import Store, digest_of

Value = TypeVar("Value")


def derive(store: Store, kind: str, key: str, form: type[Value], compute: Callable[[], Value]) -> Value:
    """Return the value that the store has under a key, or compute it and keep it; ``form`` is its type.

    Paths are kept as text. What is kept in another form is computed anew, and replaced.
    """
    record = store.load(kind, key)
    if record is not None:
        try:
            return msgspec.json.decode(record.payload, type=form, dec_hook=_from_text)
        except msgspec.DecodeError:
            pass  # of a version that kept something else: what is computed now takes its place
    value = compute()
    store.save(kind, key, msgspec.json.encode(value, enc_hook=str))
    return value


def remember_fact(store: Store, key: str, form: type[Value], find: Callable[[], Value]) -> Value:
    """Return a fact of this machine, which takes long to find out (`builders.sandbox.root_plan.Remember`)."""
    return derive(store, "machine", digest_of(key), form, find)


def _from_text(form: type, text: Any) -> Any:
    return form(text)
