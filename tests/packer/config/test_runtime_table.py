"""The image that functions are proved in, as the configuration names it, and as the lock of bases has it."""

from __future__ import annotations

import pytest

from builders.runtimes import RuntimeImage
from packer.locks.base_pins import PINS_FILE, pins_text
from tests.packer.config.test_load import refusal
from tests.packer.config.test_shape_table import FUNCTION, read

DIGEST = "sha256:" + "b" * 64


def test_the_image_is_awss_without_a_key(tmp_path):
    target = read(tmp_path, 'runtime = "python3.12"').target
    assert target.image == RuntimeImage()
    assert target.runtime_image == target.base_image == "public.ecr.aws/lambda/python:3.12-x86_64"


def test_a_function_overrides_its_project_key_by_key(tmp_path):
    found = read(tmp_path, 'runtime-image = { image = "host.test/mine:1" }', "runtime-image = { pull = true }")
    assert found.target.image == RuntimeImage(name="host.test/mine:1", pull=True)
    assert found.target.runtime_image == "host.test/mine:1"
    assert found.base_name == found.target.base_image  # images are not built upon it


def test_the_lock_of_bases_gives_the_digest_for_the_platform(tmp_path):
    (tmp_path / PINS_FILE).write_text(pins_text({("host.test/mine:1", "linux/arm64"): DIGEST}))
    named = 'runtime-image = "host.test/mine:1"'
    assert read(tmp_path, f'{named}\narch = "arm64"').target.image == RuntimeImage(name="host.test/mine:1", digest=DIGEST)
    assert read(tmp_path, named).target.image.digest == ""


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ('"UPPER/case"', "is not the name of an image"),
        ('""', "a string that is not empty"),
        ("7", "a table is expected"),
        ('{ image = "oci:folder:x:y" }', "is not the name of an image"),
        ("{ pull = 1 }", "true or false is expected"),
        ('{ imgae = "a/b" }', "Did you mean 'image'?"),
    ],
)
def test_what_is_no_image_is_refused_with_the_place(tmp_path, value, told):
    text = str(refusal(tmp_path, f"{FUNCTION}runtime-image = {value}\n"))
    assert told in text
    assert "runtime-image" in text
