"""Sizes as Lambda counts them: 1 MB is 1,048,576 bytes."""

from __future__ import annotations

from builders.runtimes import MEGABYTE


def megabytes(size: int) -> str:
    """Write bytes as megabytes."""
    return f"{size / MEGABYTE:.1f} MB"
