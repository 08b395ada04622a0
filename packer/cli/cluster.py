"""Opens a Dask cluster for `lpack build --scheduler`. Imported only where one is asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from packer.cli.worker import run
from packer.cluster import Cluster
from packer.errors import UsageError
from packer.ports import Reporter
from packer.remote import VARIABLE, named_remote
from packer.resolve import Policy

_PATIENCE = 15.0
"""Seconds for which a scheduler may take to answer, and workers to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A cluster, and how many jobs it does at once."""

    cluster: Cluster
    jobs: int


@contextmanager
def opened_cluster(address: str, configured: str, policy: Policy, reporter: Reporter) -> Iterator[Opened]:
    """Connect to a scheduler; ``configured`` is the configuration's remote store. Raises `UsageError`."""
    try:
        from distributed import Client
    except ImportError:
        what = "--scheduler needs Dask, which is not installed."
        raise UsageError(what, remedy="pip install 'lambda-lpack[dask,remote]'") from None
    remote = named_remote(configured)
    if remote is None or policy.offline:
        what = "--scheduler needs a remote store, where workers meet this machine."
        remedy = f'Name one: {VARIABLE}=s3://bucket/prefix, or remote = "…" in the configuration; and leave out --offline.'
        raise UsageError(what, remedy=remedy)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is lost is told of here
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        remedy = "Start one with `dask scheduler`, and name it as it says: --scheduler tcp://HOST:8786."
        raise UsageError(f"No scheduler answers at {address} ({error}).", remedy=remedy) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            what = f"The scheduler at {address} has no workers."
            raise UsageError(what, remedy=f"Start some, on machines that have lpack: `dask worker {address}`.") from None
        jobs = sum(client.nthreads().values())
        reporter.note(f"building on {len(client.nthreads())} workers of {address}")
        yield Opened(cluster=Cluster(client.get_executor(pure=False), run, str(remote), policy, reporter), jobs=jobs)
