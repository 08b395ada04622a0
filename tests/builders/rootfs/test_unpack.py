"""Unpacking layers: what they hold arrives as any user, whiteouts hide, and hostile ones are refused or stay inside."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from builders.errors import BuildError
from builders.rootfs.unpack import RootFolder, UnsafeLayerError

LNK, SYM, DIR, CHR = tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE
LARGEST = 1 << 20


def file(name: str, data: bytes = b"x", mode: int = 0o644, mtime: int = 1) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, mtime
    return info, data


def other(name: str, kind: bytes, target: str = "", mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info, b""


def unpacked(root: Path, *layers: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """Unpack layers, the lowest first, into a new folder."""
    root.mkdir()
    folder = RootFolder(root, LARGEST)
    for layer in layers:
        folder.begin_layer()
        for info, data in layer:
            folder.add(info.name, info, io.BytesIO(data) if info.isreg() else None)
    return root


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir())


def test_whiteouts_hide_names_and_opaque_ones_all_of_a_folder_but_what_the_layer_brings(tmp_path):
    lower = [file("etc/a"), file("etc/b"), file("var/one/x"), file("var/one/y"), file("var/two/z"), file("opt/deep/er/q")]
    upper = [
        file("etc/.wh.a", b""),
        file("etc/.wh.absent", b""),
        file("var/one/new"),
        file("var/one/.wh..wh..opq", b""),
        file("opt/.wh.deep", b""),
        file("var/.wh..wh.plnk", b""),
        file("var/two/sub/new"),
    ]
    found = unpacked(tmp_path / "root", lower, upper)
    assert names(found) == ["etc/b", "var/one/new", "var/two/sub/new", "var/two/z"]
    assert not (found / "opt/deep").exists()


def test_an_opaque_folder_keeps_new_content_below_folders_of_lower_layers(tmp_path):
    lower = [file("srv/kept/old"), file("srv/gone/old")]
    upper = [file("srv/kept/new"), file("srv/.wh..wh..opq", b"")]
    assert names(unpacked(tmp_path / "root", lower, upper)) == ["srv/kept/new"]


def test_upper_layers_write_through_links_to_folders_and_replace_links_to_files(tmp_path):
    lower = [other("usr/lib", DIR), other("lib", SYM, "usr/lib"), other("etc/zone", SYM, "/usr/lib/zone"), file("usr/lib/zone")]
    upper = [file("lib/libz.so.1", b"z"), file("etc/zone", b"mine"), other("usr/lib/zone", DIR)]
    found = unpacked(tmp_path / "root", lower, upper)
    assert (found / "usr/lib/libz.so.1").read_bytes() == b"z"
    assert (found / "lib").is_symlink()
    assert not (found / "etc/zone").is_symlink()
    assert (found / "usr/lib/zone").is_dir()


def test_a_folder_in_the_place_of_a_link_takes_what_comes_next(tmp_path):
    lower = [other("real", DIR), other("data", SYM, "real"), file("data/one")]
    upper = [other("data", DIR), file("data/two")]
    assert names(unpacked(tmp_path / "root", lower, upper)) == ["data/two", "real/one"]


def test_hard_links_share_their_file_and_may_lead_to_links(tmp_path):
    layer = [file("bin/a", b"same"), other("bin/b", LNK, "./bin/a"), other("bin/c", SYM, "a"), other("bin/d", LNK, "bin/c")]
    found = unpacked(tmp_path / "root", layer)
    assert (found / "bin/a").stat().st_ino == (found / "bin/b").stat().st_ino
    assert (found / "bin/d").readlink() == Path("a")


def test_modes_lose_what_grants_rights_and_files_stay_readable_and_dated(tmp_path):
    layer = [file("bin/su", mode=0o4755, mtime=1234567), file("etc/shadow", mode=0), other("tmp", DIR, mode=0o1777)]
    found = unpacked(tmp_path / "root", [*layer, other("locked", DIR, mode=0), file("locked/x", mtime=-5)])
    modes = {name: stat.S_IMODE((found / name).stat().st_mode) for name in ("bin/su", "etc/shadow", "tmp", "locked")}
    assert modes == {"bin/su": 0o755, "etc/shadow": 0o600, "tmp": 0o755, "locked": 0o700}
    assert ((found / "bin/su").stat().st_mtime, (found / "locked/x").stat().st_mtime) == (1234567, 0)
    assert (found / "bin/su").stat().st_uid == os.getuid()


def test_devices_and_fifos_are_left_out_and_hide_what_was_there(tmp_path):
    layer = [other("dev/null", CHR), other("run/fifo", tarfile.FIFOTYPE), other("etc/hosts", CHR), file("etc/passwd")]
    assert names(unpacked(tmp_path / "root", [file("etc/hosts")], layer)) == ["etc/passwd"]


OUT = "../" * 40
ESCAPES = {
    "a link above, then a file through it": [other("up", SYM, OUT + "{outside}"), file("up/pwned")],
    "an absolute link, then a file through it": [other("abs", SYM, "{outside}"), file("abs/pwned")],
    "a link in the place of a folder": [other("d", DIR), file("d/x"), other("d", SYM, "{outside}"), file("d/pwned")],
    "a hard link through a link": [other("up", SYM, "{outside}"), other("mine", LNK, "up/secret")],
    "a file over a link to a file": [other("f", SYM, "{outside}/secret"), file("f", b"pwned")],
    "a whiteout through a link": [other("up", SYM, "{outside}"), file("up/.wh.secret", b"")],
    "an opaque whiteout through a link": [other("up", SYM, "{outside}"), file("up/.wh..wh..opq", b"")],
    "a whiteout of what is above": [file("usr/.wh...", b"")],
    "a whiteout of itself": [file("usr/.wh..", b"")],
    "a hard link above": [other("mine", LNK, "../outside/secret")],
    "an absolute hard link": [other("mine", LNK, "{outside}/secret")],
    "a path above": [file("usr/../../outside/pwned")],
    "an absolute path": [file("{outside}/pwned")],
}


@pytest.mark.parametrize("layer", ESCAPES.values(), ids=ESCAPES)
def test_nothing_is_read_written_or_removed_outside_of_the_folder(tmp_path, layer):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    before = (outside / "secret").stat()
    for info, _ in layer:
        info.name, info.linkname = (each.replace("{outside}", str(outside)) for each in (info.name, info.linkname))
    with suppress(UnsafeLayerError):
        unpacked(tmp_path / "root", layer)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert (outside / "secret").stat().st_nlink == before.st_nlink == 1


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ([file("a"), file("a/b")], "something lies below a, which is not a folder"),
        ([other("a", SYM, "a"), file("a/b")], "more than 40 symbolic links"),
        ([other("a", LNK, "absent")], "which is no file of it"),
        ([other("d", DIR), other("a", LNK, "d")], "which is no file of it"),
        ([file("a"), other("a", LNK, "a")], "is a link to itself"),
        ([file("a/b"), other("a", LNK, "a/b")], "takes the place of what it leads to"),
        ([other("a", SYM, "")], "leads nowhere"),
        ([file("a", b"x" * LARGEST), file("b")], "its files have more than 1,048,576 bytes"),
    ],
)
def test_a_layer_that_cannot_be_unpacked_is_refused(tmp_path, layer, told):
    with pytest.raises(BuildError, match=told):
        unpacked(tmp_path / "root", layer)


def test_a_sparse_file_counts_with_all_of_its_bytes(tmp_path):
    info, _ = file("huge")
    info.size = 1 << 45
    (tmp_path / "root").mkdir()
    with pytest.raises(UnsafeLayerError, match="more than"):
        RootFolder(tmp_path / "root", LARGEST).add("huge", info, io.BytesIO(b""))


def test_folders_that_no_layer_lists_are_everybodys_to_read_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        root = unpacked(tmp_path / "root", [file("opt/in/tool", mode=0o755)])
    finally:
        os.umask(before)
    assert [stat.S_IMODE((root / path).stat().st_mode) for path in ("opt", "opt/in", "opt/in/tool")] == [0o755] * 3


def test_folders_that_cannot_be_removed_by_recursion_are_refused(tmp_path):
    with pytest.raises(UnsafeLayerError, match="lies in more than 200 folders"):
        unpacked(tmp_path / "one", [file("d/" * 600 + "x")])
    deep = "d/" * 150
    linked = [file(deep + "x"), other("link", SYM, deep.rstrip("/")), file("link/" + deep + "x")]
    with pytest.raises(UnsafeLayerError, match="leads into more than 200 folders"):
        unpacked(tmp_path / "two", linked)
