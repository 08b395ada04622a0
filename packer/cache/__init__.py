"""The content-addressed store that all projects of a user share, alone or with a remote behind it.

May import: core.
To add a kind of derived file that machines may share: one line in `sharing`.
"""
