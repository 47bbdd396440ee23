"""The founding example, as `python -m scipyconv` prints it."""

import subprocess
import sys

import pytest
from scipy.signal import correlate2d

from scipyconv.__main__ import main
from scipyconv.textbook import single_channel


def verdicts(text):
    """The last table: each argument's verdict and deviation."""
    lines = [line.split() for line in text.splitlines()[-3:]]
    return {name: (verdict, float(deviation)) for name, verdict, deviation in lines}


def test_it_runs_and_fits_a_terminal():
    done = subprocess.run(
        [sys.executable, "-m", "scipyconv"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    for title in [
        "input, 10 by 10",
        "filter, 3 by 3",
        "bias, 1",
        "output y, 8 by 8",
        "gradient of the input, 10 by 10",
        "gradient of the filter, 3 by 3",
        "gradient of the bias, 1",
    ]:
        assert f"\n{title}\n" in done.stdout
    table = verdicts(done.stdout)
    assert list(table) == ["input", "filter", "bias"]
    for verdict, deviation in table.values():
        assert verdict == "passed"
        assert 0 < deviation < 1e-8


def test_it_prints_the_same_each_time(capsys):
    main()
    first = capsys.readouterr().out
    main()
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("name", "mistake", "argument"),
    [
        ("convolve2d", correlate2d, "input"),  # no flip
        (
            "correlate2d",
            lambda a, b, mode: correlate2d(a, b, mode) + (b.shape == (8, 8)),
            "filter",
        ),
    ],
)
def test_a_wrong_gradient_fails_it(monkeypatch, capsys, name, mistake, argument):
    monkeypatch.setattr(single_channel, name, mistake)
    assert main() == 1
    for each, (verdict, deviation) in verdicts(capsys.readouterr().out).items():
        assert verdict == ("FAILED" if each == argument else "passed")
        assert (deviation > 0.01) == (each == argument)


def test_a_wrong_bias_gradient_fails_it(monkeypatch, capsys):
    right = single_channel._Slide.backward

    def wrong(ctx, g):
        grad_x, grad_w, grad_b, _ = right(ctx, g)
        return grad_x, grad_w, None if grad_b is None else -3 * grad_b, None

    monkeypatch.setattr(single_channel._Slide, "backward", staticmethod(wrong))
    assert main() == 1
    verdict = {each: v for each, (v, _) in verdicts(capsys.readouterr().out).items()}
    assert verdict == {"input": "passed", "filter": "passed", "bias": "FAILED"}
