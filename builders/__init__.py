"""Where wheels and derived files get made: this machine, or the runtime's container. Never imports ``packer``."""
