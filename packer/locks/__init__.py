"""Lock files: one reader a format, each giving exact packages for a target and resolving nothing.

May import: core, cache, formats, net.
To add a format: one module with a `LockReader`, and one row in the table `LOCK_FORMATS` of `formats`.
"""
