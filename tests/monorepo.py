"""Projects of several functions that take their dependencies from a folder of wheels, for tests of layers."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.schemas import check_document
from tests.shaped import ARCHITECTURE, MINOR, RUNTIME
from tests.wheels import make_wheel

LARGE = 60_000


def noise(name: str, length: int = LARGE) -> bytes:
    """Give bytes that do not compress, always the same for a name."""
    return random.Random(name).randbytes(length)  # noqa: S311 nothing secret


class Monorepo(Struct, frozen=True, kw_only=True):
    """A project of several functions that take their dependencies from a folder of wheels."""

    folder: Path
    lpack: Callable[..., subprocess.CompletedProcess[str]]

    def wheel(self, name: str, version: str = "1.0", files: Mapping[str, bytes] | None = None) -> str:
        """Make a wheel with a module of that name and 60 kB beside it, and give the line that requires it."""
        content = {f"{name}/__init__.py": f"VERSION = {version!r}\n".encode(), f"{name}/data.bin": noise(f"{name} {version}")}
        made = make_wheel(self.folder / "wheels", name, version, {**content, **(files or {})})
        return f"../wheels/{made.name}"

    def function(self, name: str, *requirements: str, source: str = "") -> None:
        """Write a function whose handler imports the modules that it requires."""
        modules = [line.rsplit("/", 1)[-1].split("-")[0] for line in requirements]
        imports = "".join(f"import {module}\n" for module in modules)
        values = ", ".join(f"{module!r}: {module}.VERSION" for module in modules)
        handler = f"{imports}{source}\ndef handler(event, context):\n    return {{{values}}}\n"
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "app.py").write_text(handler)
        (self.folder / name / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))

    def configure(
        self, *functions: str, settings: str = 'layers = "auto"', more: str = "", of: Mapping[str, str] | None = None
    ) -> None:
        """Write the configuration; ``of`` are lines of single functions."""
        text = f'runtime = "{RUNTIME}"\narch = "{ARCHITECTURE}"\n{settings}\n'
        for name in functions:
            text += f'[functions.{name}]\nsource = "{name}"\nhandler = "app.handler"\n{(of or {}).get(name, "")}\n'
        (self.folder / "lpack.toml").write_text(text + more)

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command line, which must end with this status."""
        finished = self.lpack(*arguments, cwd=self.folder)
        assert finished.returncode == status, (finished.returncode, finished.stdout, finished.stderr)
        return finished

    def build(self, *flags: str) -> dict[str, Any]:
        """Build, and give the manifest, which must follow its schema and agree with the files."""
        manifest: dict[str, Any] = json.loads(self.run("build", "--json", *flags).stdout)
        check_document("manifest", manifest)
        for held in (*manifest.get("layers", {}).values(), *(each["artifact"] for each in manifest["functions"].values())):
            data = (self.folder / "dist" / held["path"]).read_bytes()
            assert (held["sha256"], held["zip_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
        return manifest

    def holds(self, manifest: Mapping[str, Any]) -> dict[tuple[str, ...], list[str]]:
        """Give what each layer holds, by its users."""
        return {
            tuple(layer["functions"]): [each["name"] for each in layer["distributions"]]
            for layer in manifest.get("layers", {}).values()
        }

    def answer(self, manifest: Mapping[str, Any], name: str) -> Any:
        """Give what a function returns when it lies on Lambda's paths as its archives have it, without lpack's help."""
        function = manifest["functions"][name]
        task, opt = self.folder / "laid" / name / "task", self.folder / "laid" / name / "opt"
        for archive, place in (
            (function["artifact"]["path"], task),
            *((manifest["layers"][each]["path"], opt) for each in function.get("layers", ())),
        ):
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["unzip", "-qo", str(self.folder / "dist" / archive), "-d", str(place)], check=True)
        code = "import app, json; print(json.dumps(app.handler(None, None)))"
        paths = [str(task), str(opt / "python"), str(opt / f"python/lib/python3.{MINOR}/site-packages")]
        command = [sys.executable, "-I", "-S", "-B", "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)
