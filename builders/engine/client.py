"""A client of a Docker Engine, or of Podman by DOCKER_HOST: runs containers to their end, and removes each of them.

Nothing is bind-mounted: files go in and out through the Engine API, so that a remote engine serves as well as a local one.
"""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Lock, Timer
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import Struct

from builders.causes import causes
from builders.engine.job import INPUTS, WORK, ContainerJob, confinement
from builders.engine.presence import START_ENGINE, silence_error
from builders.errors import BuildError, PullError, UnavailableError, interruption_error
from builders.recipes import LONGEST_LOG, output_limit_error
from builders.runtimes import IMAGE_ARCHITECTURES, LAYERS_MOUNT, MACHINES, TASK_FOLDER

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_LABEL = "lpack.expires"
"""Label of everything that lpack makes in an engine: the Unix time after which it is no longer needed."""
_SLACK = 600
_TIMEOUT = 120
"""Seconds that an engine may take to answer; how long a container runs is another matter."""
_CHUNK = 1 << 20
_SPECIAL, _LINK = 0x8F280000, 0x08000000
"""Bits of a file's mode, as the Engine API gives it, of all that is no regular file, and of links (Go's io/fs, FileMode)."""


class EngineInfo(Struct, frozen=True, kw_only=True):
    """What an engine says of itself.

    ``architecture`` is named as images do; ``storage`` is the folder of its data on its machine, which has so many
    ``processors``.
    """

    version: str
    name: str
    architecture: str
    storage: str
    processors: int


class EngineImage(Struct, frozen=True, kw_only=True):
    """An image that the engine has. ``digest`` is the registry's where it came from one, else the image's own id.

    ``environment`` are the variables that it gives to what runs in it.
    """

    reference: str
    identity: str
    digest: str
    architecture: str
    environment: Mapping[str, str] = {}


class FileFacts(Struct, frozen=True, kw_only=True):
    """What lies at a path: its bytes, where it leads if it is a symbolic link, and whether it is a regular file."""

    size: int
    link: str
    regular: bool


class EndedContainer:
    """A container that has ended, and still lies there to be read; ``log`` is all that it printed."""

    def __init__(
        self, client: DockerClient, container: Container, status: int, log: str, *, out_of_memory: bool, late: bool
    ) -> None:
        self._api = client.api
        self._container = container
        self.status = status
        self.log = log
        self.out_of_memory = out_of_memory
        self.late = late

    def look(self, path: str) -> FileFacts | None:
        """Return what lies at a path; None where there is nothing."""
        # The docker package has no call for this request of the Engine API ("Get information about files in a container").
        url = f"{self._api.base_url}/v{self._api.api_version}/containers/{self._container.id}/archive"
        with engine_errors("look into a container"):
            answer = self._api.head(url, params={"path": path}, timeout=_TIMEOUT)
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return None
            answer.raise_for_status()
            found = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
        mode = found["mode"]
        # Podman gives the target of what is no link, too.
        return FileFacts(size=found["size"], link=found["linkTarget"] if mode & _LINK else "", regular=not mode & _SPECIAL)

    def read(self, path: str, to: BinaryIO) -> None:
        """Write the tar of a file, which should be a regular one, to a file."""
        with engine_errors("read from a container"):
            to.writelines(self._container.get_archive(path, chunk_size=_CHUNK)[0])

    def commit(self, repository: str, tag: str) -> None:
        """Keep the container's file system as an image."""
        with engine_errors("commit an image"):
            self._container.commit(repository=repository, tag=tag, conf={"Labels": {}})


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn what the docker package raises into a `BuildError` that says what was tried."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as error:
        if error.status_code != HTTPStatus.BAD_REQUEST:
            raise _failure(doing, error) from error
        remedy = "Fix what it names in the configuration: `image` or `limits`."
        raise BuildError(f"the container engine refuses to {doing}", detail=str(error.explanation), remedy=remedy) from error
    except (DockerException, RequestException, HTTPError, OSError) as error:
        raise _failure(doing, error) from error


def _failure(doing: str, error: Exception) -> BuildError:
    explanation = _explanation(error)
    remedy = f"Build again. If the engine is gone: {START_ENGINE}"
    other = BuildError(f"the container engine could not {doing}", detail=explanation, remedy=remedy)
    return _full_disk_error(explanation) or other


def _explanation(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error) or type(error).__name__


def _full_disk_error(explanation: str) -> BuildError | None:
    if "no space left on device" not in explanation:
        return None
    remedy = "Free some space there: `docker system prune` removes what nothing uses."
    return BuildError("the container engine's disk is full", detail=explanation, remedy=remedy)


def _pull_error(reference: str, explanation: str) -> BuildError:
    return _full_disk_error(explanation) or PullError(f"the image {reference} cannot be pulled", detail=explanation)


