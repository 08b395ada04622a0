"""Where wheels and derived files get made, and functions run: this machine, or the runtime's container.

May import: the standard library and its own dependencies, never packer.
To add a builder: a class with the methods of `recipes.Builder` in a package below, and a line in the command line's wiring.
"""
