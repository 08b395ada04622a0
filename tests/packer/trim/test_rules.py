"""The table of rules: each takes what it says, and nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from packer.core.model import FILE_MODE, OWN_SOURCE, BytesContent, Entry, Tree
from packer.core.options import TrimOptions
from packer.formats.elf import ElfFile
from packer.source.facts import FactScan
from packer.trim.engine import TrimContext, trim
from packer.trim.rules import ASKED, BY_NAME, RULES, Rule, RuleContext

EVERYTHING = TrimOptions(level="safe", rules=ASKED)
LIBRARY = "libone.so.1"

# For each rule the files of one distribution that go, and those beside them that look alike and stay.
TAKEN: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "tests": (
        (
            *("pkg/tests/__init__.py", "pkg/tests/data/words.bin", "pkg/tests/deep/test_one.py", "pkg/sub/test/one_test.py"),
            *("pkg/SelfTest/one.py", "pkg/SelfTest/conftest.py", "tests/test_all.py", "pkg/data/test/tests/test_two.py"),
        ),
        (
            *("pkg/testing/test_one.py", "pkg/tests.py", "pkg/test_tools.py", "conftest.py", "pkg/latest/one.py"),
            *("pkg/Tests/test_one.py", "pkg/macros/tests/unique.sql", "pkg/plugins/test/core.py", "pkg/data/test/words.json"),
            *("pkg/templates/app/tests/test_app.py", "pkg/{{ app }}/tests/test_app.py", "pkg/my-app/tests/test_app.py"),
            "pkg/conftest.py",  # it does not speak of pytest
        ),
    ),
    "stubs": (("pkg/one.pyi", "pkg/py.typed", "py.typed"), ("pkg/pyi.py", "pkg/one.pyix", "pkg/py.typed.txt")),
    "headers": (
        ("pkg/include/one.h", "pkg/one.hpp", "pkg/one.cuh", "pkg/one.pxd", "pkg/one.h.in", "include/one/one.hxx"),
        ("pkg/one.html", "pkg/h.py", "pkg/h", "pkg/one.ph", "pkg/kernels/one.h", "pkg/kernels/one.cl", "pkg/templates/one.h"),
    ),
    "native-sources": (
        ("pkg/one.c", "pkg/one.cpp", "pkg/one.cu", "pkg/one.f90", "pkg/one.pyx", "pkg/one.pyx.tp", "pkg/one.c.in"),
        ("pkg/one.cfg", "pkg/c.py", "pkg/one.csv", "pkg/one.css", "pkg/c", "pkg/project_template/main.cpp"),
    ),
    "build-files": (
        ("lib/cmake/one.cmake", "share/pkgconfig/one.pc", "lib64/pkgconfig/one.pc.in", "pkg/share/cmake/CMakeLists.txt"),
        (
            *("pkg/Makefile.py", "pkg/one.pcm", "pkg/my-meson.build", "pkg/cmake.py", "pkg/data/Makefile", "pkg/sensor.pc"),
            "pkg/data/meson.build",
        ),
    ),
    "documents": (
        ("docs/one.txt", "doc/deep/index.rst", "examples/one.csv", "share/man/man1/one.1", "share/doc/one.txt"),
        (
            *("pkg/documents/one.txt", "pkg/docs.py", "pkg/one.js", "share/one/one.txt", "pkg/docs/overview.md", "docs.txt"),
            *("pkg/sub/examples/one.csv", "pkg/static/one.js.map", "botocore/data/s3/2006-03-01/examples-1.json.gz"),
        ),
    ),
    "foreign-locks": (
        (
            *("Pipfile.lock", "poetry.lock", "requirements.txt", "requirements-dev.txt", "dev_requirements.in", "uv.lock"),
            *("requirements/base.txt", "pkg/plugins/tests/data/poetry.lock", "pkg/test/requirements.txt", "ui/yarn.lock"),
        ),
        (
            *("pkg/poetry.lock", "pkg/requirements.txt", "pkg/data/package-lock.json", "poetry.lock.py", "locks/one.txt"),
            "one-1.0.dist-info/licenses/Cargo.lock",
        ),
    ),
    "install-records": (
        (
            *("one-1.0.dist-info/RECORD.jws", "one-1.0.dist-info/INSTALLER", "one-1.0.dist-info/REQUESTED"),
            "one-1.0.dist-info/direct_url.json",
        ),
        (
            *("one-1.0.dist-info/WHEEL", "one-1.0.dist-info/sub/INSTALLER", "one-1.0.dist-info/RECORD", "pkg/RECORD"),
            *("pkg/INSTALLER", "one-1.0.dist-info/top_level.txt"),
        ),
    ),
    "old-bytecode": (
        ("pkg/__pycache__/one.cpython-312.pyc", "__pycache__/one.cpython-39.opt-1.pyc"),
        ("pkg/one.py", "one.py", "pkg/one.pyc", "pkg/__pycache__/one.txt", "pkg/__pycache__/two.cpython-312.pyc"),
    ),
    "locales": (
        ("pkg/locale/de/LC_MESSAGES/one.mo", "pkg/locales/fr_CA/LC_MESSAGES/one.po", "babel/locale-data/de.dat"),
        (
            *("pkg/locale/en/LC_MESSAGES/one.mo", "pkg/locale/en_GB/LC_MESSAGES/one.mo", "babel/locale-data/en_US.dat"),
            *("babel/locale-data/root.dat", "pkg/locale/de/one.py", "pkg/locale/de.py"),
        ),
    ),
    "timezones": (
        ("tzdata/zoneinfo/Europe/Berlin", "tzdata/zoneinfo/__init__.py", "dateutil/zoneinfo/dateutil-zoneinfo.tar.gz"),
        ("tzdata/__init__.py", "dateutil/zoneinfo/__init__.py", "pytz/zoneinfo/Europe/Berlin", "tzdata/zones"),
    ),
}
"""The others look at more than names, and have tests of their own."""
OF_THEIR_OWN = ("static-libraries", "foreign", "library-copies", "service-models")


MODULES = (ElfFile(path="pkg/fast.so", machine="x86_64", module=True),)
"""What says that a distribution was compiled."""


def tree_of(*paths: str, owner: str = "one-1.0-py3-none-any.whl", text: str = "") -> Tree:
    """Give a tree; each file holds its own path unless ``text`` says what all of them hold."""
    contents = {path: BytesContent.of((text or path).encode()) for path in paths}
    return Tree.of(Entry(path=path, mode=FILE_MODE, content=content, owner=owner) for path, content in contents.items())


def gone(
    tree: Tree,
    *,
    name: str = "one",
    options: TrimOptions = EVERYTHING,
    scan: FactScan | None = None,
    native: Sequence[ElfFile] = (),
    services: frozenset[str] | None = None,
    own: FactScan | None = None,
    local: bool = False,
) -> dict[str, str]:
    """Give what is trimmed of one distribution: paths with their rules."""
    known = TrimContext(
        scans={name: scan or FactScan(), OWN_SOURCE: own or FactScan()},
        native={name: native},
        services=services,
        local=frozenset({name} if local else ()),
    )
    return {each.path: each.rule for each in trim([(name, tree)], options, known).removed}


@pytest.mark.parametrize("rule", TAKEN)
def test_each_rule_takes_what_it_says_and_nothing_that_looks_alike(rule):
    taken, left = TAKEN[rule]
    assert gone(tree_of("pkg/__init__.py", *taken, *left), native=MODULES) == dict.fromkeys(taken, rule)


def test_rule_is_added_from_outside(monkeypatch):
    def notebooks(context: RuleContext) -> Iterator[str]:
        return (entry.path for entry in context.tree if entry.path.endswith(".ipynb"))

    rule = Rule(name="notebooks", level="safe", reason="only Jupyter opens them", select=notebooks)
    monkeypatch.setattr("packer.trim.engine.RULES", (*RULES, rule))
    tree = tree_of("pkg/__init__.py", "pkg/one.ipynb")
    assert gone(tree) == {"pkg/one.ipynb": "notebooks"}
    assert gone(tree, options=TrimOptions(level="safe", without=("notebooks",))) == {}


def test_every_rule_is_tested_and_gives_its_reason():
    assert {rule.name for rule in RULES} == {*TAKEN, *OF_THEIR_OWN}
    assert len(BY_NAME) == len(RULES)
    assert all(rule.reason and not rule.reason.endswith(".") for rule in RULES)
    assert set(ASKED) == {"locales", "timezones"}


@pytest.mark.parametrize(
    ("name", "data", "linked"),
    [
        ("one.o", b"\x7fELF\2\1\1", True),
        ("libone.a", b"!<arch>\n/       ", True),
        ("libone.la", b"# libone.la - a libtool library file\n", True),
        ("alphabet.a", b"aleph beth\n", False),
        ("one.obj", b"\x64\x86\3\0", True),
        ("one.lib", b"!<arch>\n/       ", True),
        ("one.def", b"; exports\nLIBRARY one\nEXPORTS\n", True),
        ("plane.obj", b"# Blender\nmtllib plane.mtl\nv 1 1 0\n", False),
        ("grammar.def", b"expression := term\n", False),
        ("stop.lib", b"words\n", False),
        ("one.exp", b"", False),
    ],
)
def test_what_only_looks_like_a_linkers_file_stays(name, data, linked):
    entry = Entry(path=f"pkg/{name}", mode=FILE_MODE, content=BytesContent.of(data), owner="pkg")
    assert gone(Tree.of([*tree_of("pkg/__init__.py"), entry])) == ({entry.path: "static-libraries"} if linked else {})


@pytest.mark.parametrize("rule", ASKED)
def test_a_rule_that_must_be_asked_for_is_not_used_by_itself(rule):
    taken = TAKEN[rule][0] if rule in TAKEN else ("six.py",)
    tree = tree_of("pkg/__init__.py", *taken)
    assert gone(tree, name="six", options=TrimOptions(level="safe")) == {}
    assert set(gone(tree, name="six", options=TrimOptions(level="safe", rules=(rule,))).values()) == {rule}


def test_metadata_entry_points_and_licences_stay_wherever_they_lie():
    info = "one-1.0.dist-info"
    tree = tree_of(
        *(f"{info}/METADATA", f"{info}/entry_points.txt", f"{info}/top_level.txt", f"{info}/LICENSE", f"{info}/COPYING.txt"),
        *(f"{info}/licenses/src/parser.c", f"{info}/licenses/docs/other.h", f"{info}/NOTICE.md", f"{info}/AUTHORS.rst"),
        *("pkg/docs/LICENSE", "pkg/tests/COPYING", "pkg/include/LICENSE.h", "pkg/docs/licence-mit.txt", "share/doc/copyright"),
        "pkg/__init__.py",
    )
    assert gone(tree) == {}


def test_a_name_that_only_begins_like_a_licences_does_not_stay():
    tree = tree_of("pkg/__init__.py", "docs/licensed.txt", "pkg/tests/noticed_test.py", "one-1.0.dist-info/METADATA")
    assert gone(tree) == {"docs/licensed.txt": "documents", "pkg/tests/noticed_test.py": "tests"}


def test_a_package_whose_only_top_level_is_named_tests_is_no_test():
    tree = tree_of("tests/__init__.py", "tests/tests/test_deep.py", "tests/conftest.py", "one-1.0.dist-info/METADATA")
    assert gone(tree) == {}
    with_package = tree_of("pkg/__init__.py", "tests/test_one.py", "one-1.0.dist-info/METADATA")
    assert gone(with_package) == {"tests/test_one.py": "tests"}


SUITES = ("pkg/__init__.py", "pkg/tests/test_one.py", "pkg/tests/data/a.txt", "pkg/sub/tests/test_two.py", "tests/test_all.py")


def test_tests_stay_where_something_imports_them_and_others_go():
    found = gone(tree_of(*SUITES), scan=FactScan(tests=("pkg/tests",)))
    assert found == {"pkg/sub/tests/test_two.py": "tests", "tests/test_all.py": "tests"}


def test_data_stays_in_a_folder_of_tests_that_is_named_and_its_modules_go():
    found = gone(tree_of(*SUITES), scan=FactScan(test_data=("pkg/tests",)))
    assert sorted(found) == ["pkg/sub/tests/test_two.py", "pkg/tests/test_one.py", "tests/test_all.py"]


def test_a_file_of_tests_stays_where_it_is_named():
    found = gone(tree_of(*SUITES), scan=FactScan(named=("test_one.py", "a.txt")))
    assert sorted(found) == ["pkg/sub/tests/test_two.py", "tests/test_all.py"]


def test_the_configuration_of_pytest_goes_unless_something_imports_it():
    entry = Entry(path="pkg/conftest.py", mode=FILE_MODE, content=BytesContent.of(b"import pytest\n"), owner="one")
    tree = Tree.of([*tree_of("pkg/__init__.py", "conftest.py"), entry])
    assert gone(tree) == {"pkg/conftest.py": "tests"}
    assert gone(tree, scan=FactScan(tests=("pkg/conftest.py",))) == {}


def test_documentation_stays_where_a_module_is_in_it_or_the_code_names_it():
    code = tree_of("pkg/__init__.py", "examples/one.py", "examples/one.json", "demos/fast.so", "demos/a.txt", "docs/a.txt")
    assert gone(code) == {"docs/a.txt": "documents"}
    assert gone(code, scan=FactScan(named=("docs",))) == {}
    data = tree_of("docs/words.txt", "one-1.0.dist-info/METADATA")
    assert gone(data) == {}, "it is all that the distribution has"


def test_native_code_of_other_systems_goes_as_it_was_scanned():
    tree = tree_of("pkg/__init__.py", "pkg/one.exe", "pkg/tool.pdb", "pkg/protein.pdb", "pkg/setup.ps1")
    scan = FactScan(foreign=("pkg/one.exe", "pkg/tool.pdb"))
    assert gone(tree, scan=scan) == {"pkg/one.exe": "foreign", "pkg/tool.pdb": "foreign"}
    assert gone(tree, scan=scan, own=FactScan(suffixes=(".exe",))) == {"pkg/tool.pdb": "foreign"}


def test_of_a_local_project_goes_only_what_its_extension_modules_are_made_of():
    beside = ("pkg/fast.pyx", "pkg/fast.c", "pkg/fast.pxd", "pkg/fast.pyi", "pkg/fast.h")
    tree = tree_of(
        *("pkg/__init__.py", "pkg/fast.so", "pkg/tests/test_one.py", "docs/a.txt", "requirements.txt", "pkg/slow.c"),
        *(
            "pkg/faster.c",
            "pkg/sub/fast.c",
            "pkg/py.typed",
            "pkg/__init__.pyi",
            "pkg/Makefile",
            "pkg/locale/de/LC_MESSAGES/a.mo",
        ),
        *("pkg/__pycache__/__init__.cpython-312.pyc", *beside),
    )
    old = {"pkg/__pycache__/__init__.cpython-312.pyc"}
    assert gone(tree, native=MODULES, local=True).keys() == {*beside, *old}
    assert gone(tree, local=True).keys() == old
    assert gone(tree, native=MODULES).keys() > {*beside, *old, "pkg/tests/test_one.py", "docs/a.txt", "pkg/slow.c"}


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.spares_named and rule.name in TAKEN and rule.name != "documents"]
)
def test_what_the_function_names_stays(rule):
    taken = [path for path in TAKEN[rule.name][0] if not path.endswith(".py")]
    names = tuple(path.rpartition("/")[2] for path in taken)
    tree = tree_of("pkg/__init__.py", *TAKEN[rule.name][0])
    assert not set(taken) & gone(tree, native=MODULES, own=FactScan(named=names)).keys()
    assert set(taken) <= gone(tree, native=MODULES).keys()


def test_endings_that_the_code_names_keep_files_but_no_headers_for_compilers():
    tree = tree_of("pkg/__init__.py", "pkg/one.h", "pkg/one.c", "pkg/include/two.h", "pkg/one.pyi")
    scan = FactScan(suffixes=(".h", ".c"))
    assert gone(tree, scan=scan, native=MODULES) == {"pkg/include/two.h": "headers", "pkg/one.pyi": "stubs"}


def test_sources_and_headers_stay_where_nothing_was_compiled():
    tree = tree_of("pkg/__init__.py", "pkg/sketch.cpp", "pkg/sketch.h", "pkg/Makefile")
    assert gone(tree) == {}
    assert gone(tree, native=MODULES).keys() == {"pkg/sketch.cpp", "pkg/sketch.h", "pkg/Makefile"}


def test_stubs_stay_where_they_are_read_at_run_time():
    tree = tree_of("pkg/__init__.py", "pkg/__init__.pyi", "pkg/py.typed")
    assert gone(tree, scan=FactScan(reads_stubs=True)) == {}
    assert gone(tree).keys() == {"pkg/__init__.pyi", "pkg/py.typed"}


def library(path: str, soname: str = LIBRARY, *needed: str, module: bool = False) -> ElfFile:
    return ElfFile(path=path, machine="x86_64", soname=soname, needed=needed, module=module)


NAMES = ("lib/libone.so", "lib/libone.so.1", "lib/libone.so.1.2")


def test_copies_of_a_library_go_under_names_that_nothing_links_to():
    tree = tree_of(*NAMES, text="same")
    user = library("pkg/core.so", "", LIBRARY)
    assert gone(tree, native=[user, *(library(path) for path in NAMES)]) == {
        "lib/libone.so": "library-copies",
        "lib/libone.so.1.2": "library-copies",
    }


@pytest.mark.parametrize("link", ["libone.so", "$ORIGIN/../lib/libone.so"])
def test_a_copy_stays_where_something_links_to_its_name(link):
    tree = tree_of(*NAMES, text="same")
    user = library("pkg/core.so", "", link)
    assert gone(tree, native=[user, *(library(path) for path in NAMES)]) == {"lib/libone.so.1.2": "library-copies"}


@pytest.mark.parametrize(
    ("native", "why"),
    [
        ([library(path, "") for path in NAMES], "no soname says which of them is meant"),
        ([library(path, "libother.so.1") for path in NAMES], "none of them has the name that is linked to"),
        ([library(path, module=True) for path in NAMES], "Python imports them by their names"),
        ([], "they are no libraries"),
        ([library(path) for path in NAMES], "nothing links to any of them: one of the names may be a plug-in's"),
    ],
)
def test_copies_stay_where_they_may_be_needed(native, why):
    assert gone(tree_of(*NAMES, text="same"), native=native) == {}, why


def test_libraries_of_other_content_or_in_another_folder_are_no_copies():
    assert gone(tree_of(*NAMES), native=[library(path) for path in NAMES]) == {}
    apart = ("lib/libone.so.1", "lib64/libone.so")
    assert gone(tree_of(*apart, text="same"), native=[library(path) for path in apart]) == {}


MODELS = (
    *("botocore/data/s3/2006-03-01/service-2.json.gz", "botocore/data/sqs/2012-11-05/service-2.json.gz"),
    *("botocore/data/s3control/2018-08-20/service-2.json.gz", "boto3/data/sqs/2012-11-05/resources-1.json"),
    *("botocore/data/endpoints.json", "botocore/data/_retry.json", "other/data/sqs/one.json", "botocore/client.py"),
)


def test_models_of_services_that_are_not_called_go():
    found = gone(tree_of(*MODELS), name="botocore", options=TrimOptions(level="safe"), services=frozenset({"s3"}))
    assert found == dict.fromkeys((MODELS[1], MODELS[2], MODELS[3]), "service-models")


def test_all_models_stay_where_it_is_not_known_which_services_are_called():
    assert gone(tree_of(*MODELS), name="botocore", options=TrimOptions(level="safe"), services=None) == {}


def test_headers_and_native_sources_that_the_code_names_stay():
    tree = tree_of("pkg/__init__.py", "pkg/kernels.cu", "pkg/one.h", "pkg/two.h", "pkg/sub/two.h", "pkg/my_kernels.cu")
    scan = FactScan(named=("kernels.cu", "one.h"))
    assert gone(tree, scan=scan, native=MODULES) == {"pkg/sub/two.h": "headers", "pkg/my_kernels.cu": "native-sources"}


def test_what_builds_read_stays_in_a_folder_that_the_code_names_piece_by_piece():
    headers = ("pkg/include/one.h", "pkg/include/deep/one.c", "pkg/include/one.pyi", "pkg/includes/one.h")
    paths = (*headers, "pkg/share/cmake/one.cmake")
    scan = FactScan(folders=("pkg/include", "pkg/share/cmake"))
    assert gone(tree_of("pkg/__init__.py", *paths), scan=scan, native=MODULES) == {
        "pkg/include/one.pyi": "stubs",
        "pkg/includes/one.h": "headers",
    }


def test_data_of_a_test_suite_stays_where_the_code_names_the_file_but_not_its_ending_alone():
    tree = tree_of("pkg/__init__.py", "pkg/tests/test_one.py", "pkg/tests/data/one.csv", "pkg/tests/data/two.csv")
    assert gone(tree, scan=FactScan(suffixes=(".csv",), named=("two.csv",))).keys() == {
        "pkg/tests/test_one.py",
        "pkg/tests/data/one.csv",
    }
