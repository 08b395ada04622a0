"""The errors of both packages: one base with what, remedy and detail, which survive a process boundary."""

from __future__ import annotations

import pickle

import pytest

from builders.errors import (
    BuildError,
    LpackError,
    MissingRequirementsError,
    NativeCodeError,
    UnavailableError,
    interruption_error,
)


def test_text_has_a_period_the_detail_and_the_remedy():
    error = BuildError("its build back end failed", detail="gcc: not found", remedy="Install gcc.")
    assert str(error) == "its build back end failed.\ngcc: not found\nInstall gcc."
    assert str(LpackError("Done?")) == "Done?"


def test_missing_requirements_are_no_failed_build():
    error = MissingRequirementsError(["wheel", "cython<3"])
    assert error.requires == ("wheel", "cython<3")
    assert str(error) == "its build back end also requires wheel, cython<3."
    assert not isinstance(error, BuildError)


@pytest.mark.parametrize(
    "error",
    [
        NativeCodeError("it has native code", remedy="Use a container."),
        UnavailableError("no engine answers", remedy="Start it."),
        MissingRequirementsError(("wheel",)),
        interruption_error("half a log"),
    ],
)
def test_errors_are_pickled_whole(error):
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), vars(back), str(back), back.exit_status) == (type(error), vars(error), str(error), 1)
