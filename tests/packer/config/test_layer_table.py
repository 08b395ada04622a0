"""What the configuration may say of layers, and what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from packer.config.load import Overrides, load_config
from packer.core.errors import UsageError
from packer.core.options import AttachedLayer, LayerOptions, NamedLayer, ShapeFlags

ARN = "arn:aws:lambda:eu-central-1:123456789012:layer:tools:7"
OTHER = "arn:aws:lambda:eu-central-1:123456789012:layer:more-tools:7"


def options(folder: Path, settings: str = "", own: str = "", more: str = "", flag: str | None = None) -> LayerOptions:
    (folder / "app.py").write_text("def handler(event, context): ...\n")
    (folder / "layer.txt").write_text("pandas\n")
    (folder / "empty.txt").write_text("# nothing yet\n-c layer.txt\n")
    text = f'{settings}\n[functions.one]\nsource = "."\nhandler = "app.handler"\n{own}\n{more}\n'
    (folder / "lpack.toml").write_text(text)
    [function] = load_config(folder / "lpack.toml", Overrides(shape=ShapeFlags(layers=flag))).functions
    return function.layers


def test_no_layers_by_default(tmp_path):
    assert options(tmp_path) == LayerOptions()
    assert not options(tmp_path).wanted


@pytest.mark.parametrize(
    ("settings", "own", "flag", "mode"),
    [
        ('layers = "auto"', "", None, "auto"),
        ('layers = "auto"', 'layers = "none"', None, "none"),
        ('layers = "none"', 'layers = "auto"', None, "auto"),
        ('layers = "auto"', "", "none", "none"),
        ("", "", "auto", "auto"),
    ],
)
def test_flag_overrides_function_which_overrides_project(tmp_path, settings, own, flag, mode):
    assert options(tmp_path, settings, own, flag=flag).mode == mode


NAMED = '[layers.data]\ndistributions = ["Pandas", "numpy"]\nfunctions = ["etl*"]\n'


def test_named_layers(tmp_path):
    layer = NamedLayer(name="data", distributions=("numpy", "pandas"), functions=("etl*",))
    assert options(tmp_path, more=NAMED) == LayerOptions(named=(layer,))
    assert options(tmp_path, more='[layers]\nothers = "auto"\n' + NAMED) == LayerOptions(mode="auto", named=(layer,))
    assert options(tmp_path, own='layers = "auto"', more=NAMED) == LayerOptions(mode="auto", named=(layer,))
    assert options(tmp_path, own='layers = "none"', more=NAMED) == LayerOptions()
    assert options(tmp_path, more=NAMED, flag="none") == LayerOptions()
    [required] = options(tmp_path, more='[layers.data]\nrequirements = "layer.txt"\n').named
    assert (required.distributions, required.closed, required.files) == (("pandas",), True, (tmp_path / "layer.txt",))


def test_attached_layers(tmp_path):
    held = f'attached = [{{ arn = "{ARN}", distributions = ["PyYAML==6.0", "boto3"] }}]'
    found = options(tmp_path, f'attached = ["{OTHER}"]', held)
    known = AttachedLayer(arn=ARN, distributions=(("pyyaml", "6.0"), ("boto3", "")))
    assert found == LayerOptions(attached=(AttachedLayer(arn=OTHER), known))
    assert not found.wanted
    assert found.bring("pyyaml", "6.0")
    assert not found.bring("pyyaml", "5.4")
    assert found.bring("boto3", "1.40")
    assert len(options(tmp_path, f'attached = ["{ARN}"]', held).attached) == 1


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"settings": 'layers = "some"'}, "layers: 'some' is not known here"),
        ({"settings": "layers = 3"}, "layers: a string that is not empty is expected"),
        ({"own": 'layers = { data = { distributions = ["a"] } }'}, "layers: a string that is not empty is expected"),
        ({"more": '[layers.data]\nnames = ["a"]\n'}, "layers.data.names: this key is not known"),
        ({"more": "[layers.data]\n"}, "layers.data: a layer has either distributions or requirements"),
        (
            {"more": '[layers.data]\ndistributions = ["a"]\nrequirements = "layer.txt"\n'},
            "either distributions or requirements",
        ),
        ({"more": '[layers.data]\nrequirements = "gone.txt"\n'}, "there is no file"),
        ({"more": '[layers.data]\nrequirements = "empty.txt"\n'}, "requires nothing"),
        ({"more": '[layers."a.b"]\ndistributions = ["a"]\n'}, "cannot be a layer's name"),
        ({"more": '[layers.data]\ndistributions = ["numpy==1.0"]\n'}, "'numpy==1.0' cannot be a distribution's name"),
        (
            {"settings": f'attached = [{{ arn = "{ARN}", distributions = ["num py"] }}]'},
            "'num py' cannot be a distribution's name",
        ),
        ({"settings": f'attached = [{{ arn = "{ARN}", distributions = ["numpy=="] }}]'}, "'numpy==' names no version"),
        ({"settings": 'attached = "arn"'}, "attached: a list is expected"),
        ({"settings": "attached = [3]"}, "attached[0].arn: a string that is not empty is expected"),
        (
            {"settings": 'attached = ["arn:aws:lambda:x"]'},
            "attached[0].arn: 'arn:aws:lambda:x' is not the ARN of a layer's version",
        ),
        ({"settings": f'attached = [{{ arn = "{ARN}", holds = [] }}]'}, "attached[0].holds: this key is not known"),
        (
            {"settings": f"attached = {[OTHER.replace('more', str(each)) for each in range(6)]}"},
            "6 layers are attached, and a function can have 5",
        ),
        (
            {"settings": f'attached = ["{ARN}"]', "own": f'attached = ["{ARN}0"]'},
            f"functions.one.attached: {ARN} and {ARN}0 are versions of the same layer",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, parts, words):
    with pytest.raises(UsageError) as caught:
        options(tmp_path, **parts)
    assert words in str(caught.value)
    assert caught.value.remedy


def test_how_often_packages_are_released(tmp_path):
    more = "[packages.PyYAML]\nreleases = 26\n[functions.one.packages.numpy]\nreleases = 0.5\n"
    assert options(tmp_path, more=more).releases == (("numpy", 0.5), ("pyyaml", 26.0))
    with pytest.raises(UsageError, match=r"packages\.numpy\.releases: a number above 0 is expected"):
        options(tmp_path, more="[packages.numpy]\nreleases = 0\n")
