"""HTTP: sessions and what is tried again, credentials, logins for registries, and downloads.

May import: core, cache, sam.
To add a source of credentials: one function in `credentials`.
"""
