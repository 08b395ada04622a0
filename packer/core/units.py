"""Sizes and counts as text. Sizes are as Lambda counts them: 1 MB is 1,048,576 bytes."""

from __future__ import annotations

from builders.runtimes import MEGABYTE

_KILOBYTE = 1024


def format_size(size: int) -> str:
    """Return a number of bytes for people: in MB, below 0.1 MB in KB, and from 1024 MB on in GB."""
    if size >= MEGABYTE * _KILOBYTE:
        return f"{size / MEGABYTE / _KILOBYTE:.1f} GB"
    return f"{size / MEGABYTE:.1f} MB" if size >= MEGABYTE / 10 else f"{size / _KILOBYTE:.1f} KB"


def saving_text(size: int) -> str:
    """Return what a layer saves, in words; one whose users do not need all of it may take more instead."""
    return f"saves {format_size(size)}" if size >= 0 else f"takes {format_size(-size)} more"


def count_text(count: int, noun: str) -> str:
    """Return a count and its noun, in the plural unless it is one."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
