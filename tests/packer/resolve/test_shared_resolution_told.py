"""What users are told where functions share less than they might: options that differ, and locks that say otherwise."""

import pytest

from builders.errors import LpackError
from tests.packages import module
from tests.packer.resolve.test_shared_resolution import AGREED, APART, World, versions, world
from tests.wheels import make_wheel

__all__ = ["world"]


def told(world: World) -> dict[str, tuple[str, ...]]:
    return {name: lock.warnings for name, lock in world.locks().items()}


def test_the_same_folder_of_archives_from_two_folders_is_one(world):
    for version in ("0.5", "3.0"):
        make_wheel(world.folder / "wheels", "beta", version, module("beta"))
    options = "--no-index\n--find-links ../wheels\n"
    world.configure({"orders": f"{options}beta\n", "users": f"{options.replace('--find-links', '-f')}beta<2\n"})
    locks = world.locks()
    assert {name: versions(lock) for name, lock in locks.items()} == {
        "orders": {"beta": "0.5"},
        "users": {"beta": "0.5"},
    }
    assert [lock.warnings for lock in locks.values()] == [(), ()]


def test_a_differing_option_is_named_for_those_apart(world):
    (world.folder / "wheels").mkdir()
    world.configure({**APART, "stock": "--only-binary :all:\nalpha\n", "zoo": "--pre\n-f ../wheels\nalpha\n"})
    assert told(world) == {
        "orders": (),
        "users": (),
        "stock": ("stock does not share versions with orders, users: only it has the option `--only-binary :all:`.",),
        "zoo": ("zoo does not share versions with orders, users: only it has the option `--pre` and `--find-links wheels`.",),
    }
    # Even where it is alone, what others declare can change that.
    resolver = world.resolver()
    [stock] = (each for each in world.config().functions if each.name == "stock")
    assert str(world.folder / "users" / "requirements.txt") in resolver.group_paths(stock)


def test_one_of_two_apart_watches_the_other(world):
    world.configure({"orders": "beta\n", "users": "--pre\nbeta\n"})
    assert told(world)["users"] == ("users does not share versions with orders: only it has the option `--pre`.",)
    resolver = world.resolver()
    for function in world.config().functions:
        paths = resolver.group_paths(function)
        assert {str(world.folder / name / "requirements.txt") for name in ("orders", "users")} <= set(paths)


def test_options_of_two_kinds_and_settings_are_named(world):
    world.configure({"a": "--pre\nbeta\n", "b": "--pre\nbeta\n", "c": "beta\n", "d": "beta\n"})
    world.write("c/uv.toml", "resolution = 'lowest-direct'\n")
    world.write("d/requirements.txt", "--only-binary :all:\nbeta\n")
    found = told(world)
    assert found["c"] == ("c does not share versions with a, b: it lacks the option `--pre`.",)
    assert found["d"] == ("d does not share versions with a, b: it has the option `--only-binary :all:` instead of `--pre`.",)
    world.configure({"a": "beta\n", "b": "beta\n", "c": "beta\n", "d": "beta\n"})
    assert told(world)["c"] == ("c does not share versions with a, b, d: other settings of uv hold in its folder.",)


def test_functions_of_other_targets_are_separate_without_a_warning(world):
    world.configure({**APART, "old": "--pre\nalpha\n"})
    path = world.folder / "lpack.toml"
    path.write_text(path.read_text() + 'runtime = "python3.11"\n')
    assert told(world) == {"orders": (), "users": (), "old": ()}


def test_a_version_that_a_lock_has_otherwise_is_named(world):
    world.configure({"orders": "beta<2\n", "stock": "gamma\n", "users": "alpha\nbeta>1\n", "zoo": "optional\n"})
    world.lock("orders")
    world.reporter.said.clear()
    path = world.folder / "pylock.stock.toml"
    path.unlink(missing_ok=True)
    expected = "users does not share beta with orders: it takes 2.0, and orders is locked to 1.0."
    for _ in range(2):  # the second time it is remembered
        found = told(World(world.folder))
        assert expected in found["users"]
        assert [each for name in ("orders", "stock", "zoo") for each in found[name] if "locked" in each] == []


@pytest.mark.parametrize(("file", "text"), [("users/pylock.toml", 'lock-version = "9.0"\n'), ("pylock.users.toml", "[\n")])
def test_a_lock_that_cannot_be_read_fails_alone(world, file, text):
    world.configure({**APART, "stock": "alpha\n"})
    path = world.write(file, text)
    functions = {each.name: each for each in world.config().functions}
    resolver = world.resolver()
    lock = resolver.lock(functions["stock"])
    assert versions(lock) == AGREED["users"]
    [warning] = lock.warnings
    assert warning.startswith("stock does not follow the versions of users: ")
    assert f" {file} is not valid" in warning or f" {file} is not a valid lock" in warning
    with pytest.raises(LpackError, match=path.name):
        resolver.lock(functions["users"])
    path.unlink()
    assert told(World(world.folder)) == {"orders": (), "stock": (), "users": ()}
