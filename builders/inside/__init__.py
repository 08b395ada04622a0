"""Scripts of the standard library alone, for Python 3.9 and newer, that run within the target's interpreter."""
