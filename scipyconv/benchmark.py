"""Time this package beside PyTorch: `python -m scipyconv.benchmark --help`.

A row of the table is a convolution, a number in it our time over PyTorch's: below 1 we
are faster.
Every library runs in a process of its own. They take turns, with a pause between them:
a library's threads go on spinning for a while after its work is done, and would slow
down whoever comes next.
"""

import argparse
import ctypes
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib.util import find_spec
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
import torch
from torch import Tensor

import scipyconv
from scipyconv.functional import choose_method
from scipyconv.functional import conv1d as ours1d
from scipyconv.functional import conv2d as ours2d
from scipyconv.functional import conv3d as ours3d

#: Seconds that spinning threads are given to fall asleep, before each turn.
PAUSE = 0.15
#: A library that takes so many seconds for a run has one turn and no more.
SLOW = 5.0
_OURS = {1: ours1d, 2: ours2d, 3: ours3d}
_TORCHS = {
    1: torch.nn.functional.conv1d,
    2: torch.nn.functional.conv2d,
    3: torch.nn.functional.conv3d,
}


class Case(NamedTuple):
    """A convolution of squares, or lines or cubes."""

    batch: int
    channels: int
    outputs: int
    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    dims: int = 2
    padded: bool = True

    @property
    def padding(self) -> int:
        """Half the kernel's reach, so that the size stays."""
        return self.dilation * (self.kernel // 2) if self.padded else 0

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The shapes of the input, the weight and the output."""
        reach = self.dilation * (self.kernel - 1) + 1
        side = (self.size + 2 * self.padding - reach) // self.stride + 1
        return (
            (self.batch, self.channels, *[self.size] * self.dims),
            (self.outputs, self.channels // self.groups, *[self.kernel] * self.dims),
            (self.batch, self.outputs, *[side] * self.dims),
        )

    def __str__(self) -> str:
        """Name it as in `--case`."""
        text = ",".join(map(str, self[:5]))
        for name, usual in [("stride", 1), ("dilation", 1), ("groups", 1), ("dims", 2)]:
            if getattr(self, name) != usual:
                text += f",{name}={getattr(self, name)}"
        return text if self.padded else f"{text},padded=False"


QUICK = [
    Case(1, 1, 1, 10, 3, padded=False),
    Case(1, 1, 1, 512, 3),
    Case(1, 1, 1, 512, 31),
    Case(8, 1, 6, 28, 5),
    Case(8, 16, 32, 64, 3),
    Case(8, 64, 64, 56, 3),
    Case(8, 16, 32, 64, 7),
    Case(1, 32, 32, 128, 15),
    Case(1, 64, 64, 64, 31, groups=64),
    Case(8, 64, 64, 56, 3, groups=64),
    Case(4, 3, 64, 224, 7, stride=2),
    Case(1, 64, 64, 56, 3, dilation=4),
    Case(8, 256, 256, 28, 1),
    Case(8, 64, 64, 16000, 3, dims=1),
    Case(1, 64, 64, 16000, 513, groups=64, dims=1),
    Case(1, 16, 16, 32, 3, dims=3),
    Case(1, 16, 16, 32, 7, dims=3),
]
FULL = [*QUICK, Case(1, 64, 64, 128, 31), Case(1, 1, 1, 2048, 65)]
#: PyTorch needs half a minute for the forward of this one, and 140 GB for its backward.
FORWARD_ONLY = {FULL[-1]}


def parse(text: str) -> Case:
    """Read a case: batch, channels, outputs, size, kernel, and more by name.

    Examples:
        >>> parse("8,64,64,56,3,stride=2")
        Case(batch=8, channels=64, outputs=64, size=56, kernel=3, stride=2, dilation=1,
        groups=1,
             dims=2, padded=True)
    """
    parts = text.split(",")
    try:
        numbers = [int(part) for part in parts if "=" not in part]
        options = dict(part.split("=") for part in parts if "=" in part)
        more: dict[str, Any] = {
            name: value == "True" if name == "padded" else int(value)
            for name, value in options.items()
        }
        return Case(*numbers, **more)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(
            "a case must be batch,channels,outputs,size,kernel and then any of "
            f"stride=, dilation=, groups=, dims= and padded=: it is {text!r}; pass "
            "8,64,64,56,3,stride=2, say"
        ) from None


def libraries(engines: bool) -> dict[str, Callable[[Case], Callable[..., Tensor]]]:
    """Return a maker of each library's convolution, of those that are installed."""
    found = {
        "torch": lambda case: _with(_TORCHS[case.dims], case),
        "scipyconv": lambda case: _with(_OURS[case.dims], case),
    }
    if engines:
        for method in ("matmul", "fft"):
            found[method] = lambda case, method=method: _with(  # type: ignore[misc]
                _OURS[case.dims], case, method=method
            )
    if find_spec("fft_conv_pytorch"):
        found["fft-conv-pytorch"] = _fft_conv
    if find_spec("unfoldNd"):
        found["unfoldNd"] = _unfold
    return found


def _with(
    function: Callable[..., Tensor], case: Case, **more: Any
) -> Callable[..., Tensor]:
    return lambda x, w, b: function(
        x, w, b, case.stride, case.padding, case.dilation, case.groups, **more
    )


def _fft_conv(case: Case) -> Callable[..., Tensor]:
    from fft_conv_pytorch import fft_conv

    return lambda x, w, b: fft_conv(
        x,
        w,
        b,
        stride=case.stride,
        padding=case.padding,
        dilation=case.dilation,
        groups=case.groups,
    )


def _unfold(case: Case) -> Callable[..., Tensor]:
    from unfoldNd import UnfoldNd

    kernel = (case.kernel,) * case.dims
    unfold = UnfoldNd(
        kernel, dilation=case.dilation, padding=case.padding, stride=case.stride
    )

    def convolve(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        columns = unfold(x).unflatten(1, (case.groups, -1))
        rows = w.flatten(1).unflatten(0, (case.groups, -1))
        y = (rows @ columns).flatten(1, 2) + b[:, None]
        planes: Tensor = y.unflatten(2, case.shapes[2][2:])
        return planes

    return convolve


@lru_cache(1)
def _prepared(case: Case, dtype: str) -> tuple[list[Tensor], Tensor]:
    """Return the case's input, weight and bias, and a cotangent."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=getattr(torch, dtype))

    x, w, g = (drawn(*shape) for shape in case.shapes)
    return [t.requires_grad_() for t in (x, w, drawn(case.outputs))], g


def turn(
    library: str, case: Case, dtype: str, threads: int, first: bool, seconds: float
) -> dict[str, Any]:
    """Time a library on a case for about so many seconds, in its own process."""
    torch.set_num_threads(threads)
    tensors, g = _prepared(case, dtype)
    convolve = libraries(engines=True)[library](case)

    def forward() -> None:
        with torch.no_grad():
            convolve(*tensors)

    def both() -> None:
        torch.autograd.grad(convolve(*tensors), tensors, g)

    runs = {"forward": forward} | ({} if case in FORWARD_ONLY else {"both": both})
    result: dict[str, Any] = {}
    if first:
        last = list(runs)[-1]
        result["peak"], took = _peak(runs[last])
        if took > SLOW:
            del runs[last]
            result[last] = [took]
    for name, run in runs.items():
        result[name] = list(_times(run, seconds))
    return result


def _times(run: Callable[[], None], seconds: float) -> Iterator[float]:
    end = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        yield now - start
        if now > end:
            return


def _peak(run: Callable[[], None]) -> tuple[int | None, float]:
    """Return the most bytes that a run takes beyond those before, and its seconds."""
    found, took = _taken(run)
    return (
        (found, took) if took > SLOW else _taken(run)
    )  # now that all is loaded and set up


def _taken(run: Callable[[], None]) -> tuple[int | None, float]:
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    trim: Any = (
        getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    )
    told = (
        bool(trim) and status.exists() and os.access(reset, os.W_OK)
    )  # glibc on Linux

    def read(name: str) -> int:
        line = next(x for x in status.read_text().splitlines() if x.startswith(name))
        return int(line.split()[1]) * 1024

    if told:
        gc.collect()
        trim(0)  # or what was freed and kept would not count again
        reset.write_text("5")  # forget the highest so far
        before = read("VmRSS")
    [took] = _times(run, 0.0)
    return (read("VmHWM") - before if told else None), took


@contextmanager
def _processes(
    names: list[str], together: bool
) -> Iterator[dict[str, ProcessPoolExecutor]]:
    with ExitStack() as stack:

        def process() -> ProcessPoolExecutor:
            return stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))

        shared = process() if together else None
        yield {name: shared or process() for name in names}


def measure(
    cases: list[Case],
    names: list[str],
    dtype: str,
    threads: int,
    rounds: int,
    together: bool,
    tell: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Let the libraries take turns on each case; yields a case's times."""
    with _processes(names, together) as processes:
        for i, case in enumerate(cases):
            found: dict[str, dict[str, Any]] = {name: {} for name in names}
            for j in range(rounds):
                for name in names:
                    if (
                        max(found[name].get("both", found[name].get("forward", [0.0])))
                        > SLOW
                    ):
                        continue
                    tell(
                        f"{i + 1}/{len(cases)}  {case}  round {j + 1}/{rounds}  {name}"
                    )
                    if not together:
                        time.sleep(PAUSE)
                    task = processes[name].submit(
                        turn, name, case, dtype, threads, j == 0, 0.1
                    )
                    try:
                        result = task.result()
                    except (
                        RuntimeError,
                        MemoryError,
                    ) as error:  # out of memory, for instance
                        found[name]["error"] = str(error).splitlines()[0]
                        continue
                    for key, value in result.items():
                        if key == "peak":
                            found[name]["peak"] = value
                        else:
                            found[name].setdefault(key, []).extend(value)
            yield {
                "case": str(case),
                "engine": _engine(case, dtype),
                "libraries": found,
            }


def _engine(case: Case, dtype: str) -> str:
    x, w, _ = (
        torch.empty(
            shape, dtype=getattr(torch, dtype), device="meta", requires_grad=True
        )
        for shape in case.shapes
    )
    return choose_method(
        x, w, case.stride, case.padding, case.dilation, case.groups
    ).method


def ratio(
    row: dict[str, Any], name: str, what: str
) -> tuple[float, float, float] | None:
    """Return a library's median time over torch's, and the same of its quartiles."""
    times = row["libraries"].get(name, {}).get(what)
    torchs = row["libraries"].get("torch", {}).get(what)
    if not times or not torchs:
        return None
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75]) / np.median(torchs)
    return float(low), float(median), float(high)


