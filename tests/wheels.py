"""Makes wheels and ZIP archives for tests: correct ones, and ones that are wrong in one chosen way.

`make_wheel` writes a correct wheel. To get a broken one, take `wheel_members`, change what should be wrong, and write the rest
with `write_members`; what zipfile would refuse to write (lying headers, overlapping members) is made with `RawZip`.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from msgspec import Struct, field

STORED, DEFLATED = 0, 8
ENCRYPTED, DESCRIPTOR, UTF8 = 0x0001, 0x0008, 0x0800
"""Bits of a ZIP member's general purpose flags (APPNOTE.TXT 4.4.4)."""
REGULAR, SYMLINK, FOLDER = 0o100000, 0o120000, 0o040000
_ALL_ONES = 0xFFFFFFFF
_TIME, _DATE = 0x6B2F, 0x58C3  # an ordinary afternoon: readers must not depend on 1980


def info_folder(name: str, version: str) -> str:
    """Give the name of a wheel's dist-info folder, without a slash."""
    return f"{name.replace('-', '_')}-{version}.dist-info"


def wheel_filename(name: str, version: str, tag: str = "py3-none-any", build: str = "") -> str:
    """Give the file name of a wheel."""
    return "-".join(filter(None, (name.replace("-", "_"), version, build, tag))) + ".whl"


def metadata_text(
    name: str, version: str, *, requires: Iterable[str] = (), requires_python: str = "", extras: Iterable[str] = ()
) -> str:
    """Give core metadata (version 2.1)."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Summary: made for a test"]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return "\n".join(lines) + "\n"


def generator_text(tag: str, *, version: str = "1.0", build: str = "", purelib: bool | None = None) -> str:
    """Give the text of a wheel's WHEEL file; compressed tags are expanded, as the format asks for."""
    interpreters, abis, platforms = (part.split(".") for part in tag.split("-"))
    pure = tag.endswith("-none-any") if purelib is None else purelib
    lines = [f"Wheel-Version: {version}", "Generator: tests", f"Root-Is-Purelib: {'true' if pure else 'false'}"]
    lines += [f"Build: {build}"] if build else []
    lines += [f"Tag: {i}-{a}-{p}" for i in interpreters for a in abis for p in platforms]
    return "\n".join(lines) + "\n"


def record_row(path: str, data: bytes, algorithm: str = "sha256") -> str:
    """Give one line of RECORD, without its end."""
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).rstrip(b"=").decode()
    quoted = '"' + path.replace('"', '""') + '"' if any(mark in path for mark in ',"\r\n') else path
    return f"{quoted},{algorithm}={digest},{len(data)}"


def record_rows(members: Mapping[str, bytes], info: str) -> list[str]:
    """Give the lines of a correct RECORD for all members."""
    record = f"{info}/RECORD"
    rows = [record_row(path, data) for path, data in members.items() if path != record and not path.endswith("/")]
    return [*rows, f"{record},,"]


class Options(TypedDict, total=False):
    """How a wheel may differ from the plainest one.

    ``replace`` maps a name in the dist-info folder to its text, or to None so that it is missing; ``record`` replaces the
    lines of RECORD.
    """

    requires: Iterable[str]
    requires_python: str
    extras: Iterable[str]
    replace: Mapping[str, str | None]
    record: Sequence[str]


def wheel_members(
    name: str,
    version: str,
    files: Mapping[str, bytes],
    *,
    tag: str = "py3-none-any",
    build: str = "",
    **options: Unpack[Options],
) -> dict[str, bytes]:
    """Give every member of a wheel, RECORD last."""
    info = info_folder(name, version)
    metadata = metadata_text(
        name,
        version,
        requires=options.get("requires", ()),
        requires_python=options.get("requires_python", ""),
        extras=options.get("extras", ()),
    )
    texts = {"METADATA": metadata, "WHEEL": generator_text(tag, build=build), **options.get("replace", {})}
    members = dict(files)
    members |= {f"{info}/{key}": text.encode() for key, text in texts.items() if text is not None}
    if "RECORD" not in texts:
        rows = options.get("record", record_rows(members, info))
        members[f"{info}/RECORD"] = "".join(row + "\n" for row in rows).encode()
    return members


