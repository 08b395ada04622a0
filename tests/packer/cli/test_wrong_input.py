"""Wrong input and a hostile world, one by one: a clear error, the designed exit status, and nothing lost."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import tomllib
import zipfile

import pytest

from packer.cache.local import LocalStore
from packer.cache.prune import verify_store
from tests.index import Fault
from tests.native import NEW_SYMBOL, compile_library
from tests.packer.cli.test_build import CONFIG, build, names, project
from tests.wheels import make_wheel

OUTPUT = ["lpack.json", "orders.cdx.json", "orders.zip", "users.cdx.json", "users.zip"]
"""What a build of both functions leaves."""


def refused(finished: subprocess.CompletedProcess[str], status: int, *parts: str) -> None:
    assert finished.returncode == status, finished.stderr
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    for part in parts:
        assert part in finished.stderr


def test_unknown_key(tmp_path, lpack, cache):
    folder = project(tmp_path / "project")
    (folder / "lpack.toml").write_text(CONFIG + 'handeler = "x"\n')
    refused(lpack("build", cwd=folder), 2, "lpack.toml: functions.users.handeler", "Did you mean 'handler'?")


def test_unknown_function_and_no_configuration(tmp_path, lpack, cache):
    folder = project(tmp_path / "project")
    refused(lpack("build", "nobody", cwd=folder), 2, "There is no function 'nobody'", "orders, users")
    (tmp_path / "empty").mkdir()
    refused(lpack("build", cwd=tmp_path / "empty"), 2, "There is no lpack.toml", "lpack init")
    refused(lpack("build", "./nowhere", cwd=folder), 2, "There is no folder")
    (folder / "more").mkdir()
    refused(lpack("build", "more", cwd=folder), 2, "There is no function 'more'", "write ./more")


def test_missing_handler_file(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    (folder / "orders" / "app.py").rename(folder / "orders" / "main.py")
    refused(lpack("build", cwd=folder), 2, "The handler app.handler of orders does not exist", "main.py")


def test_unsatisfiable_requirements(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project", orders="gamma\ndelta\n")
    refused(
        lpack("build", cwd=folder), 1, "No set of versions satisfies", "orders/requirements.txt", "python3.12-x86_64", "beta"
    )


def test_a_package_that_does_not_exist(tmp_path, lpack, index, cache):
    refused(lpack("build", cwd=project(tmp_path / "project", orders="no-such-thing\n")), 1, "no-such-thing")


def test_every_failing_function_is_told(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project", orders="no-such-thing\n", users="neither-this\n")
    refused(lpack("build", cwd=folder), 1, "no-such-thing", "neither-this")


def test_no_fitting_wheel_names_what_exists(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project", orders="elsewhere\n")
    (folder / "pylock.orders.toml").write_text(
        'lock-version = "1.0"\ncreated-by = "hand"\n[[packages]]\nname = "elsewhere"\nversion = "1.0"\nwheels = ['
        f'{{ url = "{index.file_url("elsewhere-1.0-cp312-cp312-win_amd64.whl")}", '
        f'hashes = {{ sha256 = "{index.sha256("elsewhere-1.0-cp312-cp312-win_amd64.whl")}" }} }}]\n'
    )
    finished = lpack("build", cwd=folder)
    refused(finished, 1, "elsewhere 1.0 has no wheel for python3.12-x86_64", "cp312-cp312-win_amd64", "Choose a version")


def test_a_source_with_native_code_is_refused_with_a_remedy(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project", orders="bound\n")
    (folder / "lpack.toml").write_text('builder = "host"\n' + CONFIG)
    finished = lpack("build", cwd=folder)
    refused(finished, 1, "Cannot build bound", "python3.12-x86_64", "native code", "a version that has a wheel")
    assert "The lock has no wheel of it" in finished.stderr


def test_a_source_with_native_code_is_refused_with_the_wheels_that_exist(tmp_path, lpack, index, cache):
    make_wheel(index.folder, "bound", "1.0", {"bound.py": b""}, tag="cp312-cp312-win_amd64")
    folder = project(tmp_path / "project", orders="bound\n")
    (folder / "lpack.toml").write_text('builder = "host"\n' + CONFIG)
    refused(lpack("build", cwd=folder), 1, "Cannot build bound", "Wheels exist for: cp312-cp312-win_amd64")


def test_a_wheel_that_needs_a_newer_glibc_than_its_tag_says(tmp_path, lpack, index, cache):
    code = compile_library(tmp_path / "lib.so", NEW_SYMBOL, target="x86_64-linux-gnu.2.36").read_bytes()
    files = {"liar/__init__.py": b"", "liar/_core.abi3.so": code}
    make_wheel(index.folder, "liar", "1.0", files, tag="cp39-abi3-manylinux2014_x86_64")
    folder = project(tmp_path / "project", orders="liar\n")
    finished = lpack("build", "--runtime", "python3.11", cwd=folder)
    refused(finished, 1, "liar-1.0-cp39-abi3-manylinux2014_x86_64.whl is refused for python3.11-x86_64", "glibc 2.26")
    refused(finished, 1, "liar/_core.abi3.so needs arc4random", "@GLIBC_2.36 of libc.so.6", "Use a version that needs less")
    assert not (folder / "dist" / "orders.zip").exists()


def test_a_wheel_that_needs_a_library_that_nobody_brings(tmp_path, lpack, index, cache):
    needed = compile_library(tmp_path / "libneeded.so.3", options=("-Wl,-soname,libneeded.so.3",))
    using = "int lpack_test(void);\nint PyInit__core(void) { return lpack_test(); }\n"
    code = compile_library(tmp_path / "_core.so", using, options=(str(needed),)).read_bytes()
    files = {"lacking/__init__.py": b"", "lacking/_core.abi3.so": code, "lacking/plugin.so": code}
    make_wheel(index.folder, "lacking", "1.0", files, tag="cp39-abi3-manylinux2014_x86_64")
    folder = project(tmp_path / "project", orders="lacking\n")
    refused(lpack("build", cwd=folder), 1, "lacking-1.0", "needs the library libneeded.so.3", 'provided = ["libneeded.so.3"]')
    (folder / "lpack.toml").write_text('provided = ["lacking/_core*"]\n' + CONFIG)
    finished = lpack("build", cwd=folder)
    assert finished.returncode == 1, "without any module, what Python code may load by itself counts"
    (folder / "lpack.toml").write_text('provided = ["libneeded.so.3"]\n' + CONFIG)
    build(lpack, folder)


def test_a_plug_in_that_cannot_be_loaded_is_told(tmp_path, lpack, index, cache):
    needed = compile_library(tmp_path / "libneeded.so.3", options=("-Wl,-soname,libneeded.so.3",))
    user = "int lpack_test(void);\nint plugged(void) { return lpack_test(); }\n"
    plugin = compile_library(tmp_path / "plugin.so", user, options=(str(needed),)).read_bytes()
    core = compile_library(tmp_path / "core.so").read_bytes()
    files = {"plugged/__init__.py": b"", "plugged/_core.abi3.so": core, "plugged/plugin.so": plugin}
    make_wheel(index.folder, "plugged", "1.0", files, tag="cp39-abi3-manylinux2014_x86_64")
    folder = project(tmp_path / "project", orders="plugged\n")
    finished = lpack("build", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert "plugged/plugin.so of plugged-1.0" in " ".join(finished.stderr.split())


def test_offline_without_a_lock(tmp_path, lpack, index, cache):
    make_wheel(index.folder, "never-seen", "1.0", {"never_seen.py": b""})
    folder = project(tmp_path / "project", orders="never-seen\n")
    refused(lpack("build", "--offline", cwd=folder), 1, "could not resolve", "never-seen", "Build once without --offline")


def test_hash_mismatch_in_requirements(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project", orders=f"beta==1.0 --hash=sha256:{'0' * 64}\n")
    refused(lpack("build", cwd=folder), 1, "Hash mismatch", "beta 1.0")
    good = index.sha256("beta-1.0-py3-none-any.whl")
    (folder / "orders" / "requirements.txt").write_text(f"beta==1.0 --hash=sha256:{good}\n")
    build(lpack, folder)


def test_hash_mismatch_of_the_file(tmp_path, lpack, index, cache):
    index.fault("beta-1.0-py3-none-any.whl", Fault(content=b"evil"))
    folder = project(tmp_path / "project", orders="beta==1.0\n")
    refused(lpack("build", cwd=folder), 1, "beta-1.0-py3-none-any.whl does not match its lock")


def test_unreachable_index(tmp_path, lpack, cache):
    folder = project(tmp_path / "project")
    refused(lpack("build", cwd=folder), 1, "uv could not resolve", "orders/requirements.txt", "Check the network")


def test_truncated_wheel(tmp_path, lpack, index, cache):
    name = "truncated-1.0-py3-none-any.whl"
    make_wheel(index.folder, "truncated", "1.0", {"truncated.py": os.urandom(5000)})
    folder = project(tmp_path / "project", orders="truncated\n")
    assert lpack("lock", cwd=folder).returncode == 0
    data = (index.folder / name).read_bytes()[:2000]
    (index.folder / name).write_bytes(data)
    text = (folder / "pylock.orders.toml").read_text()
    digest = tomllib.loads(text)["packages"][0]["wheels"][0]["hashes"]["sha256"]
    (folder / "pylock.orders.toml").write_text(text.replace(digest, hashlib.sha256(data).hexdigest()))
    refused(lpack("build", cwd=folder), 1, f"{name} is refused", "cut short")


def test_two_distributions_that_own_one_path(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project", orders="clash-one\nclash-two\n")
    refused(lpack("build", cwd=folder), 1, "clash-one and clash-two both hold shared/clash.py", "overlap")
    (folder / "lpack.toml").write_text('overlap = { "shared/*" = "clash-two" }\n' + CONFIG)
    build(lpack, folder)
    with zipfile.ZipFile(folder / "dist" / "orders.zip") as archive:
        assert b"clash-two" in archive.read("shared/clash.py")


def test_an_interrupted_download_is_resumed(tmp_path, lpack, index, cache):
    name = "big-1.0-py3-none-any.whl"
    make_wheel(index.folder, "big", "1.0", {"big.py": os.urandom(400_000)})
    index.fault(name, Fault(times=2, drop_after=150_000))
    build(lpack, project(tmp_path / "project", orders="big\n"))
    assert len(index.requests_for(name)) >= 3


@pytest.mark.skipif(os.name != "posix", reason="needs a mount")
def test_read_only_out(tmp_path, lpack, index, cache, tmpfs):
    folder = project(tmp_path / "project")
    subprocess.run(["mount", "-o", "remount,ro", str(tmpfs)], check=True)
    refused(lpack("build", "--out", str(tmpfs / "out"), cwd=folder), 1, "Cannot", str(tmpfs / "out"), "--out")


@pytest.fixture
def tmpfs(tmp_path):
    """Give a file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(tmp_path, lpack, index, cache, tmpfs):
    make_wheel(index.folder, "big", "1.0", {"big.py": os.urandom(3_000_000)})
    folder = project(tmp_path / "project", users="beta\n")
    out = tmpfs / "out"
    before = build(lpack, folder, "--out", str(out))
    (folder / "orders" / "requirements.txt").write_text("big\n")
    refused(lpack("build", "--out", str(out), cwd=folder), 1, "No space left", str(out))
    assert sorted(path.name for path in out.iterdir()) == OUTPUT
    assert "alpha/__init__.py" in names(out / "orders.zip")
    assert (out / "orders.zip").stat().st_size == before["functions"]["orders"]["artifact"]["zip_bytes"]


