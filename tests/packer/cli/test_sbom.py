"""Bills of materials: valid by the official schema, reproducible, and complete as far as wheels tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from packer.cache.local import LocalStore
from packer.core.model import BytesContent, Entry, Tree
from packer.core.records import WheelBuildRecord
from packer.manifest.sbom import BillEntry, Sboms
from tests.monorepo import Monorepo
from tests.packer.records import distribution_record


def checked(data: bytes) -> dict[str, Any]:
    """Prove a bill by the official schema, and give it."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    found: dict[str, Any] = json.loads(data)
    assert "serialNumber" not in found
    assert "timestamp" not in found["metadata"]
    return found


def listed(
    name: str, metadata: str = "", requires: tuple[str, ...] = (), more: dict[str, bytes] | None = None, **told: Any
) -> BillEntry:
    report = distribution_record(name, **told)
    text = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{metadata}"
    files = {f"{name}-1.0.dist-info/METADATA": text.encode(), **(more or {})}
    tree = Tree.of(Entry(path=path, mode=0o644, content=BytesContent.of(data), owner=name) for path, data in files.items())
    return BillEntry(report=report, read_tree=lambda: tree, requires=requires)


def made(tmp_path: Any, *distributions: BillEntry) -> dict[str, Any]:
    return checked(Sboms(LocalStore(tmp_path / "store")).make("orders", "b" * 64, distributions))


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("License-Expression: MIT OR Apache-2.0\n", {"expression": "MIT OR Apache-2.0"}),
        ("License-Expression: BSD-3-Clause\n", {"id": "BSD-3-Clause"}),
        ("License: MIT\n", {"id": "MIT"}),
        ("License: Some licence of our own\n", {"name": "Some licence of our own"}),
        ("Classifier: License :: OSI Approved :: Apache Software License\n", {"name": "Apache Software License"}),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: ISC License (ISCL)\n", {"name": "ISC License (ISCL)"}),
        (f"License: {'words ' * 40}\nClassifier: License :: OSI Approved :: MIT License\n", {"name": "MIT License"}),
        ("Classifier: License :: OSI Approved\n", None),
        ("", None),
    ],
)
def test_licenses_are_those_that_are_declared(tmp_path, metadata, expected):
    [component] = made(tmp_path, listed("pkg", metadata))["components"]
    found = component.get("licenses")
    if expected is None:
        assert found is None
        return
    [one] = found
    inner = one.get("license", one)
    assert inner.pop("acknowledgement") == "declared"
    assert inner == expected


def test_what_a_wheel_says_was_vendored_into_it_is_inside(tmp_path):
    openssl = {"type": "library", "name": "openssl", "version": "3.2", "purl": "pkg:rpm/openssl@3.2"}
    inner = {"bomFormat": "CycloneDX", "components": [openssl]}
    wheel = listed("crypt", more={"crypt-1.0.dist-info/sboms/auditwheel.cdx.json": json.dumps(inner).encode()})
    [component] = made(tmp_path, wheel)["components"]
    [vendored] = component["components"]
    assert (vendored["name"], vendored["version"], vendored["purl"]) == ("openssl", "3.2", "pkg:rpm/openssl@3.2")


def test_what_a_wheel_tells_twice_is_the_same_everywhere(tmp_path):
    twice = [{"name": "zlib", "version": "1"}, {"name": "zlib", "version": "1"}, {"name": "zlib", "purl": "pkg:rpm/zlib"}]
    inner = json.dumps({"components": twice}).encode()
    files = {f"pkg-1.0.dist-info/sboms/{name}.cdx.json": inner for name in "ab"}
    wheel = listed("pkg", more=files, built=WheelBuildRecord(builder="container", why="", libraries=("zlib",)))
    first, second = (made(tmp_path / name, wheel) for name in ("first", "second"))
    assert first == second
    refs = [each["bom-ref"] for each in first["components"][0]["components"]]
    assert {ref.partition("#")[0] for ref in refs} == {"pkg:pypi/pkg@1.0"}
    assert len(refs) == len(set(refs)) >= 3


def test_metadata_is_utf8(tmp_path):
    [component] = made(tmp_path, listed("pkg", "Summary: Größe, 大きさ\nLicense: Lizenz für alle\n"))["components"]
    assert component["description"] == "Größe, 大きさ"
    assert component["licenses"][0]["license"]["name"] == "Lizenz für alle"


