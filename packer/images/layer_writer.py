"""Writes an image's layer as the same bytes everywhere, and without compressing again what lies compressed.

A gzip file is a series of members (RFC 1952, 2.2), and what a wheel holds are raw deflate streams. So a layer is written as
one member of lpack's own for what lies between large files (headers, padding, small files), and one for each large file, which
is the wheel's stream with a new head and tail. Only the layer's diff id, the SHA-256 of the tar itself, asks for the raw bytes:
they are inflated ahead, on other threads, and never more than a window of them.

``gzip-whole`` is one single member, for readers that stop after the first; the whole tar is in memory for it. ``zstd`` is one
frame. Its multi-threaded form does not depend on the number of threads (zstd.h, ZSTD_c_nbWorkers), so that one is always used.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import IO, BinaryIO

import deflate
from msgspec import Struct

from packer.cache.deflate import CODEC, compress, inflate
from packer.core.errors import ImageError
from packer.core.model import DEFLATED, Content, Span
from packer.core.options import ImageCompression
from packer.formats.splice import HashingWriter, SpanReader
from packer.images.layer_tar import BLOCK, END, TarMember, tar_header

_SPLICED = 4096
"""Bytes from which on a file is a member of its own; below, what that takes is more than what compressing again gains."""
_CHUNK = 1 << 17
"""Raw bytes of one of lpack's own members, about."""
_STREAMED = 1 << 24
"""Bytes from which on a file is inflated bit by bit."""
_WINDOW = 1 << 25
"""Raw bytes that wait to be written, at most, beside one file."""
_PIECE = 1 << 20
_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""A member's head: deflate, no name, no time, unknown system (RFC 1952, 2.3)."""
_TAIL = struct.Struct("<II")
_MODULO = 0xFFFF_FFFF
_ZSTD_LEVEL, _ZSTD_THREADS = 9, 2


def codec_identity(compression: ImageCompression) -> str:
    """Name all that decides how a layer's bytes come out of its tar: part of every key that stands for one."""
    if compression != "zstd":
        return f"{compression} {CODEC} {_SPLICED} {_CHUNK}"
    import zstandard

    return f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} level {_ZSTD_LEVEL}"


class WrittenLayer(Struct, frozen=True, kw_only=True):
    """A finished layer: ``digest`` (SHA-256, hex) and ``length`` of the file, ``diff_id`` (SHA-256, hex) of the tar."""

    digest: str
    length: int
    diff_id: str


class _Piece(Struct):
    """A part of the tar: raw bytes and small files that lpack compresses, or one large file that lies compressed."""

    raw: list[bytes | Content]
    size: int
    span: Span | None = None


class _Ready(Struct, frozen=True):
    """A part of the tar with its bytes; ``packed`` is its gzip member's body, empty where the span has that."""

    raw: bytes
    packed: bytes
    crc32: int


def write_layer(
    members: Sequence[TarMember],
    file: BinaryIO,
    spans: Callable[[Content], Span],
    executor: Executor,
    compression: ImageCompression,
    epoch: int,
) -> WrittenLayer:
    """Write a layer to an empty file; ``epoch`` is the time of all its files, in seconds.

    Work is spread over ``executor``, on whose number of threads no byte depends; the caller must not be one of them. Raises
    ``OSError`` where the file cannot be written, and an `LpackError` where a content cannot be read.
    """
    pieces = _pieces(members, spans, epoch)
    sink = HashingWriter(file)
    put = _put_of(compression, sink, sum(piece.size for piece in pieces))
    _put_all(pieces, put, executor, gzip=compression == "gzip")
    put.finish()
    return WrittenLayer(digest=sink.finish(), length=sink.length, diff_id=put.diff_id)


def pack_tar(tar: IO[bytes], file: BinaryIO, executor: Executor) -> WrittenLayer:
    """Write a tar from elsewhere as a gzip file, by the same rules, to an empty file."""
    sink = HashingWriter(file)
    put = _Put(sink)
    waiting: deque[Future[_Ready]] = deque()
    try:
        for raw in iter(lambda: tar.read(_PIECE), b""):
            waiting.append(executor.submit(_compress, raw))
            if len(waiting) * _PIECE >= _WINDOW:
                put.made(waiting.popleft().result())
        while waiting:
            put.made(waiting.popleft().result())
    finally:
        for future in waiting:
            future.cancel()
    return WrittenLayer(digest=sink.finish(), length=sink.length, diff_id=put.diff_id)


def _compress(raw: bytes) -> _Ready:
    return _Ready(raw, compress(raw), deflate.crc32(raw))


def _pieces(members: Sequence[TarMember], spans: Callable[[Content], Span], epoch: int) -> list[_Piece]:
    found: list[_Piece] = []
    open_piece = _Piece([], 0)

    def close() -> None:
        nonlocal open_piece
        if open_piece.size:
            found.append(open_piece)
        open_piece = _Piece([], 0)

    def add(part: bytes | Content, size: int) -> None:
        open_piece.raw.append(part)
        open_piece.size += size

    for member in members:
        header = tar_header(member, epoch)
        add(header, len(header))
        content = member.content
        if content is not None:
            span = spans(content) if content.size >= _SPLICED else None
            if span is None:
                add(content, content.size)
            else:
                close()
                found.append(_Piece([], span.size, span))
            padding = -content.size % BLOCK
            if padding:
                add(bytes(padding), padding)
        if open_piece.size >= _CHUNK:
            close()
    add(END, len(END))
    close()
    return found


