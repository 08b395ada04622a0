"""Changed paths against what functions use."""

from hypothesis import given
from hypothesis import strategies as st

from packer.change.affected import Folder, InputPaths, match_changes


def everything(_: str) -> bool:
    return True


FUNCTIONS = {
    "a": InputPaths(files=frozenset({"/r/lock"}), folders=(Folder(path="/r/a", holds=lambda path: not path.endswith(".md")),)),
    "b": InputPaths(folders=(Folder(path="/r/b", holds=everything), Folder(path="/r/lib", holds=everything))),
}


def test_changed_paths_match_files_and_folders():
    assert match_changes(FUNCTIONS, ["/r/a/x.py", "/r/lock"]) == {"a": ("/r/a/x.py", "/r/lock")}
    assert match_changes(FUNCTIONS, ["/r/lib/deep/er/x"]) == {"b": ("/r/lib/deep/er/x",)}
    assert match_changes(FUNCTIONS, ["/r/ab/x", "/r/lock2", "/elsewhere"]) == {}


def test_folder_limits_which_of_its_files_count():
    assert match_changes(FUNCTIONS, ["/r/a/notes.md"]) == {}


def test_a_changed_folder_affects_whatever_uses_anything_in_it():
    assert match_changes(FUNCTIONS, ["/r"]) == {"a": ("/r",), "b": ("/r",)}
    assert match_changes(FUNCTIONS, ["/r/lib"]) == {"b": ("/r/lib",)}


def test_what_is_known_already_is_kept():
    assert match_changes({"a": InputPaths(reasons=frozenset({"/r/uv.lock"}))}, []) == {"a": ("/r/uv.lock",)}


PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


def is_above(one: str, other: str) -> bool:
    return other == one or other.startswith(one + "/")


@given(
    functions=st.dictionaries(st.sampled_from("xyz"), st.tuples(st.sets(PATHS, max_size=3), st.sets(PATHS, max_size=3))),
    changed=st.sets(PATHS, max_size=5),
)
def test_result_equals_comparing_each_path_with_each_input(functions, changed):
    inputs = {
        name: InputPaths(files=frozenset(files), folders=tuple(Folder(path=path, holds=everything) for path in folders))
        for name, (files, folders) in functions.items()
    }
    expected = {
        name: tuple(
            sorted(
                path
                for path in changed
                if any(is_above(path, file) for file in files)
                or any(is_above(path, folder) or is_above(folder, path) for folder in folders)
            )
        )
        for name, (files, folders) in functions.items()
    }
    assert match_changes(inputs, changed) == {name: paths for name, paths in expected.items() if paths}
