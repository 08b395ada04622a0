from __future__ import annotations

import pytest

from builders.engine.job import process_status


@pytest.mark.parametrize(
    ("status", "expected"), [(0, 0), (1, 1), (127, 127), (128, 128), (129, -1), (137, -9), (192, -64), (193, 193), (255, 255)]
)
def test_only_what_can_be_a_signal_is_one(status, expected):
    assert process_status(status) == expected
