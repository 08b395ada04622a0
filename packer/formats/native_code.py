"""The native code in wheels and sources, read once each."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from builders.once import Once
from builders.runtimes import MEGABYTE
from packer.cache.derived_values import derive
from packer.cache.store import NATIVE, Store, digest_of
from packer.core.errors import PackageError
from packer.core.model import Content, Distribution, Entry, FileContent, Tree, owner_label
from packer.formats.elf import EXTENSION_MODULE, MAGIC, ElfFile, read_elf
from packer.formats.wheel import MemberContent, read_wheel

_FORM = "3"
"""Part of the cache key; raised whenever more, or something else, is read of a file."""
_IN_MEMORY = 8 * MEGABYTE
_SHARED_LIBRARY = re.compile(r"\.so(\.[0-9.]+)?$")


class NativeCode:
    """Reads the native code in wheels and sources, each once, and remembers it in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wheels: Once[str, tuple[ElfFile, ...]] = Once()

    def of_wheel(self, distribution: Distribution) -> tuple[ElfFile, ...]:
        """Return the native code of a wheel in the store; none for an outlined one.

        Raises `PackageError` where it is broken.
        """
        if distribution.outlined:
            return ()
        return self._wheels.get(distribution.digest, lambda: self._remembered(distribution))

    def of_source(self, tree: Tree) -> tuple[ElfFile, ...]:
        """Return the shared libraries of a function's own source, by their names."""
        return tuple(read_native_files(entry for entry in tree if _SHARED_LIBRARY.search(entry.path)))

    def _remembered(self, distribution: Distribution) -> tuple[ElfFile, ...]:
        key = digest_of(_FORM, distribution.digest)
        # A wheel for any machine may contain code for other ones.
        strict = not distribution.filename.endswith("-any.whl")

        def read() -> tuple[ElfFile, ...]:
            return tuple(read_native_files(read_wheel(distribution.path, distribution.filename), strict=strict))

        return derive(self._store, NATIVE, key, tuple[ElfFile, ...], read)


def read_native_files(entries: Iterable[Entry], *, strict: bool = False) -> Iterator[ElfFile]:
    """Yield the native code among entries; raise `PackageError` for a broken ELF file.

    With ``strict``, every file named like an extension module must be native code.
    """
    for entry in entries:
        found: ElfFile | None = None
        if has_elf_magic(entry.content):
            with open_content(entry.content) as file:
                try:
                    found = read_elf(file, entry.path)
                except ValueError as error:
                    if not _SHARED_LIBRARY.search(entry.path):
                        continue  # for example test data of tools that read ELF files: nothing loads it
                    what = f"{owner_label(entry.owner)}: {error}"
                    raise PackageError(what, remedy="The file is damaged: use another version, or build it again.") from None
        if found is not None:
            yield found
        elif strict and EXTENSION_MODULE.search(entry.path):
            what = f"{owner_label(entry.owner)}: {entry.path} is named like an extension module, but is not one for Linux."
            raise PackageError(what, remedy="Its tag promises something else: use another version, or build it from source.")


def has_elf_magic(content: Content) -> bool:
    """Return whether a content begins like an ELF file."""
    if content.size < len(MAGIC):
        return False
    if isinstance(content, MemberContent):
        return next(content.chunks(), b"")[: len(MAGIC)] == MAGIC
    if isinstance(content, FileContent):
        return content.beginning(len(MAGIC)) == MAGIC
    return content.read()[: len(MAGIC)] == MAGIC


@contextmanager
def open_content(content: Content) -> Iterator[BinaryIO]:
    """Open a content as a seekable file; raise an `LpackError` where it cannot be read."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        for chunk in content.chunks() if isinstance(content, MemberContent) else (content.read(),):
            file.write(chunk)
        file.seek(0)
        yield file  # type: ignore[misc]
