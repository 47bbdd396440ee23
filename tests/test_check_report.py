"""What a report says, in each of its forms, and that its script shows what it says."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from scipyconv.check import cases, check_convolution, find_case
from scipyconv.check.example import Example
from scipyconv.check.row import Row
from scipyconv.check.verdicts import judge

WRONG = """
import torch.nn.functional as F
def conv(x, w, bias=None):
    return F.conv2d(x, w.flip(2, 3), bias)
"""


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """A function in a module of its own, flipped, and the folder that it lies in."""
    folder = tmp_path_factory.mktemp("module")
    (folder / "wrong_module.py").write_text(WRONG)
    sys.path.insert(0, str(folder))
    import wrong_module

    yield wrong_module.conv, folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def report(wrong):
    return check_convolution(wrong[0], probes=["logic"])


def test_the_text_says_what_is_wrong_where_and_by_how_much(report):
    text = str(report)
    assert text.startswith("conv as conv2d: WRONG. ")
    assert "output: the kernel is flipped along every dimension, in all" in text
    assert "the smallest is 'one channel' in float32" in text
    flat = " ".join(text.split())
    assert (
        "input (1, 1, 4, 5), weight (1, 1, 2, 3), bias: the output is wrong in" in flat
    )
    assert "came, " in flat
    assert " is right" in flat
    assert max(map(len, text.splitlines())) <= 88


def test_the_colors_are_only_for_those_who_ask(report):
    assert "\x1b" not in str(report)
    assert "\x1b[31m" in report.to_text(color=True)
    assert "\x1b[32m" in check_convolution(F.conv2d, probes=["vmap"]).to_text(
        color=True
    )


def test_a_notebook_shows_a_table_in_which_nothing_is_markup_that_should_not_be():
    def function(x, w):
        raise ValueError("<b>not</b> & never")

    table = check_convolution(function, probes=["forward"])._repr_html_()
    assert table.count("<table>") == table.count("</table>") == 1
    assert "&lt;b&gt;not&lt;/b&gt; &amp; never" in table


def test_json_holds_everything_and_rows_come_back(report):
    found = json.loads(report.to_json())
    assert found["function"] == "conv"
    assert not found["ok"]
    assert tuple(map(Row.from_dict, found["rows"])) == report.rows
    assert tuple(map(Row.from_dict, found["findings"])) == report.findings
    assert found["diagnosis"] == list(report.diagnosis)


def test_it_raises_if_it_failed_and_only_then(report):
    with pytest.raises(AssertionError, match="flipped along every dimension"):
        report.raise_if_failed()
    check_convolution(F.conv2d, probes=["forward"]).raise_if_failed()


def test_nothing_checked_is_not_ok():
    report = check_convolution(F.conv2d, cases=[])
    assert not report.ok
    assert "nothing was checked" in str(report)


def run(script, folder):
    return subprocess.run(
        [sys.executable, "-c", script], cwd=folder, text=True, capture_output=True
    )


def test_the_script_runs_by_itself_and_fails_as_the_report_says(report, wrong):
    done = run(report.script(), wrong[1])
    assert "from wrong_module import conv as function" in report.script()
    assert "AssertionError" in done.stderr
    assert "the output that came: tensor([[[[" in done.stdout
    healed = report.script().replace("function(x, w, b)", "torch.conv2d(x, w, b)")
    assert run(healed, wrong[1]).returncode == 0


@pytest.mark.parametrize("probe", ["weight gradient", "no_grad", "invalid arguments"])
def test_every_finding_has_a_script(probe, wrong, tmp_path):
    (tmp_path / "spoiled.py").write_text(SPOILED[probe])
    sys.path.insert(0, str(tmp_path))
    try:
        sys.modules.pop("spoiled", None)
        import spoiled

        report = check_convolution(spoiled.conv, probes=[probe])
        assert {row.probe for row in report.findings} == {probe}
        assert "AssertionError" in run(report.script(), tmp_path).stderr
    finally:
        sys.path.remove(str(tmp_path))


SPOILED = {
    "no_grad": """
