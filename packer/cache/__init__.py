"""The content-addressed store that all projects of a user share: the seam, the local one, and wrappers such as the remote one.

May import: core.
To add a store: wrap another in a `StoreWrapper`. To share a kind of derived files: one line in `sharing`.
"""