def table(rows: list[dict[str, Any]], names: list[str]) -> str:
    """Lay the rows out as text."""
    others = [name for name in names if name != "torch"]
    lines = [
        [
            "case",
            "engine",
            "torch ms",
            *(f"{name} {what}" for name in others for what in ("fwd", "fwd+bwd")),
            "peak MB",
        ]
    ]
    for row in rows:
        line = [
            row["case"],
            row["engine"],
            " ".join(
                f"{1e3 * np.median(row['libraries']['torch'].get(what, np.nan)):.3g}"
                for what in ("forward", "both")
            ),
        ]
        for name in others:
            for what in ("forward", "both"):
                found = ratio(row, name, what)
                line.append(
                    "-"
                    if found is None
                    else f"{found[1]:.3g}"
                    + (
                        f" ({found[0]:.2g}-{found[2]:.2g})"
                        if name == "scipyconv"
                        else ""
                    )
                )
        peaks = [row["libraries"][name].get("peak") for name in names]
        line.append(" ".join("-" if p is None else f"{p / 1e6:.0f}" for p in peaks))
        lines.append(line)
    for what in ("forward", "both"):
        for name in others:
            ratios = [r[1] for row in rows if (r := ratio(row, name, what))]
            if ratios:
                mean = prod(ratios) ** (1 / len(ratios))
                lines.append([f"geometric mean, {what}, {name}", "", "", f"{mean:.3g}"])
    widths = [
        max(len(line[i]) for line in lines if i < len(line) and (len(line) > 4 or i))
        for i in range(len(lines[0]))
    ]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=False)
        ).rstrip()
        for line in lines
    )


