"""Measures the compressors that could make lpack's own deflate streams: ``python -m bench.codecs``.

Sizes and speeds on the Python sources and the shared libraries of the workloads' own wheels. A codec whose package is not
installed is named and left out.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict
from platformdirs import user_cache_path

from bench.machine import machine
from bench.peers import download
from bench.rows import RESULTS

KINDS = {".py": "Python sources", ".so": "shared libraries"}
_RAW = -15
"""zlib's window bits for a raw deflate stream of the widest window."""

Compress = Callable[[bytes], bytes]


class Codec(Struct, frozen=True, kw_only=True):
    """One way to compress; ``load`` raises `ImportError` where its package is not there.

    ``processors`` says whether the bytes stay the same on every processor.
    """

    name: str
    package: str
    load: Callable[[], Compress]
    processors: str


class Result(Struct, frozen=True, kw_only=True):
    """One codec on one kind of file. Speeds are raw bytes a second; ``two_threads`` is the gain of a second thread.

    ``digest`` is the SHA-256 of all streams in order: equal on two machines where the codec gives both the same bytes.
    """

    codec: str
    kind: str
    speed: float
    two_threads: float
    raw: int
    packed: int
    digest: str


def _libdeflate(level: int) -> Compress:
    compress = importlib.import_module("deflate").deflate_compress
    return lambda data: bytes(compress(data, level))


def _zlib_like(module: str, level: int) -> Compress:
    library: Any = importlib.import_module(module)

    def compress(data: bytes) -> bytes:
        stream = library.compressobj(level, zlib.DEFLATED, _RAW)
        return bytes(stream.compress(data) + stream.flush())

    return compress


# libdeflate's author: deterministic for one version, not across versions (ebiggers/libdeflate, issue 400). zlib-ng was seen to
# differ between x86 and ARM (trifectatechfoundation/zlib-rs, issue 91). ISA-L: no promise was found (intel/isa-l, issue 140).
_SAME = "the same, for one version of libdeflate"
_OWN = "may differ: the code that finds matches is chosen by instruction set"

CODECS = (
    *(
        Codec(name=f"libdeflate {level}", package="deflate", load=partial(_libdeflate, level), processors=_SAME)
        for level in (1, 6, 9, 12)
    ),
    Codec(
        name="zlib 6",
        package="",
        load=partial(_zlib_like, "zlib", 6),
        processors="the same for one zlib; Python may be built with zlib-ng, or a distribution's patched zlib",
    ),
    Codec(name="isal 2", package="isal", load=partial(_zlib_like, "isal.isal_zlib", 2), processors=_OWN),
    Codec(name="zlib-ng 6", package="zlib-ng", load=partial(_zlib_like, "zlib_ng.zlib_ng", 6), processors=_OWN),
)


def corpus(wheels: Sequence[Path], suffix: str, limit: int) -> list[bytes]:
    """Give about ``limit`` bytes of the files of one suffix: whole files, spread evenly over all wheels."""
    with ExitStack() as stack:
        archives = [stack.enter_context(zipfile.ZipFile(wheel)) for wheel in wheels]
        members = [
            (member.file_size, member.filename, archive)
            for archive in archives
            for member in archive.infolist()
            if member.filename.endswith(suffix) or f"{suffix}." in member.filename
        ]
        # Every n-th by size, so that the mix of small and large files is that of the whole.
        members.sort(key=lambda member: member[:2])
        step = max(1, round(sum(size for size, _, _ in members) / limit))
        return [archive.read(name) for _, name, archive in members[step // 2 :: step]]


def measure(codec: Codec, compress: Compress, kind: str, files: list[bytes]) -> Result:
    """Compress all files in one thread, then in two that take the files from one queue."""
    started = time.perf_counter()
    streams = [compress(data) for data in files]
    alone = time.perf_counter() - started
    for data, stream in zip(files, streams, strict=True):
        if zlib.decompress(stream, _RAW) != data:
            raise SystemExit(f"{codec.name} gave a stream that does not inflate to its input.")
    with ThreadPoolExecutor(2) as pool:
        started = time.perf_counter()
        # The largest first, or the second thread would be idle while the last one is compressed.
        list(pool.map(compress, sorted(files, key=len, reverse=True)))
        together = time.perf_counter() - started
    raw = sum(map(len, files))
    return Result(
        codec=codec.name,
        kind=kind,
        speed=raw / alone,
        two_threads=alone / together,
        raw=raw,
        packed=sum(map(len, streams)),
        digest=hashlib.sha256(b"".join(streams)).hexdigest(),
    )


def _measured(limit: int, wheels: Sequence[Path]) -> Iterator[Result]:
    for suffix, kind in KINDS.items():
        files = corpus(wheels, suffix, limit)
        for codec in CODECS:
            try:
                compress = codec.load()
            except ImportError:
                print(f"{codec.name}: left out; `pip install {codec.package}` brings it.", file=sys.stderr)
                continue
            result = measure(codec, compress, kind, files)
            print(f"{kind}, {codec.name}: {result.speed / 1e6:.0f} MB/s", file=sys.stderr, flush=True)
            yield result


def markdown(results: Sequence[Result]) -> str:
    """Give one line a codec: size, speed and the gain of a second thread for each kind of file."""
    kinds = tuple(KINDS.values())
    head = [
        "codec",
        *(f"{kind}: {what}" for kind in kinds for what in ("size", "MB/s", "two threads")),
        "bytes across processors",
    ]
    lines = [head, ["---"] * len(head)]
    for codec in CODECS:
        mine = {result.kind: result for result in results if result.codec == codec.name}
        if mine:
            cells = [_cells(mine[kind]) for kind in kinds]
            lines.append([codec.name, *(cell for three in cells for cell in three), codec.processors])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(result: Result) -> tuple[str, str, str]:
    return f"{result.packed / result.raw:.2%}", f"{result.speed / 1e6:.0f}", f"{result.two_threads:.2f}x"


def main() -> None:
    """Print the table and write bench/results/codecs.json."""
    parser = argparse.ArgumentParser(prog="python -m bench.codecs", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=40, help="bytes of each kind of file (default: %(default)s MB)")
    parser.add_argument("--cache", type=Path, default=user_cache_path("lpack-bench"), help="where the wheels are kept")
    options = parser.parse_args()
    wheels = download(options.cache.absolute())
    results = list(_measured(options.megabytes * 1_000_000, wheels))
    packages = {codec.package: _version(codec.package) for codec in CODECS if codec.package}
    RESULTS.mkdir(exist_ok=True)
    document = {
        "schema": 1,
        "machine": machine(),
        "versions": {"zlib": zlib.ZLIB_RUNTIME_VERSION, **packages},
        "results": [asdict(result) for result in results],
    }
    (RESULTS / "codecs.json").write_text(json.dumps(document, indent=2) + "\n")
    print(markdown(results))
    raw = ", ".join(sorted({f"{result.raw / 1e6:.0f} MB of {result.kind}" for result in results}))
    print(f"\n{raw}; zlib {zlib.ZLIB_RUNTIME_VERSION}, {', '.join(f'{k} {v}' for k, v in packages.items() if v)}.")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
