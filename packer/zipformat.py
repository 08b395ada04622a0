"""The ZIP file format (PKWARE APPNOTE.TXT 6.3.10): its headers, written and strictly read, in one place.

The reader refuses whatever two programs could understand in two ways: names that differ between a local header and the
central directory, members that overlap, encrypted members, compression other than stored and deflate.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packer.model import DEFLATED, STORED, Span

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_LOCAL_SIGNATURE, _CENTRAL_SIGNATURE, _END_SIGNATURE = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END64_SIGNATURE, _LOCATOR64_SIGNATURE = b"PK\x06\x06", b"PK\x06\x07"
_ZIP64_TAG, _UNICODE_PATH_TAG = 0x0001, 0x7075
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF

_ENCRYPTED, _DESCRIPTOR, _PATCHED, _STRONG, _UTF8, _MASKED = 0x0001, 0x0008, 0x0020, 0x0040, 0x0800, 0x2000
_UNIX = 3
# 1980-01-01 00:00:00, the earliest time that the format can say.
_DOS_TIME, _DOS_DATE = 0, (1 << 5) | 1
_VERSION, _VERSION64 = 20, 45
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
# The ASCII among what `check_path` accepts: relative, without empty, "." or ".." parts, backslashes or control characters.
_GOOD_PATH = re.compile(r"(?![A-Za-z]:)(?!\.{1,2}(?:/|\Z))[ -.0-\[\]-~]+(?:/(?!\.{1,2}(?:/|\Z))[ -.0-\[\]-~]+)*")
# What may stand between a member's data and the next header: nothing, or a data descriptor (APPNOTE.TXT 4.3.9).
_DESCRIPTOR_SIZES = frozenset({0, 12, 16, 20, 24})


class ZipFormatError(Exception):
    """An archive breaks the format or could be read in two ways; ``member`` is empty where no single one is at fault."""

    def __init__(self, reason: str, member: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.member = member

    def __str__(self) -> str:
        return f"{self.member}: {self.reason}" if self.member else self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file in an archive: where its compressed bytes lie, and what the central directory says of it."""

    name: str
    mode: int
    method: int
    crc32: int
    length: int
    size: int
    header_offset: int
    data_offset: int

    def span(self, path: Path) -> Span:
        """Give the place of its bytes, where ``path`` is the archive."""
        return Span(
            path=path, offset=self.data_offset, length=self.length, method=self.method, crc32=self.crc32, size=self.size
        )


def check_path(name: str) -> str:
    """Say what is wrong with a member's name as a relative path, or give an empty string."""
    if _GOOD_PATH.fullmatch(name):
        return ""  # one look for nearly all names: there are thousands in a wheel
    if not name or name.startswith("/") or _DRIVE.match(name):
        return "the name is not a relative path"
    if _CONTROL.search(name):
        return "the name has a backslash or a control character"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "the name leads outside of its folder or has an empty part"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "the name is not valid Unicode"
    return ""


def read_members(descriptor: int) -> tuple[Member, ...]:
    """Read and check an archive's directory and local headers; folders are left out.

    Raises `ZipFormatError`.
    """
    size = os.fstat(descriptor).st_size
    offset, length, count = _find_directory(descriptor, size)
    directory = os.pread(descriptor, length, offset)
    if len(directory) != length:
        raise ZipFormatError("the central directory is cut short")
    records = tuple(_central_records(directory, count))
    members = tuple(_located(descriptor, record) for record in records)
    described = frozenset(record.offset for record in records if record.flags & _DESCRIPTOR)
    _check_layout(members, described, offset)
    files = tuple(member for member in members if not member.name.endswith("/"))
    _check_names(files)
    return files


