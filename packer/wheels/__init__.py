"""Wheels of locked packages: fetched where one fits the target, built where none does, made whole and checked.

May import: core to resolve and trim.
To add a builder: one class in builders/ and one line in `builder_choice`.
"""
