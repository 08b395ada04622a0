"""Measures images: ``python -m bench.images``, where a container engine and Debian's docker-registry are.

An image of pair/data, and one after a line of it changed, against `docker build` upon the same base, with the same wheels
offered on loopback; what is pushed of mono12 to an empty registry, base aside, against twelve images of `docker build`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

from msgspec import Struct

from bench.machine import described, machine, versions
from bench.measure import CommandFailedError, Sample, measure
from bench.peers import WORKLOADS, Place, add_cache, download, prepare
from bench.rows import Line, markdown, write_results
from packer.core.records import read_manifest

PARTS = ("build", "push")
_PYTHON = "3.11"
_STANDIN = "public.ecr.aws/lambda/python:3.11-x86_64"
_COLD, _LINE, _NOTHING = "image of pair/data, cold artifact cache", "after one source line", "nothing changed"
_WANTED = {_COLD: 8.0, _LINE: 5.0}
_PLAIN = 'verify = "none"\nbytecode = "off"\nsbom = false'
_WHOLE = "lpack with all that it does by default"
_MEMORY, _PUSHED, _AGAIN = 200_000_000, 0.50, 64_000
_PATIENCE = 30
_OF_BASES = ("base-layers", "base-images", "checked-layers")
"""What lpack keeps of bases, as an engine keeps them."""
_BASEFILE = """\
FROM {standin}
COPY *.whl /wheels/
RUN for pip in /wheels/pip-*.whl; do python3.11 $pip/pip install --no-index --break-system-packages $pip; done
"""
_DOCKERFILE = """\
FROM {base}
COPY requirements.txt /tmp/requirements.txt
RUN python3.11 -m pip install --no-index --find-links {wheels} --target /var/task -r /tmp/requirements.txt
COPY . /var/task
CMD ["app.handler"]
"""
_CONFIG = 'runtime = "python3.11"\nformat = "image"\ntrim = "{trim}"\n{more}\n[oci]\nbase = "{base}"\n'
_FUNCTION = '\n[functions.{name}]\nsource = "{name}"\nhandler = "app.handler"\n'


class Services(Struct):
    """A registry and an index of wheels on loopback; ``data`` is where the registry keeps what it was sent."""

    place: Place
    running: ExitStack
    registry: str = ""
    wheels: str = ""
    data: Path = Path()

    def __post_init__(self) -> None:
        download(self.place.cache, _PYTHON, "wheels-of-images")
        index, port = _free_port(), _free_port()
        serve = (sys.executable, "-m", "http.server", str(index), "--bind", "127.0.0.1")
        self._start([*serve, "--directory", str(self.place.cache / "wheels-of-images")], f"http://127.0.0.1:{index}/")
        self.data = self.place.work / "registry"
        storage = f"storage: {{filesystem: {{rootdirectory: {self.data}}}}}"
        settings = self.place.work / "registry.yml"
        settings.write_text(f"version: 0.1\n{storage}\nhttp: {{addr: '127.0.0.1:{port}'}}\nlog: {{level: error}}\n")
        self._start(["docker-registry", "serve", str(settings)], f"http://127.0.0.1:{port}/v2/")
        self.wheels = f"http://127.0.0.1:{index}/"
        self.registry = f"localhost:{port}"

    def _start(self, command: Sequence[str], url: str) -> None:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.running.callback(process.wait)
        self.running.callback(process.terminate)
        for _ in range(_PATIENCE * 10):
            try:
                urlopen(url).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise SystemExit(f"{command[0]} does not answer.")

    def held(self) -> int:
        """Give the bytes of all blobs that the registry has."""
        return sum(path.stat().st_size for path in self.data.rglob("blobs/sha256/*/*/data"))


class Images:
    """One run: a base with pip for both sides, copies of the workloads, lpack with a store of the run's own."""

    def __init__(self, place: Place, services: Services) -> None:
        self._place = place
        self._services = services
        self._edits = 0
        self.base = f"{services.registry}/base:1"
        self._log = place.work / "output.log"
        self._run(self._base(), "docker", "build", "--quiet", "--tag", self.base, ".")
        self._run(place.work, "docker", "push", "--quiet", self.base)

    def _base(self) -> Path:
        folder = self._place.work / "base"
        folder.mkdir()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "pip"]
        subprocess.run(command, check=True)
        (folder / "Dockerfile").write_text(_BASEFILE.format(standin=_STANDIN))
        return folder

    def project(self, names: Sequence[str], workload: str, trim: str, more: str = "") -> Path:
        """Copy functions of a workload, with what both sides read; gives their folder."""
        root = Path(tempfile.mkdtemp(dir=self._place.work))
        config = _CONFIG.format(trim=trim, base=self.base, more=more)
        for name in names:
            shutil.copytree(WORKLOADS / workload / name, root / name)
            docker = _DOCKERFILE.format(base=self.base, wheels=self._services.wheels)
            (root / name / "Dockerfile").write_text(docker)
            (root / name / ".lpackignore").write_text("Dockerfile\n")
            (root / name / ".dockerignore").write_text("Dockerfile\n.dockerignore\n.lpackignore\n")
            config += _FUNCTION.format(name=name)
        (root / "lpack.toml").write_text(config)
        return root

    def lpack(self, root: Path, *command: str) -> Sample:
        """Run lpack in a project."""
        return self._run(root, str(self._place.lpack), *command, environment=self._place.lpack_environment())

    def docker(self, root: Path, name: str, *options: str) -> Sample:
        """Build a function's image as its Dockerfile says, under a name of the registry's."""
        tag = f"{self._services.registry}/docker/{name}:1"
        return self._run(root / name, "docker", "build", "--quiet", "--network", "host", "--tag", tag, *options, ".")

    def pushed_by_docker(self, name: str) -> None:
        """Push what `docker` has built."""
        self._run(self._place.work, "docker", "push", "--quiet", f"{self._services.registry}/docker/{name}:1")

    def edit(self, source: Path) -> None:
        """Change a line of a source."""
        self._edits += 1
        with source.open("a") as file:
            file.write(f"# edit {self._edits}\n")

    def clear(self, root: Path) -> None:
        """Leave nothing of lpack's but what was downloaded, and the base with what is known of it."""
        store = self._place.cache / "lpack"
        derived = [path for path in (store / "derived").iterdir() if path.name not in _OF_BASES]
        for folder in (root / "dist", store / "projects", *derived):
            shutil.rmtree(folder, ignore_errors=True)
        for blob in self._made(root):
            blob.unlink(missing_ok=True)

    def _made(self, root: Path) -> list[Path]:
        report = root / "dist.json"
        layers = json.loads(report.read_text()) if report.exists() else []
        return [self._place.cache / "lpack" / "blobs" / digest[:2] / digest for digest in layers]

    def remember(self, root: Path) -> None:
        """Write down which blobs of the store are layers of lpack's own."""
        images = (each.image for each in read_manifest(root / "dist" / "lpack.json").functions.values())
        own = [layer.digest.removeprefix("sha256:") for image in images if image for layer in image.layers]
        (root / "dist.json").write_text(json.dumps(own))

    def _run(self, folder: Path, *command: str, environment: dict[str, str] | None = None) -> Sample:
        os.sync()  # what was written before must not be flushed in this one's time
        variables = dict(os.environ) if environment is None else environment
        return measure(command, folder, {**variables, "DOCKER_BUILDKIT": "0"}, self._log)

    def answer(self) -> Any:
        """Give what the last command has printed, as JSON."""
        text = self._log.read_text()
        return json.loads(text[text.index("\n{") if not text.startswith("{") else 0 :])


