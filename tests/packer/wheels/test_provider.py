"""Wheels of locked packages: fetched where one fits, built where none does, in the order of the packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.errors import LpackError
from builders.runtimes import Target
from packer.core.model import Archive, Distribution, LockedPackage
from packer.net.downloads import FetchedArchive
from packer.wheels.provider import ProvidedWheel, provide_wheels
from tests.counting import count_hashes

TARGET = Target.of("python3.12", "x86_64")


class Fetcher:
    def fetch(self, archives):
        return [FetchedArchive(path=Path(f"/store/{each.filename}"), sha256=each.sha256) for each in archives]


def archive(filename: str) -> Archive:
    return Archive(filename=filename, location=f"https://index/{filename}", sha256=filename[:1] * 64)


def wheel(name: str) -> LockedPackage:
    return LockedPackage(name=name, version="1", wheels=(archive(f"{name}-1-py3-none-any.whl"),))


def sdist(name: str) -> LockedPackage:
    return LockedPackage(name=name, version="1", source=archive(f"{name}-1.tar.gz"))


def built(missing) -> list[ProvidedWheel]:
    return [
        ProvidedWheel(
            distribution=Distribution(
                name=package.name, version="1", filename=f"built-{source.path.name}", digest="", path=source.path
            )
        )
        for package, source in missing
    ]


def test_wheels_come_in_the_order_of_packages_fetched_or_built():
    made = provide_wheels([wheel("a"), sdist("b"), wheel("c"), sdist("d")], TARGET, Fetcher(), built)
    assert [each.distribution.filename for each in made] == [
        "a-1-py3-none-any.whl",
        "built-b-1.tar.gz",
        "c-1-py3-none-any.whl",
        "built-d-1.tar.gz",
    ]


def test_nothing_is_built_where_all_have_wheels():
    def never(_missing):
        raise AssertionError

    assert len(provide_wheels([wheel("a")], TARGET, Fetcher(), never)) == 1


def test_a_package_without_a_wheel_or_a_source_is_refused():
    with pytest.raises(LpackError, match="a 1"):
        provide_wheels([LockedPackage(name="a", version="1")], TARGET, Fetcher(), built)


def test_packages_are_not_hashed_with_all_files_that_their_lock_offers(monkeypatch):
    hashed = count_hashes(monkeypatch, LockedPackage, Archive)
    provide_wheels([wheel("a"), sdist("b")], TARGET, Fetcher(), built)
    assert hashed == {}