def _find_directory(descriptor: int, size: int) -> tuple[int, int, int]:
    """Give the central directory's offset, length in bytes and number of records."""
    tail_length = min(size, _END.size + _MAX16)
    tail = os.pread(descriptor, tail_length, size - tail_length)
    at = tail.rfind(_END_SIGNATURE)
    while at >= 0 and (len(tail) - at < _END.size or _END.unpack_from(tail, at)[7] != len(tail) - at - _END.size):
        at = tail.rfind(_END_SIGNATURE, 0, at)
    if at < 0:
        raise ZipFormatError("no end of central directory: the file is cut short, or no ZIP archive")
    if _END_SIGNATURE in tail[at + 1 :]:
        raise ZipFormatError("the comment holds another end of central directory")
    _, disk, start_disk, here, count, length, offset, _ = _END.unpack_from(tail, at)
    end = size - tail_length + at
    found = _find_directory64(descriptor, end)
    if found is not None:
        # Some readers believe the ZIP64 record whenever there is one, others only where the plain one is full: both must agree.
        plain, wide = (here, count, length, offset), found[3:]
        if any(old not in (new, full) for old, new, full in zip(plain, wide, (_MAX16, _MAX16, _MAX32, _MAX32), strict=True)):
            raise ZipFormatError("the two ends of central directory contradict each other")
        end, disk, start_disk, here, count, length, offset = found
    if disk or start_disk or here != count:
        raise ZipFormatError("the archive is spread over several disks")
    if offset + length != end:
        raise ZipFormatError("the central directory is not where the archive says it is")
    return offset, length, count