def build_lines(images: Images, services: Services, rounds: int) -> tuple[list[Line], Any]:
    """Time both sides in turns: from nothing but wheels and the base, after a line, and with nothing to do.

    lpack packs what `docker build` packs, and proves nothing; and once more with all that it does by default.
    """
    del services
    root, whole = (images.project(["data"], "pair", *how) for how in (("none", _PLAIN), ("safe", "")))
    samples: dict[tuple[str, str], list[Sample]] = {}

    def timed(kind: str, side: str, run: Callable[[], Sample]) -> None:
        sample = run()
        samples.setdefault((kind, side), []).append(sample)
        _say(f"{kind}: {side} {sample.wall:.2f} s, {sample.memory / 1e6:.0f} MB")

    for project in (root, whole):
        images.lpack(project, "lock")  # what is pinned in a Dockerfile and its requirements, is so here
        images.lpack(project, "build")
    images.docker(root, "data")
    for _ in range(rounds):
        images.remember(whole)
        images.clear(whole)
        timed(_COLD, _WHOLE, lambda: images.lpack(whole, "build"))
        images.edit(whole / "data" / "app.py")
        timed(_LINE, _WHOLE, lambda: images.lpack(whole, "build"))
        images.remember(root)
        images.clear(root)
        timed(_COLD, "lpack", lambda: images.lpack(root, "build"))
        timed(_COLD, "docker", lambda: images.docker(root, "data", "--no-cache"))
        images.edit(root / "data" / "app.py")
        timed(_LINE, "lpack", lambda: images.lpack(root, "build"))
        timed(_LINE, "docker", lambda: images.docker(root, "data"))
        timed(_NOTHING, "lpack", lambda: images.lpack(root, "build"))
        timed(_NOTHING, "docker", lambda: images.docker(root, "data"))
    return _lines_of(samples), {
        f"{kind}, {side}": [each.as_json() for each in found] for (kind, side), found in samples.items()
    }


