"""Every fact about AWS Lambda's Python runtimes that lpack relies on, in one place.

Sources: AWS "Lambda runtimes" (operating systems, architectures, end of support), AWS "Lambda quotas" (limits), PEP 600
(which manylinux tags a glibc accepts), cfn-lint's ``LmbdRuntimeLifecycle.json`` (dates).
"""

from __future__ import annotations

import platform
from datetime import date, timedelta
from functools import cache
from typing import ClassVar, Literal, get_args

from msgspec import Struct

Architecture = Literal["x86_64", "arm64"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)

MEGABYTE = 1_048_576
"""Bytes in the "MB" of AWS's quota pages."""
UNZIPPED_LIMIT = 250 * MEGABYTE
"""Bytes a function and its layers may take when unzipped (AWS "Lambda quotas")."""
LAYERS_LIMIT = 5
"""Layers that a function may have (AWS "Lambda quotas")."""
DIRECT_UPLOAD_LIMIT = 50 * MEGABYTE
"""Bytes of a ZIP archive above which an upload must go through S3 (AWS "Lambda quotas")."""
MEMORY_RANGE = 128, 32_768
"""Megabytes of memory that a function may be given (AWS "CreateFunction", MemorySize; above 10,240 on managed instances)."""
TIMEOUT_RANGE = 1, 900
"""Seconds that one call may take (AWS "Lambda quotas")."""
STORAGE_RANGE = 512, 10_240
"""Megabytes of /tmp that a function may be given; the least is the default (AWS "EphemeralStorage")."""
DEFAULT_MEMORY, DEFAULT_TIMEOUT = 128, 3
"""Megabytes and seconds of a function that sets neither (AWS "AWS::Lambda::Function", MemorySize and Timeout)."""
REQUEST_LIMIT, RESPONSE_LIMIT = 6 * MEGABYTE, 6_291_556
"""Bytes of an event and of a result (AWS "Lambda quotas": 6 MB each; Lambda's own errors name these numbers)."""
ENVIRONMENT_LIMIT = 4096
"""Bytes that all variables of a function may take together (AWS "Lambda quotas"), as compact JSON, which its error shows."""
RESERVED_VARIABLES = frozenset(
    (
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_MAX_CONCURRENCY",
        "AWS_LAMBDA_METADATA_API",
        "AWS_LAMBDA_METADATA_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
    )
)
"""Variables that no function may set (AWS "Using Lambda environment variables", "Reserved environment variables")."""
RUNTIME_API = "127.0.0.1:9001"
"""Where a runtime finds Lambda's runtime API, as AWS_LAMBDA_RUNTIME_API says."""
IMAGE_LIMIT = 10 * 1024 * MEGABYTE
"""Bytes of an uncompressed container image: the largest package of any kind (AWS "Lambda quotas")."""

TASK_FOLDER, LAYERS_MOUNT = "/var/task", "/opt"
"""Where a function, and its layers merged in order, lie at run time (AWS "Lambda runtimes", "Packaging your layer content")."""
FUNCTION_USER_NAME, FUNCTION_USER, FUNCTION_GROUP = "sbx_user1051", 993, 990
"""Who runs functions on Lambda (seen by `id` there, as AWS's users report); its home folder, /home/sbx_user1051, does not
exist (ITK-Wasm #1132)."""
LANG_FOLDER = "/var/lang"
"""Where Lambda's Python lies (AWS's base images for Python)."""
PROGRAMS_PATH = f"{LANG_FOLDER}/bin:/usr/local/bin:/usr/bin:/bin"
"""The PATH of AWS's runtimes, but for layers."""
RUNTIME_FOLDER = "/var/runtime"
"""Where packages of the runtime lie, after all others that Python imports from (``set_default_sys_path`` in
/var/runtime/bootstrap.py of AWS's base images for Python)."""
LAYERS_PYTHON = f"{LAYERS_MOUNT}/python"
"""Where the modules of layers lie (the same)."""
ABSENT_PROGRAMS = frozenset(("cc", "docker", "ffmpeg", "gcc", "git", "make", "ssh", "sudo"))
"""Programs that functions start and no runtime has (nficano/python-lambda #131, steveukx/git-js #457)."""
LIBRARY_FOLDER = "lib"
"""The folder of a function, and of its layers, in which the loader looks for shared libraries that run paths do not lead to: it
is in LD_LIBRARY_PATH, and so is the function's own folder (AWS "Defined runtime environment variables")."""
RUNTIME_DISTRIBUTIONS = ("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3")
"""What every runtime carries by itself, in versions of AWS's choice that change with its updates (AWS "Working with .zip file
archives for Python Lambda functions", "Runtime dependencies in Python")."""
RUNTIME_REQUIRES = {
    "boto3": ("botocore", "jmespath", "s3transfer"),
    "botocore": ("jmespath", "python-dateutil", "urllib3"),
    "s3transfer": ("botocore",),
    "python-dateutil": ("six",),
}
"""What these require of each other (their metadata)."""

