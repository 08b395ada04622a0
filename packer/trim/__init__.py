"""What a function does not need is removed, what is left is stripped and compiled to bytecode.

May import: core to source.
To add a rule: one entry in the table of `rules` and a row of its test; docs/architecture.md has the steps.
"""
