"""What the user wrote: the function's own source, its dependency files, local projects, git, secrets, facts.

May import: core, cache, formats, net, locks.
To add a fact that rules may ask for: one function in `facts`.
"""
