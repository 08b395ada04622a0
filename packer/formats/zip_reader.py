"""The ZIP file format (PKWARE APPNOTE.TXT 6.3.10), strictly read.

The reader refuses whatever two programs could understand in two ways: names that differ between a local header and the
central directory, members that overlap, encrypted members, compression other than stored and deflate.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct

from packer.core.errors import PackageError
from packer.core.model import DEFLATED, STORED, Span
from packer.formats.zip_headers import (
    CENTRAL,
    CENTRAL_SIGNATURE,
    DESCRIPTOR,
    ENCRYPTED,
    END,
    END64,
    END64_SIGNATURE,
    END_SIGNATURE,
    LOCAL,
    LOCAL_SIGNATURE,
    LOCATOR64,
    LOCATOR64_SIGNATURE,
    MASKED,
    MAX16,
    MAX32,
    PATCHED,
    STRONG,
    UNICODE_PATH_TAG,
    UNIX,
    UTF8,
    ZIP64_TAG,
)

_USUAL_TAIL = 1 << 10
"""Bytes at an archive's end that nearly always hold its end of central directory: few archives have a comment."""

Read = Callable[[int, int], bytes]
"""Reads (length, offset) of an archive; returns fewer bytes where it ends before."""

_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
# The ASCII among what `check_path` accepts: relative, without empty, "." or ".." parts, backslashes or control characters.
_GOOD_PATH = re.compile(r"(?![A-Za-z]:)(?!\.{1,2}(?:/|\Z))[ -.0-\[\]-~]+(?:/(?!\.{1,2}(?:/|\Z))[ -.0-\[\]-~]+)*")
# What may stand between a member's data and the next header: nothing, or a data descriptor (APPNOTE.TXT 4.3.9).
_DESCRIPTOR_SIZES = frozenset({0, 12, 16, 20, 24})


class ZipFormatError(PackageError):
    """An archive breaks the format or could be read in two ways; ``member`` is empty where the fault is in no single one.

    Who opens the archive knows its name, and puts that in front of ``what``.
    """

    def __init__(self, what: str, member: str = "") -> None:
        super().__init__(what)
        self.member = member


class ZipMember(Struct, frozen=True, kw_only=True, array_like=True):
    """One file in an archive: the place of its compressed bytes, and its facts in the central directory.

    As JSON it is a list, because thousands are kept for a wheel (`packer.formats.stored_wheel`).
    """

    name: str
    mode: int
    method: int
    crc32: int
    length: int
    size: int
    header_offset: int
    data_offset: int

    def span(self, path: Path) -> Span:
        """Return the place of its bytes, where ``path`` is the archive."""
        return Span(
            path=path, offset=self.data_offset, length=self.length, method=self.method, crc32=self.crc32, size=self.size
        )


def check_path(name: str) -> str:
    """Return what is wrong with a member's name as a relative path; empty if nothing is."""
    if _GOOD_PATH.fullmatch(name):
        return ""  # a fast path for nearly all names: there are thousands in a wheel
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


def read_members(descriptor: int) -> tuple[ZipMember, ...]:
    """Return an archive's files after checking its directory and local headers; folders are left out.

    Raises `ZipFormatError`.
    """
    records, offset = _read_records(partial(os.pread, descriptor), os.fstat(descriptor).st_size)
    members = tuple(_locate_member(descriptor, record) for record in records)
    described = frozenset(record.offset for record in records if record.flags & DESCRIPTOR)
    _check_layout(members, described, offset)
    files = tuple(member for member in members if not member.name.endswith("/"))
    _check_names(files)
    return files


def read_directory(read: Read, size: int) -> tuple[ZipMember, ...]:
    """Return the files of a remote archive of ``size`` bytes by its directory alone, without their data's offsets.

    Local headers are not checked. Raises `ZipFormatError`, and the errors of ``read``.
    """
    records, _ = _read_records(read, size)
    for record in records:
        _check_record(record)
    files = tuple(_member(record, -1) for record in records if not record.name.endswith("/"))
    _check_names(files)
    return files


