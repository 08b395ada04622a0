"""AWS SAM and CloudFormation templates: read, their intrinsic functions evaluated, and written back.

May import: core.
To add an intrinsic function: one function and one line in `intrinsics`.
"""
