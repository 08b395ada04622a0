"""Sizes as Lambda counts them: 1 MB is 1,048,576 bytes."""

from __future__ import annotations

from builders.runtimes import MEGABYTE

_KILOBYTE = 1024


def format_size(size: int) -> str:
    """Write a number of bytes for people: in megabytes, in kilobytes below a tenth of one, in gigabytes above 1024."""
    if size >= MEGABYTE * _KILOBYTE:
        return f"{size / MEGABYTE / _KILOBYTE:.1f} GB"
    return f"{size / MEGABYTE:.1f} MB" if size >= MEGABYTE / 10 else f"{size / _KILOBYTE:.1f} KB"
