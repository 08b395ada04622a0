"""Every benchmark can be imported: few of them have tests, and what they use of lpack changes."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

import bench

APART = "bench.optimum"  # of the extra `bench` (scipy), and tested by nothing
MODULES = sorted(found.name for found in pkgutil.walk_packages(bench.__path__, "bench.") if found.name != APART)


@pytest.mark.parametrize("name", MODULES)
def test_module_can_be_imported(name):
    import_module(name)
