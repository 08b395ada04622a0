from __future__ import annotations

from pathlib import Path

import pytest

from bench.projects import ARM, IMAGE, X86, ZIP, all_projects
from tests.images import read_layout


def test_every_value_of_every_shape_is_built():
    projects = all_projects([])
    assert {(each.architecture, each.format) for each in projects} == {(a, f) for a in (X86, ARM) for f in (ZIP, IMAGE)}
    words = {word for each in projects for form in each.forms for word in form.shape}
    assert words >= {"none", "safe", "max", "auto", "beside", "only", "off", "--trim", "--bytecode", "--layers"}
    assert {"mono12", "pair", "native", "sample"} <= {each.workload.name for each in projects}


def test_profiles_are_asked_for_only_where_functions_can_run():
    assert not [each for each in all_projects([]) if each.architecture == ARM and any(form.profiled for form in each.forms)]


def _workload(folder: Path, name: str, file: str, text: str) -> None:
    (folder / name / "one").mkdir(parents=True)
    (folder / name / file).write_text(text)
    (folder / name / "one" / "app.py").write_text("")


def test_further_workloads_have_a_configuration_or_a_template(tmp_path):
    more = tmp_path / "more"
    _workload(more, "configured", "lpack.toml", 'runtime = "python3.12"\n')
    _workload(more, "described", "template.yaml", "Globals: {Function: {Runtime: python3.13}}\n")
    found = {(each.name, each.template) for each in all_projects([more]) if each.workload.parent == more}
    assert found == {("more-configured", False), ("more-described", True)}
    _workload(more, "neither", "README.md", "")
    with pytest.raises(SystemExit, match="neither"):
        all_projects([more])


def test_two_workloads_of_one_name_are_refused(tmp_path):
    for folder in ("a/more", "b/more"):
        _workload(tmp_path / folder, "same", "lpack.toml", "")
    with pytest.raises(SystemExit, match="two workloads of the name more-same"):
        all_projects([tmp_path / "a/more", tmp_path / "b/more"])


def test_images_are_built_upon_a_base_for_the_architecture(tmp_path):
    machines = {}
    for each in all_projects([]):
        if each.format == IMAGE:
            each.copy_to(tmp_path / each.name / each.architecture)
            [base] = read_layout(tmp_path / each.name / each.architecture / "base")
            machines[each.name, each.architecture] = base.config["architecture"]
            config = (tmp_path / each.name / each.architecture / "lpack.toml").read_text()
            assert config.startswith('format = "image"\n')
            assert config.count("[oci]") == 1
    assert machines["pair", X86] == "amd64"
    assert machines["pair", ARM] == "arm64"


def test_a_copy_can_be_written_where_its_workload_can_not(tmp_path):
    more = tmp_path / "more"
    _workload(more, "sealed", "template.yaml", "Globals: {Function: {Runtime: python3.13}}\n")
    (more / "sealed" / "template.yaml").chmod(0o444)
    project = next(each for each in all_projects([more]) if each.name == "more-sealed" and each.format == IMAGE)
    project.copy_to(tmp_path / "copy")
    assert (tmp_path / "copy" / "template.yaml").stat().st_mode & 0o200
    assert (tmp_path / "copy" / "lpack.toml").read_text().startswith('format = "image"\n')
