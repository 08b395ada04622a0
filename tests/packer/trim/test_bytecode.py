"""Bytecode: made by the target's own Python, loaded without a look at the source, and the same bytes every time."""

from __future__ import annotations

import importlib.util
import json
import marshal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import CodeType

import pytest

from builders.errors import BuildError
from builders.inside import compile as script
from builders.interpreters import find_interpreter
from builders.sandbox.host_sandbox import HostSandbox
from builders.sandbox.task import Task, TaskResult
from packer.core.model import OWN_SOURCE, BytesContent, Entry, Tree
from packer.trim.bytecode import CompiledModules
from packer.trim.handler_prelude import make_prelude
from tests.shaped import compiler_of

OWN = sys.version_info.minor
MINORS = sorted({OWN, *(minor for minor in range(9, 14) if find_interpreter(minor) is not None)})
TASK = "/var/task"
LIBRARY = "lib-1.0-py3-none-any.whl"
PACKAGES = ("asyncio", "concurrent", "email", "http", "importlib", "json", "logging", "unittest", "urllib", "xml")
_EXAMINE = """\
import importlib.util, json, marshal, sys
pyc, source = (open(path, "rb").read() for path in sys.argv[1:3])
print(json.dumps({
    "magic": pyc[:4] == importlib.util.MAGIC_NUMBER,
    "flags": int.from_bytes(pyc[4:8], "little"),
    "hash": pyc[8:16] == importlib.util.source_hash(source),
    "filename": marshal.loads(pyc[16:]).co_filename,
}))
"""


def host(minor: int = OWN) -> HostSandbox:
    found = find_interpreter(minor)
    assert found is not None
    return HostSandbox(found)


def entry(path: str, source: str | bytes, owner: str = LIBRARY) -> Entry:
    data = source.encode() if isinstance(source, str) else source
    return Entry(path=path, mode=0o644, content=BytesContent.of(data), owner=owner)


def compiled(folder: Path, entries: Iterable[Entry], *, minor: int = OWN, jobs: int = 2, optimize: int = 0) -> CompiledModules:
    return compiler_of(folder, jobs).compile(Tree(tuple(entries)), host(minor), TASK, optimize)


def raw(made: CompiledModules) -> dict[str, bytes]:
    return {path: content.read() for path, content in made.files.items()}


def code_of(pyc: bytes) -> CodeType:
    code = marshal.loads(pyc[16:])  # noqa: S302 made just now
    assert isinstance(code, CodeType)
    return code


def result(folder: Path, made: CompiledModules, entries: Iterable[Entry], code: str, minor: int = OWN) -> str:
    """Run code where each source lies beside its bytecode, but has other text: only the bytecode can answer."""
    for each in entries:
        path = folder / each.path
        (path.parent / "__pycache__").mkdir(parents=True, exist_ok=True)
        path.write_text("raise RuntimeError('the source was read')\n")
        if each.path in made.files:
            (path.parent / "__pycache__" / f"{path.stem}.cpython-3{minor}.pyc").write_bytes(made.files[each.path].read())
    interpreter = find_interpreter(minor)
    assert interpreter is not None
    script = f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"
    command = [str(interpreter.path), "-I", "-S", "-B", "-c", script]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


@pytest.fixture(scope="module")
def sample() -> tuple[Entry, ...]:
    """A few hundred real modules."""
    library = Path(sysconfig.get_path("stdlib"))
    paths = sorted({*library.glob("[a-z]*.py"), *(path for name in PACKAGES for path in (library / name).rglob("*.py"))})
    found = [entry(f"lib/{path.relative_to(library)}", path.read_bytes()) for path in paths if "test" not in path.parts]
    assert len(found) > 200
    return tuple(found)


@pytest.fixture(scope="module")
def expected(sample, tmp_path_factory) -> dict[str, bytes]:
    made = compiled(tmp_path_factory.mktemp("first"), sample, jobs=2)
    assert not made.failed
    return raw(made)


@pytest.mark.parametrize("minor", MINORS)
def test_the_target_loads_it_and_takes_its_hash_for_right(tmp_path, minor):
    source = entry(
        "pkg/one.py",
        "'''Say.'''\nVALUE = ('ä', 1.5, {1, 2}, frozenset('ab'))\ndef call(a, *, b=2):\n    return a in {'x', 'y'}\n",
    )
    pyc = raw(compiled(tmp_path / "store", [source], minor=minor))["pkg/one.py"]
    (tmp_path / "one.pyc").write_bytes(pyc)
    (tmp_path / "one.py").write_bytes(source.content.read())
    interpreter = find_interpreter(minor)
    assert interpreter is not None
    command = [str(interpreter.path), "-I", "-c", _EXAMINE, str(tmp_path / "one.pyc"), str(tmp_path / "one.py")]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert told == {"magic": True, "flags": 1, "hash": True, "filename": "/var/task/pkg/one.py"}


