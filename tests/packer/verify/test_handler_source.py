"""What a handler's source says without being run: its names, and whether it may have others."""

from __future__ import annotations

import ast

import pytest

from packer.verify.handler_source import _NEWER_SYNTAX, may_bind, module_names

NAMES = {
    "def a(): ...\nasync def b(): ...\nclass C: ...\n": ({"a", "b", "C"}, ("a", "b")),
    "app = make()\nhandler = app.handle\nLIMIT = 3\n": ({"app", "handler", "LIMIT"}, ()),
    "def a(): ...\nb = a\nc = traced(b)\nd = lambda *_: 1\n_e = a\n": ({"a", "b", "c", "d", "_e"}, ("a", "b", "c", "d")),
    "import os.path\nfrom x import y as z\n": ({"os", "z"}, ()),
    "if True:\n    def a(): ...\nelse:\n    from x import b\n": ({"a", "b"}, ()),
    "try:\n    c = 1\nexcept E as e:\n    pass\nwith o() as f, g:\n    for h, (i, *j) in k:\n        pass\n": (
        {"c", "e", "f", "h", "i", "j"},
        (),
    ),
    "def outer():\n    inner = 1\n    def deeper(): ...\n": ({"outer"}, ("outer",)),
    "print(x := 1)\n": ({"x"}, ()),
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("try:\n    name = f()\nexcept E:\n    pass\n", True),
        ("try:\n    pass\nexcept* E as name:\n    pass\n", True),
        ("def f():\n    if x:\n        import name\n", True),
        ("print(name)\nname = 1\n", True),
        ("async def f():\n    async with o() as name:\n        pass\n", True),
        ("match x:\n    case {**name}:\n        pass\n", True),
        ("from tool import *\n", True),
        ("globals()['name'] = 1\n", True),
        ("no Python\n", True),
        ("def f(name):\n    name.x = name['y']\n", False),
        ("", False),
    ],
)
def test_any_statement_may_bind_a_name(source, expected):
    assert may_bind(source.encode(), "name") == expected


@pytest.mark.parametrize(
    ("source", "line", "expected"),
    [
        ("name = 1\ndef f():\n    name += 1\n", 3, False),
        ("def f():\n    if x:\n        name = 1\n    name += 1\n", 4, True),
        ("def f():\n    global name\n    name += 1\n", 3, True),
        ("name = 1\ndef f():\n    name += 1\nname\n", 4, True),
    ],
)
def test_a_function_that_only_adds_to_a_name_never_binds_it(source, line, expected):
    assert may_bind(source.encode(), "name", line) == expected


@pytest.mark.parametrize(("source", "expected"), NAMES.items())
def test_all_names_that_a_module_binds_are_found(source, expected):
    found = module_names(ast.parse(source))
    assert (set(found.names), found.callables, found.open) == (*expected, False)


@pytest.mark.parametrize(
    "source",
    [
        "from tool import *\n",
        "globals()['handler'] = print\n",
        "import sys\nsetattr(sys.modules[__name__], 'handler', print)\n",
        "def __getattr__(name): ...\n",
        "def make():\n    global handler\n    handler = 1\n",
        "exec('handler = 1')\n",
    ],
)
def test_a_module_that_may_bind_others_says_so(source):
    assert module_names(ast.parse(source)).open


@pytest.mark.parametrize(
    "source",
    [
        b"x = f'{a['b']}'\n",
        b'x = rf"{1}"\n',
        b"t = t'{x}'\n",
        b"type P = int\n",
        b"def f[T](x: T): ...\n",
        b"class C[T]: ...\n",
        b"try:\n    pass\nexcept A, B:\n    pass\n",
    ],
)
def test_syntax_of_newer_pythons_is_recognized(source):
    assert _NEWER_SYNTAX.search(source)


@pytest.mark.parametrize("source", [b"type(x)\nprint('off')\n", b"def f(a=b[0]):\n    pass\n", b"except (A, B):\n"])
def test_old_syntax_is_not_taken_for_newer(source):
    assert not _NEWER_SYNTAX.search(source)
