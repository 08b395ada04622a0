"""The headers of the ZIP file format (PKWARE APPNOTE.TXT 6.3.10), and how lpack writes them: all metadata neutral."""

from __future__ import annotations

import stat
import struct

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
END64 = struct.Struct("<4sQ2H2I4Q")
LOCATOR64 = struct.Struct("<4sIQI")
LOCAL_SIGNATURE, CENTRAL_SIGNATURE, END_SIGNATURE = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
END64_SIGNATURE, LOCATOR64_SIGNATURE = b"PK\x06\x06", b"PK\x06\x07"
ZIP64_TAG, UNICODE_PATH_TAG = 0x0001, 0x7075
MAX16, MAX32 = 0xFFFF, 0xFFFFFFFF
ENCRYPTED, DESCRIPTOR, PATCHED, STRONG, UTF8, MASKED = 0x0001, 0x0008, 0x0020, 0x0040, 0x0800, 0x2000
UNIX = 3
# 1980-01-01 00:00:00, the earliest time that the format can express.
_DOS_TIME, _DOS_DATE = 0, (1 << 5) | 1
_VERSION, _VERSION64 = 20, 45


def local_header(name: bytes, method: int, crc32: int, length: int, size: int) -> bytes:
    """Make a local header with neutral metadata; ZIP64 where a size requires it."""
    flags = 0 if name.isascii() else UTF8
    if length >= MAX32 or size >= MAX32:
        extra = struct.pack("<2H2Q", ZIP64_TAG, 16, size, length)
        return (
            LOCAL.pack(
                LOCAL_SIGNATURE, _VERSION64, flags, method, _DOS_TIME, _DOS_DATE, crc32, MAX32, MAX32, len(name), len(extra)
            )
            + name
            + extra
        )
    return LOCAL.pack(LOCAL_SIGNATURE, _VERSION, flags, method, _DOS_TIME, _DOS_DATE, crc32, length, size, len(name), 0) + name


def central_record(name: bytes, mode: int, method: int, crc32: int, length: int, size: int, offset: int) -> bytes:
    """Make a central directory record: a regular file of Unix permissions ``mode``."""
    flags = 0 if name.isascii() else UTF8
    wide = b""
    # The order of the values is the format's: size, length, offset (APPNOTE.TXT 4.5.3).
    if size >= MAX32 or length >= MAX32:
        wide += struct.pack("<2Q", size, length)
        size = length = MAX32
    if offset >= MAX32:
        wide += struct.pack("<Q", offset)
        offset = MAX32
    extra = struct.pack("<2H", ZIP64_TAG, len(wide)) + wide if wide else b""
    version = _VERSION64 if wide else _VERSION
    return (
        CENTRAL.pack(
            CENTRAL_SIGNATURE,
            UNIX << 8 | version,
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
    if count >= MAX16 or length >= MAX32 or offset >= MAX32:
        end = offset + length
        wide = END64.pack(
            END64_SIGNATURE, END64.size - 12, UNIX << 8 | _VERSION64, _VERSION64, 0, 0, count, count, length, offset
        ) + LOCATOR64.pack(LOCATOR64_SIGNATURE, 0, end, 1)
        count, length, offset = min(count, MAX16), min(length, MAX32), min(offset, MAX32)
    return wide + END.pack(END_SIGNATURE, 0, 0, count, count, length, offset, 0)
