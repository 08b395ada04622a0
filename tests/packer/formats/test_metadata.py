"""Core metadata: which requirements a distribution has, as its METADATA says."""

from packer.core.model import BytesContent, Entry, Tree
from packer.formats.metadata import read_requires_dist, required_names


def wheel_tree(metadata: bytes) -> Tree:
    return Tree.of([Entry(path="one-1.0.dist-info/METADATA", mode=0o644, content=BytesContent.of(metadata), owner="one.whl")])


TREE = wheel_tree(
    b"Metadata-Version: 2.1\nName: one\nRequires-Dist: Two_Parts>=1; python_version < '4'\n"
    b"Requires-Dist: three[fast] (>=2)\nRequires-Dist: four; extra == 'more'\n\nRequires-Dist: five\n"
)


def test_names_of_requirements_leave_extras_out():
    assert required_names(TREE) == ("three", "two-parts")
    assert required_names(Tree.of([])) == ()


def test_requirements_hold_extras_and_markers():
    required = read_requires_dist(TREE)
    assert required is not None
    assert [each.name for each in required] == ["Two_Parts", "three", "four"]
    assert read_requires_dist(Tree.of([])) is None


def test_a_requirement_that_is_not_valid_counts_by_its_name_alone():
    tree = wheel_tree(b"Name: one\nRequires-Dist: pytz (>dev)\n")
    assert read_requires_dist(tree) == ()
    assert required_names(tree) == ("pytz",)