def write_members(
    path: Path, members: Mapping[str, bytes], *, modes: Mapping[str, int] | None = None, method: int = DEFLATED
) -> Path:
    """Write an ordinary ZIP archive with the standard library."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, date_time=(2024, 6, 3, 13, 25, 30))
            info.compress_type = method
            info.external_attr = (REGULAR | (modes or {}).get(name, 0o644)) << 16
            archive.writestr(info, data)
    return path


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, bytes],
    *,
    tag: str = "py3-none-any",
    build: str = "",
    modes: Mapping[str, int] | None = None,
    method: int = DEFLATED,
    **options: Unpack[Options],
) -> Path:
    """Write a wheel to a folder and give its path; correct unless the `Options` say otherwise."""
    members = wheel_members(name, version, files, tag=tag, build=build, **options)
    folder.mkdir(parents=True, exist_ok=True)
    return write_members(folder / wheel_filename(name, version, tag, build), members, modes=modes, method=method)


class RawMember(Struct, frozen=True, kw_only=True):
    """One member of a `RawZip`. What is None follows from ``name`` and ``data``; anything else is written as it is.

    The ``local_`` values are for the local header alone, the others for the central directory and, where no local value
    is given, for the local header too. ``stream`` are the compressed bytes. ``offset`` is where the central directory says
    that the local header lies. ``absent`` leaves the local header and the bytes out, ``hidden`` the central directory's record.
    """

    name: str | bytes
    data: bytes = b""
    method: int = DEFLATED
    mode: int = REGULAR | 0o644
    system: int = 3
    flags: int = 0
    stream: bytes | None = None
    crc32: int | None = None
    length: int | None = None
    size: int | None = None
    offset: int | None = None
    local_name: str | bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_crc32: int | None = None
    local_length: int | None = None
    local_size: int | None = None
    extra: bytes = b""
    descriptor: bool = False
    zip64: bool = False
    absent: bool = False
    hidden: bool = False

    @property
    def raw_name(self) -> bytes:
        return self.name.encode() if isinstance(self.name, str) else self.name

    @property
    def raw_stream(self) -> bytes:
        if self.stream is not None:
            return self.stream
        return self.data if self.method == STORED else deflated(self.data)

    @property
    def all_flags(self) -> int:
        utf8 = 0 if self.raw_name.isascii() or isinstance(self.name, bytes) else UTF8
        return self.flags | utf8 | (DESCRIPTOR if self.descriptor else 0)

    @property
    def facts(self) -> tuple[int, int, int]:
        """CRC-32, length and size as the central directory has them."""
        return (
            zlib.crc32(self.data) if self.crc32 is None else self.crc32,
            len(self.raw_stream) if self.length is None else self.length,
            len(self.data) if self.size is None else self.size,
        )

    def local(self) -> bytes:
        """Give the local header, the compressed bytes and the data descriptor."""
        given = (self.local_crc32, self.local_length, self.local_size)
        crc32, length, size = (0, 0, 0) if self.descriptor else self.facts
        crc32, length, size = (fact if own is None else own for own, fact in zip(given, (crc32, length, size), strict=True))
        extra = self.extra
        if self.zip64:
            extra += struct.pack("<2H2Q", 1, 16, size, length)
            length = size = _ALL_ONES
        name = self.raw_name if self.local_name is None else self.local_name
        name = name.encode() if isinstance(name, str) else name
        method = self.method if self.local_method is None else self.local_method
        flags = self.all_flags if self.local_flags is None else self.local_flags
        header = struct.pack(
            "<4s5H3I2H", b"PK\x03\x04", 45, flags, method, _TIME, _DATE, crc32, length, size, len(name), len(extra)
        )
        return header + name + extra + self.raw_stream + self._data_descriptor()

    def _data_descriptor(self) -> bytes:
        if not self.descriptor:
            return b""
        return struct.pack("<4sI2Q" if self.zip64 else "<4s3I", b"PK\x07\x08", *self.facts)

    def central(self, offset: int) -> bytes:
        """Give the central directory's record of a member whose local header lies at ``offset``."""
        crc32, length, size = self.facts
        offset = offset if self.offset is None else self.offset
        extra = self.extra
        if self.zip64:
            extra += struct.pack("<2H3Q", 1, 24, size, length, offset)
            length = size = offset = _ALL_ONES
        name = self.raw_name
        made_by = self.system << 8 | 45
        sizes = (crc32, length, size, len(name), len(extra), 0, 0, 0)
        header = struct.pack(
            "<4s6H3I5H2I",
            b"PK\x01\x02",
            made_by,
            45,
            self.all_flags,
            self.method,
            _TIME,
            _DATE,
            *sizes,
            self.mode << 16 if self.system == 3 else 0,
            offset,
        )
        return header + name + extra


class RawZip(Struct, kw_only=True):
    """Puts a ZIP archive together byte by byte, and believes whatever it is told.

    ``prefix`` stands before the first member; offsets count it unless ``shifted`` is false (as when junk was prepended to a
    finished archive). ``suffix`` follows the end record, ``comment`` is a legal comment in it. ``count``,
    ``directory_offset`` and ``directory_length`` replace the end record's true values; ``zip64`` adds the ZIP64 end
    records, ``disk`` is the disk number.
    """

    members: list[RawMember] = field(default_factory=list)
    prefix: bytes = b""
    shifted: bool = True
    suffix: bytes = b""
    comment: bytes = b""
    count: int | None = None
    directory_offset: int | None = None
    directory_length: int | None = None
    zip64: bool = False
    disk: int = 0

    @classmethod
    def of(cls, members: Mapping[str, bytes]) -> RawZip:
        """Start from ordinary members."""
        return cls(members=[RawMember(name=name, data=data) for name, data in members.items()])

    def build(self) -> bytes:
        """Give the archive's bytes."""
        out = bytearray(self.prefix)
        directory = bytearray()
        base = 0 if self.shifted else len(self.prefix)
        for member in self.members:
            offset = len(out) - base
            if not member.absent:
                out += member.local()
            if not member.hidden:
                directory += member.central(offset)
        start = len(out) - base
        out += directory
        out += self._end(len(out) - base, start, len(directory))
        return bytes(out) + self.suffix

    def _end(self, here: int, start: int, length: int) -> bytes:
        visible = sum(not member.hidden for member in self.members)
        count = visible if self.count is None else self.count
        start = start if self.directory_offset is None else self.directory_offset
        length = length if self.directory_length is None else self.directory_length
        wide = b""
        if self.zip64:
            wide = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, self.disk, 0, count, count, length, start)
            wide += struct.pack("<4sIQI", b"PK\x06\x07", 0, here, 1)
            count, length, start = 0xFFFF, _ALL_ONES, _ALL_ONES
        end = struct.pack("<4s4H2IH", b"PK\x05\x06", self.disk, 0, count, count, length, start, len(self.comment))
        return wide + end + self.comment

    def write(self, path: Path) -> Path:
        """Write the archive's bytes to a file and give its path."""
        path.write_bytes(self.build())
        return path


def deflated(data: bytes, level: int = 6) -> bytes:
    """Give a raw deflate stream."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()
