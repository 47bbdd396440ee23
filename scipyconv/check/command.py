"""The command `python -m scipyconv check package.module:function`.

The exit status is 0 if nothing is wrong, 1 if something is, and 2 if the check could
not run, or was stopped before it found anything.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from scipyconv.check.apart import TIMEOUT, check_apart
from scipyconv.check.cases import LEVELS, cases
from scipyconv.check.family import FAMILIES
from scipyconv.check.plan import Plan
from scipyconv.check.precision import PRECISIONS
from scipyconv.check.probes import PROBES
from scipyconv.check.report import Report
from scipyconv.check.worker import CannotRunError

PASSED, FAILED, COULD_NOT_RUN = 0, 1, 2
_BAR = 24


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return the exit status.

    Args:
        arguments: What follows `check`; by default the process's own.

    Examples:
        >>> main(["--list", "--family", "conv1d"])  # doctest: +ELLIPSIS
        cases of conv1d at level quick
        ...
        >>> main(["nowhere:conv2d"])
        2
    """
    options = _parser().parse_args(arguments)
    try:
        status = _run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who reads has read enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COULD_NOT_RUN


def _run(options: argparse.Namespace) -> int:
    if options.list:
        return _list(options.family, options.level)
    if options.target is None:
        return _refuse("name a function as package.module:function, or pass --list")
    try:
        report = _check(options)
    except (CannotRunError, ValueError) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:  # before the first case
        return _refuse("stopped before anything was checked")
    _print(report, as_json=options.json)
    if report.findings:
        return FAILED
    return PASSED if report.ok and not report.interrupted else COULD_NOT_RUN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scipyconv check",
        description="Check a convolution, its gradients and its manners, in a process "
        "of its own that may crash or hang.",
        epilog="exit status: 0 nothing is wrong, 1 something is, 2 could not run",
    )
    parser.add_argument(
        "target",
        nargs="?",
        metavar="package.module:function",
        help="the function to import and check",
    )
    parser.add_argument(
        "--family",
        choices=FAMILIES,
        default="conv2d",
        help="torch's function that it stands in for (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=PRECISIONS,
        action="append",
        metavar="NAME",
        help="try every case in this dtype; repeat it for more (default: "
        "float32, and a few cases in each other dtype)",
    )
    parser.add_argument(
        "--level",
        choices=LEVELS,
        default="quick",
        help="how many cases (default: %(default)s)",
    )
    parser.add_argument(
        "--probe",
        action="append",
        metavar="NAME",
        help="ask only this probe or group; repeat it for more",
    )
    parser.add_argument(
        "--accumulate",
        choices=PRECISIONS,
        metavar="NAME",
        help="the dtype that sums must be made in (default: the operands')",
    )
    parser.add_argument(
        "--adapter",
        default="",
        metavar="package.module:function",
        help="called as adapter(function, input, weight, ...)",
    )
    parser.add_argument(
        "--device", default="cpu", help="where the function takes tensors"
    )
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="FEATURE",
        help='what must be supported, such as vmap; or "all"',
    )
    parser.add_argument(
        "--timeout",
        type=_positive,
        default=TIMEOUT,
        metavar="SECONDS",
        help="how long a case may take (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--list",
        action="store_true",
        help="print the cases and the probes, and check nothing",
    )
    return parser


def _positive(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"must be positive: it is {text}")
    return seconds


def _check(options: argparse.Namespace) -> Report:
    progress = Progress(sys.stderr)
    try:
        return check_apart(
            options.target,
            options.family,
            timeout=options.timeout,
            adapter=options.adapter,
            device=options.device,
            require=tuple(options.require),
            watch=progress.show,
            level=options.level,
            dtypes=options.dtype,
            probes=options.probe,
            accumulate=options.accumulate,
        )
    finally:
        progress.clear()


class Progress:
    """A bar with the case at hand, on a terminal; elsewhere nothing.

    Args:
        stream: Where to draw it.

    Examples:
        >>> Progress.bar(1, 4)
        '[######                  ] 2/4'
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream if stream.isatty() else None

    @staticmethod
    def bar(index: int, count: int) -> str:
        """Return the bar where so many cases are done, and the next one is at hand."""
        done = _BAR * index // count
        return f"[{'#' * done:{_BAR}}] {index + 1}/{count}"

    def show(self, index: int, plan: Plan) -> None:
        """Draw the bar anew."""
        case, precision = plan.trials[index]
        self._draw(
            f"{self.bar(index, len(plan.trials))} {case.name} in {precision.name}"
        )

    def clear(self) -> None:
        """Leave an empty line."""
        self._draw("")

    def _draw(self, text: str) -> None:
        if self._stream:
            width = _columns(self._stream) - 1
            self._stream.write(f"\r\x1b[K{text[:width]}")
            self._stream.flush()


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _print(report: Report, *, as_json: bool) -> None:
    colored = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(report.to_json() if as_json else report.to_text(color=colored))


def _list(family: str, level: str) -> int:
    """Print the cases and the probes."""
    print(f"cases of {family} at level {level}")
    for case in cases(family, level):
        print(f"  {case.name}: {case.describe()}")
    print("probes, by group")
    for probe in PROBES:
        print(f"  {probe.group}: {probe.name}")
    return PASSED


def _refuse(message: str) -> int:
    print(f"python -m scipyconv check: {message}", file=sys.stderr)
    return COULD_NOT_RUN
