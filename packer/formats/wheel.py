"""Wheels (PyPA, "Binary distribution format"), read strictly and mapped to a tree.

Reading copies nothing and inflates only the few metadata files that it needs. `check_wheel` inflates everything once, before a
wheel enters the store, to prove that each member is what RECORD says.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from builders.runtimes import IMAGE_LIMIT, MEGABYTE
from packer.cache.deflate import inflate
from packer.cache.store import Store
from packer.core.errors import PackageError
from packer.core.model import DEFLATED, EXECUTABLE_MODE, FILE_MODE, BytesContent, Content, Entry, Span, Tree
from packer.formats.distribution_names import canonical_name, is_same_version, parse_wheel_name
from packer.formats.metadata import parse_headers
from packer.formats.zip_reader import ZipFormatError, ZipMember, check_path, read_members

_NEUTRAL_SHEBANG = b"#!/usr/bin/env python3"
_UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_CHUNK = 1 << 18
_LARGEST_TEXT = 16 * MEGABYTE
"""Largest metadata file or script in bytes: they are read into memory."""
# Where the schemes of a wheel's .data folder are installed, as by `pip install --target`, but for headers.
_SCHEMES = {"purelib": "", "platlib": "", "data": "", "scripts": "bin/", "headers": "include/{name}/"}


class MemberContent(Struct, frozen=True, kw_only=True):
    """Content of a wheel's member, compressed or stored."""

    path: Path
    member: ZipMember
    digest: str

    @property
    def size(self) -> int:
        return self.member.size

    def read(self) -> bytes:
        """Return the member's raw bytes; raise `PackageError` where the wheel is gone or broken."""
        with self._read_errors(), self.path.open("rb", buffering=0) as file:
            return inflate(self.span(), file.fileno())

    def chunks(self) -> Iterator[bytes]:
        """Yield the member's raw bytes in bounded chunks; raise `PackageError` where the wheel is gone or broken."""
        with self._read_errors(), self.path.open("rb") as file:
            yield from _inflate(file.fileno(), self.member)

    @contextmanager
    def _read_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, zlib.error, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else "") or error
            what = f"{self.member.name} cannot be read from {self.path}: {reason}."
            raise PackageError(what, remedy="Run `lpack cache verify`, and build again.") from error

    def span(self) -> Span:
        return self.member.span(self.path)


class _RecordRow(Struct, frozen=True, kw_only=True):
    """One line of RECORD: the hash algorithm's name, the digest's bytes, and the size where it is given."""

    algorithm: str
    digest: bytes
    size: int | None


class _OpenWheel(Struct, frozen=True, kw_only=True):
    """A well-formed wheel: its members by name, and its dist-info folder, with its slash."""

    path: Path
    label: str
    descriptor: int
    members: dict[str, ZipMember]
    info: str


def read_wheel(path: Path, filename: str) -> Tree:
    """Return the tree that a wheel installs; ``filename`` is its published name, which the content must match.

    Raises `PackageError` for anything but a well-formed wheel.
    """
    with _open_wheel(path, filename) as wheel:
        rows = _read_record(wheel)
        entries = [_entry(wheel, member, rows) for member in wheel.members.values()]
        if any(map(is_in_data_folder, wheel.members)):
            entries = replace_record(entries, wheel.info)
    try:
        return Tree.of(entries)
    except ValueError as error:
        raise PackageError(f"{filename} installs two files at one path: {error}.", remedy=_REMEDY) from None


def stored_tree(store: Store, sha256: str, filename: str) -> Tree | None:
    """Return the tree that a wheel in the store installs, found by its SHA-256 (hex); None where the store does not have it.

    Raises `StoreError` and `PackageError`.
    """
    path = store.wheel(sha256)
    return read_wheel(path, filename) if path else None


def read_members_as_tree(path: Path, filename: str) -> Tree:
    """Return a wheel's members as a tree, at their paths in the archive; raise `PackageError`."""
    with _open_wheel(path, filename) as wheel:
        rows = _read_record(wheel)
        return Tree.of(
            Entry(path=member.name, mode=_mode(member), content=_content(wheel, member, rows), owner=wheel.label)
            for member in wheel.members.values()
        )


