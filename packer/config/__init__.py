"""The configuration, checked at the door: one module a table, and how functions are found that no table has.

May import: core to resolve and trim.
To add a key: its table's module, and its words in `key_reference`.
"""