def connect() -> Engine:
    """Connect to the engine that DOCKER_HOST names, or else docker's current context; raises `UnavailableError`."""
    import docker
    from docker.errors import DockerException

    if os.environ.get("DOCKER_HOST", "").startswith("ssh://") and find_spec("paramiko") is None:
        raise UnavailableError(
            "DOCKER_HOST names an engine to reach by SSH, and the package paramiko, which does that, is not installed",
            remedy="Install it: `pip install 'docker[ssh]'`.",
        )
    options: dict[str, Any] = {}
    try:
        if not os.environ.get("DOCKER_HOST"):
            context = docker.ContextAPI.get_current_context()
            if context is not None and context.Name != "default" and context.Host:
                options = {"environment": {**os.environ, "DOCKER_HOST": context.Host}}
        client = docker.from_env(timeout=_TIMEOUT, **options)
        client.ping()
    except (DockerException, OSError, ValueError) as error:
        raise silence_error(_cause(error)) from None
    return Engine(client)


def _cause(error: BaseException) -> str:
    """Return the innermost cause in short: docker wraps requests, which wraps urllib3, which wraps the system's own error."""
    *_, innermost = causes(error)
    return getattr(innermost, "strerror", None) or str(innermost) or type(innermost).__name__


class Engine:
    """A connection to a container engine; may be used from many threads."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self._running: set[Container] = set()
        self._lock = Lock()
        self._closed = False
        self._users = 0

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        with self._lock:
            self._closed = True
            running, idle = tuple(self._running), not self._users
        for container in running:
            _kill(container)
        if idle:
            self._client.close()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep the connections open after `close` until this context has ended: who was interrupted still cleans up."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                last = self._closed and not self._users
            if last:
                self._client.close()

    def info(self) -> EngineInfo:
        """Ask the engine what it is."""
        with engine_errors("describe itself"):
            version, info = self._client.version(), self._client.info()
        machine = str(info.get("Architecture", ""))
        return EngineInfo(
            version=str(version.get("Version", "")),
            name=next((part["Name"] for part in version.get("Components") or () if part.get("Name")), "Engine"),
            architecture=IMAGE_ARCHITECTURES[MACHINES[machine]] if machine in MACHINES else machine,
            storage=str(info.get("DockerRootDir", "")),
            processors=int(info.get("NCPU", 0)),
        )

    def image(self, reference: str) -> EngineImage | None:
        """Find an image that the engine has."""
        from docker.errors import ImageNotFound

        with engine_errors(f"look for the image {reference}"):
            try:
                found = self._client.images.get(reference)
            except ImageNotFound:
                return None
        settings = found.attrs.get("Config") or {}
        digests = [digest.partition("@")[2] for digest in found.attrs.get("RepoDigests") or ()]
        return EngineImage(
            reference=reference,
            identity=str(found.id),
            digest=next(iter(digests), str(found.id)),
            architecture=str(found.attrs.get("Architecture", "")),
            environment=dict(line.split("=", 1) for line in settings.get("Env") or () if "=" in line),
        )

    def identity(self, reference: str) -> str | None:
        """Return the id of an image that the engine has; None where it has none of that name."""
        found = self.image(reference)
        return found.identity if found else None

    def pull(self, reference: str, platform: str) -> None:
        """Bring an image from its registry.

        Raises `PullError` where the engine cannot get it there, and `BuildError` where it fails itself or `close` was called.
        """
        from docker.errors import APIError

        repository, tag = _repository_and_tag(reference)
        with self._in_use(), engine_errors(f"pull the image {reference}"):
            try:
                for message in self._client.api.pull(repository, tag=tag, platform=platform, stream=True, decode=True):
                    if self._closed:
                        raise interruption_error()
                    if "error" in message:
                        raise _pull_error(reference, str(message["error"]))
            except APIError as error:
                raise _pull_error(reference, _explanation(error)) from error

    def save(self, identity: str, to: BinaryIO) -> None:
        """Write an image as ``docker save`` does."""
        with engine_errors(f"save the image {identity}"):
            to.writelines(self._client.api.get_image(identity))

    def load(self, archive: BinaryIO) -> str:
        """Take in an image that `save`, or lpack, has written; return its id."""
        with engine_errors("load an image"):
            return str(self._client.images.load(archive)[0].id)

    def add_files(self, image: EngineImage, archive: bytes, name: tuple[str, str]) -> None:
        """Make an image (repository, tag) of another one, with the files of a tar on top of its own."""
        labels = {_LABEL: str(int(time.time() + _SLACK))}
        with self._in_use(), engine_errors("add files to an image"):
            carrier = self._client.containers.create(image.identity, ["true"], labels=labels, network_mode="none")
            try:
                carrier.put_archive("/", archive)
                carrier.commit(*name, conf={"Labels": {}})
            finally:
                _remove(carrier)

    def forget(self, name: str) -> None:
        """Remove an image's name, and the image with its last one."""
        with suppress(Exception):  # somebody else may use it, or have removed it
            self._client.images.remove(name)

    def sweep(self) -> None:
        """Remove what builds that were killed have left in the engine."""
        with engine_errors("list its containers"):
            for container in self._client.containers.list(all=True, filters={"label": _LABEL}):
                if _is_expired(container.labels):
                    _remove(container)
            for volume in self._client.volumes.list(filters={"label": _LABEL}):
                if _is_expired(volume.attrs.get("Labels") or {}):
                    with suppress(Exception):
                        volume.remove()

    @contextmanager
    def run(self, job: ContainerJob, listen: Callable[[str], None]) -> Iterator[EndedContainer]:
        """Run a job to its end; ``listen`` gets its output as it comes. The container goes when the context ends.

        Raises `BuildError` where the engine fails, or `close` was called.
        """
        labels = {_LABEL: str(int(time.time() + job.limits.seconds + _SLACK))}
        with (
            self._in_use(),
            self._volumes(job, labels) as volumes,
            self._create_container(job, labels, volumes) as container,
        ):
            yield self._run_to_end(container, job.limits.seconds, listen)

    @contextmanager
    def _volumes(self, job: ContainerJob, labels: dict[str, str]) -> Iterator[dict[str, dict[str, str]]]:
        """Make a volume for each of the job's tar files, and fill it by way of a container that is never started."""
        parts = [
            (job.inputs, INPUTS, "ro"),
            (job.work, WORK, "rw"),
            (job.tree, TASK_FOLDER, "ro"),
            (job.layers, LAYERS_MOUNT, "ro"),
        ]
        wanted = [(tar, place, mode) for tar, place, mode in parts if tar is not None]
        name = f"lpack-{uuid.uuid4().hex}"
        made: dict[str, dict[str, str]] = {}
        try:
            with engine_errors("take the source in"):
                for number, (_, place, mode) in enumerate(wanted):
                    self._client.volumes.create(f"{name}-{number}", labels=labels)
                    made[f"{name}-{number}"] = {"bind": place, "mode": mode}
                if wanted:
                    self._fill(job, labels, made, [(tar, place) for tar, place, _ in wanted])
            yield made
        finally:
            for each in made:
                with suppress(Exception):
                    self._client.volumes.get(each).remove(force=True)

    def _fill(
        self, job: ContainerJob, labels: dict[str, str], volumes: dict[str, dict[str, str]], tars: Sequence[tuple[Path, str]]
    ) -> None:
        writable = {name: {**where, "mode": "rw"} for name, where in volumes.items()}
        carrier = self._client.containers.create(job.image, ["true"], labels=labels, volumes=writable, network_mode="none")
        try:
            for tar, place in tars:
                with tar.open("rb") as file:
                    carrier.put_archive(place, file)
        finally:
            _remove(carrier)

    @contextmanager
    def _create_container(
        self, job: ContainerJob, labels: dict[str, str], volumes: dict[str, dict[str, str]]
    ) -> Iterator[Container]:
        # Engines refuse a limit above what their machine has.
        processors = self.info().processors if job.limits.cpus else 0
        with engine_errors("make a container"):
            container = self._client.containers.create(
                job.image, list(job.command), labels=labels, volumes=volumes, **confinement(job, processors)
            )
        try:
            with self._lock:
                self._running.add(container)
                if self._closed:
                    raise interruption_error()
            yield container
        finally:
            with self._lock:
                self._running.discard(container)
            _remove(container)

    def _run_to_end(self, container: Container, seconds: float, listen: Callable[[str], None]) -> EndedContainer:
        late = Event()

        def stop() -> None:
            late.set()
            _kill(container)

        timer = Timer(seconds, stop)
        timer.daemon = True
        parts: list[bytes] = []
        room = LONGEST_LOG
        with engine_errors("run the build to its end"):
            container.start()
            timer.start()
            if self._closed:  # while it was started, when there was nothing to kill yet
                _kill(container)
            try:
                # The engine's log, not the container's own streams: docker never closes the connection it hijacks for them.
                stream = container.logs(stream=True, follow=True)
                for chunk in stream:
                    if (
                        room < 0
                    ):  # read to its end: docker's own way to close a stream leaves the socket to the garbage collector
                        continue
                    room -= len(chunk)
                    if room < 0:
                        _kill(container)
                        continue
                    parts.append(chunk)
                    listen(chunk.decode("utf-8", "replace"))
                status = int(container.wait(timeout=_TIMEOUT)["StatusCode"])
                container.reload()
            finally:
                timer.cancel()
        if self._closed:
            raise interruption_error()
        log = b"".join(parts).decode("utf-8", "replace")
        if room < 0:
            raise output_limit_error(log)
        state = container.attrs.get("State", {})
        return EndedContainer(
            self._client, container, status, log, out_of_memory=bool(state.get("OOMKilled")), late=late.is_set()
        )


def _repository_and_tag(reference: str) -> tuple[str, str | None]:
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(reference)
    return repository, tag or "latest"


def _is_expired(labels: Mapping[str, str]) -> bool:
    value = labels.get(_LABEL, "")
    return value.isdigit() and int(value) < time.time()


def _kill(container: Container) -> None:
    with suppress(Exception):  # it may have ended by itself, or the engine with it
        container.kill()


def _remove(container: Container) -> None:
    from docker.errors import APIError

    with suppress(Exception):  # an engine that is gone removes nothing; `sweep` does, later
        try:
            container.remove(force=True, v=True)
        except APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:
                raise
            # Somebody else is removing it, and its volumes are in use until that is done.
            container.wait(condition="removed", timeout=_TIMEOUT)
