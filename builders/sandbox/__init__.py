"""Who runs a function: the target's Python of this machine, where Lambda's paths are.

May import: builders.
To add a sandbox: a class with the methods of `pythons.Python`.
"""