def check_wheel(path: Path, filename: str) -> None:
    """Check a wheel before it enters the store: structure, metadata, and every member against its CRC and RECORD.

    Memory stays bounded whatever sizes the members declare. Raises `PackageError`.
    """
    read_wheel(path, filename)
    with _open_wheel(path, filename) as wheel:
        total = sum(member.size for member in wheel.members.values())
        if total > IMAGE_LIMIT:
            raise _refusal(wheel, f"it unpacks to {total:,} bytes, more than the largest Lambda package of any kind")
        rows = _read_record(wheel)
        for member in wheel.members.values():
            _check_member(wheel, member, rows.get(member.name))
        _check_metadata(wheel)


_REMEDY = "The wheel is broken: use another version of it, or report it to the project that publishes it."


def _refusal(wheel: _OpenWheel, reason: str, member: str = "") -> PackageError:
    place = f", member {member}" if member else ""
    return PackageError(f"{wheel.label} is refused{place}: {reason}.", remedy=_REMEDY)


@contextmanager
def _open_wheel(path: Path, filename: str) -> Iterator[_OpenWheel]:
    try:
        parse_wheel_name(filename)
    except ValueError as error:
        raise PackageError(f"{filename} is not a wheel's file name: {error}.", remedy=_REMEDY) from None
    with path.open("rb") as file:
        descriptor = file.fileno()
        try:
            members = {member.name: member for member in read_members(descriptor)}
        except ZipFormatError as error:
            place = f", member {error.member}" if error.member else ""
            raise PackageError(f"{filename} is refused{place}: {error.what}.", remedy=_REMEDY) from None
        info = _info_folder(filename, members)
        yield _OpenWheel(path=path, label=filename, descriptor=descriptor, members=members, info=info)


def _info_folder(filename: str, members: dict[str, ZipMember]) -> str:
    """Return the name, with a slash, of the one dist-info folder, which must be the file name's."""
    found = sorted({name.partition("/")[0] for name in members if name.partition("/")[0].endswith(".dist-info")})
    if len(found) != 1:
        raise PackageError(f"{filename} is refused: it has {len(found)} dist-info folders, not one.", remedy=_REMEDY)
    expected = parse_wheel_name(filename)
    stem = found[0].removesuffix(".dist-info")
    given_name, _, given_version = stem.partition("-")
    if canonical_name(given_name) != expected.name or not is_same_version(given_version, expected.version):
        raise PackageError(f"{filename} is refused: its metadata folder {found[0]} is another package's.", remedy=_REMEDY)
    return found[0] + "/"


def _read_record(wheel: _OpenWheel) -> dict[str, _RecordRow]:
    """Read RECORD, and check that it lists exactly the members."""
    rows: dict[str, _RecordRow] = {}
    for fields in _csv_rows(wheel, _read_text(wheel, "RECORD")):
        if not fields:
            continue
        if len(fields) != 3 or check_path(fields[0]):
            raise _refusal(wheel, f"RECORD has a line that is not path,hash,size: {','.join(fields)[:200]}")
        if fields[0] in rows:
            raise _refusal(wheel, "RECORD lists it twice", fields[0])
        row = _parse_row(wheel, fields[0], fields[1], fields[2])
        if row is not None:
            rows[fields[0]] = row
        if fields[0] not in wheel.members:
            raise _refusal(wheel, "RECORD lists it and the archive does not have it", fields[0])
    unhashed = {wheel.info + name for name in _UNHASHED}
    for name in wheel.members:
        if name not in rows and name not in unhashed:
            raise _refusal(wheel, "RECORD does not list it with a hash", name)
    return rows


