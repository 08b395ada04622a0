"""From what a function declares to its lock: declarations, questions to uv, versions that several functions share.

May import: core to source.
To add a kind of declaration: one in `source.dependency_files`, one branch in `declare`; lock formats are in `packer.locks`.
"""
