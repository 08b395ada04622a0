"""The headers of a layer's tar: those of the standard library, however they are made."""

from __future__ import annotations

import tarfile

from hypothesis import given
from hypothesis import strategies as st

from packer.core.model import BytesContent
from packer.images.layer_tar import TarMember, tar_header

paths = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("abc/._-"), min_size=1, max_size=140)
lengths = st.sampled_from((0, 1, 511, 512, 0o7777_7777_777, 1 << 33, 1 << 40))


@given(
    paths.filter(lambda path: path.strip("/") == path),
    st.sampled_from((0o644, 0o755)),
    lengths | st.none(),
    st.integers(0, 1 << 34),
)
def test_a_header_is_that_of_tarfile(path, mode, size, epoch):
    info = tarfile.TarInfo(path)
    info.mode, info.mtime = mode, epoch
    if size is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = size
    content = None if size is None else BytesContent(data=b"", digest="", size=size)
    expected = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    assert tar_header(TarMember(path=path, mode=mode, content=content), epoch) == expected


def test_a_path_of_any_length_is_read_back():
    for length in range(1, 300):
        for name in ("a" * length, "ä" * length, "/".join("b" * (length // 2 + 1) for _ in range(2))):
            header = tar_header(TarMember(path=name, mode=0o644, content=BytesContent.of(b"")), 7)
            read = tarfile.TarInfo.frombuf(header[-512:], "utf-8", "surrogateescape")
            assert len(header) > 512 or (read.name, read.mtime, read.uid) == (name, 7, 0)