class _Put:
    """Takes the parts of a tar in their order, as gzip members, and hashes the tar."""

    def __init__(self, sink: HashingWriter) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()

    @property
    def diff_id(self) -> str:
        """The SHA-256 (hex) of the tar so far."""
        return self._hash.hexdigest()

    def made(self, ready: _Ready) -> None:
        """Take a part that was compressed for this."""
        self._hash.update(ready.raw)
        self._sink.write(_HEAD + ready.packed + _TAIL.pack(ready.crc32, len(ready.raw) & _MODULO))

    def spliced(self, raw: Iterable[bytes], span: Span, sources: SpanReader) -> None:
        """Take a file that lies compressed."""
        for data in raw:
            self._hash.update(data)
        self._sink.write(_HEAD)
        self._sink.copy(span, sources)
        self._sink.write(_TAIL.pack(span.crc32, span.size & _MODULO))

    def finish(self) -> None:
        """Write what is left."""


class _PutStream(_Put):
    """Takes the same for one stream over the whole tar."""

    def made(self, ready: _Ready) -> None:
        self._take(ready.raw)

    def spliced(self, raw: Iterable[bytes], span: Span, sources: SpanReader) -> None:
        del span, sources
        for data in raw:
            self._take(data)

    def _take(self, raw: bytes) -> None:
        self._hash.update(raw)
        self.add(raw)

    def add(self, raw: bytes) -> None:
        """Take raw bytes."""
        raise NotImplementedError


class _PutWhole(_PutStream):
    """Compresses a tar by libdeflate as one member, which takes it in memory, and as much again."""

    def __init__(self, sink: HashingWriter) -> None:
        super().__init__(sink)
        self._raw = bytearray()

    def add(self, raw: bytes) -> None:
        self._raw += raw

    def finish(self) -> None:
        tail = _TAIL.pack(deflate.crc32(self._raw), len(self._raw) & _MODULO)
        self._sink.write(_HEAD + compress(self._raw) + tail)


class _PutZstd(_PutStream):
    """Compresses a tar of ``size`` bytes as one frame, with its size and a checksum."""

    def __init__(self, sink: HashingWriter, size: int) -> None:
        import zstandard

        super().__init__(sink)
        made = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, threads=_ZSTD_THREADS, write_checksum=True, write_content_size=True)
        self._stream = made.compressobj(size)

    def add(self, raw: bytes) -> None:
        self._sink.write(self._stream.compress(raw))

    def finish(self) -> None:
        self._sink.write(self._stream.flush())


def _put_of(compression: ImageCompression, sink: HashingWriter, size: int) -> _Put:
    if compression == "zstd":
        return _PutZstd(sink, size)
    return _PutWhole(sink) if compression == "gzip-whole" else _Put(sink)


def _put_all(pieces: Sequence[_Piece], put: _Put, executor: Executor, *, gzip: bool) -> None:
    """Write pieces in their order; they are prepared ahead of it by ``executor``."""
    sources = SpanReader()
    waiting: deque[tuple[_Piece, Future[_Ready] | None]] = deque()
    ahead, held = iter(pieces), 0
    try:
        while True:
            while held < _WINDOW and (piece := next(ahead, None)) is not None:
                large = piece.span is not None and piece.size >= _STREAMED and piece.span.method == DEFLATED
                future = None if large else executor.submit(_prepare_piece, piece, gzip=gzip)
                waiting.append((piece, future))
                held += 0 if large else piece.size
            if not waiting:
                return
            piece, future = waiting.popleft()
            if future is not None:
                ready = future.result()
                held -= piece.size
            if piece.span is None or (future is not None and ready.packed):
                put.made(ready)
            else:
                raw = [ready.raw] if future is not None else _inflate_span(piece.span, sources)
                put.spliced(raw, piece.span, sources)
    finally:
        for _, future in waiting:
            if future is not None:
                future.cancel()
        sources.close()


def _prepare_piece(piece: _Piece, *, gzip: bool) -> _Ready:
    """Inflate or read a piece, and compress what is not compressed yet."""
    if piece.span is not None:
        sources = SpanReader()
        try:
            raw = _read_span(piece.span, sources)
        finally:
            sources.close()
        packed = compress(raw) if gzip and piece.span.method != DEFLATED else b""
        return _Ready(raw, packed, piece.span.crc32)
    raw = b"".join(part if isinstance(part, bytes) else part.read() for part in piece.raw)
    return _compress(raw) if gzip else _Ready(raw, b"", 0)


def _read_span(span: Span, sources: SpanReader) -> bytes:
    try:
        return inflate(span, sources.descriptor(span.path))
    except ValueError as error:
        raise _span_error(span, str(error)) from None


def _inflate_span(span: Span, sources: SpanReader) -> Iterator[bytes]:
    """Inflate a large file bit by bit; raises `ImageError` where it is not what its span says."""
    stream, crc, size = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    try:
        for data in _limit_stream(stream, sources.read(span)):
            crc, size = deflate.crc32(data, crc), size + len(data)
            yield data
    except zlib.error as error:
        raise _span_error(span, f"its compressed data is broken ({error})") from None
    if (crc, size) != (span.crc32, span.size) or not stream.eof:
        raise _span_error(span, "its size or checksum is not the declared one")


def _limit_stream(stream: zlib._Decompress, packed: Iterable[bytes]) -> Iterator[bytes]:
    for data in packed:
        yield stream.decompress(data, _PIECE)
        while stream.unconsumed_tail:
            yield stream.decompress(stream.unconsumed_tail, _PIECE)
    yield stream.flush()


def _span_error(span: Span, why: str) -> ImageError:
    what = f"A file in {span.path.name} cannot be put into an image: {why}."
    return ImageError(what, remedy="Run `lpack cache verify`, and build again.")
