"""Makes a repository of many functions over made-up distributions and one local package; the same seed gives the same bytes.

index/*.whl              what an index would have: pure Python, with dependencies between them
libs/shared/             a local package, built by a back end that lies in it
functions/f000/          a handler and a requirements.txt that finds all of this, and asks no index
lpack.toml
"""

from __future__ import annotations

import hashlib
import random
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

SHARED_SOURCE = "libs/shared/shared_lib/__init__.py"
"""The file of the local package that changes."""
_SEED = 5
_VERSION = "1.4.0"
_SMALLEST, _MEDIAN, _LARGEST, _SPREAD = 12_000, 180_000, 4_000_000, 1.2  # bytes of source, log-normal
_MODULE = 9_000  # bytes of a module, on average
_LEAST, _MOST = 3, 12  # distributions that a function requires itself
_EXPONENT = 1.0  # of the popularity of distributions (Zipf)
_DATE = (2024, 1, 1, 0, 0, 0)
_TEXT = """account amount batch buffer bucket cache charge client config context cursor customer entry event factor field filter
group handler header index invoice item key label ledger limit line message method name offset order page parser payload policy
price product query queue record region report request result retry route schema scope session shape signal source state status
stream table task token total trace update user value vendor version window writer"""
_WORDS = tuple(_TEXT.split())
_BACKEND = Path(__file__).parent.parent / "fixtures" / "packages" / "shared_lib" / "backend.py"
_PROJECT = """[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "shared-lib"
version = "1.0"
"""


class Shape(Struct, frozen=True, kw_only=True):
    """How large a repository is: ``sets`` is how many different sets of requirements there are, or 0 for one each."""

    functions: int = 200
    distributions: int = 60
    users: int = 20
    sets: int = 0


class Repository(Struct, frozen=True, kw_only=True):
    """A repository that was written: the names of all functions, and of those that use the local package."""

    root: Path
    functions: tuple[str, ...]
    users: frozenset[str]


def write_repository(root: Path, shape: Shape) -> Repository:
    """Write a repository into a new folder."""
    source = random.Random(_SEED)
    names = [f"acme-{word}" for word in source.sample(_WORDS, shape.distributions)]
    _write_index(root / "index", names)
    _write_shared(root / "libs" / "shared")
    functions = tuple(f"f{number:03}" for number in range(shape.functions))
    users = frozenset(source.sample(functions, shape.users))
    for name, needs in zip(functions, _needs(source, names, shape), strict=True):
        _write_function(root / "functions" / name, needs, shared=name in users)
    lines = ('runtime = "python3.12"', 'arch = "x86_64"', 'out = "dist"', 'layers = "auto"', 'discover = ["functions/*"]')
    (root / "lpack.toml").write_text("\n".join(lines) + "\n")
    return Repository(root=root, functions=functions, users=users)


def _needs(source: random.Random, names: Sequence[str], shape: Shape) -> list[list[str]]:
    """Give what each function requires, by the popularity of distributions; the first ones are the most popular."""
    weights = [(rank + 1) ** -_EXPONENT for rank in range(len(names))]
    wanted = shape.sets or shape.functions
    sets: dict[frozenset[str], None] = {}
    while len(sets) < wanted:
        size = source.randint(_LEAST, _MOST)
        chosen: dict[str, None] = {}
        while len(chosen) < size:
            chosen[source.choices(names, weights)[0]] = None
        sets[frozenset(chosen)] = None
    ordered = [sorted(each) for each in sets]
    if not shape.sets:
        return ordered
    rest = source.choices(ordered, [(rank + 1) ** -_EXPONENT for rank in range(wanted)], k=shape.functions - wanted)
    return [*ordered, *rest]


def _write_function(folder: Path, needs: Sequence[str], *, shared: bool) -> None:
    folder.mkdir(parents=True)
    lines = ["--no-index", "--find-links ../../index", *(f"{name}=={_VERSION}" for name in needs)]
    (folder / "requirements.txt").write_text("\n".join([*lines, *(["-e ../../libs/shared"] if shared else [])]) + "\n")
    modules = [*(name.replace("-", "_") for name in needs), *(["shared_lib"] if shared else [])]
    imports = "".join(f"import {module}\n" for module in modules)
    found = ", ".join(f"{module}.VALUE" for module in modules)
    text = f'"""The function {folder.name}."""\n\n{imports}\n\ndef handler(event, context):\n    return [{found}]\n'
    (folder / "app.py").write_text(text)


def _write_shared(folder: Path) -> None:
    (folder / "shared_lib").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(_PROJECT)
    (folder / "backend.py").write_bytes(_BACKEND.read_bytes())
    (folder / "shared_lib" / "__init__.py").write_text('"""What many functions of the repository share."""\n\nVALUE = 1\n')