def _csv_rows(wheel: _OpenWheel, text: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(io.StringIO(text, newline=""))
    except csv.Error as error:
        raise _refusal(wheel, f"RECORD cannot be read ({error})") from None


def _parse_row(wheel: _OpenWheel, path: str, hashed: str, size: str) -> _RecordRow | None:
    if not hashed:
        return None
    algorithm, _, text = hashed.partition("=")
    # The specification asks for SHA-256 or better.
    if algorithm not in ("sha256", "sha384", "sha512"):
        raise _refusal(wheel, f"RECORD has a weak or unknown hash: {algorithm}", path)
    try:
        digest = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return _RecordRow(algorithm=algorithm, digest=digest, size=int(size) if size else None)
    except (binascii.Error, ValueError):
        raise _refusal(wheel, "RECORD has a hash or a size that cannot be read", path) from None


def _read_text(wheel: _OpenWheel, name: str) -> str:
    """Read a file of the dist-info folder."""
    member = wheel.members.get(wheel.info + name)
    if member is None:
        raise _refusal(wheel, f"it has no {wheel.info}{name}")
    if member.size > _LARGEST_TEXT:
        raise _refusal(wheel, f"{member.size:,} bytes are too many for a metadata file", member.name)
    try:
        return _read_member(wheel, member).decode()
    except ValueError as error:
        raise _refusal(wheel, f"it cannot be read ({error})", member.name) from None


def _read_member(wheel: _OpenWheel, member: ZipMember) -> bytes:
    """Return a member's raw bytes; raise `PackageError` where they are not what is declared."""
    try:
        return b"".join(_inflate(wheel.descriptor, member))
    except (zlib.error, ValueError) as error:
        raise _refusal(wheel, f"it cannot be read ({error})", member.name) from None


def _entry(wheel: _OpenWheel, member: ZipMember, rows: dict[str, _RecordRow]) -> Entry:
    path = member.name
    content: Content = _content(wheel, member, rows)
    mode = _mode(member)
    if is_in_data_folder(path):
        installed = installed_path(path, wheel.label.partition("-")[0])
        if installed is None:
            raise _refusal(wheel, "the wheel format has no such scheme", path)
        if path.partition("/")[2].startswith("scripts/"):
            content, mode = _with_neutral_shebang(wheel, member, content), EXECUTABLE_MODE
        path = installed
    return Entry(path=path, mode=mode, content=content, owner=wheel.label)


def is_in_data_folder(member: str) -> bool:
    """Return whether a member gets installed by its scheme, as in every .data folder, whatever its name is: so does pip."""
    head, slash, _ = member.partition("/")
    return bool(slash) and head.endswith(".data")


def installed_path(member: str, name: str) -> str | None:
    """Return where a member of a .data folder of the distribution ``name`` installs; None where its scheme is none."""
    scheme, _, rest = member.partition("/")[2].partition("/")
    return _SCHEMES[scheme].format(name=name) + rest if scheme in _SCHEMES and rest else None


def _mode(member: ZipMember) -> int:
    return EXECUTABLE_MODE if member.mode & 0o111 else FILE_MODE


def _content(wheel: _OpenWheel, member: ZipMember, rows: dict[str, _RecordRow]) -> MemberContent:
    row = rows.get(member.name)
    if row is not None and row.size is not None and row.size != member.size:
        raise _refusal(wheel, f"RECORD says {row.size} bytes and the archive {member.size}", member.name)
    if row is not None and row.algorithm == "sha256":
        return MemberContent(path=wheel.path, member=member, digest=row.digest.hex())
    total = hashlib.sha256()
    try:
        for chunk in _inflate(wheel.descriptor, member):
            total.update(chunk)
    except (zlib.error, ValueError) as error:
        raise _refusal(wheel, f"it cannot be read ({error})", member.name) from None
    return MemberContent(path=wheel.path, member=member, digest=total.hexdigest())


def _with_neutral_shebang(wheel: _OpenWheel, member: ZipMember, content: Content) -> Content:
    """Replace the ``#!python`` placeholder, which installers must rewrite, by one that works on every machine."""
    if content.size > _LARGEST_TEXT:
        return content  # a program, not a script
    data = _read_member(wheel, member)
    if not data.startswith(b"#!python"):
        return content
    _, newline, rest = data.partition(b"\n")
    return BytesContent.of(_NEUTRAL_SHEBANG + newline + rest)


def replace_record(entries: list[Entry], info: str) -> list[Entry]:
    """Return a wheel's entries with a new RECORD for them; ``info`` is the dist-info folder with its slash."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for entry in sorted(entries, key=lambda entry: entry.path):
        if entry.path.removeprefix(info) in _UNHASHED:
            writer.writerow((entry.path, "", ""))
        else:
            digest = base64.urlsafe_b64encode(bytes.fromhex(entry.content.digest)).rstrip(b"=").decode()
            writer.writerow((entry.path, f"sha256={digest}", entry.content.size))
    content = BytesContent.of(text.getvalue().encode())
    record = Entry(path=f"{info}RECORD", mode=FILE_MODE, content=content, owner=entries[0].owner)
    return [*(entry for entry in entries if entry.path != record.path), record]


def _inflate(descriptor: int, member: ZipMember) -> Iterator[bytes]:
    """Yield a member's raw bytes in bounded chunks; raise ``ValueError`` where size or CRC differ from those declared."""
    decompressor = zlib.decompressobj(-15) if member.method == DEFLATED else None
    offset, end = member.data_offset, member.data_offset + member.length
    size = crc32 = 0
    while offset < end:
        data = os.pread(descriptor, min(_CHUNK, end - offset), offset)
        if not data:
            raise ValueError("it is cut short")
        offset += len(data)
        for chunk in _inflate_chunk(decompressor, data, last=offset == end):
            size, crc32 = size + len(chunk), zlib.crc32(chunk, crc32)
            if size > member.size:
                raise ValueError(f"it unpacks to more than the {member.size} bytes that it declares")
            yield chunk
    if decompressor is not None and (not decompressor.eof or decompressor.unused_data):
        raise ValueError("its compressed data is cut short or continues after its end")
    if size != member.size or crc32 != member.crc32:
        raise ValueError("its size or checksum differs from the declared one")


def _inflate_chunk(decompressor: zlib._Decompress | None, data: bytes, *, last: bool) -> Iterator[bytes]:
    if decompressor is None:
        yield data
        return
    while data:
        yield decompressor.decompress(data, 4 * _CHUNK)
        data = decompressor.unconsumed_tail
    while last and not decompressor.eof:
        # After all input, the decompressor may still hold output, as each call is limited.
        rest = decompressor.decompress(b"", 4 * _CHUNK)
        if not rest:
            return
        yield rest


def _check_member(wheel: _OpenWheel, member: ZipMember, row: _RecordRow | None) -> None:
    total = hashlib.new(row.algorithm) if row is not None else hashlib.sha256()
    try:
        for chunk in _inflate(wheel.descriptor, member):
            total.update(chunk)
    except (zlib.error, ValueError) as error:
        raise _refusal(wheel, f"it cannot be read ({error})", member.name) from None
    if row is not None and total.digest() != row.digest:
        raise _refusal(wheel, "its bytes are not those that RECORD lists", member.name)


def _check_metadata(wheel: _OpenWheel) -> None:
    """Check WHEEL and METADATA against the file name."""
    generator = parse_headers(_read_text(wheel, "WHEEL"))
    version = str(generator.get("Wheel-Version", "")).strip()
    if version.partition(".")[0] != "1":
        raise _refusal(wheel, f"Wheel-Version {version or 'is missing'}; only 1.x is known")
    metadata = parse_headers(_read_text(wheel, "METADATA"))
    expected = parse_wheel_name(wheel.label)
    given_name, given_version = str(metadata.get("Name", "")), str(metadata.get("Version", ""))
    if canonical_name(given_name) != expected.name or not is_same_version(given_version, expected.version):
        raise _refusal(wheel, f"its METADATA is that of {given_name or 'nothing'} {given_version}")
