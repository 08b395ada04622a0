"""Configuration: every wrong key, value and place is named precisely."""

from pathlib import Path

import pytest

from builders.runtimes import MEGABYTE, RUNTIME_DISTRIBUTIONS
from packer.config.load import Config, Overrides, load_config
from packer.core.errors import UsageError

GOOD = """
runtime = "python3.12"
arch = "arm64"
exclude = ["Boto3"]
[functions.orders]
source = "orders"
handler = "app.handler"
"""


def load(folder: Path, text: str, name: str = "lpack.toml", **flags) -> Config:
    (folder / "orders").mkdir(exist_ok=True)
    (folder / "orders" / "app.py").write_text("def handler(event, context): ...\n")
    path = folder / name
    path.write_text(text)
    return load_config(path, Overrides(**flags))


def refusal(folder: Path, text: str, name: str = "lpack.toml", **flags) -> str:
    with pytest.raises(UsageError) as caught:
        load(folder, text, name, **flags)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_reads_functions_with_their_defaults(tmp_path):
    config = load(tmp_path, GOOD)
    (function,) = config.functions
    assert (function.name, str(function.target), function.handler) == ("orders", "python3.12-arm64", "app.handler")
    assert function.source == tmp_path / "orders"
    assert function.exclude == ("boto3",)
    assert function.lock_path == tmp_path / "pylock.orders.toml"
    assert config.out == tmp_path / "dist"


def test_the_word_runtime_excludes_all_that_the_runtime_has(tmp_path):
    (function,) = load(tmp_path, GOOD.replace("Boto3", "runtime")).functions
    assert set(function.exclude) == {"runtime", *RUNTIME_DISTRIBUTIONS}


def test_pyproject_and_lpack_toml_mean_the_same(tmp_path):
    table = GOOD.replace("\nruntime", "\n[tool.lpack]\nruntime").replace("[functions", "[tool.lpack.functions")
    assert load(tmp_path, table, "pyproject.toml").functions == load(tmp_path, GOOD).functions


def test_flags_override(tmp_path):
    config = load(tmp_path, GOOD, runtime="python3.13", architecture="x86_64", out=tmp_path / "elsewhere")
    assert str(config.functions[0].target) == "python3.13-x86_64"
    assert config.out == tmp_path / "elsewhere"


def test_budgets_are_read_in_lambdas_units_and_merged(tmp_path):
    text = 'budget = { zip = "10 MB", unzipped = "60 MB" }\n' + GOOD + 'budget = { zip = "512 KB", init = "0.4 s" }\n'
    budget = load(tmp_path, text).functions[0].budget
    assert (budget.zip, budget.unzipped, budget.init) == (512 * 1024, 60 * MEGABYTE, 400)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + 'handle = "x"\n', ("lpack.toml: functions.orders.handle", "Did you mean 'handler'?")),
        ('runtimes = "python3.12"\n' + GOOD, ("lpack.toml: runtimes", "Did you mean 'runtime'?")),
        (GOOD + "budget = { zipped = '1 MB' }\n", ("functions.orders.budget.zipped", "Did you mean 'unzipped'?")),
        (GOOD + "budget = { zip = 'ten' }\n", ("functions.orders.budget.zip", "'ten'", "10 MB")),
        (GOOD + "budget = { init = '10 MB' }\n", ("functions.orders.budget.init", "400 ms")),
        (GOOD.replace("python3.12", "python3.2"), ("lpack.toml: runtime: 'python3.2'", "python3.12")),
        (GOOD + 'runtime = "python3.22"\n', ("lpack.toml: functions.orders.runtime: 'python3.22'", "python3.12")),
        (GOOD.replace("arm64", "arm"), ("lpack.toml: arch: 'arm' is not an architecture", "Did you mean 'arm64'?")),
        (GOOD.replace('"orders"\n', '"nowhere"\n'), ("functions.orders.source", "there is no folder")),
        (GOOD.replace('handler = "app.handler"', ""), ("functions.orders.handler", "missing")),
        (GOOD.replace("app.handler", "handler"), ("functions.orders.handler", "is not a handler")),
        (GOOD.replace("functions.orders", "functions.'or.ders'"), ("'or.ders' cannot be a function's name",)),
        (GOOD.replace('"arm64"', "3"), ("lpack.toml: arch", "a string that is not empty is expected, not 3")),
        (GOOD.replace('["Boto3"]', '"boto3"'), ("lpack.toml: exclude", "a list of strings")),
        (GOOD.replace("[functions.orders]", "[functions]"), ("functions.source", "a table is expected")),
        (GOOD + 'requirements = "no.txt"\n', ("functions.orders.requirements", "there is no file")),
        (GOOD + 'requirements = "orders/app.py"\n', ("functions.orders.requirements", "what kind of dependency file")),
        (GOOD + 'extras = ["a"]\n', ("functions.orders.requirements", "no dependency file")),
        ('format = "tar"\n' + GOOD, ("lpack.toml: format", "no format of artifacts")),
        ("runtime = \n", ("not valid TOML", "line 1")),
        ('layers = "auto"\n[layers.base]\n', ("not valid TOML", 'beside [layers.NAME], [layers] with others = "auto"')),
        ('runtime = "python3.12"\n', ("functions", "no function is configured", "lpack init")),
    ],
)
def test_wrong_input_is_named(tmp_path, text, expected):
    message = refusal(tmp_path, text)
    for part in expected:
        assert part in message


def test_a_wrong_flag_is_blamed_itself(tmp_path):
    assert refusal(tmp_path, GOOD, runtime="python3.2").startswith("--runtime: 'python3.2'")
    assert refusal(tmp_path, GOOD, architecture="arm").startswith("--arch: 'arm'")


def test_pyproject_errors_carry_the_whole_key_path(tmp_path):
    text = "[tool.lpack]\nout = ''\n[tool.lpack.functions.a]\n"
    assert "pyproject.toml: tool.lpack.out" in refusal(tmp_path, text, "pyproject.toml")
    assert "no table [tool.lpack]" in refusal(tmp_path, "[project]\n", "pyproject.toml")


def test_missing_configuration_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="Cannot read"):
        load_config(tmp_path / "lpack.toml", Overrides())