def plot(rows: list[dict[str, Any]], path: str) -> None:
    """Draw the ratios, forward and backward, as bars on a logarithmic scale."""
    import matplotlib.pyplot as plt

    found = [
        (row["case"], r)
        for row in rows
        if (r := ratio(row, "scipyconv", "both") or ratio(row, "scipyconv", "forward"))
    ]
    labels, ratios = zip(*found, strict=True)
    fig, ax = plt.subplots(figsize=(8, 1 + 0.35 * len(found)), layout="constrained")
    ax.barh(labels, [r[1] for r in ratios])
    ax.axvline(1, color="black")
    ax.set_xscale("log")
    ax.invert_yaxis()
    ax.set_xlabel("time over torch's, forward and backward")
    fig.savefig(path)
    plt.close(fig)


def environment(dtype: str, threads: int) -> dict[str, Any]:
    """Return what the numbers depend on."""
    return {
        "dtype": dtype,
        "threads": threads,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scipyconv": scipyconv.__version__,
    }


def check(level: str) -> Iterator[str]:
    """Time the checker at torch's own conv2d, alone in float32 and in every dtype."""
    from scipyconv.check import check_convolution

    for name, dtypes in ("float32", ["float32"]), ("every dtype", None):
        conv2d = torch.nn.functional.conv2d
        report = check_convolution(conv2d, level=level, dtypes=dtypes)
        tried = {(row.case, row.dtype) for row in report.rows}
        yield (
            f"{level}, {name}: {len(tried)} cases, {len(report.rows)} questions, "
            f"{report.seconds:.1f} s"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print its table; the exit status is 0."""
    parser = argparse.ArgumentParser(
        "python -m scipyconv.benchmark", description=__doc__
    )
    parser.add_argument(
        "--full", action="store_true", help="the slow cases too: some minutes more"
    )
    parser.add_argument(
        "--case",
        type=parse,
        action="append",
        metavar="N,C,O,H,k",
        help="a case of your own instead, as 8,64,64,56,3,stride=2,groups=2,dims=2",
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often everyone takes a turn"
    )
    parser.add_argument(
        "--engines", action="store_true", help="each engine, besides our choice"
    )
    parser.add_argument(
        "--together",
        action="store_true",
        help="all in one process and without pauses: what not to do",
    )
    parser.add_argument("--json", metavar="FILE", help="write all times there")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the ratios there, by matplotlib"
    )
    parser.add_argument(
        "--check", choices=["quick", "full"], help="time the checker instead"
    )
    options = parser.parse_args(arguments)
    if options.check:
        for line in check(options.check):
            print(line)
        return 0
    cases = options.case or (FULL if options.full else QUICK)
    names = list(libraries(options.engines))
    rows: list[dict[str, Any]] = []
    facts = environment(options.dtype, options.threads)
    try:
        for row in measure(
            cases,
            names,
            options.dtype,
            options.threads,
            options.rounds,
            options.together,
            _tell,
        ):
            rows.append(row)
            if options.json:  # as far as it is: it may be interrupted
                Path(options.json).write_text(
                    json.dumps({**facts, "rows": rows}, indent=1)
                )
    except KeyboardInterrupt:
        print("\ninterrupted; what there is so far:", file=sys.stderr)
    _tell("")
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print("our time over torch's, with quartiles; peak memory of " + ", ".join(names))
    print(table(rows, names))
    if options.plot and rows:
        plot(rows, options.plot)
    return 0


def _tell(text: str) -> None:
    """Show how far it is, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
