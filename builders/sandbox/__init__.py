"""Runs functions and scripts: this machine's Python at Lambda's paths; an engine's container lies in `builders.engine`.

May import: builders.
To add a sandbox: a class with the methods of `task.Sandbox`, and a `table.SandboxKind` in the command line's wiring.
"""
