"""What stands around a handler's module: it starts faster, and cannot tell that anything is there."""

from __future__ import annotations

import json
import os as real_os
import subprocess
import sys
from pathlib import Path

import pytest

from packer.core.model import OWN_SOURCE, BytesContent, Entry, Tree
from packer.trim.handler_prelude import HandlerPrelude, files_to_prefetch, handler_module, make_prelude
from tests.packer.trim.test_bytecode import OWN, TASK, entry, host
from tests.shaped import compiler_of

PAUSE = make_prelude(pause=True, prefetch=())
BOTH = make_prelude(pause=True, prefetch=["lib/large.pyc", "not/there.py", "app.py"])
STARTERS = {"pause": PAUSE, "prefetch": make_prelude(pause=False, prefetch=["a.py"]), "both": BOTH}
THRESHOLD = [700, 10, 10]


def run(folder: Path, source: str, code: str, starter: HandlerPrelude = BOTH, name: str = "app") -> object:
    """Import a module from its bytecode alone, and give what ``code`` then leaves in ``result``."""
    compiler = compiler_of(folder / "store")
    path = f"{name.replace('.', '/')}.py"
    content = compiler.compile_handler(entry(path, source, OWN_SOURCE), starter, host(), TASK, 0).files.get(path)
    assert content is not None
    target = folder / "task" / f"{path}c"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.read())
    head = f"import gc, json, sys; sys.path.insert(0, {str(folder / 'task')!r}); gc.set_threshold(*{THRESHOLD})"
    script = f"{head}\n{code}\nprint(json.dumps(result))"
    finished = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.parametrize("starter", STARTERS.values(), ids=STARTERS)
def test_no_name_is_left_behind(tmp_path, starter):
    plain = run(tmp_path / "plain", "x = 1\n", "import app; result = sorted(vars(app))", HandlerPrelude())
    assert run(tmp_path / "started", "x = 1\n", "import app; result = sorted(vars(app))", starter) == plain
    assert isinstance(plain, list)
    assert "x" in plain


@pytest.mark.parametrize("starter", STARTERS.values(), ids=STARTERS)
def test_the_docstring_and_future_imports_stay_first(tmp_path, starter):
    future = "from __future__ import annotations\nfrom __future__ import generator_stop\n"
    source = f"'''What it does.'''\n{future}\ndef f(x: unknown): pass\n"
    code = "import app; result = [app.__doc__, app.f.__annotations__]"
    assert run(tmp_path, source, code, starter) == ["What it does.", {"x": "unknown"}]


@pytest.mark.parametrize("source", ["", "\n\n", "# nothing\n", "'''doc'''\n", "from __future__ import annotations\n", "...\n"])
def test_a_module_that_does_nothing_can_be_started(tmp_path, source):
    assert run(tmp_path, source, "import app; result = gc.get_threshold()") == THRESHOLD


def test_lines_of_tracebacks_are_those_of_the_source(tmp_path):
    source = "'''doc'''\nimport sys\n\n\ndef handler(event, context):\n    x = 1\n    raise KeyError(x)\n"
    code = (
        "import app, traceback\ntry: app.handler(None, None)\nexcept KeyError as error:\n"
        "    last = traceback.extract_tb(error.__traceback__)[-1]\n    result = [last.filename, last.lineno, last.name]"
    )
    assert run(tmp_path, source, code) == ["/var/task/app.py", 7, "handler"]


@pytest.mark.parametrize(
    ("source", "line"), [("1 / 0\n", 1), ("'''doc'''\n\n1 / 0\n", 3), ("x = 1\n\n\ny = (x,\n  1 / 0)\n", 5)]
)
def test_a_module_that_fails_to_import_says_where(tmp_path, source, line):
    code = (
        "import traceback\ntry: import app\nexcept ZeroDivisionError as error:\n"
        "    last = traceback.extract_tb(error.__traceback__)[-1]\n    result = [last.filename, last.lineno, last.name]"
    )
    assert run(tmp_path, source, code) == ["/var/task/app.py", line, "<module>"]


def test_the_collector_pauses_during_the_import_and_goes_on_after_it(tmp_path):
    source = "import gc\nduring = gc.get_threshold()\nenabled = gc.isenabled()\n"
    code = "import app; result = [app.during[0], app.enabled, gc.get_threshold(), gc.isenabled(), gc.get_freeze_count() > 0]"
    assert run(tmp_path, source, code) == [0, True, THRESHOLD, True, True]


def test_nothing_pauses_where_that_was_not_asked_for(tmp_path):
    source = "import gc\nduring = gc.get_threshold()\n"
    code = "import app; result = [app.during, gc.get_freeze_count()]"
    assert run(tmp_path, source, code, STARTERS["prefetch"]) == [THRESHOLD, 0]


@pytest.mark.parametrize(
    ("words", "threshold", "enabled"),
    [
        ("gc.disable()", THRESHOLD, False),
        ("gc.set_threshold(5000, 20, 30)", [5000, 20, 30], True),
        ("gc.set_threshold(5000, 20, 30); gc.disable()", [5000, 20, 30], False),
        ("gc.disable(); gc.enable()", THRESHOLD, True),
        ("old = gc.get_threshold(); gc.set_threshold(9); gc.set_threshold(*old)", THRESHOLD, True),
        ("gc.collect()", THRESHOLD, True),
    ],
)
def test_a_module_that_speaks_to_the_collector_keeps_its_word(tmp_path, words, threshold, enabled):
    assert run(tmp_path, f"import gc\n{words}\n", "import app; result = [gc.get_threshold(), gc.isenabled()]") == [
        threshold,
        enabled,
    ]