def _lines_of(samples: Mapping[tuple[str, str], Sequence[Sample]]) -> list[Line]:
    lines = []
    for kind, side in ((_COLD, "lpack"), (_LINE, "lpack"), (_NOTHING, "lpack"), (_COLD, _WHOLE), (_LINE, _WHOLE)):
        ours, theirs = (median(each.wall for each in samples[kind, one]) for one in (side, "docker"))
        wanted = _WANTED.get(kind) if side == "lpack" else None
        lines.append(
            Line(
                part="build",
                what=kind if side == "lpack" else f"{kind}, {side}",
                ours=f"{ours:.2f} s",
                theirs=f"docker build: {theirs:.2f} s",
                ratio=f"{theirs / ours:.1f}x",
                wanted=f"at least {wanted:g}x" if wanted else "",
                met=theirs / ours >= wanted if wanted else None,
            )
        )
    peak = max(each.memory for each in samples[_COLD, "lpack"])
    wanted_memory = f"under {_MEMORY / 1e6:.0f} MB"
    lines.append(Line(part="build", what="peak memory", ours=f"{peak / 1e6:.0f} MB", wanted=wanted_memory, met=peak < _MEMORY))
    return lines


def push_lines(images: Images, services: Services, rounds: int) -> tuple[list[Line], Any]:
    """Push mono12 from both sides, and a function of it again; there is nothing to repeat about bytes."""
    del rounds
    names = sorted(path.name for path in (WORKLOADS / "mono12").iterdir() if path.is_dir())
    root = images.project(names, "mono12", "none", _PLAIN)
    empty = services.held()
    images.lpack(root, "build")
    target = ("push", "--json", "--to", f"{services.registry}/lpack/{{function}}:1")
    first = images.lpack(root, *target)
    ours = services.held() - empty
    images.edit(root / names[0] / "app.py")
    images.lpack(root, "build")
    images.lpack(root, *target)
    again = sum(each["bytes"] for each in images.answer().values())
    before = services.held()
    for name in names:
        images.docker(root, name)
        images.pushed_by_docker(name)
        _say(f"docker: {name}")
    theirs = services.held() - before
    lines = [
        Line(
            part="push",
            what="mono12 to an empty registry, base aside, trim none",
            ours=f"{ours / 1e6:.1f} MB in {first.wall:.1f} s",
            theirs=f"twelve of docker build: {theirs / 1e6:.1f} MB",
            ratio=f"{ours / theirs:.2f}",
            wanted=f"at most {_PUSHED:.2f}",
            met=ours / theirs <= _PUSHED,
        ),
        Line(
            part="push",
            what="again, after one source line of one function",
            ours=f"{again / 1e3:.1f} kB",
            wanted=f"under {_AGAIN // 1000} kB",
            met=again < _AGAIN,
        ),
    ]
    return lines, {"lpack": ours, "docker": theirs, "again": again}


def main() -> None:
    """Print the table and write bench/results/images.json."""
    options = _options()
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    before = os.getloadavg()
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="work-", dir=cache))
        place = prepare(cache, Path(folder), offline=False)
        try:
            services = Services(place, running)
            images = Images(place, services)
            parts = {"build": build_lines, "push": push_lines}
            found = {part: parts[part](images, services, options.rounds) for part in PARTS if part in options.only}
        except CommandFailedError as error:
            raise SystemExit(str(error)) from None
        facts, tools = machine(), versions(place)
    lines = [line for more, _ in found.values() for line in more]
    write_results("images", options.rounds, before, (facts, tools), lines, {part: each for part, (_, each) in found.items()})
    print(markdown(lines))
    print(f"\nMedians of {options.rounds} in turns. {described(facts, tools)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="samples of each build (default: %(default)s)")
    add_cache(parser)
    return parser.parse_args()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
