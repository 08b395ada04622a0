"""This machine as a builder: pure Python, cross-compilation with zig, and stripping.

May import: builders, builders.sandbox.
To add a compiler: a module beside `zig`.
"""
