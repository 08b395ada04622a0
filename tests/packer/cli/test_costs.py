"""`lpack why` and `lpack tree`."""

from __future__ import annotations

import json

import pytest

from tests.wheels import make_wheel


@pytest.fixture
def web(repo):
    """Give a project of a function whose distributions require each other."""
    wheels = repo.folder / "wheels"
    for name, requires in {"web": ("json-tools<3", "text"), "tools": ("text>=1",), "json-tools": (), "text": ()}.items():
        module = name.replace("-", "_")
        files = {f"{module}/__init__.py": b"VALUE = 1\n", f"{module}/data.bin": bytes(50_000 * len(name))}
        make_wheel(wheels, name, "2.0", files, requires=requires)
    repo.function("orders")
    (repo.folder / "orders" / "requirements.txt").write_text("--find-links ../wheels\nweb\ntools==2.0\n")
    repo.configure("orders", settings='bytecode = "off"')
    return repo


def test_why_names_every_chain_and_the_cost(web):
    finished = web.run("why", "orders", "text", "--offline")
    assert finished.stdout.splitlines()[:4] == [
        "text 2.0 is in orders:",
        "  tools==2.0 -> text>=1",
        "  web -> text",
        "It takes 0.2 MB of 1.1 MB unzipped.",
    ]
    found = json.loads(web.run("why", "orders", "Web", "--json", "--offline").stdout)
    assert found["only_for_it"] == ["json-tools"]
    assert found["with_only_for_it_bytes"] > found["unzipped_bytes"] + 500_000
    assert found["exact"]


def test_costs_are_those_of_the_build(web):
    manifest = web.build("--offline")
    sizes = {each["name"]: each["unzipped_bytes"] for each in manifest["functions"]["orders"]["distributions"]}
    for name, size in sizes.items():
        assert json.loads(web.run("why", "orders", name, "--json", "--offline").stdout)["unzipped_bytes"] == size


def test_a_folder_of_several_functions_is_no_function(web):
    web.function("other", web.wheel("alone"))
    web.configure("orders", "other", settings='bytecode = "off"')
    finished = web.run("why", ".", "text", "--offline", status=2)
    assert ". has 2 functions: orders, other." in finished.stderr
    web.configure("orders", settings='bytecode = "off"')
    assert "text 2.0 is in orders:" in web.run("why", ".", "text", "--offline").stdout
    assert set(json.loads(web.run("tree", ".", "--json", "--offline").stdout)["functions"]) == {"orders"}


@pytest.mark.parametrize(("name", "expected"), [("wep", "Did you mean web"), ("pandas", "`lpack tree orders` has all")])
def test_what_is_not_there_is_told_with_what_is_near(web, name, expected):
    assert expected in web.run("why", "orders", name, "--offline", status=2).stderr
    assert "There is no function 'order'" in web.run("why", "order", name, "--offline", status=2).stderr


def test_a_tree_follows_each_distribution_once(web):
    lines = web.run("tree", "--offline").stdout.splitlines()
    assert [line.rstrip() for line in lines] == [
        "orders  1.1 MB unzipped",
        "├── web 2.0  0.1 MB, 0.8 MB with all below",
        "│   ├── json-tools 2.0  0.5 MB",
        "│   └── text 2.0  0.2 MB",
        "└── tools 2.0  0.2 MB, 0.4 MB with all below",
        "    └── text 2.0  0.2 MB (again)",
    ]
    found = json.loads(web.run("tree", "--json", "--offline").stdout)["functions"]["orders"]
    assert [each["name"] for each in found["requires"]] == ["web", "tools"]
