"""A function with layers, on this machine: what they have is found as on Lambda, confined or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from builders.sandbox.task import LAYERS_PLACEHOLDER, TREE_PLACEHOLDER, LayerStack
from tests.builders.sandbox.test_host_sandbox import as_nobody
from tests.layered import IMPORT, LIBRARY, OWN, PROGRAM, SONAME, SPREAD, VARIABLES, lay_layers
from tests.probing import ERROR, answer, host, packages_of, probe, results


@pytest.fixture
def layers(tmp_path) -> Path:
    return lay_layers(tmp_path / "layers", host())


def test_python_imports_from_both_folders_and_namespaces_are_joined(tmp_path, either, layers):
    done = probe(either, tmp_path / "run", IMPORT, SPREAD, files=OWN, layers=layers)
    assert results(done) == [["shared", "placed"], ["own", "theirs"]]


def test_libraries_are_loaded_by_name_and_programs_are_found(tmp_path, either, layers):
    done = probe(either, tmp_path / "run", LIBRARY, PROGRAM, layers=layers, environment=VARIABLES)
    assert results(done) == [42, "hello\n"]


def test_the_functions_own_goes_first_and_what_the_runtime_has_last(tmp_path, either, layers):
    late = tmp_path / "late"
    late.mkdir()
    for name in ("neighbour", "shared", "carried"):
        (late / f"{name}.py").write_text("VALUE = 'of the runtime'\n")
    code = "import shared, twice, carried; result = [each.VALUE for each in (neighbour, twice, shared, carried)]"
    found = results(probe(either, tmp_path / "run", code, layers=layers, late=late))
    assert found == [[1, "of site-packages", "shared", "of the runtime"]]


def test_every_path_that_is_told_is_lambdas(tmp_path, either, layers):
    codes = (
        "import shared; result = [shared.__file__, *sys.path[:3]]",
        "import shared; shared.fail()",
        "result = [os.environ['LD_LIBRARY_PATH'], os.environ['PATH'].rpartition(':')[2]]",
    )
    done = probe(either, tmp_path / "run", *codes, layers=layers, environment=VARIABLES)
    placed, failed, variables = answer(done)["events"]
    inside = [f"/opt/{each}" for each in packages_of(either)]
    assert placed["result"] == ["/opt/python/shared.py", "/var/task", *inside]
    assert failed["error"]["message"] == "'/opt/python/shared.py'"
    assert 'File "/opt/python/shared.py", line 3, in fail' in failed["error"]["trace"]
    assert variables["result"] == ["/var/task:/var/task/lib:/opt/lib", "/opt/bin"]
    assert str(layers) not in json.dumps(answer(done))


def test_a_trace_has_paths_as_if_all_lay_in_the_function(tmp_path, either, layers):
    done = probe(either, tmp_path / "run", IMPORT, SPREAD, LIBRARY, files=OWN, layers=layers, environment=VARIABLES, trace=True)
    opened = set(answer(done)["opened"])
    assert opened >= {"app.py", "shared.py", "placed.py", "spread/own.py", "spread/theirs.py", f"lib/{SONAME}"}
    assert not {path for path in opened if path.startswith(("python/", "/"))}


def test_without_layers_there_is_nothing_of_them_on_the_path(tmp_path, either):
    code = "result = [path for path in sys.path if path.startswith('/opt/python')]"
    done = probe(
        either,
        tmp_path,
        code,
        "result = os.environ['WHERE']",
        environment={"WHERE": f"{TREE_PLACEHOLDER} {LAYERS_PLACEHOLDER}"},
    )
    assert results(done) == [[], "/var/task /opt"]


@pytest.mark.usefixtures("confined")
class TestConfined:
    """What is seen where the machine allows private namespaces."""

    def test_nothing_else_lies_there_and_nothing_can_be_written(self, tmp_path, layers):
        writes = ("open('/opt/new', 'w')", "open('/opt/python/shared.py', 'a')", "os.remove('/opt/python/shared.py')")
        codes = ("result = sorted(os.listdir('/opt'))", *map(ERROR.format, writes))
        assert results(probe(host(), tmp_path / "run", *codes, layers=layers)) == [
            ["bin", "lib", "python"],
            "OSError",
            "PermissionError",
            "OSError",
        ]

    def test_another_user_can_have_it_too(self):
        finished = as_nobody(AS_NOBODY)
        assert finished.returncode == 0, finished.stderr
        assert json.loads(finished.stdout) == [65534, "", ["/opt/python/mine.py"]]


AS_NOBODY = """\
import json, os, pathlib, tempfile
from tests.probing import host, probe, results, write_files
python = host()
with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    layers = write_files(folder / "layers", {"python/mine.py": ""})
    done = probe(python, folder / "run", "import mine; result = mine.__file__", layers=layers)
    print(json.dumps([os.getuid(), python.unconfined, results(done)]))
"""


@pytest.mark.parametrize("name", ["part", "a part, with a comma"])
def test_layers_are_stacked_the_last_on_top_or_merged_where_they_cannot_be(tmp_path, either, name):
    parts = []
    for number, values in enumerate(({"one": 1, "both": 1}, {"two": 2, "both": 2})):
        parts.append(tmp_path / f"{name} {number}")
        for module, value in values.items():
            place = parts[-1] / "python" / f"{module}.py"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"VALUE = {value}\n")
    asked: list[Path] = []

    def merged() -> Path:
        asked.append(tmp_path / "merged")
        for part in parts:
            shutil.copytree(part, asked[-1], dirs_exist_ok=True)
        return asked[-1]

    stack = LayerStack(parts=tuple(parts), merged=merged)
    code = "import one, two, both; result = [one.VALUE, two.VALUE, both.VALUE]"
    assert results(probe(either, tmp_path / "run", code, layers=stack)) == [[1, 2, 2]]
    stackable = "," not in name and not either.unconfined and either._runner._stacks
    assert bool(asked) != stackable
