"""Container images: what they are built upon, their layers planned and written, finished images read back.

May import: core to layers.
To add a kind of base: one class in `base` and one line in its table.
"""
