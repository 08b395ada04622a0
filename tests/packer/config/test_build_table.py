"""How packages are built, as the configuration says it: project, function, package, and every mistake named with its place."""

from __future__ import annotations

import pytest

from builders.recipes import BuildSettings, Limits
from builders.runtimes import MEGABYTE
from tests.packer.config.test_load import load, refusal

FUNCTION = '[functions.orders]\nsource = "orders"\nhandler = "app.handler"\n'


def test_defaults_are_automatic(tmp_path):
    [function] = load(tmp_path, FUNCTION).functions
    assert function.building == BuildSettings()
    assert function.building.builder == "auto"
    assert function.settings_for("psycopg2") == BuildSettings()
    assert (function.provided, function.target.ceiling) == ((), None)


def test_package_settings_override_function_and_project(tmp_path):
    text = (
        'builder = "container"\nimage = "project:1"\nsetup = ["one"]\nlimits = { memory = "2 GB", time = "90 s" }\n'
        f'{FUNCTION}image = "function:1"\nlimits = {{ processes = 50 }}\n'
        '[functions.orders.packages.Psycopg2]\nsetup = ["three"]\nlimits = { cpus = 1.5 }\n'
        '[packages.psycopg2]\nsetup = ["two"]\nnetwork = true\n[packages."zope.interface"]\nbuilder = "cross"\n'
    )
    [function] = load(tmp_path, text).functions
    limits = Limits(memory=2048 * MEGABYTE, seconds=90, processes=50)
    assert function.building == BuildSettings(builder="container", image="function:1", setup=("one",), limits=limits)
    psycopg2 = function.settings_for("psycopg2")
    assert (psycopg2.image, psycopg2.setup, psycopg2.network) == ("function:1", ("three",), True)
    assert (psycopg2.limits.cpus, psycopg2.limits.processes) == (1.5, 50)
    assert function.settings_for("zope-interface").builder == "cross"


def test_libraries_and_glibc_of_ones_own(tmp_path):
    text = f'glibc = "2.36"\nprovided = ["libGL.so.1"]\n{FUNCTION}provided = ["libpq.so.5"]\n'
    [function] = load(tmp_path, text).functions
    assert function.provided == ("libGL.so.1", "libpq.so.5")
    assert function.target.glibc == 36
    assert str(function.target) == "python3.13-x86_64-glibc2.36"
    assert any(str(tag).endswith("manylinux_2_36_x86_64") for tag in function.target.tags())


@pytest.mark.parametrize(
    ("line", "place", "hint"),
    [
        ('builder = "contaner"', "builder: 'contaner' is not a builder", "Did you mean 'container'?"),
        ("builder = 3", "builder: a string", "Write builder"),
        ('setup = "dnf"', "setup: a list of strings", "Write setup"),
        ('network = "yes"', "network: true or false", "network = true"),
        ("image = []", "image: a string", "Write image"),
        ('limits = { memory = "lots" }', "limits.memory: 'lots' cannot be read", "10 MB"),
        ('limits = { time = "1 day" }', "limits.time: '1 day' cannot be read", "10 min"),
        ('limits = { time = "0 s" }', "limits.time: '0 s' is nothing", "10 min"),
        ("limits = { memory = 4000 }", "limits.memory: 4000 cannot be read", 'memory = "10 MB"'),
        ('image = "BAD IMAGE"', "image: 'BAD IMAGE' cannot be an image", "name:tag"),
        ('packages = { "not a name!" = {} }', "packages.not a name!: 'not a name!' cannot be a package's name", "index"),
        (
            "packages = { Psycopg2 = {}, psycopg2 = {} }",
            "packages.psycopg2: there is a table for psycopg2 already",
            "both into one",
        ),
        ('builder = "cross"\nsetup = ["true"]', "setup: the builder 'cross' takes no notice of it", 'builder = "container"'),
        ("limits = { processes = 1.5 }", "limits.processes: a whole number above 0", "processes = 2"),
        ("limits = { cpus = 0 }", "limits.cpus: a number above 0", "cpus = 2"),
        ("limits = { cpus = inf }", "limits.cpus: a number above 0", "cpus = 2"),
        ("limits = { cpus = nan }", "limits.cpus: a number above 0", "cpus = 2"),
        (f"limits = {{ processes = {'9' * 400} }}", "limits.processes: a whole number above 0", "processes = 2"),
        ('limits = { memory = "9999999999 GB" }', "limits.memory: '9999999999 GB' is too much", "10 MB"),
        ("limits = { cpus = true }", "limits.cpus: a number above 0", "cpus = 2"),
        ("limits = { cpu = 2 }", "limits.cpu: this key is not known", "Did you mean 'cpus'?"),
        ("limits = 3", "limits: a table", "Write"),
        ('glibc = "3.1"', "glibc: '3.1' is not a version of glibc 2", "2.36"),
        ("provided = 3", "provided: a list of strings", "Write provided"),
        ("packages = { one = { biulder = 'host' } }", "packages.one.biulder: this key is not known", "Did you mean 'builder'?"),
        ("packages = { one = 3 }", "packages.one: a table is expected", "Write [packages.one]."),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, line, place, hint):
    text = refusal(tmp_path, f"{line}\n{FUNCTION}")
    assert place in text
    assert hint in text
    assert f"functions.orders.{place}" in refusal(tmp_path, f"{FUNCTION}{line}\n")


@pytest.mark.parametrize(
    "image",
    [
        "debian",
        "debian:bookworm-slim",
        "public.ecr.aws/sam/build-python3.12:latest-x86_64",
        "localhost:5000/our/build@sha256:" + "0" * 64,
        "sha256:" + "a" * 64,
        "our__own/build-image.of_us:V1.2",
    ],
)
def test_image_names_of_every_form_are_accepted(tmp_path, image):
    [function] = load(tmp_path, f'image = "{image}"\n{FUNCTION}').functions
    assert function.building.image == image
