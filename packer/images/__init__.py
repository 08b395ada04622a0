"""Container images: what they are built upon, their layers planned and written, finished images read back.

May import: core to layers.
To add a kind of base: one class with the method of `base.BaseSource`, and one line in the table of `base_sources`.
"""