RUNTIME_MODULES = {
    "boto3": "boto3",
    "botocore": "botocore",
    "s3transfer": "s3transfer",
    "jmespath": "jmespath",
    "urllib3": "urllib3",
    "dateutil": "python-dateutil",
    "six": "six",
    "awslambdaric": "awslambdaric",
    "snapshot_restore_py": "snapshot-restore-py",
    "simplejson": "simplejson",
}
"""The modules that the runtime has beyond the standard library, by what brings them: `RUNTIME_DISTRIBUTIONS`, and its own
client (awslambdaric) with what that requires: snapshot-restore-py and simplejson (metadata of awslambdaric 4.2)."""
EXEC_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"
"""The variable that names a script which starts the runtime, or something in its place (AWS "Modifying the runtime
environment")."""
LONGEST_HANDLER = 128
"""Letters of a handler, which has no white space (AWS "CreateFunction", Handler); the rest of its form is the runtime's."""

DEFAULT_RUNTIME = "python3.13"
DEFAULT_ARCHITECTURE: Architecture = "x86_64"
WARN_BEFORE = timedelta(days=90)
"""How long before a runtime's deprecation lpack starts to warn."""


class Runtime(Struct, frozen=True, kw_only=True):
    """One managed Python runtime.

    ``glibc`` is the newest minor of glibc 2 that native code may ask for; ``micro`` is the patch release that environment
    markers see (the runtime's own is at least that).
    """

    name: str
    minor: int
    micro: int
    operating_system: str
    glibc: int
    deprecated: date
    create_blocked: date
    update_blocked: date

    @property
    def layer_packages(self) -> tuple[str, ...]:
        """The folders of a layer that Python imports from, in the order in which it looks: right after the function's own.

        Sources: AWS "Packaging your layer content"; for their order ``set_default_sys_path`` in /var/runtime/bootstrap.py of
        AWS's base images for Python.
        """
        return f"python/lib/python3.{self.minor}/site-packages", "python"


def _runtime(minor: int, micro: int, *dates: str) -> Runtime:
    amazon_linux, glibc = ("Amazon Linux 2", 26) if minor <= 11 else ("Amazon Linux 2023", 34)
    deprecated, create_blocked, update_blocked = map(date.fromisoformat, dates)
    return Runtime(
        name=f"python3.{minor}",
        minor=minor,
        micro=micro,
        operating_system=amazon_linux,
        glibc=glibc,
        deprecated=deprecated,
        create_blocked=create_blocked,
        update_blocked=update_blocked,
    )


RUNTIMES: dict[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        _runtime(9, 16, "2025-12-15", "2027-02-01", "2027-03-03"),
        _runtime(10, 11, "2026-10-31", "2027-02-01", "2027-03-03"),
        _runtime(11, 6, "2027-06-30", "2027-07-31", "2027-08-31"),
        _runtime(12, 1, "2028-10-31", "2028-11-30", "2029-01-10"),
        _runtime(13, 0, "2029-06-30", "2029-07-31", "2029-08-31"),
        _runtime(14, 0, "2029-06-30", "2029-07-31", "2029-08-31"),
    )
}

