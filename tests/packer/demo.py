"""A small correct wheel, and the means to make it wrong in one chosen way and to see it refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from packer.core.errors import PackageError
from packer.core.model import Tree
from packer.formats.wheel import check_wheel
from tests.wheels import RawMember, RawZip, record_rows, wheel_members

FILENAME = "demo-1.0-py3-none-any.whl"
INFO = "demo-1.0.dist-info"
DATA = b"print('hello')\n" * 30
FILES = {"demo/__init__.py": DATA, "demo/words.txt": b"words\n"}


def demo_members() -> dict[str, bytes]:
    return wheel_members("demo", "1.0", FILES)


def raw_wheel(*extra: RawMember, change: Mapping[str, RawMember] | None = None, **archive: Any) -> RawZip:
    """Give a correct wheel with some members changed or added, all of which RECORD lists with the hash of their data."""
    changed = change or {}
    members = {name: changed.get(name, RawMember(name=name, data=data)) for name, data in demo_members().items()}
    record = f"{INFO}/RECORD"
    if record not in changed:
        listed = [*members.values(), *extra]
        rows = record_rows({m.raw_name.decode("latin-1"): m.data for m in listed}, INFO)
        members[record] = RawMember(name=record, data="".join(row + "\n" for row in dict.fromkeys(rows)).encode("latin-1"))
    return RawZip(members=[*members.values(), *extra], **archive)


def refusal(path: Path, filename: str = FILENAME) -> PackageError:
    """Give the error with which a wheel is kept out of the store."""
    with pytest.raises(PackageError) as caught:
        check_wheel(path, filename)
    assert filename in str(caught.value)
    assert caught.value.remedy
    return caught.value


def contents(tree: Tree) -> dict[str, bytes]:
    return {entry.path: entry.content.read() for entry in tree}


INIT = "demo/__init__.py"


def init(**values: Any) -> Callable[[], RawZip]:
    """Give a wheel whose member demo/__init__.py has these peculiarities."""
    return lambda: raw_wheel(change={INIT: replace(RawMember(name=INIT, data=DATA), **values)})


def added(name: str | bytes, **values: Any) -> Callable[[], RawZip]:
    """Give a wheel with one member more."""
    return lambda: raw_wheel(RawMember(name=name, **{"data": b"x", **values}))
