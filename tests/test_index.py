"""The tests' own index is real enough: uv and pip resolve and install from it, and its faults are what they claim to be."""

from __future__ import annotations

import filecmp
import http.client
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import requests
from packaging.utils import parse_wheel_filename

from packer.core.process import uv_command
from tests.index import Fault, LocalIndex
from tests.packages import FIXTURES, NATIVE_TAGS
from tests.wheels import make_wheel

ALPHA = "alpha-1.1-py3-none-any.whl"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def compile_for(index_url: str, folder: Path, requirements: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
    source = folder / "requirements.in"
    source.write_text("\n".join(requirements) + "\n")
    fixed = ("--default-index", index_url, "--no-header", "--no-annotate", "--cache-dir", str(folder / "uv"))
    return run(uv_command(), "pip", "compile", "-q", *fixed, *options, str(source))


def pip_download(index_url: str, folder: Path, *requirements: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "pip", "download", "-q", "--index-url", index_url, "-d", str(folder), *requirements)


def get(url: str, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, headers=headers, timeout=10)


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("html_only", [True, False])
def test_uv_resolves(index_folder: Path, tmp_path: Path, *, metadata: bool, html_only: bool) -> None:
    with LocalIndex(index_folder, metadata=metadata, html_only=html_only) as index:
        found = compile_for(index.url, tmp_path, ["alpha", "gamma"])
    assert found.stdout.split() == ["alpha==1.1", "beta==1.0", "gamma==1.0"], found.stderr
    asked = {request.filename for request in index.requests}
    assert (f"{ALPHA}.metadata" in asked) is metadata
    assert (ALPHA in asked) is not metadata


def test_uv_writes_a_lock_with_hashes_and_sizes(index: LocalIndex, tmp_path: Path) -> None:
    found = compile_for(index.url, tmp_path, ["beta==2.0"], "--format", "pylock.toml")
    assert index.sha256("beta-2.0-py3-none-any.whl") in found.stdout, found.stderr
    assert f"size = {(index.folder / 'beta-2.0-py3-none-any.whl').stat().st_size}" in found.stdout


def test_uv_sees_the_conflict_of_gamma_and_delta(index: LocalIndex, tmp_path: Path) -> None:
    found = compile_for(index.url, tmp_path, ["gamma", "delta"])
    assert found.returncode != 0
    assert "gamma" in found.stderr
    assert "delta" in found.stderr


def test_uv_evaluates_markers_for_the_platform_it_is_given(index: LocalIndex, tmp_path: Path) -> None:
    for machine, expected in {"aarch64": "beta==1.0 marked==1.0", "x86_64": "beta==1.0 gamma==1.0 marked==1.0"}.items():
        options = ("--python-platform", f"{machine}-manylinux_2_28", "--python-version", "3.12")
        assert compile_for(index.url, tmp_path, ["marked"], *options).stdout.split() == expected.split()


def test_uv_builds_the_source_only_package_without_a_network(index: LocalIndex, tmp_path: Path) -> None:
    found = run(uv_command(), "pip", "install", "-q", "--target", str(tmp_path / "site"), "greeting")
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "site/greeting/words.txt").read_text() == "Hello, {name}!\n"
    assert index.requests_for("greeting-1.2.0.tar.gz")


def test_pip_builds_a_wheel_for_this_machine_alone(index: LocalIndex, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--index-url", index.url, "-w", str(tmp_path), "bound"]
    found = run(*command)
    assert found.returncode == 0, found.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert not wheel.name.endswith("-any.whl")


def test_pip_downloads_with_dependencies(index: LocalIndex, tmp_path: Path) -> None:
    found = pip_download(index.url, tmp_path / "wheels", "alpha", "gamma")
    assert found.returncode == 0, found.stderr
    wheels = sorted(path.name for path in (tmp_path / "wheels").iterdir())
    assert wheels == [ALPHA, "beta-1.0-py3-none-any.whl", "gamma-1.0-py3-none-any.whl"]
    assert filecmp.cmp(tmp_path / "wheels" / ALPHA, index.folder / ALPHA, shallow=False)


def test_pip_refuses_another_content_than_promised(index: LocalIndex, tmp_path: Path) -> None:
    index.fault("beta-2.0-py3-none-any.whl", Fault(content=(index.folder / ALPHA).read_bytes()))
    found = pip_download(index.url, tmp_path / "wheels", "--no-deps", "beta==2.0")
    assert found.returncode != 0
    assert "hash" in found.stderr.lower()


@pytest.mark.parametrize("name", ["schemes", "native"])
def test_pip_installs_what_the_wheel_factory_makes(index: LocalIndex, tmp_path: Path, name: str) -> None:
    options = ["--platform", "manylinux_2_34_x86_64", "--python-version", "3.12", "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", str(tmp_path / "site"), *options, name]
    found = run(*command, "--index-url", index.url)
    assert found.returncode == 0, found.stderr
    installed = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*")}
    expected = {
        "native": {"native/_core.so"},
        "schemes": {"bin/schemes-tool", "schemes/pure.py", "schemes/plat.py", "share/schemes/words.txt"},
    }
    assert expected[name] <= installed


def test_a_private_index_wants_its_password(private_index: LocalIndex, tmp_path: Path) -> None:
    assert compile_for(private_index.url, tmp_path, ["beta"]).returncode != 0
    assert not any(request.authorised for request in private_index.requests)
    found = compile_for(private_index.url_with_login, tmp_path, ["beta"])
    assert found.stdout.split() == ["beta==2.0"], found.stderr
    assert private_index.requests[-1].authorised
    assert "authorization" not in private_index.requests[-1].headers
    assert pip_download(private_index.url_with_login, tmp_path / "wheels", "beta").returncode == 0


def test_the_index_records_what_was_asked(index: LocalIndex) -> None:
    assert get(index.file_url(ALPHA), Range="bytes=10-19").content == (index.folder / ALPHA).read_bytes()[10:20]
    assert get(index.file_url("absent.whl")).status_code == 404
    ranged, missing = index.requests
    assert (ranged.method, ranged.filename, ranged.headers["range"], ranged.status) == ("GET", ALPHA, "bytes=10-19", 206)
    assert (missing.filename, missing.status, missing.authorised) == ("absent.whl", 404, False)


def test_index_serves_ranges_of_files(index: LocalIndex) -> None:
    data = (index.folder / ALPHA).read_bytes()
    assert get(index.file_url(ALPHA), Range="bytes=100-").content == data[100:]
    assert get(index.file_url(ALPHA), Range="bytes=-7").content == data[-7:]
    assert get(index.file_url(ALPHA), Range=f"bytes={len(data)}-").status_code == 416
    index.fault(ALPHA, Fault(ignore_ranges=True))
    whole = get(index.file_url(ALPHA), Range="bytes=100-")
    assert (whole.status_code, whole.content) == (200, data)


def test_a_connection_drops_for_the_first_requests_only(index: LocalIndex) -> None:
    index.fault(ALPHA, Fault(drop_after=50, times=2))
    for _ in range(2):
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="50 bytes read"):
            get(index.file_url(ALPHA))
    assert get(index.file_url(ALPHA)).content == (index.folder / ALPHA).read_bytes()


