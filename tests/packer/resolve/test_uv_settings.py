"""uv's settings, where they are malformed: uv reports that, and nothing else fails."""

import pytest

from packer.resolve.uv_settings import configured_indexes, shared_settings_digest


@pytest.mark.parametrize(
    "text",
    [
        "[tool]\nuv = 3\n",
        "tool = 3\n",
        "[tool.uv]\nindex = 3\n",
        "[tool.uv]\nindex = [3]\n",
        "[[tool.uv.index]]\nurl = 3\n",
    ],
)
def test_malformed_settings_name_no_index(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    assert configured_indexes(tmp_path) == ()
    assert shared_settings_digest(tmp_path, {})


def test_indexes_of_the_nearest_settings_are_found(tmp_path):
    (tmp_path / "uv.toml").write_text(
        '[[index]]\nname = "own"\nurl = "https://host/simple"\n[[index]]\nurl = "https://other"\n'
    )
    folder = tmp_path / "fn"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[tool.black]\n")
    assert configured_indexes(folder) == (("own", "https://host/simple"), ("", "https://other"))
