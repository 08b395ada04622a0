"""Checks documents against the published JSON Schemas, each of which is read and checked itself once."""

from __future__ import annotations

import json
from functools import cache

from jsonschema import Draft202012Validator

from packer.manifest.schemas import schema_text


@cache
def _validator(name: str) -> Draft202012Validator:
    schema = json.loads(schema_text(name))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def check_document(name: str, document: object) -> None:
    """Check a document against the schema ``name``; raises ``jsonschema.ValidationError``."""
    _validator(name).validate(document)