def _write_index(folder: Path, names: Sequence[str]) -> None:
    """Write the wheels; each depends on up to three of those before it, which are more popular."""
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        source = random.Random(f"{_SEED} {name}")
        needs = sorted(source.sample(names[:number], min(number, source.choice((0, 0, 1, 1, 2, 3)))))
        size = min(_LARGEST, max(_SMALLEST, source.lognormvariate(0, _SPREAD) * _MEDIAN))
        _write_wheel(folder, name, needs, dict(_modules(source, name.replace("-", "_"), needs, round(size))))


def _write_wheel(folder: Path, name: str, needs: Sequence[str], files: Mapping[str, str]) -> None:
    """Write a wheel (PyPA specification "Binary distribution format")."""
    module = name.replace("-", "_")
    info = f"{module}-{_VERSION}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {_VERSION}", "Requires-Python: >=3.9"]
    metadata += [f"Requires-Dist: {each}>=1.0" for each in needs]
    wheel = ["Wheel-Version: 1.0", "Generator: bench", "Root-Is-Purelib: true", "Tag: py3-none-any"]
    whole = {**files, f"{info}/METADATA": "\n".join(metadata) + "\n", f"{info}/WHEEL": "\n".join(wheel) + "\n"}
    record = "".join(f"{path},{_hash(text)},{len(text.encode())}\n" for path, text in whole.items()) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{module}-{_VERSION}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in {**whole, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path, _DATE), text, compress_type=zipfile.ZIP_DEFLATED)


def _hash(text: str) -> str:
    return "sha256=" + urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _modules(source: random.Random, package: str, needs: Sequence[str], size: int) -> Iterator[tuple[str, str]]:
    """Give modules of about ``size`` bytes in all; the package imports a few of them, and what it needs."""
    sizes: list[int] = []
    while sum(sizes) < size:
        sizes.append(round(min(60_000, max(600, source.lognormvariate(0, 0.8) * _MODULE))))
    folders = ["", *(f"{word}s/" for word in source.sample(_WORDS, min(6, len(sizes) // 12)))]
    used = source.sample(range(len(sizes)), min(len(sizes), 6))
    places = [f"{source.choice(folders)}m{number:03}" for number in range(len(sizes))]
    imports = [f"import {name.replace('-', '_')}" for name in needs]
    imports += [f"from {package}.{places[number].replace('/', '.')} import VALUE as VALUE_{number}" for number in used]
    yield f"{package}/__init__.py", "\n".join([f'"""The package {package}."""', "", *imports, "", "VALUE = 1", ""])
    for folder in folders[1:]:
        yield f"{package}/{folder}__init__.py", ""
    for place, each in zip(places, sizes, strict=True):
        yield f"{package}/{place}.py", _module(source, each)


def _module(source: random.Random, size: int) -> str:
    """Give a module of about ``size`` bytes that could have been written by somebody."""
    parts = ['"""' + _sentence(source) + '"""', "from __future__ import annotations", "VALUE = 1"]
    length = sum(map(len, parts))
    while length < size:
        parts.append(_function(source) if source.random() < 0.6 else _class(source))
        length += len(parts[-1])
    return "\n\n\n".join(parts) + "\n"


def _sentence(source: random.Random) -> str:
    return f"{' '.join(source.choices(_WORDS, k=source.randint(4, 12)))}.".capitalize()


def _function(source: random.Random, indent: str = "", first: str = "") -> str:
    names = source.sample(_WORDS, 5)
    arguments = ", ".join([*([first] if first else []), *(f"{name}=None" for name in names[:3])])
    lines = [f"def {names[3]}_{source.choice(_WORDS)}({arguments}):", f'    """{_sentence(source)}"""']
    lines += [f"    {names[4]} = []"]
    for _ in range(source.randint(2, 7)):
        one, two = source.choice(names[:3]), source.choice(_WORDS)
        lines.append(
            source.choice(
                (
                    f"    if {one} is not None and {one} != {source.randint(0, 9999)}:\n        {names[4]}.append({one})",
                    f"    {names[4]}.extend({two}.strip() for {two} in str({one}).split({two[0]!r}) if {two})",
                    f"    for {two}_item in {names[4]}[:{source.randint(1, 99)}]:\n        {one} = {two}_item or {one}",
                    f'    {two} = {{"{two}": {one}, "{source.choice(_WORDS)}_{source.randint(0, 999)}": len({names[4]})}}',
                )
            )
        )
    lines.append(f"    return {names[4]}")
    return "\n".join(indent + line.replace("\n", "\n" + indent) for line in lines)


def _class(source: random.Random) -> str:
    name = "".join(map(str.capitalize, source.sample(_WORDS, 2)))
    methods = [_function(source, "    ", "self") for _ in range(source.randint(1, 5))]
    return "\n\n".join([f'class {name}:\n    """{_sentence(source)}"""', *methods])
