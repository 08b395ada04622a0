"""Every key of the configuration in words: for README and documentation, and checked against the code by a test."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from packer.trim.rules import RULES


class Key(Struct, frozen=True, kw_only=True):
    """Keys that belong together: ``where`` they may stand, what they mean, and what holds without them, in Markdown."""

    names: tuple[str, ...]
    where: tuple[str, ...]
    meaning: str
    default: str = ""


KEYS = (
    Key(
        names=("runtime", "arch"),
        where=("project", "function"),
        meaning="what the function runs on",
        default="`python3.13`, `x86_64`",
    ),
    Key(
        names=("out",),
        where=("project",),
        meaning="folder for the artifacts",
        default="`dist`",
    ),
    Key(
        names=("exclude",),
        where=("project", "function"),
        meaning=(
            'distributions that are never packed; `"runtime"` is all that the runtime has: boto3, botocore, s3transfer, '
            "jmespath, python-dateutil, six, urllib3. With one of these goes what only it requires of the others"
        ),
        default="",
    ),
    Key(
        names=("ignore",),
        where=("project", "function"),
        meaning='patterns of source files to leave out, as in .gitignore (`["tests/"]`)',
        default="",
    ),
    Key(
        names=("allow",),
        where=("project", "function"),
        meaning="patterns of source files that may be packed though they look like secrets",
        default="",
    ),
    Key(
        names=("overlap",),
        where=("project", "function"),
        meaning='which distribution wins a path that two own: `{ "tests/*" = "numpy" }`; `source` is your own code',
        default="an error, unless both are the same in effect",
    ),
    Key(
        names=("budget",),
        where=("project", "function", "named layer"),
        meaning="limits of your own: `zip`, `unzipped`, `image`, `init`, `growth` ([Size checks](docs/size-checks.md))",
        default="",
    ),
    Key(
        names=("layer-budget",),
        where=("project", "function"),
        meaning="the same for each layer: `zip`, `unzipped`, `growth`",
        default="",
    ),
    Key(
        names=("source", "handler"),
        where=("function",),
        meaning="folder, and `module.function`",
        default="`.`, required",
    ),
    Key(
        names=("requirements",),
        where=("function",),
        meaning="dependency file; without it, the first of the list below that the source folder holds",
        default="",
    ),
    Key(
        names=("extras", "groups"),
        where=("function",),
        meaning="extras and dependency groups to take",
        default="",
    ),
    Key(
        names=("package",),
        where=("function",),
        meaning="member of a uv workspace, where its pyproject.toml does not say it",
        default="",
    ),
    Key(
        names=("builder",),
        where=("project", "function", "package"),
        meaning="what builds a package without a wheel: `auto`, `host`, `container`, `cross`",
        default="`auto`",
    ),
    Key(
        names=("image", "setup"),
        where=("project", "function", "package"),
        meaning="build image, and shell commands that prepare it",
        default="AWS's build image of the runtime",
    ),
    Key(
        names=("network",),
        where=("project", "function", "package"),
        meaning="whether a build in a container may reach the network",
        default="`false`",
    ),
    Key(
        names=("limits",),
        where=("project", "function", "package"),
        meaning=(
            'what one build may take: `{ memory = "4 GB", processes = 1024, cpus = 2, time = "30 min" }`; '
            "outside of containers `time` alone"
        ),
        default="these, and all processors",
    ),
    Key(
        names=("trim",),
        where=("project", "function"),
        meaning="what is removed: `none`, `safe`, `max`, `auto`, or a table (below)",
        default="`safe`",
    ),
    Key(
        names=("bytecode",),
        where=("project", "function"),
        meaning="`auto`, `beside`, `only`, `off`, or a table (below)",
        default="`auto`",
    ),
    Key(
        names=("verify",),
        where=("project", "function"),
        meaning="how it is proved: `none`, `import`, `events`, `rie`, or a table (below)",
        default="`import`",
    ),
    Key(
        names=("memory", "timeout", "storage", "environment"),
        where=("project", "function"),
        meaning=(
            'what the function gets where it runs, and its proof with it: `"1024 MB"`, `"30 s"`, `"2 GB"` of /tmp, '
            '`{ TABLE = "orders" }`; a template\'s own values win'
        ),
        default=(
            "in a template, Lambda's own: 128 MB, 3 s, 512 MB; elsewhere the proof alone takes 1,024 MB, "
            "`time` of `verify`, 512 MB"
        ),
    ),
    Key(
        names=("format",),
        where=("project", "function"),
        meaning="what becomes of a function: `zip` or `image`",
        default="`zip`",
    ),
    Key(
        names=("oci",),
        where=("project", "function"),
        meaning="how [images](docs/images.md) are made: base, forms, compression, environment, labels",
        default="",
    ),
    Key(
        names=("keep", "drop"),
        where=("package",),
        meaning="patterns of a distribution's files that stay, or go, whatever the rules say",
        default="",
    ),
    Key(
        names=("releases",),
        where=("package",),
        meaning="how often it is released, in parts of how often others are: for the plan of layers",
        default="1",
    ),
    Key(
        names=("provided",),
        where=("project", "function"),
        meaning=(
            'shared libraries that a layer of yours brings (`"libgomp.so.1"`), and files that nothing ever loads '
            '(patterns with a slash: `"one/plugins/*"`)'
        ),
        default="",
    ),
    Key(
        names=("layers", "attached"),
        where=("project", "function"),
        meaning="what lies in layers, and layers that exist ([Many functions](#many-functions))",
        default="`none`",
    ),
    Key(
        names=("discover",),
        where=("project",),
        meaning="patterns of folders, each of which is a function if it holds a handler",
        default="",
    ),
    Key(
        names=("sbom",),
        where=("project",),
        meaning="whether bills of materials are written",
        default="`true`",
    ),
    Key(
        names=("resolution",),
        where=("project",),
        meaning="`shared`: all functions get the same versions of what they share",
        default="`separate`",
    ),
    Key(
        names=("remote",),
        where=("project",),
        meaning="a store that several machines share",
        default="",
    ),
    Key(
        names=("glibc",),
        where=("project", "function"),
        meaning="glibc of your own run-time image, where that is not AWS's",
        default="the runtime's",
    ),
    Key(
        names=("runtime-image",),
        where=("project", "function"),
        meaning="image whose file system functions are proved in (`lpack runtime pull`), or `{ image = …, pull = true }`",
        default="AWS's image of the runtime",
    ),
)
"""In the order in which they are best read."""


INNER = (
    Key(names=("level",), where=("trim",), meaning="`none`, `safe` or `max`", default="`safe`"),
    Key(names=("repair",), where=("trim",), meaning="keep what turns out to be needed, as `auto` does", default="`false`"),
    Key(names=("rules", "without"), where=("trim",), meaning="rules to use where they are asked for, and not to use at all"),
    Key(names=("keep", "drop"), where=("trim",), meaning="patterns of paths that stay, or go, whatever the rules say"),
    Key(names=("services",), where=("trim",), meaning="AWS services that are called, where the code does not name them"),
    Key(names=("mode",), where=("bytecode",), meaning="`auto`, `beside`, `only` or `off`", default="`auto`"),
    Key(names=("optimize",), where=("bytecode",), meaning="1 leaves out assertions, 2 docstrings too", default="`0`"),
    Key(names=("pause-gc",), where=("bytecode",), meaning="pause the garbage collector during the import", default="`true`"),
    Key(names=("prefetch",), where=("bytecode",), meaning="read ahead what a profile says is opened", default="`true`"),
    Key(names=("level",), where=("verify",), meaning="`none`, `import`, `events` or `rie`", default="`import`"),
    Key(names=("events",), where=("verify",), meaning="patterns of sample events; `NAME.expected.json` has the result"),
    Key(names=("environment",), where=("verify",), meaning="variables for the proof alone, on top of those of `environment`"),
    Key(names=("time",), where=("verify",), meaning="how long one run may take", default='`"60 s"`'),
    Key(names=("where",), where=("verify",), meaning="`auto`, `runtime`, `container` or `host`", default="`auto`"),
    Key(names=("image",), where=("runtime-image",), meaning="its name in a registry"),
    Key(names=("pull",), where=("runtime-image",), meaning="let a build pull it where it is missing", default="`false`"),
    Key(names=("memory", "processes", "cpus", "time"), where=("limits",), meaning="what one build of a wheel may take"),
    Key(names=("zip", "unzipped", "image"), where=("budget",), meaning="bytes, such as `10 MB`"),
    Key(names=("init",), where=("budget",), meaning="the start that `lpack coldstart` measured, such as `400 ms`"),
    Key(names=("growth",), where=("budget",), meaning="against a baseline, in bytes or `5 %`"),
    Key(names=("distributions", "requirements"), where=("layers.NAME",), meaning="what the layer holds: one of the two"),
    Key(names=("functions",), where=("layers.NAME",), meaning="patterns of who gets it", default="who needs all of it"),
    Key(names=("budget",), where=("layers.NAME",), meaning="its own budget: `zip`, `unzipped`, `growth`"),
    Key(names=("arn", "distributions"), where=("attached",), meaning="a layer that exists, and what is in it (`numpy==2.2.6`)"),
)
"""Keys of the tables that keys may have; ``where`` is the key."""


def inner_key_table() -> str:
    """Return the keys of inner tables in Markdown."""
    rows = (
        f"| `{key.where[0]}` | {', '.join(f'`{name}`' for name in key.names)} | {key.meaning} | {key.default} |"
        for key in INNER
    )
    return "\n".join(("| table | key | meaning | default |", "|---|---|---|---|", *rows)) + "\n"


def key_names(where: str) -> frozenset[str]:
    """Return the names of all keys that may stand somewhere."""
    return frozenset(name for key in KEYS if where in key.where for name in key.names)


def key_table() -> str:
    """Return the table in Markdown; its links are relative to the repository."""
    return "\n".join(("| key | where | meaning | default |", "|---|---|---|---|", *_key_rows())) + "\n"


def _key_rows() -> Iterator[str]:
    for key in KEYS:
        names = ", ".join(f"`{name}`" for name in key.names)
        yield f"| {names} | {', '.join(key.where)} | {key.meaning} | {key.default} |".replace("  |", " |")


def rule_table() -> str:
    """Return the rules of trimming with their reasons, in Markdown."""
    rows = (f"| `{rule.name}` | {'always' if rule.level == 'safe' else 'where asked for'} | {rule.reason} |" for rule in RULES)
    return "\n".join(("| rule | when | what goes, and why nothing misses it |", "|---|---|---|", *rows)) + "\n"
