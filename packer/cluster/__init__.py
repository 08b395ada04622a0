"""The work of a build done by a Dask cluster: jobs carry digests, and workers meet in the remote store.

May import: core to pipeline.
To add a job: one method of `worker_site` and of `client`.
"""