@pytest.mark.parametrize("minor", MINORS)
def test_the_target_runs_it_without_a_look_at_the_source(tmp_path, minor):
    entries = [entry("pkg/__init__.py", ""), entry("pkg/one.py", "import sys\nVALUE = sys.version_info[1]\n")]
    made = compiled(tmp_path / "store", entries, minor=minor)
    assert result(tmp_path / "tree", made, entries, "import pkg.one; print(pkg.one.VALUE)", minor) == str(minor)


def test_every_code_object_says_where_it_lies_on_lambda(expected):
    def names(code: CodeType) -> set[str]:
        inner = [names(each) for each in code.co_consts if isinstance(each, CodeType)]
        return {code.co_filename}.union(*inner)

    assert all(names(code_of(pyc)) == {f"/var/task/{path}"} for path, pyc in expected.items())


def test_the_order_of_the_files_does_not_matter(tmp_path, sample, expected):
    assert raw(compiled(tmp_path, reversed(sample), jobs=2)) == expected


@pytest.mark.parametrize("jobs", [1, 7])
def test_the_number_of_jobs_does_not_matter(tmp_path, sample, expected, jobs):
    assert raw(compiled(tmp_path, sample, jobs=jobs)) == expected


def test_which_other_files_are_compiled_does_not_matter(tmp_path, sample, expected):
    few = sample[::9]
    assert raw(compiled(tmp_path / "few", few)) == {each.path: expected[each.path] for each in few}
    for each in sample[::60]:
        assert raw(compiled(tmp_path / "each", [each])) == {each.path: expected[each.path]}


HISTORIES = {
    "strings that are names elsewhere": (
        "onesided = twosided = 1\n",
        "'onesided'\n",
        "def f():\n    return onesided, 'twosided'\n",
    ),
    "characters that are names elsewhere": ("é = 1\n", "µ = ª = 1\n", "def ö(ü): return ü\n"),
    "names beyond ASCII": ("αβ = γδ = 1\n", "class αβ:\n    γδ = 'γδ'\n"),
    "tuples and numbers": ("x = ('αβ', 1 << 70, 1.5, b'b', 'two words')\n", "y = (1 << 70, 1.5, b'b', 'two words')\n"),
}
OBSERVED = """\
def f(x): return x in {'onesided', 'twosided'}
def g(x): return x in {'twosided', 'onesided'}
def h(x): return (x in {'αβ', 1, 1.0, b'b'}, 'é', 'ü', 'αβ', 'two words', ' ', '', 1 << 70, 1.5, 'f')
def i(x): return x in {True, 2} or x in {1, 2} or x in {1.0, 2} or x in {'é', 'ª'}
"""


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("history", HISTORIES)
def test_what_was_compiled_before_by_the_same_process_does_not_matter(tmp_path, minor, history):
    observed = entry("observed.py", OBSERVED)
    alone = raw(compiled(tmp_path / "alone", [observed], minor=minor, jobs=1))
    # The largest file comes first: what is padded is compiled before.
    before = [entry(f"before{number}.py", text + "#" * 4096) for number, text in enumerate(HISTORIES[history])]
    after = raw(compiled(tmp_path / "after", [*before, observed], minor=minor, jobs=1))
    assert after["observed.py"] == alone["observed.py"] != b""
    assert len(after) == len(before) + 1


def test_whether_a_process_has_copied_a_set_does_not_matter():
    """A code object copies a set where it finds a string of it interned already, as another file may have left it."""

    def bytes_of(code: CodeType) -> bytes:
        held: list[object] = []
        assert script.hold_references(code, held)
        return marshal.dumps(code)

    def copied(code: CodeType) -> CodeType:
        return code.replace(co_consts=tuple(map(copy, code.co_consts)))

    def copy(each: object) -> object:
        if isinstance(each, frozenset):
            return frozenset(reversed(list(each)))
        return copied(each) if isinstance(each, CodeType) else each

    code = compile(OBSERVED, "observed.py", "exec", dont_inherit=True)
    assert bytes_of(copied(code)) != bytes_of(code)
    assert bytes_of(script.replace_sets(copied(code), {})) == bytes_of(script.replace_sets(code, {}))


def test_sets_hold_what_the_source_says(tmp_path):
    source = entry("pkg.py", OBSERVED)
    made = compiled(tmp_path / "store", [source])
    script = "import pkg; print([pkg.f('onesided'), pkg.g('x'), pkg.h(1)[0], pkg.h('x')[0], pkg.i(True), pkg.i('ª'), pkg.i(3)])"
    assert result(tmp_path / "tree", made, [source], script) == "[True, False, True, False, True, True, False]"


