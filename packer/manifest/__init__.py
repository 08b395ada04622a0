"""What was built, as documents: the manifest, sizes against limits, bills of materials, baselines, history.

May import: core to verify.
To add a field of the manifest: `document`, its schema, and CHANGELOG.
"""
