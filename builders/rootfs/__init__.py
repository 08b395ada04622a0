"""Root file systems of images in folders: unpacked without privileges, described, and checked for changes.

May import: builders.
To add a fact about an unpacked image: a field of `record.RootRecord`, read where that is made; raise the number of its form.
"""