# Architecture to (machine of wheel tags and of `uname -m`, oldest glibc with that machine's manylinux tags).
_MACHINES: dict[Architecture, tuple[str, int]] = {"x86_64": ("x86_64", 5), "arm64": ("aarch64", 17)}
MACHINES: dict[str, Architecture] = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
"""Architectures by what ``uname -m`` calls them on Linux and macOS."""
IMAGE_ARCHITECTURES: dict[Architecture, str] = {"x86_64": "amd64", "arm64": "arm64"}
"""Architectures as images and engines name them (OCI image specification, "platform")."""
ELF_MAGIC = b"\x7fELF"
"""How every program and shared library of Linux begins (gABI, chapter 4)."""
ELF_MACHINES: dict[Architecture, int] = {"x86_64": 62, "arm64": 183}
"""e_machine of the architectures' programs (gABI, chapter 4)."""
# The names that PEP 513, 571 and 599 gave to glibc levels before PEP 600 numbered them.
_LEGACY_MANYLINUX = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_FIRST_STABLE_ABI = 2  # Python 3.2 (PEP 384)
# The glibc levels for which uv's --python-platform has a name, newest first (`uv pip compile --help`).
_UV_GLIBC_LEVELS = (34, 28, 17)


# What every run-time image has of shared libraries, by soname. Those of glibc are what its package installs; Amazon Linux 2023
# moved libnsl to a package of its own and has libcrypt from libxcrypt without the compatible libcrypt.so.1. libpython is the
# runtime's own. Whatever else an image may hold today is no promise of AWS's, and so nothing to build on.
_LIBRARIES = frozenset(
    (
        *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2"),
        *("libanl.so.1", "libBrokenLocale.so.1", "libthread_db.so.1", "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"),
    )
)
_LIBRARIES_OF_SYSTEM = {
    "Amazon Linux 2": frozenset(("libcrypt.so.1", "libnsl.so.1")),
    "Amazon Linux 2023": frozenset(("libcrypt.so.2",)),
}
_LIBRARIES_OF_MACHINE = {
    "x86_64": frozenset(("ld-linux-x86-64.so.2", "libmvec.so.1")),
    "arm64": frozenset(("ld-linux-aarch64.so.1",)),
}

# The newest symbol versions that the operating systems' libraries define, by their prefix: of libstdc++ and libgcc (GCC 7.3 and
# 11; libstdc++ manual, "ABI Policy and Guidelines"), zlib (1.2.7 and 1.2.11; its zlib.map) and libcrypt (Amazon Linux 2 has
# glibc's, without versions of its own). They agree with auditwheel's policies of the manylinux levels 2_26 and 2_34.
_SYMBOL_CEILINGS: dict[str, dict[str, tuple[int, ...]]] = {
    "Amazon Linux 2": {
        "GLIBCXX": (3, 4, 24),
        "CXXABI": (1, 3, 11),
        "GCC": (7, 3),
        "ZLIB": (1, 2, 5, 2),
        "XCRYPT": (0,),
    },
    "Amazon Linux 2023": {
        "GLIBCXX": (3, 4, 29),
        "CXXABI": (1, 3, 13),
        "GCC": (11, 4),
        "ZLIB": (1, 2, 9),
        "XCRYPT": (4, 4),
    },
}


class RuntimeImage(Struct, frozen=True, kw_only=True):
    """What the configuration says of the run-time image: its name in a registry, empty for AWS's own.

    ``digest`` is its manifest's where it is locked (``sha256:…``, else empty); ``pull`` allows a build to pull it by itself.
    """

    name: str = ""
    digest: str = ""
    pull: bool = False

    unkeyed: ClassVar = ("pull",)


