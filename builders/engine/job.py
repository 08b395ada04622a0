"""What a container is to do, and what it must not be able to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from builders.recipes import Limits
from builders.runtimes import MEGABYTE, STORAGE_RANGE, TASK_FOLDER
from builders.sandbox.root_plan import HOST_NAME


class ContainerJob(Struct, frozen=True, kw_only=True):
    """One container's work.

    ``inputs`` and ``work`` are tar files to unpack below `INPUTS`, which the container may only read, and `WORK`; ``tree`` is
    one for Lambda's own folder, where it is to start, and ``layers`` one for that of layers. A job that is not ``sealed`` runs
    as root on a root file system that it may write, to be committed as an image. ``storage`` are the bytes of /tmp. With
    ``as_function`` it can write to nothing else and has no shared memory, as on Lambda; ``capabilities`` are all that it has.
    """

    image: str
    command: Sequence[str]
    limits: Limits
    user: str = "0:0"
    inputs: Path | None = None
    work: Path | None = None
    tree: Path | None = None
    layers: Path | None = None
    platform: str = ""
    network: bool = False
    sealed: bool = True
    as_function: bool = False
    capabilities: tuple[str, ...] = ()
    storage: int = STORAGE_RANGE[0] * MEGABYTE
    environment: Mapping[str, str] = field(default_factory=dict)


_CLOSED = ("/run", "/var/tmp")  # noqa: S108 nothing is written to them
"""Folders that Podman lets everybody write to, even where the root is read-only (podman-create(1), --read-only-tmpfs)."""
INPUTS = "/lpack/in"
WORK = "/lpack/work"


def process_status(status: int) -> int:
    """Return a container's exit status as ``Popen`` gives that of a process: negative for the signal that ended it.

    The engine adds 128 to a signal's number, and the last signal is 64; a program may end with any other status by itself.
    """
    return 128 - status if 128 < status <= 192 else status


def confinement(job: ContainerJob, processors: int) -> dict[str, Any]:
    """Return a container's options: no way to the network, to privileges, or to more than its share of the machine.

    ``processors`` is how many the machine has; 0 where that is not known.
    """
    limits = job.limits
    options: dict[str, Any] = {
        "entrypoint": [],
        "environment": dict(job.environment),
        "security_opt": ["no-new-privileges"],
        "pids_limit": limits.processes,
        "mem_limit": limits.memory,
        "memswap_limit": limits.memory,
    }
    if limits.cpus:
        options["nano_cpus"] = int(min(limits.cpus, processors or limits.cpus) * 1e9)
    if job.platform:
        options["platform"] = job.platform
    if job.network:
        options["use_config_proxy"] = True
    else:
        options["network_mode"] = "none"
    if job.sealed:
        options |= {
            "cap_drop": ["ALL"],
            "cap_add": list(job.capabilities),
            "read_only": True,
            "tmpfs": _tmpfs(job),
            "user": job.user,
            "working_dir": WORK if job.tree is None else TASK_FOLDER,
        }
    else:
        options |= {"user": "0:0", "working_dir": "/"}
    if job.as_function:
        options |= {"ipc_mode": "none", "hostname": HOST_NAME, "extra_hosts": {HOST_NAME: "127.0.0.1"}}
    return options


def _tmpfs(job: ContainerJob) -> dict[str, str]:
    """Return the file systems in memory, with their options; an engine may have writable ones of its own in other places."""
    found = {"/tmp": f"rw,exec,nosuid,nodev,size={job.storage},mode=1777"}  # noqa: S108 the container's own
    return {**dict.fromkeys(_CLOSED, "ro,size=4k,mode=755"), **found} if job.as_function else found
