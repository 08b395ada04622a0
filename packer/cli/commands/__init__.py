"""The commands of `lpack`, one module each, with the command itself as ``command``.

May import: everything below, and packer.cli.
To add one: a module here, and one line in the table COMMANDS of `packer.cli.app`.
"""
