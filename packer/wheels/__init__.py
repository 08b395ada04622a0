"""Wheels of locked packages: fetched where one fits the target, built where none does, made whole and checked.

May import: core to resolve and trim.
To add a builder: a class in builders/, its name in `builders.recipes`, a row in `builder_choice`, one in `cli.builder_wiring`.
"""
