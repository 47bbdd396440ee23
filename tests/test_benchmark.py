"""The benchmark: how a case is read, how the table is laid out, and one case from end
to end."""

import argparse
import json
import re
import subprocess
import sys

import pytest

from scipyconv import benchmark


@pytest.mark.parametrize("case", benchmark.FULL, ids=str)
def test_a_case_is_read_as_it_is_written(case):
    assert benchmark.parse(str(case)) == case


@pytest.mark.parametrize(
    "text",
    ["", "1", "1,2,3,4", "1,2,3,4,five", "1,2,3,4,5,strides=2", "1,2,3,4,5,stride=two"],
)
def test_a_case_that_is_none(text):
    with pytest.raises(
        argparse.ArgumentTypeError, match=r"pass 8,64,64,56,3,stride=2, say"
    ):
        benchmark.parse(text)


def row(case, torchs, ours, **more):
    return {
        "case": case,
        "engine": "matmul",
        "libraries": {
            "torch": {"forward": torchs, "both": torchs, "peak": 2e6},
            "scipyconv": {"forward": ours, "both": ours, "peak": 3e6},
            **more,
        },
    }


def test_the_table():
    """A ratio is of medians; where there is none there is a dash, and in the mean
    nothing."""
    rows = [
        row("a", [1e-3, 2e-3, 9e-3], [1e-3] * 3, other={"error": "out of memory"}),
        row("bbb", [1e-3], [2e-3], other={"forward": [4e-3]}),
    ]
    lines = benchmark.table(rows, ["torch", "scipyconv", "other"]).splitlines()
    assert lines[0].split("  ")[0] == "case"
    assert lines[1].split() == [
        "a",
        "matmul",
        "2",
        "2",
        "0.5",
        "(0.5-0.5)",
        "0.5",
        "(0.5-0.5)",
        "-",
        "-",
        "2",
        "3",
        "-",
    ]
    assert lines[2].split()[-5:] == ["4", "-", "2", "3", "-"]
    means = {line.rsplit(maxsplit=1)[0]: float(line.split()[-1]) for line in lines[3:]}
    assert means == {
        "geometric mean, forward, scipyconv": 1,
        "geometric mean, both, scipyconv": 1,
        "geometric mean, forward, other": 4,
    }
    assert benchmark.ratio(rows[0], "other", "forward") is None
    assert benchmark.ratio(rows[1], "scipyconv", "both") == (2, 2, 2)


def test_from_end_to_end(tmp_path):
    path = tmp_path / "times.json"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "scipyconv.benchmark",
            "--case",
            "1,2,3,8,3,stride=2",
            "--rounds",
            "1",
            "--threads",
            "1",
            "--together",
            "--json",
            str(path),
        ],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1,2,3,8,3,stride=2" in done.stdout
    found = json.loads(path.read_text())
    assert found["threads"] == 1
    [measured] = found["rows"]
    assert measured["engine"] in ("direct", "matmul", "fft")
    for name in ("torch", "scipyconv"):
        assert all(
            0 < seconds < 10
            for what in ("forward", "both")
            for seconds in measured["libraries"][name][what]
        )


def test_the_checker_is_timed(capsys):
    assert benchmark.main(["--check", "quick"]) == 0
    alone, every = capsys.readouterr().out.splitlines()
    pattern = r"quick, {}: \d+ cases, \d+ questions, \d+\.\d s"
    assert re.fullmatch(pattern.format("float32"), alone)
    assert re.fullmatch(pattern.format("every dtype"), every)