def _find_directory64(descriptor: int, end: int) -> tuple[int, int, int, int, int, int, int] | None:
    locator = os.pread(descriptor, _LOCATOR64.size, max(0, end - _LOCATOR64.size))
    if len(locator) != _LOCATOR64.size or not locator.startswith(_LOCATOR64_SIGNATURE):
        return None
    at = _LOCATOR64.unpack(locator)[2]
    record = os.pread(descriptor, _END64.size, at)
    if len(record) != _END64.size or not record.startswith(_END64_SIGNATURE):
        raise ZipFormatError("the ZIP64 end of central directory is missing")
    _, rest, _, _, disk, start_disk, here, count, length, offset = _END64.unpack(record)
    if at + 12 + rest + _LOCATOR64.size != end:
        raise ZipFormatError("the ZIP64 end of central directory is not where the archive says it is")
    return at, disk, start_disk, here, count, length, offset


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What the central directory says of one member."""

    name: str
    raw: bytes
    flags: int
    mode: int
    method: int
    crc32: int
    length: int
    size: int
    offset: int


def _central_records(directory: bytes, count: int) -> Iterator[_Record]:
    at = 0
    for _ in range(count):
        if len(directory) - at < _CENTRAL.size or directory[at : at + 4] != _CENTRAL_SIGNATURE:
            raise ZipFormatError("the central directory has fewer records than it says")
        fields = _CENTRAL.unpack_from(directory, at)
        _, made_by, _, flags, method, _, _, crc32, length, size, name_length, extra_length, comment_length = fields[:13]
        attributes, offset = fields[15:]
        at += _CENTRAL.size
        raw = directory[at : at + name_length]
        extra = directory[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment_length
        if at > len(directory):
            raise ZipFormatError("the central directory is cut short")
        name = _decode(raw, flags)
        if extra:
            _check_other_name(extra, raw, name)
        if _MAX32 in (size, length, offset):
            size, length, offset = _zip64_values(extra, (size, length, offset), name)
        yield _Record(
            name=name,
            raw=raw,
            flags=flags,
            mode=attributes >> 16 if made_by >> 8 == _UNIX else 0,
            method=method,
            crc32=crc32,
            length=length,
            size=size,
            offset=offset,
        )
    if at != len(directory):
        raise ZipFormatError("the central directory has more records than it says")


def _decode(raw: bytes, flags: int) -> str:
    try:
        return raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        raise ZipFormatError("the name is not valid UTF-8", repr(raw)) from None


def _zip64_values(extra: bytes, values: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """Replace the values that are all ones by those of the ZIP64 extra field."""
    wide = list(values)
    missing = [index for index, value in enumerate(wide) if value == _MAX32]
    for data in (data for tag, data in _extra_fields(extra) if tag == _ZIP64_TAG):
        if len(data) < 8 * len(missing):
            raise ZipFormatError("the ZIP64 extra field is too short", name)
        for position, index in enumerate(missing):
            (wide[index],) = struct.unpack_from("<Q", data, 8 * position)
        break
    return wide[0], wide[1], wide[2]


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, at)
        yield tag, extra[at + 4 : at + 4 + length]
        at += 4 + length


def _check_other_name(extra: bytes, raw: bytes, name: str) -> None:
    """Refuse an Info-ZIP Unicode Path field that gives the member a second name (APPNOTE.TXT 4.6.9)."""
    for data in (data for tag, data in _extra_fields(extra) if tag == _UNICODE_PATH_TAG):
        if data[5:] != raw:
            raise ZipFormatError("an extra field gives it another name", name)


def _check_record(record: _Record) -> None:
    name, is_folder = record.name, record.name.endswith("/")
    wrong = check_path(name.removesuffix("/"))
    if wrong:
        raise ZipFormatError(wrong, name)
    if record.flags & (_ENCRYPTED | _STRONG | _MASKED | _PATCHED):
        raise ZipFormatError("the member is encrypted or patched", name)
    if record.method not in (STORED, DEFLATED):
        raise ZipFormatError(f"compression method {record.method} is neither stored nor deflate", name)
    if record.method == STORED and record.length != record.size:
        raise ZipFormatError("a stored member whose two sizes differ", name)
    kind = stat.S_IFMT(record.mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ZipFormatError("the member is a symbolic link or a device", name)
    if kind and (kind == stat.S_IFDIR) != is_folder:
        raise ZipFormatError("the member is a folder by its name and a file by its mode, or the reverse", name)
    if is_folder and record.size:
        raise ZipFormatError("a folder with content", name)


def _located(descriptor: int, record: _Record) -> Member:
    """Check a record, hold the local header against it, and give the member with its data's offset."""
    _check_record(record)
    header = os.pread(descriptor, _LOCAL.size + len(record.raw), record.offset)
    if len(header) != _LOCAL.size + len(record.raw) or not header.startswith(_LOCAL_SIGNATURE):
        raise ZipFormatError("no local header where the central directory says", record.name)
    _, _, flags, method, _, _, crc32, length, size, name_length, extra_length = _LOCAL.unpack_from(header)
    if name_length != len(record.raw) or header[_LOCAL.size :] != record.raw:
        raise ZipFormatError("the local header has another name than the central directory", record.name)
    if method != record.method or (flags ^ record.flags) & (_ENCRYPTED | _DESCRIPTOR | _UTF8):
        raise ZipFormatError("the local header has another method or other flags than the central directory", record.name)
    data_offset = record.offset + _LOCAL.size + name_length + extra_length
    if _MAX32 in (length, size) and extra_length:
        extra = os.pread(descriptor, extra_length, data_offset - extra_length)
        size, length, _ = _zip64_values(extra, (size, length, 0), record.name)
    described = (crc32, length, size)
    if described != (record.crc32, record.length, record.size) and not (flags & _DESCRIPTOR and described == (0, 0, 0)):
        raise ZipFormatError("the local header has another size or checksum than the central directory", record.name)
    return Member(
        name=record.name,
        mode=record.mode,
        method=method,
        crc32=record.crc32,
        length=record.length,
        size=record.size,
        header_offset=record.offset,
        data_offset=data_offset,
    )


