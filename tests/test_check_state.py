"""Settings of the process that cannot be read, or not be put back."""

import subprocess
import sys

import pytest

MIXES = 'torch.backends.cuda.matmul.fp32_precision = "tf32"'
CHECKS = """
import torch
from scipyconv.check import check_convolution, find_case

{before}


def conv2d(input, weight):
    {within}
    return torch.nn.functional.conv2d(input, weight)


report = check_convolution(
    conv2d, cases=[find_case("conv2d", "one channel")],
    probes=["forward", "global state"])
print([row.message for row in report.findings])
"""


def run(before="", within=""):
    code = CHECKS.format(before=before, within=within)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    "before",
    [
        MIXES,  # torch then raises where its older name for the setting is read
        "torch.backends.disable_global_flags()",  # as torch's own test modules do
        "import os, shutil, tempfile\n"
        "folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder)",
    ],
)
def test_a_setting_that_cannot_be_read_is_no_failure(before):
    assert run(before) == "[]\n"


def test_a_function_that_mixes_torchs_two_names_of_a_setting_is_found():
    assert "torch.backends.cuda.matmul.allow_tf32" in run(within=MIXES)


def test_flags_are_put_back_also_where_torch_refuses_to_change_them():
    code = (
        "import torch\n"
        "from scipyconv.check.state import State\n"
        "before = State.now()\n"
        "torch.backends.disable_global_flags()\n"
        "torch._C._set_cudnn_benchmark(True)\n"
        "torch._C._set_mkldnn_enabled(False)\n"
        "print(before.changes())\n"
        "before.restore()\n"
        "print(before.changes())\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.splitlines() == [
        "['torch.backends.cudnn.benchmark', 'torch.backends.mkldnn.enabled']",
        "[]",
    ], ran.stderr