def test_a_module_that_hides_builtins_is_not_disturbed(tmp_path):
    source = "import os as names\ngc = os = file = None\ndef open(*a): raise RuntimeError\nfor name in 'ab': pass\n"
    code = "import app; result = [app.gc, app.os, app.file, app.name, app.names.__name__]"
    assert run(tmp_path, source, code) == [None, None, None, "b", "os"]


def test_a_module_with_names_of_its_own_to_export_exports_these(tmp_path):
    source = "def handler(event, context): return 1\n_hidden = 2\n"
    assert run(tmp_path, source, "space = {}; exec('from app import *', space); result = sorted(space)") == [
        "__builtins__",
        "handler",
    ]


def read_ahead(starter: HandlerPrelude, os: object = real_os) -> None:
    """Do here and now what the starter has a thread do."""
    text = starter.before.replace('__import__("_thread").start_new_thread(', "_now(").replace("import os", "pass")
    exec(text, {"os": os, "_now": lambda function, arguments: function(*arguments)})  # noqa: S102 the text under test


def test_files_that_are_missing_are_no_trouble_to_read_ahead():
    read_ahead(make_prelude(pause=False, prefetch=["not/there.py", "", "../../proc/self/mem", "ä.py", "../../dev"]))


def test_every_file_is_asked_for_below_the_functions_folder():
    seen: list[str] = []

    class Os:
        O_RDONLY = POSIX_FADV_WILLNEED = 0

        @staticmethod
        def open(path: str, _flags: int) -> int:
            seen.append(path)
            raise OSError

    read_ahead(make_prelude(pause=False, prefetch=["lib/one.pyc", 'it\'s "two".so']), Os)
    assert seen == ["/var/task/lib/one.pyc", '/var/task/it\'s "two".so']


def test_all_of_a_file_is_asked_for_and_the_file_is_closed(tmp_path, monkeypatch):
    asked: list[tuple[int, ...]] = []
    closed: list[int] = []

    class Os:
        O_RDONLY, POSIX_FADV_WILLNEED = real_os.O_RDONLY, real_os.POSIX_FADV_WILLNEED
        open = staticmethod(lambda _path, _flags: 41 + len(asked))
        posix_fadvise = staticmethod(lambda *arguments: asked.append(arguments))
        close = staticmethod(closed.append)

    read_ahead(make_prelude(pause=False, prefetch=["one", "two"]), Os)
    assert asked == [(41, 0, 0, real_os.POSIX_FADV_WILLNEED), (42, 0, 0, real_os.POSIX_FADV_WILLNEED)]
    assert closed == [41, 42]


@pytest.mark.parametrize("name", ["app", "pkg.app", "pkg.deep.app"])
def test_modules_of_packages_are_started_too(tmp_path, name):
    task = tmp_path / "task"
    for number in range(1, name.count(".") + 1):
        folder = task.joinpath(*name.split(".")[:number])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
    code = f"import importlib; result = [importlib.import_module({name!r}).during, gc.get_threshold()]"
    assert run(tmp_path, "import gc\nduring = gc.get_threshold()[0]\n", code, name=name) == [0, THRESHOLD]


def test_what_does_not_compile_is_not_started(tmp_path):
    broken = entry("app.py", "print 'hello'\n", OWN_SOURCE)
    assert compiler_of(tmp_path).compile_handler(broken, BOTH, host(), TASK, 0).failed == (broken.path,)


@pytest.mark.parametrize(
    ("handler", "found"),
    [
        ("app.handler", "app.py"),
        ("pkg.app.handler", "pkg/app.py"),
        ("pkg/app.handler", "pkg/app.py"),
        ("pkg.handler", "pkg/__init__.py"),
        ("other.handler", None),
        ("pk.app.handler", None),
    ],
)
def test_the_handlers_module_is_found_as_lambda_finds_it(handler, found):
    tree = Tree.of(entry(path, "") for path in ("app.py", "pkg/__init__.py", "pkg/app.py", "xpkg/app.py"))
    entry_found = handler_module(handler, tree)
    assert (entry_found.path if entry_found else None) == found


def sized(path: str, size: int) -> Entry:
    return Entry(path=path, mode=0o644, content=BytesContent.of(b"x" * size), owner="lib")


def test_the_largest_is_read_first_and_bytecode_where_there_is_some():
    pyc = f"lib/__pycache__/one.cpython-3{OWN}.pyc"
    sizes = {"lib/one.py": 90, pyc: 50, "lib/two.pyc": 70, "lib/data.bin": 60, "lib/no.so": 99}
    opened = frozenset(["lib/one.py", "lib/two.py", "lib/data.bin", "lib/gone.py"])
    assert files_to_prefetch(sizes, opened, OWN) == ["lib/two.pyc", "lib/data.bin", pyc]


def test_nothing_to_do_is_no_starter():
    assert not make_prelude(pause=False, prefetch=())
    assert make_prelude(pause=False, prefetch=["a"])