def _check_layout(members: Sequence[Member], described: frozenset[int], directory_offset: int) -> None:
    """Refuse members that overlap, and bytes that belong to none: a reader without the directory would find others there.

    ``described`` holds the header offsets of the members that a data descriptor follows.
    """
    end, previous, allowed = 0, "", frozenset({0})
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise ZipFormatError(f"the member overlaps {previous}", member.name)
        if member.header_offset - end not in allowed:
            raise ZipFormatError("there are bytes before the member that belong to none", member.name)
        end, previous = member.data_offset + member.length, member.name
        allowed = _DESCRIPTOR_SIZES if member.header_offset in described else frozenset({0})
    if end > directory_offset:
        raise ZipFormatError("the member overlaps the central directory", previous)
    if directory_offset - end not in allowed:
        raise ZipFormatError("there are bytes before the central directory that belong to no member", previous)


def _check_names(files: Sequence[Member]) -> None:
    names: set[str] = set()
    for member in files:
        if member.name in names:
            raise ZipFormatError("the name is there twice", member.name)
        names.add(member.name)
    folders: set[str] = set()
    for name in sorted(names):
        parent = name.rpartition("/")[0]
        while parent and parent not in folders:
            if parent in names:
                raise ZipFormatError(f"a file, and also the folder of {name}", parent)
            folders.add(parent)
            parent = parent.rpartition("/")[0]


def local_header(name: bytes, method: int, crc32: int, length: int, size: int) -> bytes:
    """Make a local header with neutral metadata; ZIP64 where a size asks for it."""
    flags = 0 if name.isascii() else _UTF8
    if length >= _MAX32 or size >= _MAX32:
        extra = struct.pack("<2H2Q", _ZIP64_TAG, 16, size, length)
        return (
            _LOCAL.pack(
                _LOCAL_SIGNATURE, _VERSION64, flags, method, _DOS_TIME, _DOS_DATE, crc32, _MAX32, _MAX32, len(name), len(extra)
            )
            + name
            + extra
        )
    return (
        _LOCAL.pack(_LOCAL_SIGNATURE, _VERSION, flags, method, _DOS_TIME, _DOS_DATE, crc32, length, size, len(name), 0) + name
    )


def central_record(name: bytes, mode: int, method: int, crc32: int, length: int, size: int, offset: int) -> bytes:
    """Make a central directory record: a regular file of Unix permissions ``mode``."""
    flags = 0 if name.isascii() else _UTF8
    wide = b""
    # The order of the values is the format's: size, length, offset (APPNOTE.TXT 4.5.3).
    if size >= _MAX32 or length >= _MAX32:
        wide += struct.pack("<2Q", size, length)
        size = length = _MAX32
    if offset >= _MAX32:
        wide += struct.pack("<Q", offset)
        offset = _MAX32
    extra = struct.pack("<2H", _ZIP64_TAG, len(wide)) + wide if wide else b""
    version = _VERSION64 if wide else _VERSION
    return (
        _CENTRAL.pack(
            _CENTRAL_SIGNATURE,
            _UNIX << 8 | version,
            version,
            flags,
            method,
            _DOS_TIME,
            _DOS_DATE,
            crc32,
            length,
            size,
            len(name),
            len(extra),
            0,
            0,
            0,
            (stat.S_IFREG | mode) << 16,
            offset,
        )
        + name
        + extra
    )


def end_records(count: int, length: int, offset: int) -> bytes:
    """Make the end of an archive whose central directory has ``count`` records in ``length`` bytes at ``offset``."""
    wide = b""
    if count >= _MAX16 or length >= _MAX32 or offset >= _MAX32:
        end = offset + length
        wide = _END64.pack(
            _END64_SIGNATURE, _END64.size - 12, _UNIX << 8 | _VERSION64, _VERSION64, 0, 0, count, count, length, offset
        ) + _LOCATOR64.pack(_LOCATOR64_SIGNATURE, 0, end, 1)
        count, length, offset = min(count, _MAX16), min(length, _MAX32), min(offset, _MAX32)
    return wide + _END.pack(_END_SIGNATURE, 0, 0, count, count, length, offset, 0)