def test_the_users_own_python_variables_do_not_matter(tmp_path, sample, expected, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("LC_ALL", "C")
    few = sample[::3]
    assert raw(compiled(tmp_path, few)) == {each.path: expected[each.path] for each in few}


@pytest.mark.parametrize("minor", [minor for minor in MINORS if minor != OWN])
def test_every_target_gives_the_same_bytes_twice(tmp_path, sample, minor):
    few = sample[::5]
    first = raw(compiled(tmp_path / "first", few, minor=minor, jobs=1))
    assert len(first) > len(few) / 2
    assert raw(compiled(tmp_path / "second", reversed(few), minor=minor, jobs=4)) == first


def test_it_behaves_as_what_python_itself_compiles(sample, expected):
    for each in sample[::7]:
        path = f"{TASK}/{each.path}"
        assert code_of(expected[each.path]) == compile(each.content.read(), path, "exec", dont_inherit=True, optimize=0)


@pytest.mark.parametrize("minor", MINORS)
def test_a_set_whose_order_is_an_accident_is_not_compiled(tmp_path, minor):
    entries = [
        entry("with_none.py", "def f(x):\n    return x in {None, 'a', 'b'}\n"),
        entry("plain.py", "f = 'x' in {'a', 'b'}\n"),
    ]
    made = compiled(tmp_path, entries, minor=minor)
    assert "plain.py" in made.files
    # None is hashed by its address before Python 3.12, but 3.11 orders constants of a frozenset when it writes them.
    assert made.failed == (() if minor >= 11 else ("with_none.py",))


def test_what_does_not_compile_stays_as_it_is(tmp_path):
    sources: dict[str, str | bytes] = {
        "good.py": "x = 1\n",
        "python2.py": "print 'hello'\n",
        "template.py": "class {{ cookiecutter.name }}:\n    pass\n",
        "nul.py": "x = 1\0\n",
        "bytes.py": b"x = '\xff'\n",
        "deep.py": "x = " + "(" * 5000 + ")" * 5000 + "\n",
    }
    made = compiled(tmp_path, [entry(path, text) for path, text in sources.items()])
    assert list(made.files) == ["good.py"]
    assert made.failed == tuple(path for path in sources if path != "good.py")


def test_a_file_in_another_encoding_compiles(tmp_path):
    entries = [
        entry("latin.py", "# -*- coding: latin-1 -*-\nVALUE = 'ä'\n".encode("latin-1")),
        entry("marked.py", b"\xef\xbb\xbfVALUE = 2\n"),
    ]
    made = compiled(tmp_path / "store", entries)
    assert result(tmp_path / "tree", made, entries, "import latin, marked; print(ord(latin.VALUE), marked.VALUE)") == "228 2"


def test_an_empty_file_compiles(tmp_path):
    entries = [entry("pkg/__init__.py", "")]
    made = compiled(tmp_path / "store", entries)
    assert made.size == len(raw(made)["pkg/__init__.py"]) > 16
    assert result(tmp_path / "tree", made, entries, "import pkg; print(pkg.__doc__)") == "None"


OPTIMISED = """\
'doc'
found = []
try:
    assert False, 'asserted'
except AssertionError as error:
    found.append(str(error))
if __doc__:
    found.append(__doc__)
"""


@pytest.mark.parametrize(("optimize", "told"), [(0, "['asserted', 'doc']"), (1, "['doc']"), (2, "[]")])
def test_each_optimization_level_is_pythons_own(tmp_path, optimize, told):
    entries = [entry("one.py", OPTIMISED)]
    made = compiled(tmp_path / "store", entries, optimize=optimize)
    assert result(tmp_path / "tree", made, entries, "import one; print(one.found)") == told


def test_modules_alone_are_compiled(tmp_path):
    modules = ["pkg/__init__.py", "pkg/deep/one.py", "top.py"]
    others = [
        "pkg/data-files/one.py",
        "pkg/a-script.py",
        "bin/tool.py",
        "share/doc/one.py",
        "pkg/data.txt",
        "pkg-1.0.dist-info/x.py",
    ]
    made = compiled(tmp_path, [entry(path, "x = 1\n") for path in modules + others])
    assert sorted(made.files) == modules
    assert made.failed == ()


def test_own_source_is_compiled_whatever_its_folders_are_called(tmp_path):
    paths = ["get-orders/app.py", "bin/app.py", "my-app.py"]
    made = compiled(tmp_path, [entry(path, "x = 1\n", OWN_SOURCE) for path in paths])
    assert sorted(made.files) == sorted(paths)


class Counting(HostSandbox):
    """A Python that counts what it is asked to run; as many times as it has outcomes, it gives these instead."""

    def __init__(self, *outcomes: TaskResult) -> None:
        found = find_interpreter(OWN)
        assert found is not None
        super().__init__(found)
        self.runs = 0
        self._outcomes = list(outcomes)

    def run(self, task: Task, work: Path) -> TaskResult:
        self.runs += 1
        return self._outcomes.pop(0) if self._outcomes else super().run(task, work)


def test_what_was_compiled_at_once_is_found_by_each_that_needs_it(tmp_path):
    """Handlers of many functions lie at one path, and have a starter around their code."""
    python, compiler, starter = Counting(), compiler_of(tmp_path), make_prelude(pause=True, prefetch=())
    handlers = [entry("app.py", f"def handler(event, context):\n    return {number}\n", OWN_SOURCE) for number in range(3)]
    compiler.warm([[each] for each in handlers], python, TASK, 0, starter)
    assert python.runs == 1
    made = [compiler.compile_handler(each, starter, python, TASK, 0) for each in handlers]
    assert python.runs == 1
    assert len({raw(each)["app.py"] for each in made}) == 3
    alone = [compiler_of(tmp_path / each.content.digest).compile_handler(each, starter, python, TASK, 0) for each in handlers]
    assert list(map(raw, alone)) == list(map(raw, made))


def test_a_distribution_is_compiled_once_for_all_builds(tmp_path):
    python = Counting()
    tree = Tree((entry("one.py", "x = 1\n"), entry("two.py", "x = 2\n", "two-1.0-py3-none-any.whl")))
    first = compiler_of(tmp_path, 2).compile(tree, python, TASK, 0)
    assert python.runs == 1
    again = compiler_of(tmp_path).compile(tree, python, TASK, 0)
    assert python.runs == 1
    compiler_of(tmp_path).compile(Tree((*tree, entry("zed.py", "x = 3\n", "zed-1.0-py3-none-any.whl"))), python, TASK, 0)
    assert python.runs == 2
    assert raw(again) == raw(first)
    assert [content.span() for content in again.files.values()] == [content.span() for content in first.files.values()]


@pytest.mark.parametrize("change", ["root", "optimize", "source", "path"])
def test_what_changes_the_bytes_is_compiled_anew(tmp_path, change):
    python, compiler = Counting(), compiler_of(tmp_path)
    compiler.compile(Tree((entry("one.py", "x = 1\n"),)), python, TASK, 0)
    path, source = "two.py" if change == "path" else "one.py", "x = 2\n" if change == "source" else "x = 1\n"
    root, optimize = "/opt/python" if change == "root" else TASK, int(change == "optimize")
    made = compiler.compile(Tree((entry(path, source),)), python, root, optimize)
    assert python.runs == 2
    assert code_of(raw(made)[path]).co_filename == f"{root}/{path}"


@pytest.mark.parametrize(
    "outcome",
    [
        TaskResult(status=1, log="MemoryError", answer=b""),
        TaskResult(status=-9, log="MemoryError", answer=None),
        TaskResult(status=0, log="MemoryError", answer=b""),
    ],
    ids=["fails", "is killed", "says nothing"],
)
def test_a_compiler_that_fails_is_an_error_and_nothing_is_kept_of_it(tmp_path, outcome):
    python, tree = Counting(outcome), Tree((entry("one.py", "x = 1\n"),))
    with pytest.raises(BuildError, match=LIBRARY) as caught:
        compiler_of(tmp_path).compile(tree, python, TASK, 0)
    assert "MemoryError" in str(caught.value)
    assert 'bytecode = "off"' in caught.value.remedy
    assert raw(compiler_of(tmp_path).compile(tree, python, TASK, 0))


def test_the_hash_is_that_of_the_source_and_not_of_what_stands_around_it(expected, sample):
    for each in sample[::11]:
        assert expected[each.path][8:16] == importlib.util.source_hash(each.content.read())


def test_test_modules_of_a_distribution_are_not_compiled_and_those_of_the_function_are(tmp_path):
    paths = ("pkg/tests/test_one.py", "pkg/tests/two_test.py", "pkg/tests/tools.py", "pkg/test_tools.py")
    entries = [*(entry(path, "VALUE = 1\n") for path in paths), entry("tests/test_own.py", "VALUE = 1\n", OWN_SOURCE)]
    assert set(compiled(tmp_path, entries).files) == {"pkg/tests/tools.py", "pkg/test_tools.py", "tests/test_own.py"}
