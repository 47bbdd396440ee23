"""Functions that do to a checker what a checker must survive.

Each is right until it is hostile: at its first call with several input channels. What a
process apart makes of it, and what is said without one, is beside it. Only in such a
process may those run that kill it, or never return.
"""

import ctypes
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from check_by_hand import CONV


@dataclass(frozen=True)
class Hostile:
    """A hostile function.

    Attributes:
        name: Its name in this module.
        apart: What the report says of it, checked in a process apart.
        here: What the report says of it, checked in this process; None where it would
            take this process with it.

    Nothing said is an empty string: the report is ok.
    """

    name: str
    apart: str
    here: str | None = None

    def __str__(self) -> str:
        return self.name


def hostile(act):
    """Return a convolution that acts as soon as there are several channels."""

    def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        y = F.conv2d(input, weight, bias, stride, padding, dilation, groups)
        return act(y, input) if weight.shape[1] > 1 else y

    return conv2d


def acting(act):
    """Return a convolution that acts, and then returns what is right."""

    def then(y, x):
        act()
        return y

    return hostile(then)


def _raise(error):
    raise error


def _endless_loop():
    """Add up in C for hours, without a look at signals."""
    sum(range(10**12))


def _print_much():
    for stream in (sys.stdout, sys.stderr):
        print("noise " * 1000, file=stream)
        os.write(1, b"noise\n" * 1000)


def _go_nowhere():
    """Enter a new directory, and delete it."""
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    Path(folder).rmdir()


def _fork():
    if hasattr(os, "fork"):
        os.fork()


raises = acting(lambda: _raise(RuntimeError("CUDA error: misaligned address")))
raises_much = acting(lambda: _raise(ValueError("long " * 5000)))
raises_memory_error = acting(lambda: _raise(MemoryError()))
raises_keyboard_interrupt = acting(lambda: _raise(KeyboardInterrupt()))
raises_generator_exit = acting(lambda: _raise(GeneratorExit()))
raises_stop_iteration = acting(lambda: _raise(StopIteration()))
recurses = acting(lambda: _recurse())
exits = acting(lambda: sys.exit(0))
exits_at_once = acting(lambda: os._exit(0))
aborts = acting(lambda: os.abort())
segfaults = acting(lambda: ctypes.string_at(0))
kills_itself = acting(lambda: os.kill(os.getpid(), signal.SIGTERM))
hangs = acting(lambda: time.sleep(3600))
hangs_in_native_code = acting(_endless_loop)
prints = acting(_print_much)
closes_stdout = acting(lambda: sys.stdout.close())
deletes_its_directory = acting(_go_nowhere)
forks = acting(_fork)
returns_numpy = hostile(lambda y, x: y.detach().numpy())
returns_none = hostile(lambda y, x: None)
returns_a_tuple = hostile(lambda y, x: (y,))
returns_a_number = hostile(lambda y, x: 1.0)
returns_a_wrong_shape = hostile(lambda y, x: y[..., :-1])
returns_nothing_at_all = hostile(lambda y, x: y[:0])
returns_a_wrong_dtype = hostile(lambda y, x: y.to(torch.float16))
returns_on_another_device = hostile(lambda y, x: y.to("meta"))
returns_nan = hostile(lambda y, x: y * torch.nan)
returns_infinity = hostile(lambda y, x: y + torch.inf)
returns_a_sparse_tensor = hostile(lambda y, x: y.to_sparse())
returns_a_parameter = hostile(lambda y, x: torch.nn.Parameter(y.detach()))


def _recurse():
    _recurse()


def exits_always(input, weight):
    os._exit(3)


def flips(input, weight):
    return F.conv2d(input, weight.flip(2, 3))


without_vmap = CONV[2]


def wrong_and_slow(input, weight):
    time.sleep(0.2)
    return F.conv2d(input, weight) + 1


_EXITED = "the process exited with status 0"
_SHAPE = "the output has shape"
HOSTILE = (
    Hostile("raises", *2 * ("RuntimeError: CUDA error: misaligned address",)),
    Hostile("raises_much", *2 * ("ValueError: long long",)),
    Hostile("raises_memory_error", *2 * ("MemoryError",)),
    Hostile("raises_keyboard_interrupt", "KeyboardInterrupt"),
    Hostile("raises_generator_exit", *2 * ("GeneratorExit",)),
    Hostile("raises_stop_iteration", *2 * ("StopIteration",)),
    Hostile("recurses", *2 * ("RecursionError: maximum recursion depth exceeded",)),
    Hostile("exits", *2 * ("SystemExit: 0",)),
    Hostile("exits_at_once", _EXITED),
    Hostile("aborts", "the process died of SIGABRT"),
    Hostile("segfaults", "the process died of SIGSEGV"),
    Hostile("kills_itself", "the process died of SIGTERM"),
    Hostile("hangs", "no answer came in 5 s, and the process was stopped"),
    Hostile(
        "hangs_in_native_code", "no answer came in 5 s, and the process was stopped"
    ),
    Hostile("prints", "", ""),
    Hostile("closes_stdout", ""),
    Hostile("deletes_its_directory", *2 * ("a call changes the working directory",)),
    Hostile("forks", ""),
    Hostile("returns_numpy", *2 * ("the function returned ndarray, not torch.Tensor",)),
    Hostile("returns_none", *2 * ("the function returned NoneType, not torch.Tensor",)),
    Hostile("returns_a_tuple", *2 * ("the function returned tuple, not torch.Tensor",)),
    Hostile(
        "returns_a_number", *2 * ("the function returned float, not torch.Tensor",)
    ),
    Hostile("returns_a_wrong_shape", *2 * (_SHAPE,)),
    Hostile("returns_nothing_at_all", *2 * (_SHAPE,)),
    Hostile("returns_a_wrong_dtype", *2 * ("the output has dtype torch.float16",)),
    Hostile("returns_on_another_device", *2 * ("the output lies on meta",)),
    Hostile("returns_nan", *2 * ("nan came",)),
    Hostile("returns_infinity", *2 * ("inf came",)),
    Hostile("returns_a_sparse_tensor", *2 * ("its result could not be examined",)),
    Hostile("returns_a_parameter", *2 * ("the input gets no gradient",)),
)