def test_a_full_cache_disk(tmp_path, lpack, index, tmpfs, monkeypatch):
    monkeypatch.setenv("LPACK_CACHE_DIR", str(tmpfs / "cache"))
    make_wheel(index.folder, "big", "1.0", {"big.py": os.urandom(3_000_000)})
    folder = project(tmp_path / "project", orders="big\n")
    refused(lpack("build", cwd=folder), 1, "No space left", str(tmpfs / "cache"))


def test_two_builds_at_once(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    index.fault("alpha", Fault(drip=20, pause=0.02))
    command = [sys.executable, "-m", "packer.cli", "build"]
    running = [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    ended = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], ended
    assert sorted(path.name for path in (folder / "dist").iterdir()) == OUTPUT
    names(folder / "dist" / "orders.zip")
    assert verify_store(LocalStore(cache))[1] == []


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_broken(tmp_path, lpack, index, cache):
    make_wheel(index.folder, "big", "1.0", {f"big/{number}.bin": os.urandom(30_000) for number in range(100)})
    folder = project(tmp_path / "project", orders="big\nalpha\n")
    build(lpack, folder)
    whole = (folder / "dist" / "orders.zip").read_bytes()
    for round_ in range(12):
        (folder / "orders" / "app.py").write_text(f"def handler(event, context):\n    return {round_}\n")
        process = subprocess.Popen(
            [sys.executable, "-m", "packer.cli", "build", "-q"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.08 + 0.05 * round_)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert verify_store(LocalStore(cache))[1] == []
        visible = [path for path in (folder / "dist").iterdir() if not path.name.startswith(".lpack-")]
        assert sorted(path.name for path in visible) == OUTPUT
        names(folder / "dist" / "orders.zip")
    (folder / "orders" / "app.py").write_text("def handler(event, context):\n    return 'orders'\n")
    build(lpack, folder)
    assert (folder / "dist" / "orders.zip").read_bytes() == whole
    assert sorted(path.name for path in (folder / "dist").iterdir()) == OUTPUT


def test_a_secret_appears_nowhere(tmp_path, lpack, private_index, cache, monkeypatch):
    folder = project(tmp_path / "project")
    secret = "s3cret/with@signs"
    monkeypatch.setenv("UV_DEFAULT_INDEX", private_index.url_with_login)
    written = lpack("lock", "-v", cwd=folder)
    finished = lpack("build", "-v", cwd=folder)
    assert (written.returncode, finished.returncode) == (0, 0), finished.stderr
    private_index.fault("alpha-1.1-py3-none-any.whl", Fault(status=500))
    private_index.fault("beta", Fault(status=500))
    (folder / "orders" / "requirements.txt").write_text("beta\nalpha==1.0\n")
    failed = lpack("lock", "-v", cwd=folder)
    assert failed.returncode == 1
    texts = [written.stdout, written.stderr, finished.stdout, finished.stderr, failed.stdout, failed.stderr]
    texts += [path.read_bytes().decode("latin-1") for path in (*folder.rglob("*"), *cache.rglob("*")) if path.is_file()]
    for text in texts:
        assert secret not in text
        assert "s3cret" not in text
