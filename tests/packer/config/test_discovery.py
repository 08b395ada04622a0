"""Functions found by patterns: which folders count, how they are called, and what is said of those that do not count."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.runtimes import DEFAULT_RUNTIME
from packer.config.discovery import discover, matches_patterns
from packer.config.load import Config, Overrides, load_config
from packer.config.section import Section
from packer.core.errors import UsageError
from packer.source.dependency_files import matches_path

HANDLER = "def handler(event, context): ...\n"


def functions(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).mkdir(parents=True)
        (folder / path / "app.py").write_text(HANDLER)


def load(folder: Path, *patterns: str, tail: str = "") -> Config:
    (folder / "lpack.toml").write_text(f"discover = {list(patterns)!r}\n{tail}")
    return load_config(folder / "lpack.toml", Overrides())


def sources(config: Config) -> dict[str, str]:
    return {each.name: each.source.relative_to(config.root).as_posix() for each in config.functions}


def refusal(folder: Path, *patterns: str, tail: str = "") -> str:
    with pytest.raises(UsageError) as caught:
        load(folder, *patterns, tail=tail)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_every_folder_with_a_handler_is_a_function(tmp_path):
    functions(tmp_path, "services/orders", "services/users", "tools/orders-report")
    (tmp_path / "services" / "docs").mkdir()
    config = load(tmp_path, "services/*")
    assert sources(config) == {"orders": "services/orders", "users": "services/users"}
    assert {each.handler for each in config.functions} == {"app.handler"}
    assert config.notes == (f"{tmp_path / 'services' / 'docs'} holds no handler, and is passed over.",)
    assert config.warnings == ()


def test_two_stars_stand_for_any_depth_and_a_mark_leaves_out(tmp_path):
    functions(tmp_path, "a/one", "a/deep/er/two", "b/three", "b/legacy/four")
    config = load(tmp_path, "**", "!b/legacy")
    assert sources(config) == {"one": "a/one", "two": "a/deep/er/two", "three": "b/three"}
    assert sources(load(tmp_path, "a/**/t*")) == {"two": "a/deep/er/two"}


def test_the_configurations_own_folder_is_no_function(tmp_path):
    functions(tmp_path, "one")
    (tmp_path / "app.py").write_text(HANDLER)
    assert sources(load(tmp_path, "**")) == {"one": "one"}


def test_what_lies_in_a_functions_folder_is_its_own(tmp_path):
    functions(tmp_path, "one", "one/inner")
    assert sources(load(tmp_path, "**")) == {"one": "one"}
    assert sources(load(tmp_path, "**", "one/inner")) == {"one": "one", "inner": "one/inner"}


def test_a_wildcard_never_means_what_tools_leave_behind_or_what_lpack_writes(tmp_path):
    functions(
        tmp_path, "one", ".venv/two", "node_modules/three", "__pycache__/four", "env/five", ".hidden", "out/six", "dist/seven"
    )
    (tmp_path / "env" / "pyvenv.cfg").touch()
    assert set(sources(load(tmp_path, "**"))) == {"one", "six"}
    assert set(sources(load_out(tmp_path))) == {"one", "seven"}


def load_out(folder: Path) -> Config:
    (folder / "lpack.toml").write_text('out = "out"\ndiscover = ["**"]\n')
    return load_config(folder / "lpack.toml", Overrides())


def test_a_name_that_is_spelt_out_is_followed(tmp_path):
    functions(tmp_path, ".services/one")
    assert sources(load(tmp_path, ".services/*")) == {"one": ".services/one"}


def test_links_are_functions_and_lead_to_no_endless_search(tmp_path):
    functions(tmp_path, "real/one")
    (tmp_path / "real" / "again").symlink_to("..")
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "linked").symlink_to("../real/one")
    assert sources(load(tmp_path, "real/**", "services/*")) == {"one": "real/one", "linked": "services/linked"}


def test_folders_beside_the_configuration_may_be_meant(tmp_path):
    functions(tmp_path, "services/one")
    (tmp_path / "infra").mkdir()
    config = load(tmp_path / "infra", "../services/*")
    assert [each.source for each in config.functions] == [tmp_path / "services" / "one"]


def test_a_table_says_what_is_special_of_a_function_that_is_found(tmp_path):
    functions(tmp_path, "services/orders", "services/users")
    (tmp_path / "services" / "orders" / "other.py").write_text("def run(event, context): ...\n")
    config = load(tmp_path, "services/*", tail='[functions.orders]\nhandler = "other.run"\nruntime = "python3.11"\n')
    assert {each.name: (each.handler, each.target.runtime.name) for each in config.functions} == {
        "orders": ("other.run", "python3.11"),
        "users": ("app.handler", DEFAULT_RUNTIME),
    }


def test_a_table_gives_a_folder_another_name(tmp_path):
    functions(tmp_path, "a/api", "b/api", "b/not.a.name")
    tail = '[functions.b-api]\nsource = "b/api"\n[functions.dotted]\nsource = "b/not.a.name"\n'
    assert sources(load(tmp_path, "*/*", tail=tail)) == {"api": "a/api", "b-api": "b/api", "dotted": "b/not.a.name"}


def test_two_functions_of_one_folder(tmp_path):
    functions(tmp_path, "services/orders")
    tail = '[functions.read]\nsource = "services/orders"\nhandler = "app.handler"\n'
    tail += '[functions.write]\nsource = "services/orders"\nhandler = "app.write"\n'
    assert sources(load(tmp_path, "services/*", tail=tail)) == {"read": "services/orders", "write": "services/orders"}


def test_functions_that_are_configured_stand_beside_those_found(tmp_path):
    functions(tmp_path, "services/orders", "tools/report")
    tail = '[functions.report]\nsource = "tools/report"\nhandler = "app.handler"\n'
    assert set(sources(load(tmp_path, "services/*", tail=tail))) == {"orders", "report"}


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (["service/*"], "no folder fits 'service/*'"),
        (["services/nothing"], "no folder fits 'services/nothing'"),
        (["/services/*"], "no pattern for folders"),
        (["services/*/../x"], "no pattern for folders"),
        ([""], "no pattern for folders"),
        (["!"], "no pattern for folders"),
        (["."], "no pattern for folders"),
    ],
)
def test_wrong_patterns_are_refused(tmp_path, patterns, words):
    functions(tmp_path, "services/orders")
    text = refusal(tmp_path, *patterns)
    assert f"{tmp_path / 'lpack.toml'}: discover: " in text
    assert words in text


def test_two_folders_of_one_name_are_refused(tmp_path):
    functions(tmp_path, "a/api", "b/api")
    text = refusal(tmp_path, "*/*")
    assert f"{tmp_path / 'b' / 'api'} and {tmp_path / 'a' / 'api'} would both be the function 'api'" in text
    assert '[functions.NAME] with source = "b/api"' in text
    assert '"!b/api"' in text


def test_a_configured_function_of_the_same_name_is_refused(tmp_path):
    functions(tmp_path, "services/api", "tools/report")
    tail = '[functions.api]\nsource = "tools/report"\nhandler = "app.handler"\n'
    assert "would both be the function 'api'" in refusal(tmp_path, "services/*", tail=tail)


def test_a_folder_whose_name_no_function_can_have_is_refused(tmp_path):
    functions(tmp_path, "services/my.service")
    text = refusal(tmp_path, "services/*")
    assert "'my.service' cannot be a function's name" in text
    assert 'source = "services/my.service"' in text


def test_a_table_for_no_function_names_the_nearest(tmp_path):
    functions(tmp_path, "services/orders")
    text = refusal(tmp_path, "services/*", tail='[functions.oders]\nruntime = "python3.13"\n')
    assert "functions.oders: no folder that discover finds has this name" in text
    assert "Did you mean 'orders'?" in text


def test_patterns_that_find_no_handler(tmp_path):
    functions(tmp_path, "services/orders")
    (tmp_path / "empty" / "one").mkdir(parents=True)
    (warning,) = load(tmp_path, "services/*", "empty/*").warnings
    assert "no folder that fits 'empty/*' holds a handler; 1 looked into" in warning
    text = refusal(tmp_path, "empty/*", "!services/*")
    assert "functions: no function is configured.\n" in text
    assert "no folder that fits 'empty/*' holds a handler; 1 looked into" in text
    assert f"{tmp_path / 'empty' / 'one'} holds no handler" in text
    assert "'!services/*' leaves no folder out" in text
    assert "Fix discover, or add a table [functions.NAME]." in text


def test_a_mark_that_leaves_nothing_out_is_told(tmp_path):
    functions(tmp_path, "services/orders")
    (warning,) = load(tmp_path, "services/*", "!services/old").warnings
    assert "'!services/old' leaves no folder out" in warning


def test_a_folder_is_not_passed_over_because_of_a_mistake_in_it(tmp_path):
    functions(tmp_path, "services/orders")
    (tmp_path / "services" / "orders" / "app.py").write_text("def handler(event, context:\n")
    assert "app.py is not valid Python" in refusal(tmp_path, "services/*")
    (tmp_path / "services" / "orders" / "app.py").rename(tmp_path / "services" / "orders" / "one.py")
    for name in ("two.py", "three.py"):
        (tmp_path / "services" / "orders" / name).write_text(HANDLER)
    assert "several modules with a handler: three.py, two.py" in refusal(tmp_path, "services/*")
    named = load(tmp_path, "services/*", tail='[functions.orders]\nhandler = "one.handler"\n')
    assert named.functions[0].handler == "one.handler"


def test_everything_in_which_a_function_may_appear_is_watched(tmp_path):
    functions(tmp_path, "services/orders", "tools/orders/inner")
    (tmp_path / "services" / "docs").mkdir()
    (tmp_path / "services" / "docs" / "conf.py").write_text("")
    files = load(tmp_path, "services/*", "*/orders/inner", "services/orders").files
    for path in ("lpack.toml", "services", "services/docs", "services/docs/conf.py", "services/orders/inner"):
        assert tmp_path / path in files


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("services/*", "services/orders", True),
        ("services/*", "services/orders/inner", False),
        ("services/*", "services", False),
        ("**", "a/b", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**", "a", True),
        ("./a/*/", "a/x", True),
        ("a/[xy]?", "a/xz", True),
        ("A/*", "a/x", False),
    ],
)
def test_path_matches_pattern(pattern, path, expected):
    assert matches_path(pattern, path) is expected


NAMES = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map("/".join)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "a*"]), min_size=1, max_size=3).map("/".join)


@given(paths=st.sets(NAMES, min_size=1, max_size=6), pattern=PATTERNS, without=NAMES)
def test_the_search_finds_what_the_patterns_mean(tmp_path_factory, paths, pattern, without):
    folder = tmp_path_factory.mktemp("tree")
    for path in paths:
        (folder / path).mkdir(parents=True, exist_ok=True)
    everything = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    tables = {f"f{number}": {"source": path, "handler": "app.handler"} for number, path in enumerate(sorted(everything))}
    patterns = (pattern, f"!{without}")
    project = Section(file=folder / "lpack.toml", prefix="", table={"discover": list(patterns), "functions": tables})
    meant = {path for path in everything if matches_patterns(patterns, path)}
    if meant:
        found = discover(project, folder, folder / "dist").functions.values()
        assert {each.source.relative_to(folder).as_posix() for each in found} == meant
    else:
        with pytest.raises(UsageError, match="no folder fits"):
            discover(project, folder, folder / "dist")


def test_what_is_passed_over_or_left_out_is_not_looked_at(tmp_path, monkeypatch):
    functions(tmp_path, "services/orders", "services/.cache", "services/closed")
    looked, is_dir = set(), Path.is_dir

    def look(path: Path) -> bool:
        looked.add(path.name)
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", look)
    assert sources(load(tmp_path, "services/*", "!services/closed")) == {"orders": "services/orders"}
    assert "orders" in looked
    assert not {".cache", "closed"} & looked


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path, monkeypatch):
    functions(tmp_path, "services/orders", "services/closed")
    exists = Path.exists

    def refuse(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied")
        return exists(path)

    monkeypatch.setattr(Path, "exists", refuse)
    assert '"!services/closed"' in refusal(tmp_path, "services/*")