def _read_records(read: Read, size: int) -> tuple[tuple[_CentralRecord, ...], int]:
    """Return the records of the central directory, and its offset."""
    offset, length, count = _find_directory(read, size)
    directory = read(length, offset)
    if len(directory) != length:
        raise ZipFormatError("the central directory is cut short")
    return tuple(_central_records(directory, count)), offset


def _find_directory(read: Read, size: int) -> tuple[int, int, int]:
    """Return the central directory's offset, length in bytes and number of records."""
    for most in (_USUAL_TAIL, END.size + MAX16):
        tail_length = min(size, most)
        tail = read(tail_length, size - tail_length)
        at = tail.rfind(END_SIGNATURE)
        while at >= 0 and (len(tail) - at < END.size or END.unpack_from(tail, at)[7] != len(tail) - at - END.size):
            at = tail.rfind(END_SIGNATURE, 0, at)
        if at >= 0:
            break
    else:
        raise ZipFormatError("no end of central directory: the file is cut short, or not a ZIP archive")
    if END_SIGNATURE in tail[at + 1 :]:
        raise ZipFormatError("the comment holds another end of central directory")
    _, disk, start_disk, here, count, length, offset, _ = END.unpack_from(tail, at)
    end = size - tail_length + at
    found = _find_directory64(read, end)
    if found is not None:
        # Some readers use the ZIP64 record whenever it exists, others only where the plain one is full: both must agree.
        plain, wide = (here, count, length, offset), found[3:]
        if any(old not in (new, full) for old, new, full in zip(plain, wide, (MAX16, MAX16, MAX32, MAX32), strict=True)):
            raise ZipFormatError("the two ends of central directory contradict each other")
        end, disk, start_disk, here, count, length, offset = found
    if disk or start_disk or here != count:
        raise ZipFormatError("the archive is spread over several disks")
    if offset + length != end:
        raise ZipFormatError("the central directory is not where the archive says it is")
    return offset, length, count


def _find_directory64(read: Read, end: int) -> tuple[int, int, int, int, int, int, int] | None:
    locator = read(LOCATOR64.size, max(0, end - LOCATOR64.size))
    if len(locator) != LOCATOR64.size or not locator.startswith(LOCATOR64_SIGNATURE):
        return None
    at = LOCATOR64.unpack(locator)[2]
    record = read(END64.size, at)
    if len(record) != END64.size or not record.startswith(END64_SIGNATURE):
        raise ZipFormatError("the ZIP64 end of central directory is missing")
    _, rest, _, _, disk, start_disk, here, count, length, offset = END64.unpack(record)
    if at + 12 + rest + LOCATOR64.size != end:
        raise ZipFormatError("the ZIP64 end of central directory is not where the archive says it is")
    return at, disk, start_disk, here, count, length, offset


class _CentralRecord(Struct, frozen=True, kw_only=True):
    """One record of the central directory."""

    name: str
    raw: bytes
    flags: int
    mode: int
    method: int
    crc32: int
    length: int
    size: int
    offset: int


