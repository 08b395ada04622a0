"""What is told of a built function, and what its part of the manifest says of the same."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from builders.runtimes import Target
from packer.core.model import OWN_SOURCE, Artifact, Function, Lock, Tree
from packer.core.records import LayerRecord, RemovedFiles
from packer.formats.unpack import LayerArchive
from packer.formats.zip_writer import WrittenArchive
from packer.layers.assignment import MadeLayer
from packer.manifest.document import record_function
from packer.manifest.summary import list_removed, summary_line
from packer.trim.engine import RemovedFile
from packer.trim.shape import ShapedFunction
from packer.trim.strip import StrippedFile
from packer.verify.candidates import Candidate
from packer.verify.proof import Proof

FUNCTION = Function(
    name="orders",
    source=Path("orders"),
    handler="app.handler",
    target=Target.of("python3.12", "x86_64"),
    requirements=None,
    lock_path=Path("lock"),
)
REMOVED = (
    RemovedFile(path="own/tests/a.py", rule="tests", owner="own", size=1024),
    RemovedFile(path="common/tests/a.py", rule="tests", owner="common", size=1024 * 1024),
    RemovedFile(path="notes.md", rule="drop", owner=OWN_SOURCE, size=2048),
)
STRIPPED = (
    StrippedFile(path="own/a.so", owner="own", saved=512),
    StrippedFile(path="common/a.so", owner="common", saved=1024 * 1024),
)


def proof(*inside: str) -> Proof:
    """Give what is proved of a function with these distributions in its own package, and all others in layers."""
    parts = tuple((name, Tree(())) for name in (OWN_SOURCE, *inside))
    shaped = ShapedFunction(tree=Tree(()), parts=parts, removed=REMOVED, stripped=STRIPPED)
    return Proof(
        candidate=Candidate(shaped=shaped, path=Path("a.zip"), written=WrittenArchive(sha256="", length=0)), level="import"
    )


def removed(found: Proof) -> int:
    artifact = Artifact(path="orders.zip", sha256="", zipped=0, unzipped=0, files=0)
    lock = Lock(origin="own", packages=(), target=FUNCTION.target)
    return record_function(FUNCTION, lock, artifact, (), (), found, (), 0.0).trim.removed_bytes


def test_what_a_layer_holds_was_not_removed_from_the_function():
    assert "3.5 KB removed (drop 2.0 KB, tests 1.0 KB, strip 0.5 KB)" in summary_line(FUNCTION, proof("own"))
    assert removed(proof("own")) == 1024 + 2048 + 512


def test_all_is_told_where_nothing_is_in_a_layer():
    assert "2.0 MB removed (" in summary_line(FUNCTION, proof("own", "common"))
    assert removed(proof("own", "common")) == 2 * 1024 * 1024 + 1024 + 2048 + 512


def layer() -> MadeLayer:
    """Give the layer that holds what is not inside."""
    removed = tuple(
        RemovedFiles(rule=rule, distribution="common", files=1, bytes=1024 * 1024) for rule in ("sources", "strip", "tests")
    )
    report = LayerRecord(
        path="layers/common-1.zip",
        sha256="",
        zip_bytes=0,
        unzipped_bytes=0,
        files=0,
        distributions=(),
        removed_bytes=3 * 1024 * 1024,
        removed=removed,
    )
    return MadeLayer(name="common-1", pieces=(), report=report, archive=LayerArchive(path=Path(), sha256=""), staged=None)


def test_what_was_removed_from_layers_is_told_beside_it():
    line = summary_line(FUNCTION, proof("own"), (layer(),))
    assert (
        "3.5 KB removed (drop 2.0 KB, tests 1.0 KB, strip 0.5 KB), 2.0 MB from its layers (strip 1.0 MB, tests 1.0 MB)" in line
    )
    nothing = Proof(candidate=replace(proof().candidate, shaped=ShapedFunction(tree=Tree(()), parts=())), level="import")
    assert summary_line(FUNCTION, nothing, (layer(),)).startswith(
        "nothing removed from its own package, 2.0 MB from its layers"
    )


def test_every_rule_is_listed_for_the_function_and_for_its_layers():
    lock = Lock(origin="own", packages=(), target=FUNCTION.target)
    artifact = Artifact(path="orders.zip", sha256="", zipped=0, unzipped=0, files=0)
    report = record_function(FUNCTION, lock, artifact, (), (), proof("own"), (layer(),), 0.0)
    assert report.trim.removed_from_layers_bytes == 3 * 1024 * 1024
    assert list(list_removed(report)) == [
        "removed: drop 2.0 KB in 1 files, tests 1.0 KB in 1 files, strip 0.5 KB in 1 files",
        "removed from common-1: sources 1.0 MB in 1 files, strip 1.0 MB in 1 files, tests 1.0 MB in 1 files",
    ]
