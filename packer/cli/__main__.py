"""`python -m packer.cli` is `lpack`."""

from packer.cli import main

main()
