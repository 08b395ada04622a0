"""The HTML report of a build: one file that needs nothing else, where every megabyte and millisecond can be looked up."""
