"""Software bills of materials: CycloneDX 1.6 for each artifact, without times or serial numbers, so that they are reproducible.

Licenses are those that METADATA declares (core metadata 2.4: License-Expression; before that License, and classifiers). What
was vendored into a wheel is listed where the wheel lists it (PEP 770, dist-info/sboms, which auditwheel writes), and where
lpack copied it in.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from packer import __version__
from packer.cache.store import Store, digest_of
from packer.core.model import Tree
from packer.core.records import DistributionRecord
from packer.formats.metadata import field_text, field_values, read_metadata

if TYPE_CHECKING:
    from email.message import Message

    from cyclonedx.model.component import Component

SUFFIX = ".cdx.json"
_FORM = "4"
_KIND = "sboms"
_INNER = re.compile(r"[^/]+\.dist-info/sboms/[^/]+\.cdx\.json")
_LONGEST_NAME = 100
"""Letters of a License field that are taken for its name: longer ones are its text."""
_CLASSIFIER = "License :: "
_NO_LICENSE = frozenset(("", "UNKNOWN", "NONE"))
_PROPERTY = "lambda-lpack:"


class BillEntry(Struct, frozen=True, kw_only=True):
    """One distribution of an artifact: its part of the manifest, what reads its files, and the names of what it requires.

    ``read_tree`` is None where the wheel is not in the store any more.
    """

    report: DistributionRecord
    read_tree: Callable[[], Tree] | None
    requires: Sequence[str] = ()


class Sboms:
    """Makes bills of materials; what they say of a distribution is rendered once, and kept in the store for all that have it.

    The library takes milliseconds for each, and longer to import.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[str, dict[str, Any]] = {}

    def make(self, name: str, sha256: str, parts: Sequence[BillEntry]) -> bytes:
        """Return the bill of an artifact: its name, its digest (hex), and its distributions; raises `StoreError`."""
        frame = self._once("", lambda: _render_bill([]))
        components = {each.report.name: self._once(_key(each), partial(_render_component, each)) for each in parts}
        refs = {each: component["bom-ref"] for each, component in components.items()}
        hashes = [{"alg": "SHA-256", "content": sha256}]
        root = {**frame["metadata"]["component"], "name": name, "bom-ref": f"artifact:{name}", "hashes": hashes}
        edges = {root["bom-ref"]: list(refs.values())}
        edges |= {refs[each.report.name]: [refs[one] for one in each.requires if one in refs] for each in parts}
        document = {
            **frame,
            "metadata": {**frame["metadata"], "component": root},
            "components": sorted(components.values(), key=lambda each: str(each["bom-ref"])),
            "dependencies": [
                {"ref": ref, **({"dependsOn": sorted(set(needed))} if needed else {})} for ref, needed in sorted(edges.items())
            ],
        }
        return _text(document).encode()

    def _once(self, what: str, write: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if what not in self._written:
            key = digest_of(_FORM, __version__, what)
            record = self._store.load(_KIND, key) or self._store.save(_KIND, key, json.dumps(write()).encode())
            self._written[what] = json.loads(record.payload)
        return self._written[what]


def _text(document: Mapping[str, Any]) -> str:
    """Return a bill with one line for each item of a list: readable, and faster to write than with indents."""

    def written(value: object) -> str:
        if not isinstance(value, list):
            return json.dumps(value, ensure_ascii=False, sort_keys=True)
        return "[\n" + ",\n".join(f"    {json.dumps(each, ensure_ascii=False, sort_keys=True)}" for each in value) + "\n  ]"

    return "{\n" + ",\n".join(f'  "{key}": {written(document[key])}' for key in sorted(document)) + "\n}\n"


def _key(each: BillEntry) -> str:
    """Return the digest of all that a bill says of a distribution, except what it requires."""
    report = each.report
    built = msgspec.to_builtins(report.built)
    facts = [report.name, report.version, report.wheel, report.layer or None, built, each.read_tree is not None]
    return digest_of(report.sha256, json.dumps(facts))


def _render_component(each: BillEntry) -> dict[str, Any]:
    [component] = _render_bill([_component(each)])["components"]
    found: dict[str, Any] = component
    return found


def _render_bill(components: Sequence[Component]) -> dict[str, Any]:
    """Return the bill of an artifact that has no name yet."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    bom = Bom(components=components)
    root = Component(name="artifact", type=ComponentType.APPLICATION)
    bom.metadata.component = root
    bom.register_dependency(root, components)
    bom.metadata.tools.components.add(
        Component(name="lambda-lpack", version=__version__, type=ComponentType.APPLICATION, bom_ref="tool:lambda-lpack")
    )
    text: str = JsonV1Dot6(bom).output_as_string()
    document: dict[str, Any] = json.loads(text)
    document.pop("serialNumber", None)  # both are optional in the format
    document["metadata"].pop("timestamp", None)
    return document


def _component(each: BillEntry) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    report, tree = each.report, each.read_tree() if each.read_tree else None
    metadata = read_metadata(tree)
    ref = f"pkg:pypi/{report.name}@{report.version}"
    return Component(
        name=report.name,
        version=report.version,
        type=ComponentType.LIBRARY,
        bom_ref=ref,
        purl=PackageURL("pypi", None, report.name, report.version),
        hashes=[_hash(report.sha256)],
        description=field_text(metadata, "Summary") or None,
        licenses=_licenses(metadata),
        components=_assign_references((*_vendored_components(tree), *_copied_libraries(report)), ref),
        properties=list(_properties(report)),
    )


def _hash(sha256: str) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType

    return HashType(alg=HashAlgorithm.SHA_256, content=sha256)


def _properties(report: DistributionRecord) -> Iterator[Any]:
    from cyclonedx.model import Property

    yield Property(name=f"{_PROPERTY}wheel", value=report.wheel)
    if report.layer:
        yield Property(name=f"{_PROPERTY}layer", value=report.layer)
    if report.built:
        yield Property(name=f"{_PROPERTY}built-by", value=report.built.builder)


def _licenses(metadata: Message | None) -> list[Any]:
    """Return the declared licenses: one expression, or names, of which the format's own list knows some as identifiers."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.license import LicenseAcknowledgement

    factory, declared = LicenseFactory(), LicenseAcknowledgement.DECLARED
    expression = field_text(metadata, "License-Expression")
    if expression:
        return [factory.make_from_string(expression, license_acknowledgement=declared)]
    name = field_text(metadata, "License")
    names = [
        each.rpartition(" :: ")[2]
        for each in field_values(metadata, "Classifier")
        if each.startswith(_CLASSIFIER) and each.count(" :: ") > 1
    ]
    if name.upper() in _NO_LICENSE or "\n" in name or len(name) > _LONGEST_NAME:
        return [factory.make_with_name(each, acknowledgement=declared) for each in sorted(set(names))]
    return [factory.make_from_string(name, license_acknowledgement=declared)]


def _vendored_components(tree: Tree | None) -> Iterator[Component]:
    """Return what was vendored into a wheel, according to its own bills."""
    for entry in tree or ():
        if _INNER.fullmatch(entry.path):
            try:
                document = json.loads(entry.content.read())
                found = [each for each in document.get("components", []) if isinstance(each, dict)]
            except (ValueError, TypeError, AttributeError, RecursionError):
                continue  # the wheel is listed all the same
            yield from (_inner_component(each) for each in found if isinstance(each.get("name"), str))


def _inner_component(listed: Mapping[str, Any]) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    name, version = listed["name"], str(listed.get("version") or "")
    try:
        purl = PackageURL.from_string(listed["purl"]) if isinstance(listed.get("purl"), str) else None
    except ValueError:
        purl = None
    return Component(name=name, version=version or None, type=ComponentType.LIBRARY, purl=purl)


def _copied_libraries(report: DistributionRecord) -> Iterator[Component]:
    """Return the libraries that lpack has copied into a wheel from the image that it was built in."""
    from cyclonedx.model.component import Component, ComponentType

    for soname in report.built.libraries if report.built else ():
        yield Component(name=soname, type=ComponentType.LIBRARY)


def _assign_references(components: Iterable[Component], ref: str) -> list[Component]:
    """Return components with unique references below that of what holds them, in a reproducible order."""
    found, seen = list(components), Counter[str]()
    for each in found:
        name = f"{ref}#{each.name}@{each.version}" if each.version else f"{ref}#{each.name}"
        seen[name] += 1
        each.bom_ref.value = name if seen[name] == 1 else f"{name}~{seen[name]}"
    return found
