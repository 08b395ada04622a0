"""``resolution = "shared"``: versions agree where they can, and what cannot agree is named; with the real uv."""

import json
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from builders.errors import LpackError
from packer.cache.local import LocalStore
from packer.cache.signatures import Digests
from packer.cli.wiring import open_tools
from packer.config.load import Config, Overrides
from packer.config.project import CONFIG, Project
from packer.config.project_reader import read_project
from packer.core.errors import ResolveError, UsageError
from packer.core.events import Reporter
from packer.core.model import Function, Lock
from packer.core.options import Policy
from packer.core.process import ProcessResult, run
from packer.net.credentials import Credentials
from packer.pipeline.lock_writer import lock_all
from packer.resolve.resolver import Resolver
from tests.packages import module
from tests.wheels import make_wheel

HEAD = 'runtime = "python3.12"\nresolution = "shared"\n'


class Warnings(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


class World:
    """A project whose functions share versions; ``runs`` are the questions that uv was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: list[Sequence[str]] = []
        self.reporter = Warnings()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def configure(self, functions: Mapping[str, str], more: str = "") -> None:
        """Write functions with these requirements; names of files that are there already stand for themselves."""
        text = HEAD + more
        for name, requirements in functions.items():
            self.write(f"{name}/app.py", "def handler(event, context): ...\n")
            text += f'[functions.{name}]\nsource = "{name}"\nhandler = "app.handler"\n'
            if requirements:
                self.write(f"{name}/requirements.txt", requirements)
        self.write("lpack.toml", text)

    def config(self) -> Config:
        return read_project(Project(kind=CONFIG, path=self.folder / "lpack.toml"), Overrides())[0]

    def resolver(self, **policy: bool) -> Resolver:
        def asked(arguments: Sequence[str], folder: Path, variables: Mapping[str, str]) -> ProcessResult:
            self.runs.append(arguments)
            return run(arguments, folder, variables)

        store = LocalStore(self.folder / "store")
        return Resolver(asked, store, Credentials([], {}), Digests(), self.reporter, Policy(**policy))

    def locks(self, **policy: bool) -> dict[str, Lock]:
        resolver = self.resolver(**policy)
        return {function.name: resolver.lock(function) for function in self.config().functions}

    def versions(self, **policy: bool) -> dict[str, dict[str, str]]:
        """Resolve as a build does."""
        return {name: versions(lock) for name, lock in self.locks(**policy).items()}

    def lock(self, *names: str, **policy: bool) -> dict[str, bool]:
        """Lock as `lpack lock` does, and say of each file whether it was written."""
        functions = [each for each in self.config().functions if not names or each.name in names]
        return {path.name: changed for path, changed in lock_all(functions, self.resolver(**policy), self.reporter).items()}

    def locked(self, name: str) -> dict[str, str]:
        document = tomllib.loads((self.folder / f"pylock.{name}.toml").read_text())
        return {str(package["name"]): str(package["version"]) for package in document["packages"]}


def versions(lock: Lock) -> dict[str, str]:
    return {package.name: package.version for package in lock.packages}


def warnings(locks: Mapping[str, Lock]) -> list[str]:
    return [warning for lock in locks.values() for warning in lock.warnings]


@pytest.fixture
def world(tmp_path: Path, index) -> World:
    return World(tmp_path)


APART = {"orders": "gamma\n", "users": "alpha\n"}
"""By itself, users would get beta 2.0, and orders needs one below 2."""
AGREED = {"orders": {"beta": "1.0", "gamma": "1.0"}, "users": {"alpha": "1.1", "beta": "1.0"}}


def test_versions_agree_where_separate_solves_differ_and_each_gets_only_its_own(world):
    world.configure(APART)
    assert world.versions() == AGREED
    path = world.folder / "lpack.toml"
    path.write_text(path.read_text().replace('"shared"', '"separate"'))
    assert world.versions()["users"] == {"alpha": "1.1", "beta": "2.0"}


def test_the_order_of_functions_does_not_matter(world):
    world.configure({"users": "alpha\n", "stock": "delta\n", "orders": "gamma\n"})
    first = world.locks()
    world.configure({"orders": "gamma\n", "stock": "delta\n", "users": "alpha\n"})
    other = World(world.folder)
    assert other.locks() == first
    assert other.runs == []


def test_what_is_known_is_not_asked_again_and_the_same_declaration_only_once(world):
    world.configure({**APART, "more": "alpha\n", "most": "alpha\n"})
    assert world.versions()["most"] == AGREED["users"]
    assert len(world.runs) == 3  # all together, and two that differ
    assert World(world.folder).versions()["users"] == AGREED["users"]
    again = World(world.folder)
    again.versions()
    assert again.runs == []


def test_a_conflict_is_named_with_its_chains_and_the_function_falls_back(world):
    world.configure({"orders": "# ours\nbeta<2\n", "users": "delta\n", "stock": "alpha\n", "zoo": "delta\n"})
    locks = world.locks()
    assert {name: versions(lock)["beta"] for name, lock in locks.items()} == {
        "orders": "1.0",
        "users": "2.0",
        "stock": "2.0",
        "zoo": "2.0",
    }
    (warning,) = locks["orders"].warnings
    first, *rest = warning.splitlines()
    assert first == (
        "orders does not share versions with users, zoo: it needs beta<2 (orders/requirements.txt:2), "
        "and users, zoo need beta 2.0 by way of delta 1.0 (users/requirements.txt:1)."
    )
    assert "delta depend on beta>=2" in " ".join(rest)
    assert [lock.warnings for name, lock in locks.items() if name != "orders"] == [(), (), ()]
    assert World(world.folder).locks()["orders"].warnings == (warning,)


def test_those_that_fall_back_share_with_each_other_and_what_they_can(world, index):
    make_wheel(index.folder, "beta", "1.5", module("beta"))
    world.configure(
        {"a": "gamma\n", "b": "gamma\nbeta!=1.5\nalpha\n", "c": "delta\n", "d": "delta\n", "e": "delta\nalpha<1.1\n"}
    )
    found = world.versions()
    assert found["a"]["beta"] == found["b"]["beta"] == "1.0"
    assert {found[name]["beta"] for name in "cde"} == {"2.0"}
    # What does not conflict agrees with the larger set all the same.
    assert found["b"]["alpha"] == found["e"]["alpha"] == "1.0"


def test_what_forces_a_version_is_named_and_not_what_bears_any(world):
    world.configure({"orders": "alpha\nbeta\ngamma\n", "users": "alpha\ndelta\nbeta>=1\n"})
    [warning] = warnings(world.locks())
    assert "beta 1.0 by way of gamma 1.0 (orders/requirements.txt:3)" in warning
    assert "beta 2.0 by way of delta 1.0 (users/requirements.txt:2)" in warning


def test_three_that_only_two_at_a_time_can_agree(world, index):
    make_wheel(index.folder, "one", "1.0", module("one"), requires=["beta<2"])
    make_wheel(index.folder, "beta", "1.5", module("beta"))
    world.configure({"a": "beta>1\n", "b": "beta!=1.5\n", "c": "beta<2\n"})
    locks = world.locks()
    [warning] = warnings(locks)
    assert {versions(lock)["beta"] for lock in locks.values()} <= {"1.0", "1.5", "2.0"}
    assert "does not share versions with" in warning


def test_a_function_without_a_solution_fails_alone(world):
    world.configure({**APART, "broken": "gamma\ndelta\n", "gone": "no-such-package\n"})
    resolver = world.resolver()
    functions = {each.name: each for each in world.config().functions}
    for name in ("broken", "gone"):
        with pytest.raises(ResolveError, match=f"function {name}"):
            resolver.lock(functions[name])
    assert versions(resolver.lock(functions["users"])) == AGREED["users"]


def test_a_function_whose_file_is_wrong_fails_alone(world):
    world.configure({**APART, "broken": "???\n"})
    resolver = world.resolver()
    functions = {each.name: each for each in world.config().functions}
    with pytest.raises(LpackError, match=r"broken/requirements\.txt:1"):
        resolver.lock(functions["broken"])
    assert versions(resolver.lock(functions["users"])) == AGREED["users"]


def test_a_pyproject_with_extras_and_groups_shares_too(world):
    optional = '[project.optional-dependencies]\nfast = ["delta"]\n'
    groups = '[dependency-groups]\nextra = ["marked"]\n'
    for name, dependencies in (("orders", '"gamma"'), ("users", '"alpha"')):
        project = f'[project]\nname = "{name}"\nversion = "1"\ndependencies = [{dependencies}]\n'
        world.write(f"{name}/pyproject.toml", project + (optional + groups if name == "users" else ""))
    world.configure({"orders": "", "users": ""})
    assert world.versions() == AGREED
    path = world.folder / "lpack.toml"
    path.write_text(path.read_text() + 'groups = ["extra"]\n')
    assert world.versions()["users"] == {**AGREED["users"], "gamma": "1.0", "marked": "1.0"}
    path.write_text(path.read_text().replace('groups = ["extra"]', 'extras = ["fast"]'))
    locks = world.locks()
    assert versions(locks["users"])["beta"] == "2.0"
    [warning] = warnings(locks)
    assert "beta 2.0 by way of delta 1.0 (users/pyproject.toml:6)" in warning
    assert "beta 1.0 by way of gamma 1.0 (orders/pyproject.toml:4)" in warning


def test_local_projects_share_and_are_found_from_every_folder(world):
    library = '[project]\nname = "lib"\nversion = "1"\ndependencies = ["gamma"]\n'
    path = world.write("libs/lib/pyproject.toml", library)
    project = '[project]\nname = "users"\nversion = "1"\ndependencies = ["alpha", "lib"]\n'
    world.write("users/pyproject.toml", project + '[tool.uv.sources]\nlib = { path = "../libs/lib" }\n')
    world.configure({"orders": "../libs/lib\n", "stock": "alpha\n", "users": ""})
    found = world.versions()
    assert set(found["orders"]) == {"lib", "beta", "gamma"}
    assert {each["beta"] for each in found.values()} == {"1.0"}
    # What the library needs is part of the question, too.
    path.write_text(library.replace("gamma", "delta"))
    assert {each["beta"] for each in World(world.folder).versions().values()} == {"1.0", "2.0"} - {"1.0"}


def test_constraints_of_one_bind_all(world):
    world.write("orders/limits.txt", "beta<2\n")
    world.configure({"orders": "-c limits.txt\nalpha\n", "users": "beta\n"})
    assert world.versions() == {"orders": AGREED["users"], "users": {"beta": "1.0"}}


def test_an_archive_is_shared_by_its_address(world, index):
    world.configure({"orders": f"beta @ {index.file_url('beta-1.0-py3-none-any.whl')}\n", "users": "alpha\n"})
    locks = world.locks()
    assert versions(locks["users"])["beta"] == "1.0"
    again = World(world.folder)
    assert again.locks() == locks
    assert again.runs == []


def test_functions_of_other_options_or_targets_share_with_their_like(world, index):
    world.configure({**APART, "stock": "--only-binary :all:\nalpha\n", "old": "alpha\n"})
    path = world.folder / "lpack.toml"
    path.write_text(path.read_text() + 'runtime = "python3.11"\n')
    found = world.versions()
    assert found["users"]["beta"] == "1.0"
    assert found["stock"]["beta"] == found["old"]["beta"] == "2.0"


def test_a_lock_file_keeps_its_versions_and_others_follow(world):
    world.configure({"orders": "beta<2\n", "users": "alpha\n"})
    world.lock("orders")
    (world.folder / "orders" / "requirements.txt").write_text("beta\n")
    (world.folder / "pylock.orders.toml").rename(world.folder / "orders" / "pylock.toml")
    assert world.versions() == {"orders": {"beta": "1.0"}, "users": {"alpha": "1.1", "beta": "1.0"}}
    (world.folder / "users" / "requirements.txt").write_text("alpha\nbeta>1\n")
    assert world.versions() == {"orders": {"beta": "1.0"}, "users": {"alpha": "1.1", "beta": "2.0"}}


def test_locks_are_written_from_the_shared_solve_and_frozen_builds_use_them(world):
    world.configure(APART)
    with pytest.raises(UsageError, match="--frozen forbids"):
        world.versions(frozen=True)
    assert world.runs == []
    assert world.lock() == {"pylock.orders.toml": True, "pylock.users.toml": True}
    assert world.locked("users") == AGREED["users"]
    before = len(world.runs)
    assert world.versions(frozen=True) == AGREED
    assert len(world.runs) == before
    assert world.lock() == {"pylock.orders.toml": False, "pylock.users.toml": False}
    (world.folder / "users" / "requirements.txt").write_text("beta\n")
    with pytest.raises(UsageError, match=r"pylock\.users\.toml is stale"):
        world.versions(frozen=True)


def test_a_lock_of_one_renews_the_locks_that_must_agree(world):
    world.configure({"orders": "alpha\n", "users": "beta\n", "new": "alpha\n"})
    world.lock("orders", "users")
    assert world.locked("users") == {"beta": "2.0"}
    (world.folder / "orders" / "requirements.txt").write_text("gamma\n")
    assert world.lock("orders") == {"pylock.orders.toml": True, "pylock.users.toml": True}
    assert world.locked("users") == {"beta": "1.0"}


def test_a_conflict_is_told_when_locks_are_written(world):
    world.configure({"orders": "gamma\n", "users": "delta\n"})
    world.lock()
    assert len(world.reporter.said) == 1
    assert "does not share versions with" in world.reporter.said[0]


@pytest.mark.parametrize("locked", [True, False])
def test_a_change_of_one_moves_no_version_that_another_has(world, index, locked):
    world.configure({"orders": "beta\n", "users": "alpha\n"})
    world.lock() if locked else world.versions()
    make_wheel(index.folder, "alpha", "1.2", module("alpha"), requires=["beta"])
    make_wheel(index.folder, "beta", "3.0", module("beta"))
    (world.folder / "orders" / "requirements.txt").write_text("beta\noptional\n")

    again = World(world.folder)
    found = again.lock() and again.locked("users") if locked else again.versions()["users"]
    assert found == {"alpha": "1.1", "beta": "2.0"}
    found = again.lock(upgrade=True) and again.locked("users") if locked else again.versions(upgrade=True)["users"]
    assert found == {"alpha": "1.2", "beta": "3.0"}


def test_offline_what_is_known_is_used_and_a_missing_page_is_no_conflict(world, monkeypatch, tmp_path):
    world.configure(APART)
    with monkeypatch.context() as patch:
        patch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
        with pytest.raises(ResolveError, match="without --offline"):
            world.versions(offline=True)
    assert world.versions() == AGREED
    assert World(world.folder).versions(offline=True) == AGREED


def test_a_package_that_is_another_thing_elsewhere_ends_the_sharing(world, index):
    make_wheel(index.folder, "lib", "1.0", module("lib"), requires=["beta<2"])
    world.write("libs/lib/pyproject.toml", '[project]\nname = "lib"\nversion = "2"\ndependencies = ["beta>=2"]\n')
    world.configure({"orders": "../libs/lib\n", "users": "lib\n"})
    assert world.versions()["users"] == {"lib": "1.0", "beta": "1.0"}
    assert any(text.startswith("users cannot have the versions") for text in world.reporter.said)


def test_the_configuration_knows_two_ways(world):
    world.configure(APART)
    path = world.folder / "lpack.toml"
    path.write_text(path.read_text().replace('"shared"', '"share"'))
    with pytest.raises(UsageError, match=r"(?s)resolution: 'share' is no way.*Did you mean 'shared'\?"):
        world.config()


def built(lpack, folder: Path, *names: str) -> dict[str, dict[str, str]]:
    finished = lpack("build", "--json", *names, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    functions = json.loads(finished.stdout)["functions"]
    return {name: {each["name"]: each["version"] for each in one["distributions"]} for name, one in functions.items()}


def test_a_build_sees_what_another_function_requires(world, cache, lpack):
    world.configure({"orders": "", "stock": "marked<0\n", "users": "alpha\n"})
    (world.folder / "stock" / "requirements.txt").write_text("beta\n")
    world.write("orders/requirements.txt", "alpha\n")
    assert built(lpack, world.folder)["users"]["beta"] == "2.0"
    world.write("orders/requirements.txt", "gamma\n")
    assert built(lpack, world.folder, "users")["users"]["beta"] == "1.0"
    assert built(lpack, world.folder) == {**AGREED, "stock": {"beta": "1.0"}}
    world.write("stock/requirements.txt", "optional\n")
    finished = lpack("build", cwd=world.folder)
    words = {line.split()[0]: line.split() for line in finished.stdout.splitlines()}
    assert "built" in words["stock"]
    assert "unchanged" in words["users"]  # nothing of its own has moved
    assert "unchanged" in words["orders"]


def test_functions_of_a_template_share_too(world, cache, lpack):
    world.configure(APART)
    function = "  {0}:\n    Type: AWS::Serverless::Function\n    Properties:\n"
    function += "      CodeUri: {0}\n      Handler: app.handler\n      Runtime: python3.12\n"
    world.write("template.yaml", "Resources:\n" + function.format("orders") + function.format("users"))
    world.write("lpack.toml", 'resolution = "shared"\n')
    assert built(lpack, world.folder, "--template", "template.yaml") == AGREED


def test_tools_open_for_a_project_that_shares(world, cache):
    world.configure(APART)
    with open_tools(LocalStore(cache), Digests(), Reporter(), Policy()) as tools:
        functions: tuple[Function, ...] = world.config().functions
        assert {each.name: versions(tools.resolver.lock(each)) for each in functions} == AGREED
        assert len({tools.resolver.group_paths(each) for each in functions}) == 1


@pytest.mark.parametrize("resolution", ["separate", "shared"])
def test_the_same_words_in_two_folders_mean_two_projects(world, resolution):
    for name, version in (("orders", "1"), ("users", "2")):
        world.write(f"{name}/lib/pyproject.toml", f'[project]\nname = "lib-of-{name}"\nversion = "{version}"\n')
    world.configure({"orders": "./lib\n", "users": "./lib\n"})
    path = world.folder / "lpack.toml"
    path.write_text(path.read_text().replace('"shared"', f'"{resolution}"'))
    assert {name: set(each) for name, each in world.versions().items()} == {
        "orders": {"lib-of-orders"},
        "users": {"lib-of-users"},
    }


def write_nested_projects(world: World) -> Path:
    """Write a function that needs ``lib``, which needs ``other``, both local; and give the file that says the latter."""
    world.write("libs/other/pyproject.toml", '[project]\nname = "other"\nversion = "1"\n')
    library = '[project]\nname = "lib"\nversion = "1"\ndependencies = ["other"]\n'
    path = world.write("libs/lib/pyproject.toml", library + '[tool.uv.sources]\nother = { path = "../other" }\n')
    world.configure({"orders": "../libs/lib\n"})
    return path


def test_local_project_that_was_removed_is_resolved_anew(world):
    path = write_nested_projects(world)
    assert set(world.versions()["orders"]) == {"lib", "other"}
    path.write_text('[project]\nname = "lib"\nversion = "1"\ndependencies = ["alpha"]\n')
    shutil.rmtree(world.folder / "libs" / "other")
    assert set(World(world.folder).versions()["orders"]) == {"lib", "alpha", "beta"}


def test_lock_of_a_local_project_that_was_removed_is_stale(world):
    write_nested_projects(world)
    assert world.lock() == {"pylock.orders.toml": True}
    shutil.rmtree(world.folder / "libs" / "other")
    (warning,) = warnings(World(world.folder).locks())
    assert warning.startswith("pylock.orders.toml is stale")
