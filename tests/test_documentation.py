"""README and the documentation: every example of a configuration is valid, and the links of README lead somewhere."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from msgspec import Struct

from packer.config.load import Overrides, load_config

_ROOT = Path(__file__).resolve().parent.parent
_README = _ROOT / "README.md"
_PAGES = (_README, *sorted((_ROOT / "docs").rglob("*.md")))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")
# A table of its own, or a key with a value of TOML; in Terraform and Python values are written without quotes, or indented.
_LOOKS_LIKE_TOML = re.compile(r"^ {4}(\[{1,2}[\w.\"-]+\]{1,2}|[\w.-]+ = ([\"'\[{0-9]|true|false).*)\s*(#.*)?$", re.MULTILINE)

_KEY_IN_A_SENTENCE = re.compile(r"`([a-z][\w.-]* = [^`\n]+)`")


class Block(Struct, frozen=True):
    """A block of TOML, and where it stands."""

    page: Path
    line: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(_ROOT)}:{self.line}"


def _fences(page: Path) -> Iterator[tuple[str, Block]]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield found[1], Block(page=page, line=line, text=found[2])


_BLOCKS = [block for page in _PAGES for kind, block in _fences(page) if kind == "toml"]
_OF_LPACK = [block for block in _BLOCKS if not block.text.startswith("[[tool.uv")]


def _read(folder: Path, document: dict[str, Any]) -> None:
    """Check a configuration with the reader, in a folder that has what it names; what a fragment leaves out is added."""
    functions = document.setdefault("functions", {})
    if not functions and "discover" not in document:
        functions["orders"] = {}
    for name, function in functions.items():
        function.setdefault("source", f"services/{name}")
        function.setdefault("handler", "app.handler")
    sources = [function["source"] for function in functions.values()] or ["services/orders"]
    for source in sources:
        (folder / source).mkdir(parents=True)
        (folder / source / "app.py").write_text("def handler(event, context): ...\n")
    for path in (function["requirements"] for function in functions.values() if "requirements" in function):
        (folder / path).write_text("")
    for pattern in (each for function in functions.values() for each in function.get("verify", {}).get("events", ())):
        event = folder / pattern.replace("*", "one")
        event.parent.mkdir(parents=True, exist_ok=True)
        event.write_text("{}")
    (folder / "lpack.toml").write_text(tomli_w.dumps(document))
    load_config(folder / "lpack.toml", Overrides())


def _merged(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the one configuration that all examples of a page make when each table is written once."""
    whole: dict[str, Any] = {}
    for document in documents:
        for key, value in document.items():
            both = isinstance(value, dict) and isinstance(whole.get(key), dict)
            whole[key] = _merged([whole[key], value]) if both else value
    return whole


def test_examples_are_found():
    assert {block.page.name for block in _OF_LPACK} >= {
        "README.md",
        "monorepo.md",
        "images.md",
        "size-checks.md",
        "tutorial.md",
    }


@pytest.mark.parametrize("block", _BLOCKS, ids=lambda block: block.name)
def test_block_is_toml(block):
    tomllib.loads(block.text)


@pytest.mark.parametrize("block", _OF_LPACK, ids=lambda block: block.name)
def test_block_is_a_configuration(block, tmp_path):
    _read(tmp_path, tomllib.loads(block.text))


@pytest.mark.parametrize("page", sorted({block.page for block in _OF_LPACK}), ids=lambda page: page.name)
def test_examples_of_a_page_go_together(page, tmp_path):
    _read(tmp_path, _merged([tomllib.loads(block.text) for block in _OF_LPACK if block.page == page]))


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_toml_stands_in_a_fence_that_says_so(page):
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    indented = "".join(_INDENTED.findall(text))
    assert _LOOKS_LIKE_TOML.findall(indented) == []
    assert [kind for kind, _ in _fences(page) if not kind] == []


@pytest.mark.parametrize(
    "page", [page for page in _PAGES if page.stem != "terraform"], ids=lambda page: str(page.relative_to(_ROOT))
)
def test_keys_in_sentences_are_toml(page):
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for example in _KEY_IN_A_SENTENCE.findall(text):
        tomllib.loads(example)


_ARCHITECTURE = _ROOT / "docs" / "architecture.md"
_WORDS = set(re.findall(r"`([^`\n]+)`", _FENCE.sub("", _ARCHITECTURE.read_text(encoding="utf-8"))))
_NO_TABLES = {"NAME", "RECORD"}


def _sources() -> str:
    paths = (path for room in ("packer", "builders", "tests") for path in sorted((_ROOT / room).rglob("*.py")))
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_files_that_the_page_of_the_architecture_names_exist():
    paths = {word for word in _WORDS if re.match(r"(packer|builders|tests|docs|fixtures)/", word) and "NAME" not in word}
    assert len(paths) > 50
    assert [path for path in sorted(paths) if not (_ROOT / path).exists()] == []


def test_functions_and_tables_that_the_page_of_the_architecture_names_exist():
    sources = _sources()
    functions = {word.removesuffix("()") for word in _WORDS if re.fullmatch(r"\w+\(\)", word)}
    tables = {word for word in _WORDS if re.fullmatch(r"[A-Z][A-Z_]+[A-Z]", word)} - _NO_TABLES
    assert functions
    assert tables
    assert functions <= set(re.findall(r"def (\w+)", sources))
    assert tables <= set(re.findall(r"^([A-Z_]+)\b", sources, re.MULTILINE))


@pytest.mark.parametrize("page", [_README, _ROOT / "bench" / "README.md", _ROOT / "fixtures" / "README.md"], ids=str)
def test_links_to_files_lead_somewhere(page):
    targets = _LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
