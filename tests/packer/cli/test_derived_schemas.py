"""The published schemas say what the types say, in every word."""

from __future__ import annotations

import json

import pytest

from packer.change.since import AffectedDocument
from packer.cli.commands.cache import CacheDocument
from packer.cli.commands.load import LoadRecord
from packer.cli.commands.push import PushRecord
from packer.cli.commands.verify import SkippedRecord, VerifyRecord
from packer.cli.outcome import ErrorRecord
from packer.core.records import BuildManifest
from packer.inspect.check_document import CheckDocument
from packer.inspect.diff import DiffDocument
from packer.inspect.doctor import Finding
from packer.inspect.plan_document import PlanDocument
from packer.inspect.requirement_report import TreeDocument, WhyDocument
from packer.manifest.baseline import Baseline
from packer.manifest.schemas import NAMES, schema_text
from packer.verify.coldstart import StartDocument
from tests.derived_schemas import any_of, derive_schema, normal_schema

ERROR = derive_schema(ErrorRecord)
DERIVED = {
    "affected": derive_schema(AffectedDocument),
    "baseline": derive_schema(Baseline),
    "cache-info": derive_schema(CacheDocument),
    "check": derive_schema(CheckDocument),
    "coldstart": derive_schema(StartDocument),
    "diff": derive_schema(DiffDocument),
    "doctor": derive_schema(list[Finding]),
    "load": any_of(derive_schema(LoadRecord), ERROR),
    "manifest": derive_schema(BuildManifest),
    "plan": derive_schema(PlanDocument),
    "push": any_of(derive_schema(PushRecord), ERROR),
    "tree": derive_schema(TreeDocument),
    "verify": any_of(derive_schema(VerifyRecord), derive_schema(SkippedRecord), ERROR),
    "why": derive_schema(WhyDocument),
}


def test_every_published_schema_has_a_type():
    assert set(DERIVED) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_published_schema_is_that_of_its_type(name):
    assert normal_schema(json.loads(schema_text(name))) == DERIVED[name]


def test_another_word_or_field_is_a_difference():
    document = json.loads(schema_text("manifest"))
    document["$defs"]["layer"]["properties"]["more"] = {"type": "string"}
    assert normal_schema(document) != DERIVED["manifest"]
    document = json.loads(schema_text("tree"))
    document["$defs"]["node"]["properties"]["again"]["description"] = "Another word."
    assert normal_schema(document) != DERIVED["tree"]
