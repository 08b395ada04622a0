"""Writers of artifacts."""
