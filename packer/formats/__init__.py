"""File formats, each behind a small reader or writer: ZIP, wheel, ELF, requirements.txt, OCI documents.

May import: core, cache.
To add a format: one module with one error for what is not of that format.
"""
