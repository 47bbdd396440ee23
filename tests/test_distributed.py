"""Two processes that average their gradients get those of a single process, to
rounding."""

import os
import signal
import subprocess
import sys

SCRIPT = """
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from scipyconv.nn import Conv2d, ConvTranspose2d

torch.set_default_dtype(torch.float64)


def network():
    return nn.Sequential(
        Conv2d(2, 4, (2, 3), stride=(2, 1), padding=((0, 1), (2, 0)), groups=2),
        nn.Tanh(),
        Conv2d(4, 3, 3, padding=1, padding_mode="circular", dilation=(1, 2)),
        nn.Tanh(),
        ConvTranspose2d(3, 2, (3, 2), stride=2, output_padding=1),
    )


def gradients(model, x, g):
    model.zero_grad()
    # a mean over the batch, with random cotangents
    (g * model(x)).sum((1, 2, 3)).mean().backward()
    return [p.grad.clone() for p in model.parameters()]


dist.init_process_group("gloo")
rank, count = dist.get_rank(), dist.get_world_size()
torch.manual_seed(rank)  # DistributedDataParallel must send rank 0's weights
wrapped = DistributedDataParallel(network())
alone = network()
alone.load_state_dict(wrapped.module.state_dict())
torch.manual_seed(7)
x = torch.randn(6, 2, 5, 4)
g = torch.randn_like(alone(x))
together = gradients(wrapped, x[rank::count], g[rank::count])
single = gradients(alone, x, g)
share = gradients(alone, x[rank::count], g[rank::count])
for ours, theirs, own in zip(together, single, share, strict=True):
    assert theirs.abs().max() > 1e-3
    assert (own - theirs).abs().max() > 1e-3  # the share alone is not the answer
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
everyone = [None] * count
dist.all_gather_object(everyone, together)
assert count == 2
assert all(torch.equal(a, b) for a, b in zip(*everyone, strict=True))  # to the last bit
dist.barrier()
dist.destroy_process_group()
if rank == 0:
    print("the gradients agree")
"""


def test_gradients_of_two_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, "utf-8")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    ) as launched:
        try:
            printed, errors = launched.communicate(timeout=110)
        except subprocess.TimeoutExpired:
            os.killpg(launched.pid, signal.SIGKILL)  # the two that it launched as well
            raise
    assert launched.returncode == 0, printed + errors
    assert printed == "the gradients agree\n"
