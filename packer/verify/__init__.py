"""Proof that a function works as it was written: it is imported and run, trimmed and untrimmed, and timed.

May import: core to images.
To add a diagnosis of what stops an import: one entry in `diagnosis`.
"""
