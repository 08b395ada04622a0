"""What can be said of functions without building them, and of artifacts that were built.

May import: core to pipeline.
To add a report: one module that makes its document, and a command that prints it.
"""
