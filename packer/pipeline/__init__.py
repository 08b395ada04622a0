"""The way of a build, from a configuration to artifacts in the output folder and the state it leaves.

May import: core to manifest.
To add a step: a function from value to value, called in `build`.
"""
