"""Extension modules that code does without, known by what catches that they cannot be imported."""

import pytest

from packer.core.model import FILE_MODE, BytesContent, Entry, Tree
from packer.wheels.optional_modules import is_optional

PATH = "one/fast/_core.cpython-312-x86_64-linux-gnu.so"


def tree_of(source: str, path: str = "one/fast/__init__.py") -> Tree:
    return Tree.of([Entry(path=path, mode=FILE_MODE, content=BytesContent.of(source.encode()), owner="one")])


def guarded(statement: str, clause: str = "except ImportError:", then: str = "run = None") -> str:
    return f"try:\n    {statement}\n{clause}\n    {then}\n"


OPTIONAL = {
    "a statement": guarded("from one.fast._core import run"),
    "from the package": guarded("from one.fast import _core as core"),
    "the whole name": guarded("import one.fast._core"),
    "from beside it": guarded("from ._core import run"),
    "from the folder": guarded("from . import _core"),
    "a call": guarded("run = importlib.import_module('one.fast._core')"),
    "a call from beside it": guarded("run = import_module('._core', __package__)"),
    "among errors": guarded("from ._core import run", "except (OSError, ImportError) as error:"),
    "any error": guarded("from ._core import run", "except Exception:"),
    "no error": guarded("from ._core import run", "except:"),
    "within a function": "def find():\n  try:\n    from ._core import run\n  except ImportError:\n    return None\n",
    "an error that is raised sometimes": guarded("from ._core import run", then="if forced: raise"),
    "a block": "with contextlib.suppress(ImportError):\n    from ._core import run\n",
    "a chain of a thousand sums": guarded("from ._core import run") + "x = " + "+".join(["1"] * 2000) + "\n",
}
NEEDED = {
    "a statement of its own": "from ._core import run\n",
    "one of two statements": guarded("from ._core import run") + "from ._core import other\n",
    "a function within": guarded("def run():\n        from ._core import run"),
    "in the place of another": guarded("import other", then="from ._core import run"),
    "after another": "try:\n    import other\nexcept ImportError:\n    pass\nelse:\n    from ._core import run\n",
    "an error of another kind": guarded("from ._core import run", "except ModuleNotFoundError:"),
    "an error that is raised again": guarded("from ._core import run", then="raise RuntimeError('no core')"),
    "nothing": "# _core\n",
    "no Python": "print '_core'\n",
    "a namesake": guarded("from two._core import run"),
}


@pytest.mark.parametrize("source", OPTIONAL.values(), ids=OPTIONAL)
def test_a_module_whose_absence_is_caught_is_optional(source):
    assert is_optional(PATH, [tree_of(source)])


@pytest.mark.parametrize("source", NEEDED.values(), ids=NEEDED)
def test_a_module_that_something_may_need_is_not(source):
    assert not is_optional(PATH, [tree_of(source)])


def test_every_tree_counts_and_no_test_suite():
    caught = tree_of(guarded("from ._core import run"))
    assert is_optional(PATH, [caught, tree_of("from one.fast import _core\n", "one/tests/test_core.py")])
    assert not is_optional(PATH, [caught, tree_of("from one.fast import _core\n", "app.py")])