def test_a_wheel_that_is_gone_from_the_cache_makes_another_bill(tmp_path):
    whole = listed("pkg", "Summary: Here\n")
    bare = BillEntry(report=whole.report, read_tree=None)
    assert "description" not in made(tmp_path, bare)["components"][0]
    assert made(tmp_path, whole)["components"][0]["description"] == "Here"


@pytest.mark.parametrize(
    "told",
    [
        b"nonsense",
        b"[]",
        b'{"components": [1, {"name": 3}, {"name": "x", "purl": "nonsense"}]}',
        b'{"components": null}',
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_understood_is_passed_over(tmp_path, told):
    [component] = made(tmp_path, listed("crypt", more={"crypt-1.0.dist-info/sboms/x.cdx.json": told}))["components"]
    assert [each["name"] for each in component.get("components", [])] in ([], ["x"])


def test_libraries_that_lpack_copied_in_are_inside(tmp_path):
    wheel = listed("mine", built=WheelBuildRecord(builder="container", why="", libraries=("libpq.so.5", "libssl.so.3")))
    [component] = made(tmp_path, wheel)["components"]
    assert [each["name"] for each in component["components"]] == ["libpq.so.5", "libssl.so.3"]
    assert {"name": "lambda-lpack:built-by", "value": "container"} in component["properties"]


def test_who_requires_what_is_told(tmp_path):
    document = made(tmp_path, listed("web", requires=("text", "gone")), listed("text", sha256="c" * 64))
    edges = {each["ref"]: each.get("dependsOn", []) for each in document["dependencies"]}
    assert edges["pkg:pypi/web@1.0"] == ["pkg:pypi/text@1.0"]
    assert edges["artifact:orders"] == ["pkg:pypi/text@1.0", "pkg:pypi/web@1.0"]
    assert document["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    assert [each["purl"] for each in document["components"]] == ["pkg:pypi/text@1.0", "pkg:pypi/web@1.0"]


def bills(repo: Monorepo) -> dict[str, bytes]:
    out = repo.folder / "dist"
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.cdx.json"))}


def test_each_artifact_has_its_bill(repo, tmp_path, monkeypatch):
    common, alone = repo.wheel("common"), repo.wheel("alone")
    repo.function("one", common)
    repo.function("two", common, alone)
    repo.configure("one", "two")
    manifest = repo.build()
    found = bills(repo)
    told = {each["sbom"]: each["artifact"]["sha256"] for each in manifest["functions"].values()}
    told |= {each["sbom"]: each["sha256"] for each in manifest["layers"].values()}
    assert set(found) == set(told)
    for path, sha256 in told.items():
        document = checked(found[path])
        assert document["metadata"]["component"]["hashes"][0]["content"] == sha256
    names = [each["name"] for each in checked(found["two.cdx.json"])["components"]]
    assert names == ["alone", "common"]
    monkeypatch.setenv("LPACK_CACHE_DIR", str(tmp_path / "another"))
    repo.run("build", "--out", "other")
    other = {path: (repo.folder / "other" / path).read_bytes() for path in found}
    assert other == found


def test_bills_come_and_go_with_functions_and_settings(repo):
    repo.function("one", repo.wheel("common"))
    repo.function("two")
    repo.configure("one", "two")
    repo.build()
    assert set(bills(repo)) == {"one.cdx.json", "two.cdx.json"}
    (repo.folder / "dist" / "one.cdx.json").unlink()
    repo.build()
    assert set(bills(repo)) == {"one.cdx.json", "two.cdx.json"}
    repo.configure("one")
    repo.build()
    assert set(bills(repo)) == {"one.cdx.json"}
    repo.configure("one", settings="sbom = false")
    assert "sbom" not in repo.build()["functions"]["one"]
    assert bills(repo) == {}
    repo.configure("one", settings="sbom = true")
    repo.build()
    assert set(bills(repo)) == {"one.cdx.json"}
    repo.build("--no-sbom")
    assert bills(repo) == {}


def test_a_changed_source_changes_the_digest_alone(repo):
    repo.function("one", repo.wheel("common"))
    repo.configure("one")
    repo.build()
    before = json.loads(bills(repo)["one.cdx.json"])
    (repo.folder / "one" / "more.py").write_text("VALUE = 1\n")
    repo.build()
    after = json.loads(bills(repo)["one.cdx.json"])
    assert before["metadata"]["component"].pop("hashes") != after["metadata"]["component"].pop("hashes")
    assert before == after
