"""A checker survives what it checks: in a process apart anything, here what can be."""

import os

import check_hostile
import pytest
from check_hostile import HOSTILE

from scipyconv.check import check_convolution, find_case
from scipyconv.check.apart import LOST, check_apart

CASES = [
    find_case("conv2d", name)
    for name in ("one channel", "several of everything", "one pixel one tap")
]
PROBES = ["forward", "input gradient", "global state"]
#: Functions that take the process with them, and a few that do not, since each takes
#: seconds.
APART = [
    hostile
    for hostile in HOSTILE
    if hostile.here is None or hostile.name in ("raises", "exits", "returns_numpy")
]
posix = pytest.mark.skipif(os.name != "posix", reason="signals have other names")


def said(report) -> str:
    return " ".join(row.message for row in report.findings)


def expect(report, text: str) -> None:
    """The hostile case fails with these words, and the others pass."""
    assert report.ok == (not text)
    assert text in said(report)
    assert {row.case for row in report.findings} <= {"several of everything"}
    for case in CASES:
        assert case.name in {row.case for row in report.rows}
    assert not report.interrupted


@pytest.mark.parametrize("hostile", [h for h in HOSTILE if h.here is not None], ids=str)
def test_what_the_report_says_without_a_process_apart(hostile, capfd):
    function = getattr(check_hostile, hostile.name)
    expect(check_convolution(function, cases=CASES, probes=PROBES), hostile.here)


@posix
@pytest.mark.parametrize("hostile", APART, ids=str)
def test_what_the_report_says_with_a_process_apart(hostile, capfd):
    report = check_apart(
        f"check_hostile:{hostile.name}", cases=CASES, probes=PROBES, timeout=5
    )
    expect(report, hostile.apart)
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_that_the_function_raises_here_ends_the_run_and_keeps_the_rows():
    function = check_hostile.raises_keyboard_interrupt
    report = check_convolution(function, cases=CASES, probes=PROBES)
    assert report.interrupted
    assert "one channel" in {row.case for row in report.rows}


@posix
def test_after_three_losses_in_a_row_the_rest_is_given_up():
    report = check_apart(
        "check_hostile:exits_always",
        cases=[*CASES, find_case("conv2d", "unbatched")],
        probes=["forward"],
    )
    assert [row.error for row in report.findings] == [LOST] * 4
    assert "1 more cases were not tried" in report.findings[-1].message
