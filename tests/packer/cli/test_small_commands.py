"""`lpack init`, `lpack cache` and `lpack lock`, as a user meets them."""

import json
import tomllib

from tests.packer.cli.test_build import build, project


def test_init_writes_what_it_finds_and_build_takes_it(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    (folder / "lpack.toml").unlink()
    (folder / "tests").mkdir()
    (folder / "tests" / "app.py").write_text("def handler(event, context): ...\n")
    assert lpack("init", "--runtime", "python3.12", cwd=folder).stdout == "written  lpack.toml\n"
    config = tomllib.loads((folder / "lpack.toml").read_text())
    assert config["runtime"] == "python3.12"
    assert config["functions"]["orders"] == {
        "source": "orders",
        "handler": "app.handler",
        "requirements": "orders/requirements.txt",
    }
    assert set(build(lpack, folder)["functions"]) == {"orders", "users"}


def test_init_in_a_workspace_names_each_member_and_the_pattern_that_finds_all(tmp_path, lpack):
    members = [tmp_path / "services" / name for name in ("orders", "mails", "bills")]
    (tmp_path / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["services/*"]\n')
    locked = "version = 1\nrevision = 3\nrequires-python = '>=3.12'\n\n[manifest]\nmembers = ['bills', 'mails', 'orders']\n"
    for name in ("bills", "mails", "orders"):
        locked += f"\n[[package]]\nname = '{name}'\nversion = '1'\nsource = {{ virtual = 'services/{name}' }}\n"
    (tmp_path / "uv.lock").write_text(locked)
    for folder in members:
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(
            f'[project]\nname = "{folder.name}"\nversion = "1"\nrequires-python = ">=3.12"\n'
        )
        (folder / "app.py").write_text("def handler(event, context): ...\n")
    assert lpack("init", "--runtime", "python3.12", cwd=tmp_path).returncode == 0
    config = tmp_path / "lpack.toml"
    text = config.read_text()
    assert 'requirements = "uv.lock"\npackage = "orders"\n' in text
    [pattern] = [line.partition(": ")[2] for line in text.splitlines() if "discover" in line]
    flags = ("build", "--verify", "none", "--bytecode", "off")
    built = lpack(*flags, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    listed = sorted(path.name for path in (tmp_path / "dist").glob("*.zip"))
    assert listed == ["bills.zip", "mails.zip", "orders.zip"]
    config.write_text(f'runtime = "python3.12"\narch = "x86_64"\n{pattern}\n')
    again = lpack(*flags, "--out", "again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    for name in listed:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "dist" / name).read_bytes()


def test_init_gives_every_function_a_name_of_its_own(tmp_path, lpack):
    long = "x" * 64
    places = ["0/api", "a/b/api", "a-b/api", f"a/{long}1", f"a/{long}2", f"b/{long}3"]
    for place in places:
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "app.py").write_text("def handler(event, context): ...\n")
    config = tomllib.loads(lpack("init", "--print", cwd=tmp_path).stdout)
    assert sorted(each["source"] for each in config["functions"].values()) == sorted(places)
    assert {"api", "a-b-api", "a-b-api-2", long} <= set(config["functions"])
    assert all(len(name) <= 64 for name in config["functions"])


def test_init_never_overwrites(tmp_path, lpack):
    folder = project(tmp_path / "project")
    before = (folder / "lpack.toml").read_text()
    finished = lpack("init", cwd=folder)
    assert finished.returncode == 2
    assert "--print" in finished.stderr
    assert (folder / "lpack.toml").read_text() == before
    assert "[functions.orders]" in lpack("init", "--print", cwd=folder).stdout


def test_init_in_an_empty_folder_is_an_error(tmp_path, lpack):
    finished = lpack("init", cwd=tmp_path)
    assert finished.returncode == 2
    assert "lambda_handler" in finished.stderr


def test_cache_info_verify_and_prune(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    build(lpack, folder)
    info = json.loads(lpack("cache", "info", "--json", cwd=folder).stdout)
    assert info["path"] == str(cache)
    assert info["kinds"]["wheels"]["files"] == 5
    assert str(cache) in lpack("cache", "info", cwd=folder).stdout
    assert lpack("cache", "verify", cwd=folder).stdout.endswith("0 broken\n")
    wheel = next(path for path in (cache / "wheels").rglob("*") if path.is_file())
    wheel.write_bytes(b"damaged")
    finished = lpack("cache", "verify", cwd=folder)
    assert finished.returncode == 1
    assert f"removed  {wheel}" in finished.stdout
    assert lpack("cache", "verify", cwd=folder).returncode == 0
    assert lpack("cache", "prune", "--older-than", "0h", cwd=folder).stdout == "removed 0 files, 0.0 KB\n"
    assert lpack("cache", "prune", "--older-than", "soon", cwd=folder).returncode == 2


def test_a_damaged_wheel_is_fetched_again(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    before = build(lpack, folder)
    for path in (cache / "wheels").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    (folder / "dist" / "orders.zip").unlink()
    after = build(lpack, folder)
    assert after["functions"]["orders"]["artifact"] == before["functions"]["orders"]["artifact"]


def test_lock_keeps_versions_until_asked_to_upgrade(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project", orders="beta<2\n", users="beta\n")
    assert lpack("lock", cwd=folder).returncode == 0
    lock = folder / "pylock.orders.toml"
    text = lock.read_text()
    assert tomllib.loads(text)["created-by"] == "lpack"
    (folder / "orders" / "requirements.txt").write_text("beta\n")
    assert lpack("lock", "orders", cwd=folder).stdout == "written    pylock.orders.toml\n"
    assert tomllib.loads(lock.read_text())["packages"][0]["version"] == "1.0"
    assert lpack("lock", "orders", "--upgrade", cwd=folder).returncode == 0
    assert tomllib.loads(lock.read_text())["packages"][0]["version"] == "2.0"


def test_a_lock_that_cannot_be_made_leaves_the_old_one(tmp_path, lpack, index, cache):
    folder = project(tmp_path / "project")
    assert lpack("lock", cwd=folder).returncode == 0
    before = {path.name: path.read_text() for path in folder.glob("pylock.*")}
    (folder / "orders" / "requirements.txt").write_text("no-such-thing\n")
    assert lpack("lock", cwd=folder).returncode == 1
    assert {path.name: path.read_text() for path in folder.glob("*lock.*")} == before
