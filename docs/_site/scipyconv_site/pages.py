"""A page as its tests see it: the fences, the comment above each, and what each
prints."""

import contextlib
import io
import os
import random
import re
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

os.environ["MPLBACKEND"] = (
    "Agg"  # before matplotlib is imported, here and in a block of the shell
)

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
README = ROOT / "README.md"

EXPECTED = "pytest-codeblocks:expected-output"
COMMENT = re.compile(r"^[ \t]*<!--\s*(.*?)\s*-->", re.DOTALL | re.MULTILINE)
OPENING = re.compile(r"^([ \t]*)(`{3,})(.*)$")
# Processes that run side by side would fight for the cores.
THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else torch.get_num_threads()
torch.set_num_threads(THREADS)


@dataclass
class Comment:
    """A comment at the beginning of a line; `line` and `end` count from one."""

    line: int
    end: int
    text: str


@dataclass
class Fence:
    """A fenced block from its opening `line` to its closing one, `end`; both count from
    one."""

    line: int
    end: int
    indent: str
    info: str
    code: str
    comment: Comment | None = None
    output: "Fence | None" = None

    @property
    def name(self) -> str:
        """What the comment right above the block says, or nothing."""
        return self.comment.text if self.comment else ""


def read(text: str) -> tuple[list[Fence], list[Comment]]:
    """The fences and the comments of a page.

    pytest-codeblocks drops the blank lines of an indented fence. Here they stay, so
    that the lines of an error are the lines of the page."""
    lines = text.splitlines()
    fences: list[Fence] = []
    prose = list(lines)
    start = 0
    while start < len(lines):
        if opening := OPENING.match(lines[start]):
            indent, ticks, info = opening.groups()
            end = start + 1
            while end < len(lines) and not lines[end].lstrip().startswith(ticks):
                end += 1
            inside = [
                re.sub(f"^ {{0,{len(indent)}}}", "", line)
                for line in lines[start + 1 : end]
            ]
            code = "".join(line + "\n" for line in inside)
            fences.append(Fence(start + 1, end + 1, indent, info, code))
            prose[start : end + 1] = [""] * len(prose[start : end + 1])
            start = end
        start += 1

    joined = "\n".join(prose)
    comments = [
        Comment(
            joined.count("\n", 0, m.start()) + 1,
            joined.count("\n", 0, m.end()) + 1,
            m[1],
        )
        for m in COMMENT.finditer(joined)
    ]
    above = {comment.end + 1: comment for comment in comments}
    for before, fence in zip([None, *fences], fences, strict=False):
        fence.comment = above.get(fence.line)
        if before and fence.name == EXPECTED:
            before.output = fence
    return fences, comments


def with_outputs(text: str, printed: dict[int, str]) -> str:
    """The page with what the fence at each line printed written below that fence."""
    lines = text.splitlines()
    for fence in reversed(read(text)[0]):
        if fence.line not in printed:
            continue
        start = (
            fence.output.line - 2 if fence.output else fence.end
        )  # its comment is right above
        stop = fence.output.end if fence.output else fence.end
        output = printed[fence.line].splitlines()
        new = [f"<!--{EXPECTED}-->", "```text", *output, "```"] if output else []
        lines[start:stop] = [fence.indent + line if line else "" for line in new]
    return "".join(line + "\n" for line in lines)


@contextlib.contextmanager
def fresh() -> Iterator[types.ModuleType]:
    """What a script finds when it starts, whatever the blocks before it left behind.

    Yields the module that the block is run in. The generators are seeded from the
    system, as in a
    new process: a page that prints unseeded numbers fails.
    """
    random.seed()
    np.random.seed()  # noqa: NPY002 - the old generator is the one with a global state
    torch.seed()
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.autograd.set_detect_anomaly(False)
    torch.set_num_threads(THREADS)
    torch.set_printoptions(profile="default")
    if "torch._dynamo" in sys.modules:  # what it compiled, and what it gave up on
        torch.compiler.reset()
    plt.close("all")
    matplotlib.rcdefaults()
    main = types.ModuleType("__main__")
    before = sys.modules["__main__"]
    sys.modules["__main__"] = main  # where pickle looks up the classes of a script
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.dict(os.environ),
        np.printoptions(),
        np.errstate(),
    ):
        warn_as_a_script()
        try:
            yield main
        finally:
            sys.modules["__main__"] = before


def warn_as_a_script() -> None:
    """Make an error of each warning that a script would show; pytest undoes this after
    each test.

    Python hides the deprecations that are not the script's own. A window is not there
    to show."""
    warnings.resetwarnings()
    warnings.simplefilter("error")
    for hidden in (
        DeprecationWarning,
        PendingDeprecationWarning,
        ImportWarning,
        ResourceWarning,
    ):
        warnings.simplefilter("ignore", hidden)
    warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
    warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")


def run(code: str, page: Path | str = "<block>", line: int = 0) -> str:
    """What Python code prints that stands alone in a file; the fence opens at `line` of
    `page`."""
    compiled = compile("\n" * line + code, str(page), "exec", dont_inherit=True)
    with fresh() as main, contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compiled, vars(main))
    return printed.getvalue()


def run_shell(code: str, shell: str) -> str:
    """What a shell prints; `python` is the one that runs the tests."""
    with fresh():
        os.environ["PATH"] = os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ["PATH"]]
        )
        command = [shell, "-c", code]
        return subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout
