"""The Docker Engine, or Podman's socket: images, containers that run to their end, and what is built in them.

May import: builders.
To add a kind of container: one module that fills in a `job`.
"""
