"""Which distribution a module likely comes from, and which modules a minor of Python has."""

from __future__ import annotations

import subprocess

import pytest

from builders.interpreters import find_interpreter
from packer.verify.module_names import _ADDED, _REMOVED, added_after, is_standard, likely_distribution, removed_from

KNOWN = {
    "yaml": "PyYAML",
    "cv2": "opencv-python-headless",
    "PIL.Image": "pillow",
    "sklearn.svm": "scikit-learn",
    "dateutil.parser": "python-dateutil",
    "snowflake.connector.errors": "snowflake-connector-python",
    "google.protobuf.message": "protobuf",
    "google.cloud.secretmanager": "google-cloud-secret-manager",
    "aws_lambda_powertools.logging": "aws-lambda-powertools",
    "requests": "requests",
}
GUESSED = {
    "google.cloud.nothing": "google-cloud-nothing",
    "azure.storage": "azure-storage",
    "nobody": "nobody",
}


@pytest.mark.parametrize(("module", "name"), KNOWN.items())
def test_a_distribution_of_another_name_is_known(module, name):
    assert likely_distribution(module) == (name, True)


@pytest.mark.parametrize(("module", "name"), GUESSED.items())
def test_all_others_are_guessed_from_the_modules_name(module, name):
    assert likely_distribution(module) == (name, False)


NAMES_OF_OLD = "import pkgutil; print(*(each.name for each in pkgutil.iter_modules()))"
"""What lists the modules of a Python without `sys.stdlib_module_names`."""


@pytest.mark.parametrize("minor", range(9, 14))
def test_what_python_removed_and_added_is_what_each_python_says(minor):
    found = find_interpreter(minor)
    if found is None:
        pytest.skip(f"no Python 3.{minor} is on this machine")
    code = "import sys; print(*sys.stdlib_module_names)" if minor >= 10 else NAMES_OF_OLD
    command = [str(found.path), "-I", "-S", "-c", code]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    for module in (*_REMOVED, *_ADDED):
        assert is_standard(module, minor) == (module in names), module
        assert (removed_from(module, minor) is None and added_after(module, minor) is None) == (module in names), module