def test_index_answers_with_statuses_and_delays(index: LocalIndex) -> None:
    index.fault(ALPHA, Fault(status=503, retry_after=2, times=1))
    refused = get(index.file_url(ALPHA))
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert get(index.file_url(ALPHA)).status_code == 200
    index.fault("beta", Fault(status=429, times=1))
    assert [get(f"{index.url}/beta/").status_code for _ in range(2)] == [429, 200]


def test_truncation_looks_like_a_whole_file(index: LocalIndex) -> None:
    index.fault(ALPHA, Fault(truncate_to=80))
    answer = get(index.file_url(ALPHA))
    assert (answer.status_code, answer.headers["Content-Length"], len(answer.content)) == (200, "80", 80)


def test_slow_answer_takes_the_time_that_was_set(index: LocalIndex) -> None:
    index.fault(ALPHA, Fault(drip=200, pause=0.05))
    before = time.monotonic()
    data = get(index.file_url(ALPHA)).content
    assert data == (index.folder / ALPHA).read_bytes()
    assert time.monotonic() - before >= 0.05 * (len(data) // 200)


def test_closing_ends_connections_that_clients_keep(index_folder: Path) -> None:
    with LocalIndex(index_folder) as index:
        kept = http.client.HTTPConnection(index.address.removeprefix("http://"), timeout=5)
        kept.request("GET", "/simple/")
        assert kept.getresponse().read()
    assert kept.sock.recv(1) == b""
    kept.close()
    with pytest.raises(ConnectionRefusedError):
        kept.connect()
    kept.close()


def test_files_may_be_added_while_it_runs(index: LocalIndex, tmp_path: Path) -> None:
    make_wheel(index.folder, "added", "3.0", {"added.py": b""})
    assert compile_for(index.url, tmp_path, ["added"]).stdout.split() == ["added==3.0"]


def test_nothing_but_the_local_index_is_in_reach(tmp_path: Path) -> None:
    assert os.environ["UV_DEFAULT_INDEX"] == os.environ["PIP_INDEX_URL"]
    assert get_status_of_nowhere() == "refused"
    assert run(uv_command(), "pip", "install", "--target", str(tmp_path), "six").returncode != 0


def get_status_of_nowhere() -> str:
    try:
        get(os.environ["UV_DEFAULT_INDEX"])
    except requests.ConnectionError:
        return "refused"
    return "answered"


def test_every_native_wheel_is_there_and_named_rightly(index: LocalIndex) -> None:
    names = sorted(path.name for path in index.folder.glob("native-*.whl"))
    assert len(names) == len(NATIVE_TAGS)
    for name in names:
        tag = name.removeprefix("native-1.0-").removesuffix(".whl")
        with zipfile.ZipFile(index.folder / name) as archive:
            declared = {line.removeprefix("Tag: ") for line in archive.read("native-1.0.dist-info/WHEEL").decode().splitlines()}
        assert {str(found) for found in parse_wheel_filename(name)[3]} <= declared
        assert tag in NATIVE_TAGS


def test_both_fixture_projects_have_the_same_back_end() -> None:
    one, other = (FIXTURES / "packages" / name / "backend.py" for name in ("greeting", "shared_lib"))
    assert filecmp.cmp(one, other, shallow=False)
