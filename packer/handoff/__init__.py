"""What lpack hands on to other tools."""
