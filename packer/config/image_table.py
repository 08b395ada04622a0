"""The part of the configuration that says which functions become container images, and how: ``format`` and ``oci``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from packer.config.section import Section, suggest_names
from packer.core.errors import UsageError
from packer.core.model import Function
from packer.core.names import LOCAL_FORMS, image_name
from packer.core.options import FORMATS, IMAGE_COMPRESSIONS, IMAGE_FORMS, ImageForm, ImageOptions, LayerOptions

IMAGE_KEYS = ("format", "oci")
EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"
_KEYS = (
    "base",
    "base-layers",
    "compression",
    "write",
    "environment",
    "working-dir",
    "entrypoint",
    "user",
    "labels",
    "emulator",
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_image_options(root: Path, sections: Sequence[Section], flag: str | None) -> ImageOptions:
    """Return the options that sections make up, the most particular one last; raises `UsageError`.

    ``root`` is the project's folder, ``flag`` the command line's word for the format.
    """
    options = ImageOptions(root=root, epoch=source_date_epoch(os.environ))
    wanted = "zip"
    for section in sections:
        options = _with(options, section.section("oci"))
        if "format" in section.table:
            wanted = section.string("format")
            if wanted not in FORMATS:
                raise section.error("format", f"{wanted!r} is no format of artifacts", suggest_names(wanted, FORMATS))
    if not options.base_layers and options.base.startswith(LOCAL_FORMS):
        what = f"{options.base!r} is in no registry where layers could be left"
        raise sections[-1].error("oci.base-layers", what, "Leave base-layers out, or name a base that is in one.")
    return replace(options, wanted=(flag or wanted) == "image")


def check_image_names(functions: Sequence[Function]) -> None:
    """Prove that images can be called after their functions, and that no two are called alike; raises `UsageError`."""
    called: dict[str, str] = {}
    for function in functions:
        if not function.image.wanted:
            continue
        from packer.formats.oci import REPOSITORY

        name = image_name(function.name)
        if not REPOSITORY.fullmatch(name):
            what = f"The function {function.name} becomes an image, which cannot be called {name!r}."
            raise UsageError(what, remedy="Let its name end in a letter or digit, without several '-' and '_' side by side.")
        other = called.setdefault(name, function.name)
        if other != function.name:
            what = f"The images of {other} and {function.name} would both be called {name}: they have no large letters."
            raise UsageError(what, remedy="Rename one of the functions.")


def source_date_epoch(variables: Mapping[str, str]) -> int:
    """Return when what is built is to say that it was made: SOURCE_DATE_EPOCH (reproducible-builds.org), or 0.

    Raises `UsageError` for what is no such time.
    """
    text = variables.get(EPOCH_VARIABLE, "").strip()
    if text and not re.fullmatch(r"[0-9]{1,11}", text):
        what = f"{EPOCH_VARIABLE} is {text[:50]!r}, which is no number of seconds."
        raise UsageError(what, remedy="Set it like `git log -1 --format=%ct` gives it, or unset it.")
    return int(text or 0)


def without_layers(options: LayerOptions, function: Section) -> LayerOptions:
    """Return the layers of a function that becomes an image: none of Lambda's, which images cannot have.

    Raises `UsageError` where its own table attaches some.
    """
    if "attached" in function.table:
        what = "layers cannot be attached to a function that is an image"
        raise function.error("attached", what, 'Remove the key, or write format = "zip".')
    if function.table.get("layers", "none") != "none":
        what = "a function that is an image has no layers of Lambda's"
        raise function.error("layers", what, 'Remove the key, or write format = "zip"; images share layers by themselves.')
    return LayerOptions(releases=options.releases)


def _with(options: ImageOptions, table: Section) -> ImageOptions:
    table.check_keys(_KEYS)
    options = replace(options, base=_base(table, options.base), user=table.string("user", options.user))
    if "base-layers" in table.table:
        options = replace(options, base_layers=table.boolean("base-layers"))
    if "working-dir" in table.table:
        options = replace(options, working_dir=_absolute(table, "working-dir"))
    if "compression" in table.table:
        options = replace(options, compression=table.choice("compression", IMAGE_COMPRESSIONS))
    if "write" in table.table:
        options = replace(options, write=_forms(table))
    if "entrypoint" in table.table:
        options = replace(options, entrypoint=table.strings("entrypoint"))
    if "emulator" in table.table:
        options = replace(options, emulator=table.boolean("emulator"))
    return replace(
        options,
        environment=_texts(options.environment, table, "environment"),
        labels=_texts(options.labels, table, "labels"),
    )


def _base(table: Section, known: str) -> str:
    named = table.string("base", known)
    if "base" in table.table and not named.startswith(LOCAL_FORMS):
        from packer.formats.oci import Reference

        try:
            Reference.parse(named)
        except UsageError as error:
            forms = "oci:FOLDER, docker-archive:FILE and engine:NAME"
            raise table.error("base", error.what.rstrip("."), f"{error.remedy} Known beside registries: {forms}.") from None
    return named


def _absolute(table: Section, key: str) -> str:
    path = table.string(key)
    if not path.startswith("/") or ".." in path.split("/"):
        raise table.error(key, f"{path!r} is no absolute path in the image", 'Write it like "/var/task".')
    return path


def _forms(table: Section) -> tuple[ImageForm, ...]:
    words = table.strings("write")
    known: Mapping[str, ImageForm] = {form: form for form in IMAGE_FORMS}
    for word in words:
        if word not in known:
            raise table.error("write", f"{word!r} is no form that images can be written in", suggest_names(word, IMAGE_FORMS))
    if not words:
        raise table.error("write", "an image must be written somehow", f"Known are: {', '.join(IMAGE_FORMS)}.")
    return tuple(form for form in IMAGE_FORMS if form in words)


def _texts(known: Sequence[tuple[str, str]], table: Section, key: str) -> tuple[tuple[str, str], ...]:
    """Return pairs of texts with those of a table over them, sorted."""
    found = dict(known)
    inner = table.section(key)
    for name, value in inner.table.items():
        if not isinstance(value, str):
            raise inner.error(name, f"a string is expected, not {value!r}", f'Write {name} = "…".')
        if key == "environment" and not _VARIABLE.fullmatch(name):
            raise inner.error(name, "this is no name of a variable", "Use letters, digits and _, and no digit first.")
        found[name] = value
    return tuple(sorted(found.items()))
