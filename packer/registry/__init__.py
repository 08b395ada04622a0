"""Container registries: images pushed to and pulled from them by the OCI distribution specification.

May import: core, cache, formats, net.
To add a way to log in: one function in `challenges`.
"""