class Target(Struct, frozen=True, kw_only=True):
    """A runtime on an architecture: what fixes the Python, the glibc ceiling, the wheel tags and the images.

    ``ceiling`` is the minor of glibc 2 where the run-time image is another than AWS's, and ``image`` is that image.
    """

    runtime: Runtime
    architecture: Architecture
    ceiling: int | None = None
    image: RuntimeImage = RuntimeImage()

    @classmethod
    def of(cls, runtime: str, architecture: str) -> Target:
        """Look a target up by its names; ``KeyError`` or ``ValueError`` carries the name that is not known."""
        for known in ARCHITECTURES:
            if known == architecture:
                return cls(runtime=RUNTIMES[runtime], architecture=known)
        raise ValueError(architecture)

    def __str__(self) -> str:
        other = "" if self.ceiling is None else f"-glibc2.{self.ceiling}"
        return f"{self.runtime.name}-{self.architecture}{other}"

    @property
    def glibc(self) -> int:
        """The newest minor of glibc 2 that native code may ask for."""
        return self.runtime.glibc if self.ceiling is None else self.ceiling

    @property
    def machine(self) -> str:
        """The architecture as wheel tags and ``uname -m`` spell it."""
        return _MACHINES[self.architecture][0]

    @property
    def image_architecture(self) -> str:
        """The architecture as images and engines name it."""
        return IMAGE_ARCHITECTURES[self.architecture]

    @property
    def oldest_glibc(self) -> int:
        """The oldest minor of glibc 2 for which this machine has wheel tags."""
        return _MACHINES[self.architecture][1]

    @property
    def python_version(self) -> str:
        """Major, minor and micro version, as markers see it: ``3.12.1``."""
        return f"3.{self.runtime.minor}.{self.runtime.micro}"

    @property
    def libraries(self) -> frozenset[str]:
        """Sonames of the shared libraries that native code finds in the run-time image."""
        own = f"libpython3.{self.runtime.minor}.so.1.0"
        return (
            _LIBRARIES | _LIBRARIES_OF_SYSTEM[self.runtime.operating_system] | _LIBRARIES_OF_MACHINE[self.architecture] | {own}
        )

    @property
    def symbol_ceilings(self) -> dict[str, tuple[int, ...]]:
        """The newest symbol version that the run-time image's libraries define, by its prefix, as far as it is known."""
        compilers = {} if self.ceiling is not None else _SYMBOL_CEILINGS[self.runtime.operating_system]
        return {"GLIBC": (2, self.glibc), **compilers}

    @property
    def build_image(self) -> str:
        """AWS's image with the runtime's compilers (AWS SAM's build images)."""
        return f"public.ecr.aws/sam/build-{self.runtime.name}:latest-{self.architecture}"

    @property
    def runtime_image(self) -> str:
        """The image whose file system functions see at run time: the configured one, or else AWS's."""
        return self.image.name or self.base_image

    @property
    def base_image(self) -> str:
        """AWS's base image of the runtime."""
        return f"public.ecr.aws/lambda/python:3.{self.runtime.minor}-{self.architecture}"

    @property
    def resolver_platforms(self) -> tuple[str, ...]:
        """uv platform names to resolve with, in order: the newest one within the ceiling, then the next one above it.

        The second only matters where the ceiling has no name of its own (glibc 2.26): wheels tagged between the two levels are
        seen by the second alone. Whatever it finds beyond the ceiling is sorted out by `tags`.
        """
        ceiling = self.glibc
        within = next((level for level in _UV_GLIBC_LEVELS if level <= ceiling), _UV_GLIBC_LEVELS[-1])
        above = tuple(level for level in reversed(_UV_GLIBC_LEVELS) if level >= ceiling)[:1]
        names = dict.fromkeys((within, *above))
        return tuple(f"{self.machine}-manylinux_2_{level}" for level in names)

    def tags(self) -> tuple[str, ...]:
        """Wheel tags that load on the target, best first, such as ``cp312-abi3-manylinux_2_28_x86_64``."""
        return _tags(self.runtime.minor, self.glibc, self.architecture)

    def markers(self) -> dict[str, str]:
        """Values of the environment markers (PEP 508) on the target, whatever the host is."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python_version,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python_version,
            "python_version": f"3.{self.runtime.minor}",
            "sys_platform": "linux",
        }


def is_native(architecture: Architecture) -> bool:
    """Return whether this machine's processor is of an architecture; any other is emulated, if it is run at all."""
    return MACHINES.get(platform.machine()) == architecture


@cache
def _tags(minor: int, glibc: int, architecture: Architecture) -> tuple[str, ...]:
    """Return the tags in the order that installers agree on, which `packaging.tags` has too and takes longer to import for."""
    machine, oldest = _MACHINES[architecture]
    platforms: list[str] = []
    for level in range(glibc, oldest - 1, -1):
        platforms.append(f"manylinux_2_{level}_{machine}")
        if level in _LEGACY_MANYLINUX:
            platforms.append(f"{_LEGACY_MANYLINUX[level]}_{machine}")
    platforms.append(f"linux_{machine}")
    own = f"cp3{minor}"
    older = [f"cp3{each}-abi3" for each in range(minor - 1, _FIRST_STABLE_ABI - 1, -1)]
    pure = [f"{each}-none" for each in (f"py3{minor}", "py3", *(f"py3{each}" for each in range(minor - 1, -1, -1)))]
    native = [f"{own}-{own}", f"{own}-abi3", f"{own}-none", *older, *pure]
    return (
        *(f"{each}-{platform}" for each in native for platform in platforms),
        *(f"{each}-any" for each in (f"{own}-none", *pure)),
    )