def _central_records(directory: bytes, count: int) -> Iterator[_CentralRecord]:
    at = 0
    for _ in range(count):
        if len(directory) - at < CENTRAL.size or directory[at : at + 4] != CENTRAL_SIGNATURE:
            raise ZipFormatError("the central directory has fewer records than it says")
        fields = CENTRAL.unpack_from(directory, at)
        _, made_by, _, flags, method, _, _, crc32, length, size, name_length, extra_length, comment_length = fields[:13]
        attributes, offset = fields[15:]
        at += CENTRAL.size
        raw = directory[at : at + name_length]
        extra = directory[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment_length
        if at > len(directory):
            raise ZipFormatError("the central directory is cut short")
        name = _decode(raw, flags)
        if extra:
            _check_other_name(extra, raw, name)
        if MAX32 in (size, length, offset):
            size, length, offset = _zip64_values(extra, (size, length, offset), name)
        yield _CentralRecord(
            name=name,
            raw=raw,
            flags=flags,
            mode=attributes >> 16 if made_by >> 8 == UNIX else 0,
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
        return raw.decode("utf-8" if flags & UTF8 else "cp437")
    except UnicodeDecodeError:
        raise ZipFormatError("the name is not valid UTF-8", repr(raw)) from None


def _zip64_values(extra: bytes, values: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """Replace the values that are all ones by those of the ZIP64 extra field."""
    wide = list(values)
    missing = [index for index, value in enumerate(wide) if value == MAX32]
    for data in (data for tag, data in _extra_fields(extra) if tag == ZIP64_TAG):
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
    for data in (data for tag, data in _extra_fields(extra) if tag == UNICODE_PATH_TAG):
        if data[5:] != raw:
            raise ZipFormatError("an extra field gives it another name", name)


def _check_record(record: _CentralRecord) -> None:
    name, is_folder = record.name, record.name.endswith("/")
    wrong = check_path(name.removesuffix("/"))
    if wrong:
        raise ZipFormatError(wrong, name)
    if record.flags & (ENCRYPTED | STRONG | MASKED | PATCHED):
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


def _locate_member(descriptor: int, record: _CentralRecord) -> ZipMember:
    """Check a record and its local header, and return the member with its data's offset."""
    _check_record(record)
    header = os.pread(descriptor, LOCAL.size + len(record.raw), record.offset)
    if len(header) != LOCAL.size + len(record.raw) or not header.startswith(LOCAL_SIGNATURE):
        raise ZipFormatError("no local header where the central directory says", record.name)
    _, _, flags, method, _, _, crc32, length, size, name_length, extra_length = LOCAL.unpack_from(header)
    if name_length != len(record.raw) or header[LOCAL.size :] != record.raw:
        raise ZipFormatError("the local header has another name than the central directory", record.name)
    if method != record.method or (flags ^ record.flags) & (ENCRYPTED | DESCRIPTOR | UTF8):
        raise ZipFormatError("the local header has another method or other flags than the central directory", record.name)
    data_offset = record.offset + LOCAL.size + name_length + extra_length
    if MAX32 in (length, size) and extra_length:
        extra = os.pread(descriptor, extra_length, data_offset - extra_length)
        size, length, _ = _zip64_values(extra, (size, length, 0), record.name)
    described = (crc32, length, size)
    if described != (record.crc32, record.length, record.size) and not (flags & DESCRIPTOR and described == (0, 0, 0)):
        raise ZipFormatError("the local header has another size or checksum than the central directory", record.name)
    return _member(record, data_offset)


def _member(record: _CentralRecord, data_offset: int) -> ZipMember:
    return ZipMember(
        name=record.name,
        mode=record.mode,
        method=record.method,
        crc32=record.crc32,
        length=record.length,
        size=record.size,
        header_offset=record.offset,
        data_offset=data_offset,
    )


def _check_layout(members: Sequence[ZipMember], described: frozenset[int], directory_offset: int) -> None:
    """Refuse members that overlap, and bytes that belong to none: a reader without the directory would find others there.

    ``described`` holds the header offsets of the members that a data descriptor follows.
    """
    end, previous, allowed = 0, "", frozenset({0})
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise ZipFormatError(f"the member overlaps {previous}", member.name)
        if member.header_offset - end not in allowed:
            raise ZipFormatError("bytes before the member belong to none", member.name)
        end, previous = member.data_offset + member.length, member.name
        allowed = _DESCRIPTOR_SIZES if member.header_offset in described else frozenset({0})
    if end > directory_offset:
        raise ZipFormatError("the member overlaps the central directory", previous)
    if directory_offset - end not in allowed:
        raise ZipFormatError("bytes before the central directory belong to no member", previous)


def _check_names(files: Sequence[ZipMember]) -> None:
    names: set[str] = set()
    for member in files:
        if member.name in names:
            raise ZipFormatError("the name occurs twice", member.name)
        names.add(member.name)
    folders: set[str] = set()
    for name in sorted(names):
        parent = name.rpartition("/")[0]
        while parent and parent not in folders:
            if parent in names:
                raise ZipFormatError(f"a file, and also the folder of {name}", parent)
            folders.add(parent)
            parent = parent.rpartition("/")[0]
