"""The packages of the tests' index: a table of small wheels, and two projects that are there as sources only."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.wheels import make_wheel

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"

NATIVE_TAGS = (
    "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp312-cp312-manylinux_2_28_x86_64",
    "cp312-cp312-manylinux_2_34_x86_64",
    "cp312-cp312-manylinux_2_17_aarch64.manylinux2014_aarch64",
    "cp312-cp312-manylinux_2_28_aarch64",
    "cp312-cp312-manylinux_2_34_aarch64",
    "cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp39-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64",
    "cp312-cp312-musllinux_1_2_x86_64",
    "cp312-cp312-win_amd64",
    "cp312-cp312-macosx_11_0_arm64",
    "cp313-cp313t-manylinux_2_17_x86_64",
)
"""The wheels of ``native`` 1.0, each of which says in ``native.TAG`` which one it is."""

MARKED = (
    'beta==1.0; platform_machine == "aarch64"',
    'delta; sys_platform == "win32"',
    'alpha; python_version < "3.10"',
    'gamma; platform_machine == "x86_64" and sys_platform == "linux"',
)
"""The requirements of ``marked``: what it needs depends on the target, and never on the host."""


def module(name: str, **values: object) -> dict[str, bytes]:
    """Give the files of a package with one module that holds these values."""
    text = "".join(f"{key} = {value!r}\n" for key, value in values.items())
    return {f"{name}/__init__.py": f'"""{name}, made for a test."""\n\n{text}'.encode()}


def write_packages(folder: Path) -> None:
    """Write every package of the index to a folder."""
    _write_pure(folder)
    for tag in NATIVE_TAGS:
        make_wheel(folder, "native", "1.0", module("native", TAG=tag) | {"native/_core.so": tag.encode() * 40}, tag=tag)
    make_wheel(folder, "too-new", "1.0", module("too_new"), tag="cp311-cp311-manylinux_2_28_x86_64")
    for tag in ("cp312-cp312-win_amd64", "cp312-cp312-macosx_11_0_arm64"):
        make_wheel(folder, "elsewhere", "1.0", module("elsewhere"), tag=tag)
    write_sdist(folder, FIXTURES / "packages" / "greeting", "greeting-1.2.0")
    write_sdist_files(folder, "compiled-1.0", COMPILED)
    write_sdist_files(folder, "bound-1.0", BOUND)


def _write_pure(folder: Path) -> None:
    """Write alpha -> beta, gamma -> beta < 2, delta -> beta >= 2 (so gamma and delta exclude each other), and oddities."""
    make_wheel(folder, "alpha", "1.0", module("alpha", VERSION="1.0"), requires=["beta"])
    make_wheel(folder, "alpha", "1.1", module("alpha", VERSION="1.1"), requires=["beta"])
    make_wheel(folder, "beta", "1.0", module("beta", VERSION="1.0"))
    make_wheel(folder, "beta", "2.0", module("beta", VERSION="2.0"), requires_python=">=3.9")
    make_wheel(folder, "gamma", "1.0", module("gamma"), requires=["beta<2"])
    make_wheel(folder, "delta", "1.0", module("delta"), requires=["beta>=2"])
    make_wheel(folder, "marked", "1.0", module("marked"), requires=MARKED)
    make_wheel(folder, "future", "1.0", module("future"), requires_python=">=3.13")
    make_wheel(folder, "optional", "1.0", module("optional"), extras=["fast"], requires=['beta==1.0; extra == "fast"'])
    for name in ("clash-one", "clash-two"):
        make_wheel(folder, name, "1.0", {"shared/same.py": b"", "shared/clash.py": f"OWNER = {name!r}\n".encode()})
    make_wheel(folder, "schemes", "1.0", module("schemes") | _data_files("schemes-1.0.data"))


def _data_files(data: str) -> dict[str, bytes]:
    return {
        f"{data}/purelib/schemes/pure.py": b"",
        f"{data}/platlib/schemes/plat.py": b"",
        f"{data}/scripts/schemes-tool": b"#!python\nimport schemes\n",
        f"{data}/headers/schemes.h": b"int schemes;\n",
        f"{data}/data/share/schemes/words.txt": b"words\n",
    }


COMPILED = {
    # From 2.2 on, resolvers trust this file and build nothing to learn the requirements.
    "PKG-INFO": b"Metadata-Version: 2.2\nName: compiled\nVersion: 1.0\n",
    "pyproject.toml": b'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
    "setup.py": (
        b"from setuptools import Extension, setup\n\n"
        b'setup(name="compiled", version="1.0", ext_modules=[Extension("compiled", ["compiled.c"])])\n'
    ),
    "compiled.c": (
        b"#include <Python.h>\n\n"
        b'static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "compiled", NULL, -1, NULL};\n\n'
        b"PyMODINIT_FUNC PyInit_compiled(void) { return PyModule_Create(&module); }\n"
    ),
}
"""A project that needs setuptools and a compiler."""

BOUND = {
    "PKG-INFO": b"Metadata-Version: 2.2\nName: bound\nVersion: 1.0\n",
    "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "backend.py": b"""import pathlib, sys, sysconfig, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    filename = f"bound-1.0-{python}-{python}-{platform}.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, filename), "w") as archive:
        archive.writestr("bound.so", "native code")
        archive.writestr("bound-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: bound\\nVersion: 1.0\\n")
        archive.writestr("bound-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\\nTag: {python}-{python}-{platform}\\n")
        archive.writestr("bound-1.0.dist-info/RECORD", "")
    return filename
""",
}
"""A project whose wheel is bound to the machine that builds it, and that builds anywhere: its native code is make-believe."""


_LOCAL = 'requires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
_BACKEND = """\
import base64, hashlib, zipfile
def get_requires_for_build_wheel(config_settings=None):
    return []
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name, info = "{name}-1.0-py3-none-any.whl", "{name}-1.0.dist-info"
    files = {{
        "{name}.py": "VERSION = '1.0'\\n",
        info + "/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    def hashed(text):
        return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    rows = "".join(f"{{path}},sha256={{hashed(text)}},{{len(text)}}\\n" for path, text in files.items()) + info + "/RECORD,,\\n"
    with zipfile.ZipFile(folder + "/" + name, "w") as archive:
        for path, text in (*files.items(), (info + "/RECORD", rows)):
            archive.writestr(path, text)
    return name
"""
"""A build back end that needs nothing, for a project that is one module of its own name."""


def source_files(name: str) -> dict[str, bytes]:
    """Give the files of a project with its own back end."""
    project = f'[project]\nname = "{name}"\nversion = "1.0"\n\n[build-system]\n{_LOCAL}'
    return {"pyproject.toml": project.encode(), "backend.py": _BACKEND.format(name=name).encode(), f"{name}.py": b""}


def write_sdist(folder: Path, project: Path, stem: str) -> Path:
    """Pack a project folder as the sdist ``stem``.tar.gz."""
    paths = [path for path in project.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    files = {path.relative_to(project).as_posix(): path.read_bytes() for path in paths}
    name, _, version = stem.rpartition("-")
    return write_sdist_files(folder, stem, {"PKG-INFO": _package_info(name, version), **files})


def _package_info(name: str, version: str) -> bytes:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()


def write_sdist_files(folder: Path, stem: str, files: Mapping[str, bytes]) -> Path:
    """Write an sdist with these files; the same files give the same bytes."""
    path = folder / f"{stem}.tar.gz"
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(f"{stem}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
