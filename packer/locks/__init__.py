"""Readers of lock files: each gives exact packages for a target and resolves nothing."""