import torch
def conv(x, w):
    return torch.conv2d(x, w) * (1 if torch.is_grad_enabled() else 2)
""",
    "invalid arguments": """
import torch
def conv(x, w):
    return torch.conv2d(x[:, :w.shape[1]], w)
""",
    "weight gradient": """
import torch
class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w):
        return w.clone()
    @staticmethod
    def backward(ctx, g):
        return g * 2
def conv(x, w):
    return torch.conv2d(x, Scaled.apply(w))
""",
}


def test_a_report_without_a_finding_has_no_script_and_no_picture():
    report = check_convolution(F.conv2d, probes=["forward"])
    with pytest.raises(ValueError, match="needs a finding"):
        report.script()
    with pytest.raises(ValueError, match="this report has none"):
        report.plot()


def test_the_picture_shows_the_two_jacobians_and_their_difference(report):
    example = report.example
    assert isinstance(example, Example)
    assert (example.quantity, example.operand) == ("output", "input")
    figure = report.plot()
    shown = [image.get_array() for axes in figure.axes for image in axes.images]
    came, right, difference = (np.asarray(each, float) for each in shown)
    assert np.array_equal(right, np.array(example.right))
    assert np.array_equal(difference, came - right)
    assert difference.any()
    case = find_case("conv2d", example.case)
    assert came.shape == (np.prod(case.output_shape), np.prod(case.input_shape))


def test_the_jacobian_of_a_gradient_is_in_the_cotangent():
    scaled = {}
    exec(SPOILED["weight gradient"], scaled)
    report = check_convolution(scaled["conv"], probes=["weight gradient"])
    example = report.example
    assert (example.quantity, example.operand) == ("weight gradient", "cotangent")
    assert np.array_equal(np.array(example.came), 2 * np.array(example.right))


def test_matplotlib_and_the_checker_are_imported_by_need_alone():
    script = (
        "import sys, scipyconv; assert 'scipyconv.check' not in sys.modules; "
        "import scipyconv.check; assert 'matplotlib' not in sys.modules"
    )
    assert run(script, ".").returncode == 0


def test_what_the_function_does_not_take_is_said():
    report = check_convolution(lambda x, w: F.conv2d(x, w), probes=["forward"])
    assert report.left_out == ("bias", "stride", "padding", "dilation", "groups")
    assert "bias: the function has no such parameter; every case is tried without" in (
        str(report)
    )
    assert len({row.case for row in report.rows}) < len(cases("conv2d"))


def test_an_error_without_a_feature_to_explain_it_is_a_finding():
    rows = [
        Row("a", "float32", "forward", "passed", features=("bias",)),
        Row(
            "b", "float32", "forward", "raised", error="ValueError", features=("bias",)
        ),
    ]
    assert judge(rows).findings == (rows[1],)
    lacking = [
        rows[0],
        Row(
            "b",
            "float32",
            "forward",
            "raised",
            error="ValueError",
            features=("bias", "groups"),
        ),
    ]
    assert judge(lacking).findings == ()
    assert judge(lacking, require="groups").findings == (lacking[1],)


def test_a_failed_probe_holds_back_what_needs_it_in_its_case_alone():
    forward = Row("a", "float32", "forward", "failed", "logic", "output")
    later = [
        Row(case, "float32", "no_grad", "failed", "logic", "output")
        for case in ("a", "b")
    ]
    verdicts = judge([forward, *later])
    assert verdicts.findings == (forward, later[1])
    assert verdicts.held_back == (later[0],)


def test_a_function_of_the_main_program_is_named_in_the_script_as_to_be_defined():
    def local(x, w):
        return torch.conv2d(x, w).neg()

    report = check_convolution(local, probes=["forward"])
    assert "# Define or import your function here" in report.script()
