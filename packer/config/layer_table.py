"""The part of the configuration that says what layers hold: ``layers``, its tables, and ``attached``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from builders.runtimes import LAYERS_LIMIT
from packer.config.budget_table import BUDGET, LAYER_BUDGET, read_layer_budget, read_layers_budget
from packer.config.build_table import PACKAGES, RELEASES
from packer.config.section import Section, suggest_names
from packer.core.errors import UsageError
from packer.core.options import LAYER_MODES, AttachedLayer, LayerMode, LayerOptions, NamedLayer
from packer.formats.distribution_names import canonical_name, is_distribution_name
from packer.formats.requirements_txt import read_requirements

if TYPE_CHECKING:
    from packer.sam.local_layers import LocalLayer

LAYER_KEYS = ("layers", "attached", LAYER_BUDGET)
_OTHERS = "others"
"""The key among named layers that says what becomes of all that none of them holds."""
_NAMED_KEYS = ("distributions", "requirements", "functions", BUDGET)
_ATTACHED_KEYS = ("arn", "distributions")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
"""A layer's name is part of file names; with the digest that follows it stays within the 140 characters of LayerName (AWS)."""
# The form of a layer version's ARN (AWS "PublishLayerVersion", LayerVersionArn).
NO_CONTENTS: Mapping[str, LocalLayer] = {}
_ARN = re.compile(r"arn:aws[a-zA-Z-]*:lambda:[a-z]{2,}[a-z0-9-]*:[0-9]{12}:layer:[A-Za-z0-9_-]{1,140}:[0-9]+")


def read_layer_options(root: Path, project: Section, function: Section, flag: str | None) -> LayerOptions:
    """Return what a function has in layers; ``flag`` is the command line's word. Raises `UsageError`."""
    named: tuple[NamedLayer, ...] = ()
    mode: LayerMode = "none"
    for section in (project, function):
        value = section.table.get("layers")
        if isinstance(value, dict) and section is project:
            inner = section.section("layers")
            named = tuple(_read_named_layer(root, inner, name) for name in inner.table if name != _OTHERS)
            mode = inner.choice(_OTHERS, LAYER_MODES) if _OTHERS in inner.table else mode
        elif value is not None:
            mode = section.choice("layers", LAYER_MODES)
            named = () if section is function and mode == "none" else named
    if flag is not None:
        mode, named = _mode_of_word(flag), () if flag == "none" else named
    releases = {**_releases(project), **_releases(function)}
    attached = (*_read_attached(project), *_read_attached(function))
    options = LayerOptions(
        mode=mode,
        named=named,
        attached=attached,
        releases=tuple(sorted(releases.items())),
        budget=read_layers_budget((project, function)),
    )
    return attach_layers(options, (), function.where("attached"))


def _releases(section: Section) -> dict[str, float]:
    """Return how often packages are released, where that is said."""
    packages = section.section(PACKAGES)
    tables = {canonical_name(name): packages.section(name) for name in packages.table}
    return {name: table.number(RELEASES) for name, table in tables.items() if RELEASES in table.table}


def attach_layers(
    options: LayerOptions, arns: Sequence[str], where: str, contents: Mapping[str, LocalLayer] = NO_CONTENTS
) -> LayerOptions:
    """Add layers that a function has anyhow, each once; raises `UsageError` where Lambda would refuse them all together.

    ``contents`` are those of them whose files are on this machine.
    """
    known = {layer.arn: layer for layer in options.attached}
    attached = {**{arn: known.get(arn) or _make_attached(arn, contents.get(arn)) for arn in arns}, **known}
    if len(attached) > LAYERS_LIMIT:
        what = f"{where}: {len(attached)} layers are attached, and a function can have {LAYERS_LIMIT}."
        raise UsageError(what, remedy="Remove some: each counts.")
    versions: dict[str, str] = {}
    for arn in filter(_ARN.fullmatch, attached):  # a template may name others by what CloudFormation knows alone
        other = versions.setdefault(arn.rpartition(":")[0], arn)
        if other != arn:
            what = f"{where}: {other} and {arn} are versions of the same layer, and Lambda takes no two of one."
            raise UsageError(what, remedy="Attach one of them: the project's are attached to each function.")
    return replace(options, attached=tuple(attached.values()))


