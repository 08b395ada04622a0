"""Sources that are the same in effect: packages that only extend their path, and the same code under other comments."""

import pytest

from packer.trim.namespace_packages import NamespaceForm, choose_equivalent, find_namespace_form

PKGUTIL = b"from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"
PASTE = b"""# (c) somebody
try:
    import pkg_resources
    pkg_resources.declare_namespace(__name__)
except ImportError:
    # do not prevent use of it if pkg_resources is not installed
    from pkgutil import extend_path
    __path__ = extend_path(__path__, __name__)

try:
    import modulefinder
except ImportError:
    pass
else:
    for p in __path__:
        modulefinder.AddPackagePath(__name__, p)
"""
FORMS = {
    "pkgutil": (PKGUTIL, NamespaceForm.PKGUTIL),
    "pkgutil in one line": (b"__path__ = __import__('pkgutil').extend_path(__path__, __name__)", NamespaceForm.PKGUTIL),
    "pkgutil with a type": (b"import pkgutil\n__path__: list = pkgutil.extend_path(__path__, __name__)", NamespaceForm.PKGUTIL),
    "pkgutil after a docstring": (b'\xef\xbb\xbf"""Ours."""\n' + PKGUTIL + b"del extend_path\n", NamespaceForm.PKGUTIL),
    "setuptools": (b"__import__('pkg_resources').declare_namespace(__name__)", NamespaceForm.PKG_RESOURCES),
    "either": (PASTE, NamespaceForm.EITHER),
    "nothing": (b"# Copyright\n", NamespaceForm.NOTHING),
    "a version": (PKGUTIL + b"__version__ = '1'\n", None),
    "code of its own": (PKGUTIL + b"from .core import run\n", None),
    "the path of another": (b"import pkgutil\n__path__ = pkgutil.extend_path(find(), __name__)", None),
    "another path": (b"__path__ = ['/opt']", None),
    "a call": (b"print('imported')", None),
    "no Python": (b"print 'imported'", None),
}


@pytest.mark.parametrize(("source", "form"), FORMS.values(), ids=FORMS)
def test_the_form_of_a_namespace_is_found_by_what_it_does(source, form):
    assert find_namespace_form(source) is form


def test_the_same_code_under_other_comments_is_equivalent():
    assert choose_equivalent("a/b.py", (b"X = 1  # one\r\n", b"# two\nX = 1\n")) == 1
    assert choose_equivalent("a/b.py", (b"X = 1\n", b"X = 2\n")) is None
    assert choose_equivalent("a/b.py", (b"x = (", b"# x\nx = (")) is None
    assert choose_equivalent("a/b.txt", (b"X = 1  # one\n", b"X = 1\n")) is None


def test_a_module_that_is_no_package_is_not_taken_for_a_namespace():
    assert choose_equivalent("a/b.py", (PKGUTIL, b"")) is None
    assert choose_equivalent("a/__init__.py", (b"", PKGUTIL)) == 1
