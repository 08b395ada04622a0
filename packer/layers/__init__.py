"""Which distributions functions share through layers: pure arithmetic, the same input gives the same plan.

May import: core to wheels.
To add a condition on what may be parted: `shared_libraries`; on who gets what: `assignment`.
"""