def _make_attached(arn: str, local: LocalLayer | None) -> AttachedLayer:
    if local is None:
        return AttachedLayer(arn=arn)
    return AttachedLayer(arn=arn, content=local.content, prefix=local.prefix, complete=local.complete)


def list_layer_files(options: LayerOptions) -> tuple[Path, ...]:
    """Return every file that says what a named layer holds."""
    return tuple(path for layer in options.named for path in layer.files)


def _mode_of_word(word: str) -> LayerMode:
    return next(mode for mode in LAYER_MODES if mode == word)


def _read_named_layer(root: Path, layers: Section, name: str) -> NamedLayer:
    if not _NAME.fullmatch(name):
        remedy = "Use letters, digits, '-' and '_', beginning with a letter or digit, 100 at most."
        raise layers.error(name, f"{name!r} cannot be a layer's name", remedy)
    section = layers.section(name)
    section.check_keys(_NAMED_KEYS)
    requirements = section.string("requirements")
    names = tuple(sorted({_normalized_name(section, "distributions", each) for each in section.strings("distributions")}))
    if bool(names) == bool(requirements):
        what = "a layer has either distributions or requirements"
        raise layers.error(name, what, 'Write distributions = ["pandas", "numpy"], or requirements = "layer.txt".')
    functions, budget = section.strings("functions"), read_layer_budget(section)
    if not requirements:
        return NamedLayer(name=name, distributions=names, functions=functions, budget=budget)
    path = (root / requirements).absolute()
    if not path.is_file():
        raise section.error("requirements", f"there is no file {path}", "Name a requirements file.")
    file = read_requirements(path)
    asked = tuple(sorted({line.name for line in file.lines if line.name and not line.is_constraint}))
    if not asked:
        raise section.error("requirements", f"{path} requires nothing", "Name the distributions in it, one a line.")
    return NamedLayer(name=name, distributions=asked, functions=functions, closed=True, files=file.files, budget=budget)


def _read_attached(section: Section) -> Iterator[AttachedLayer]:
    value = section.table.get("attached", [])
    if not isinstance(value, list):
        raise section.error("attached", f"a list is expected, not {value!r}", 'Write attached = ["arn:…"].')
    for number, each in enumerate(value):
        where = f"attached[{number}]"
        table = each if isinstance(each, dict) else {"arn": each}
        inner = Section(file=section.file, prefix=f"{section.prefix}.{where}".lstrip("."), table=table)
        inner.check_keys(_ATTACHED_KEYS)
        pins = tuple(_pin(inner, word) for word in inner.strings("distributions"))
        yield AttachedLayer(arn=check_arn(inner, "arn"), distributions=pins)


def check_arn(section: Section, key: str) -> str:
    """Return the ARN of a layer's version; raises `UsageError` where it names none, and cannot be counted."""
    arn = section.string(key)
    if not _ARN.fullmatch(arn):
        what = f"{arn!r} is not the ARN of a layer's version, and cannot be counted"
        remedy = "Write all of it, with its version: arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION."
        raise section.error(key, what, remedy)
    return arn


def _pin(section: Section, word: str) -> tuple[str, str]:
    name, separator, version = word.partition("==")
    if separator and not version.strip():
        raise section.error("distributions", f"{word!r} names no version", 'Write "numpy==2.2.6", or "numpy" for any.')
    return _normalized_name(section, "distributions", name.strip()), version.strip()


def _normalized_name(section: Section, key: str, name: str) -> str:
    """Return the normalized name of a distribution; raises `UsageError` for what can be none."""
    if not is_distribution_name(name):
        raise section.error(key, f"{name!r} cannot be a distribution's name", "Write it as its index does.")
    return canonical_name(name)


def check_patterns(layers: Iterable[NamedLayer], functions: Collection[str], file: Path) -> None:
    """Prove that each pattern of the functions of named layers fits one; raises `UsageError`."""
    for layer in layers:
        for pattern in layer.functions:
            if not any(fnmatchcase(name, pattern) for name in functions):
                what = f"{file}: layers.{layer.name}.functions: no function is called {pattern!r}."
                raise UsageError(what, remedy=suggest_names(pattern, tuple(functions)))
