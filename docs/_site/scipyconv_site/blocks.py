"""How pytest runs the blocks of a page: each from a clean state, each with all that it
prints.

pytest-codeblocks finds the blocks. This is a plugin, named in pyproject.toml, for a
conftest.py reaches only the tests in its own folder and below."""

import difflib
import os
import subprocess
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_codeblocks.plugin import MarkdownFile, TestBlock

from scipyconv_site import pages

PRINTED = pytest.StashKey[dict[Path, dict[int, str]]]()


class BlockError(Exception):
    """A block ran through and is still wrong; the message says where and why."""


class PageBlock(TestBlock):  # type: ignore[misc]
    """A block that pytest-codeblocks found, run as if it stood alone in a file."""

    __test__ = False
    fence: pages.Fence

    def runtest(self) -> None:
        """Run the block and compare what it prints with what the page shows."""
        start = time.perf_counter()
        if self.fence.info == "python":
            printed = pages.run(self.fence.code, self.path, self.fence.line)
        else:
            printed = pages.run_shell(self.fence.code, self.fence.info)
        seconds = time.perf_counter() - start
        if seconds > (limit := self.config.option.block_seconds):
            raise BlockError(
                f"{self.at()}: took {seconds:.0f} s, and a block has {limit:g} s"
            )
        shown = self.fence.output.code if self.fence.output else ""
        if printed == shown:
            return
        if self.config.option.update_outputs:
            self.config.stash[PRINTED].setdefault(self.path, {})[self.fence.line] = (
                printed
            )
        elif self.fence.output:
            raise BlockError(self.difference(self.fence.output, printed))
        else:
            raise BlockError(
                f"{self.at()}: prints, and the page does not show what:\n{printed}"
            )

    def at(self, line: int | None = None) -> str:
        """Write page and line as editors read them."""
        page = os.path.relpath(self.path, self.config.rootpath)
        return f"{page}:{self.fence.line if line is None else line}"

    def difference(self, output: pages.Fence, printed: str) -> str:
        """Say where the page and the block differ, as a unified diff."""
        diff = difflib.unified_diff(
            output.code.splitlines(),
            printed.splitlines(),
            "on the page",
            "printed",
            lineterm="",
        )
        return "\n".join(
            [f"{self.at(output.line)}: the block printed something else", *diff]
        )

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:
        """Say page, line and exception, then the traceback from the block on."""
        error = excinfo.value
        if isinstance(error, BlockError):
            return str(error)
        if isinstance(error, subprocess.CalledProcessError):
            return f"{self.at()}: the shell answered {error.returncode}\n{error.stderr}"
        frames = list(traceback.walk_tb(error.__traceback__))
        inside = [
            n
            for n, (frame, _) in enumerate(frames)
            if frame.f_code.co_filename == str(self.path)
        ]
        line = frames[inside[-1]][1] if inside else getattr(error, "lineno", None)
        summary = traceback.StackSummary.extract(
            iter(frames[inside[0] :] if inside else [])
        )
        return "\n".join(
            [f"{self.at(line)}: {type(error).__name__}: {error}", *summary.format()]
        )

    def reportinfo(self) -> tuple[Path, int, str]:
        """Name the block in the lists of failed and of slow tests."""
        return self.path, self.obj.lineno - 1, self.name


class PageFile(MarkdownFile):  # type: ignore[misc]
    """A page: each block that pytest-codeblocks finds in it, as a `PageBlock`."""

    def collect(self) -> Iterator[PageBlock]:
        """Pair each block with the fence that the site's reader of pages finds."""
        fences = {
            fence.line: fence for fence in pages.read(self.path.read_text("utf-8"))[0]
        }
        for block in super().collect():
            line = block.obj.lineno
            if line not in fences:
                raise self.CollectError(
                    f"{self.path}:{line}: pytest-codeblocks finds a block that starts "
                    "here, and the site's reader of pages finds none; write it as a "
                    "fence of three backticks with a language"
                )
            item = PageBlock.from_parent(self, name=block.name, obj=block.obj)
            item.own_markers += block.own_markers
            item.fence = fences[line]
            yield item


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-outputs`."""
    parser.addoption(
        "--update-outputs",
        action="store_true",
        help="write what the blocks print into the pages (never in CI)",
    )
    parser.addoption(
        "--block-seconds",
        type=float,
        default=60,
        metavar="N",
        help="how long a block may take (default: 60)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to write pages in CI, where the comparison is the point."""
    config.stash[PRINTED] = {}
    if config.option.update_outputs and os.environ.get("CI"):
        raise pytest.UsageError("--update-outputs writes the pages; it is not for CI")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Any:
    """Collect `PageBlock`s where pytest-codeblocks collects its own blocks."""
    found = yield
    return [
        PageFile.from_parent(parent, path=file_path)
        if isinstance(each, MarkdownFile)
        else each
        for each in found
    ]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what the blocks printed, once no block's line is needed any more."""
    for path, printed in session.config.stash[PRINTED].items():
        path.write_text(pages.with_outputs(path.read_text("utf-8"), printed), "utf-8")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many blocks ran and, where the guard counted them, how many a reader
    sees."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call"
    ]
    ran = sum(".md::" in report.nodeid for report in reports)
    counted = [
        text
        for report in reports
        for name, text in report.user_properties
        if name == "blocks"
    ]
    if ran or counted:
        terminalreporter.write_line(
            ", ".join([f"blocks of the pages: {ran} ran", *counted])
        )
