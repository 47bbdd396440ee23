"""The command `python -m scipyconv check`, as a shell and as a terminal see it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scipyconv.check import cases
from scipyconv.check.command import Progress, main
from scipyconv.check.plan import make_plan
from scipyconv.check.probes import PROBES

COMMAND = [sys.executable, "-m", "scipyconv", "check"]
QUICK = ["--dtype", "float32", "--probe", "forward"]
RIGHT, WRONG = "torch.nn.functional:conv2d", "check_hostile:wrong_and_slow"
#: Where `check_hostile` can be imported from.
HERE = Path(__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, cwd=HERE
    )


def test_a_right_function():
    done = run(RIGHT, *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("conv2d as conv2d: ok.")


def test_a_wrong_function_as_json():
    done = run("check_hostile:flips", *QUICK, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert not report["ok"]
    assert {row["probe"] for row in report["findings"]} == {"forward"}
    assert "the kernel is flipped" in report["diagnosis"][0]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere:conv2d", "No module named 'nowhere'"),
        ("torch.nn.functional:conv9d", "has no attribute 'conv9d'"),
        ("torch.nn.functional.conv2d", "pass torch.nn.functional:conv2d"),
        ("torch.nn:Conv2d", "call scipyconv.check.check_layer on it"),
        ("math:pi", "function must be callable"),
        ("math:sin", "function must take an input and a weight"),
        ("check_exits:conv2d", "SystemExit"),
        ("check_dies:conv2d", "exited with status 7"),
    ],
)
def test_what_cannot_run(tmp_path, monkeypatch, capsys, target, message):
    (tmp_path / "check_exits.py").write_text("raise SystemExit(0)", "utf-8")
    (tmp_path / "check_dies.py").write_text("import os; os._exit(7)", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert main([target, *QUICK]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["--family", "conv4d"],
        ["--dtype", "float8"],
        ["--level", "slow"],
        ["--timeout", "0"],
        ["--timeout", "soon"],
        ["--accumulate", "bool"],
    ],
)
def test_options_that_make_no_sense(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main([RIGHT, *arguments])
    assert stopped.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_no_such_probe_and_no_target(capsys):
    assert main([RIGHT, "--probe", "backward"]) == 2
    assert main([]) == 2
    assert "pass probes=" in (errors := capsys.readouterr().err)
    assert "name a function as package.module:function" in errors


def test_the_list_has_every_case_and_probe(capsys):
    assert main(["--list", "--family", "conv_transpose1d", "--level", "full"]) == 0
    listed = capsys.readouterr().out
    for case in cases("conv_transpose1d", "full"):
        assert f"  {case.name}: {case.describe()}\n" in listed
    for probe in PROBES:
        assert f"  {probe.group}: {probe.name}\n" in listed


@posix
def test_who_reads_may_stop_reading():
    command = [sys.executable, "-m", "scipyconv", "check", "--list", "--level", "full"]
    with subprocess.Popen(
        [*command, "--family", "conv3d"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 2


def test_what_is_required_must_be_supported():
    arguments = ["check_hostile:without_vmap", *QUICK, "--probe", "vmap"]
    done = run(*arguments)
    assert done.returncode == 0, done.stdout
    assert "Not supported\n  vmap" in done.stdout
    assert run(*arguments, "--require", "vmap").returncode == 1


def test_the_bar_has_the_case_at_hand_and_fits_the_terminal():
    class Terminal:
        text = ""

        def isatty(self):
            return True

        def fileno(self):
            raise OSError

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    terminal, plan = Terminal(), make_plan("conv2d", dtypes=["float32"])
    progress = Progress(terminal)
    for index in range(len(plan.trials)):
        progress.show(index, plan)
    progress.clear()
    drawn = terminal.text.split("\r\x1b[K")[1:]
    assert drawn[0].endswith(f"1/{len(plan.trials)} one pixel one tap in float32")
    assert drawn[-1] == ""
    assert max(map(len, drawn)) < 80
    assert [text.count("#") for text in drawn[:-1]] == sorted(
        text.count("#") for text in drawn[:-1]
    )


@posix
def test_ctrl_c_keeps_what_was_found():
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, WRONG, *QUICK],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        cwd=HERE,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while b"] 5/" not in shown:
        shown += os.read(ours, 1000)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    shown += os.read(ours, 1000)
    os.close(ours)
    assert process.returncode == 1, out
    assert "stopped before the end" in out
    assert "forward (logic)" in out
    assert b"one channel in float32" in shown
    assert b"Traceback" not in shown
