"""Which functions a change in git affects: by their inputs' paths, and by what defines them.

May import: core to pipeline.
To add an input: one line in `inputs`.
"""
