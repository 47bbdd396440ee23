"""What a reader sees as code must have run, or must say that it is not meant to.

pytest-codeblocks leaves many kinds of block out without a word. So the guard reads the
*built*
pages: whatever looks like code there must be a block that pytest-codeblocks found, its
output, a part of the API's reference, or carry the class `no-run`, with the reason
beside it in the source."""

import ast
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from pytest_codeblocks import extract_from_file

from scipyconv_site import pages

RUN = {"python", "bash", "sh"}
PYTHON = {"python", "py", "python3", "py3", "pycon", "ipython", "ipython3"}
VOID = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "track",
    "wbr",
}

# Each comment that a page may carry, and the info string of the fence that must follow
# it.
COMMENTS = {
    pages.EXPECTED: r"text",
    r"figure: \S.*": r"python",
    r"exercise: \S+": r"python",
    r"solution: \S+": r"python",
    r"no-run: \S.*": r"\{.*\.no-run\b.*\}",
}


@dataclass
class Code:
    """A `<pre>` or a `<code>` of several lines, with the classes of all that encloses
    it."""

    tag: str
    classes: set[str]
    depth: int
    text: str = ""

    @property
    def language(self) -> str:
        """The language that the highlighter put on the block."""
        names = [name for name in self.classes if name.startswith("language-")]
        return names[0].removeprefix("language-") if names else ""


@dataclass
class Report:
    """What the guard found: the problems, and how many blocks it counted."""

    problems: list[str] = field(default_factory=list)
    shown: int = 0
    no_run: int = 0

    def __iadd__(self, other: "Report") -> "Report":
        self.problems += other.problems
        self.shown += other.shown
        self.no_run += other.no_run
        return self


class Reader(HTMLParser):
    """Gathers what looks like code on a built page, and in `prose` the text around
    it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, set[str]]] = []
        self.current: Code | None = None
        self.found: list[Code] = []
        self.prose = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag in VOID:
            return
        self.open.append((tag, set((dict(attrs).get("class") or "").split())))
        if tag in {"pre", "code"} and self.current is None:
            around = set().union(*(classes for _, classes in self.open))
            self.current = Code(tag, around, len(self.open))

    def handle_endtag(self, tag):
        if tag not in [name for name, _ in self.open]:
            return
        while self.open.pop()[0] != tag:
            pass
        if self.current and len(self.open) < self.current.depth:
            if self.current.tag == "pre" or "\n" in self.current.text.strip():
                self.found.append(self.current)
            self.current = None

    def handle_data(self, data):
        if self.current:
            self.current.text += data
        elif not {"script", "style", "annotation"} & {tag for tag, _ in self.open}:
            self.prose += data


def plain(code: str) -> str:
    """Code without what pytest-codeblocks or the browser may drop: empty lines,
    trailing blanks."""
    return "\n".join(
        line.rstrip() for line in code.expandtabs(4).splitlines() if line.strip()
    )


@cache
def package() -> tuple[list[str], set[str]]:
    """The package's files, and all their lines."""
    files = [
        plain(path.read_text("utf-8"))
        for path in (pages.ROOT / "scipyconv").rglob("*.py")
    ]
    return files, {line.strip() for file in files for line in file.splitlines()}


def from_package(code: Code) -> bool:
    """Whether the block is part of the API's reference, or a whole file of the package.

    The one is made from the package's source, and its doctests run; the other the tests
    import."""
    files, lines = package()
    if code.language == "python" and plain(code.text) in files:
        return True
    if (
        "doc-signature" in code.classes
        or {"mkdocstrings-source", "linenodiv"} <= code.classes
    ):
        return True
    known = {line.strip() for line in plain(code.text).splitlines()} <= lines
    source = "mkdocstrings-source" in code.classes
    doctest = "doc-contents" in code.classes and code.text.lstrip().startswith(">>>")
    return known and (source or doctest)


def is_signature(code: str) -> bool:
    """Whether Python code only says how something is called."""
    try:
        body = ast.parse(
            code.strip() + (" ..." if code.rstrip().endswith(":") else "")
        ).body
    except SyntaxError:
        return False
    bodies = [
        s.body if isinstance(s, ast.FunctionDef | ast.ClassDef) else [s] for s in body
    ]
    return all(isinstance(s, ast.Expr) for statements in bodies for s in statements)


def is_program(code: str) -> bool:
    """Whether text is Python after all, and more than a formula or a signature."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError:
        return False
    verbs = ast.Import | ast.ImportFrom | ast.For | ast.While | ast.With
    calls = any(
        isinstance(n, ast.Assign) and isinstance(n.value, ast.Call) for n in nodes
    )
    return calls or any(isinstance(node, verbs) for node in nodes)


def may_rest(code: Code) -> bool:
    """Whether a block may carry `no-run`: another language, a traceback or a
    signature."""
    if code.text.lstrip().startswith("Traceback (most recent call last)"):
        return True
    if code.language in PYTHON:
        return code.language != "pycon" and is_signature(code.text)
    return ">>> " not in code.text and not is_program(code.text)


def check_shell(code: str) -> str | None:
    """Why a failure in the middle of a block of the shell would pass, or None."""
    lines = [
        line
        for line in code.replace("\\\n", " ").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    options = lines[0] if lines and lines[0].startswith("set -") else ""
    if (len(lines) > 1 or ";" in code) and not re.match(r"set -\w*e", options):
        return (
            "has several commands, and only the last one's exit code counts: "
            "begin with `set -e`"
        )
    if re.search(r"[^|]\|[^|]", code) and "pipefail" not in options:
        return (
            "has a pipe, and only its last command's exit code counts: "
            "`set -eo pipefail`"
        )
    return None


def check_source(source: Path, name: str) -> list[str]:
    """The problems that a page's Markdown alone shows."""
    text = source.read_text("utf-8")
    fences, comments = pages.read(text)
    problems = []
    below = {fence.comment.line: fence for fence in fences if fence.comment}
    for comment in comments:
        wanted = [
            info
            for form, info in COMMENTS.items()
            if re.fullmatch(form, comment.text, re.DOTALL)
        ]
        fence = below.get(comment.line)
        if not wanted:
            problems.append(
                f"{name}:{comment.line}: unknown comment <!-- {comment.text} -->"
            )
        elif fence is None or not re.fullmatch(wanted[0], fence.info):
            problems.append(
                f"{name}:{comment.line}: no fence of the kind that belongs to it "
                f"right below <!-- {comment.text} -->"
            )
    for before, fence in zip([None, *fences], fences, strict=False):
        if fence.name == pages.EXPECTED:
            between = (
                text.splitlines()[before.end : fence.comment.line - 1] if before else []
            )
            if before is None or before.info not in RUN or "".join(between).strip():
                problems.append(
                    f"{name}:{fence.line}: an expected output, and what printed it "
                    "is not right above"
                )
        if "no-run" in fence.info and not fence.name.startswith("no-run: "):
            problems.append(f"{name}:{fence.line}: no-run without a reason right above")
        if fence.info in {"bash", "sh"} and (why := check_shell(fence.code)):
            problems.append(f"{name}:{fence.line}: {why}")
    return problems


def check_page(source: Path | None, html: str, name: str, commands: set[str]) -> Report:
    """The problems of one built page; `commands` are README's, which CI runs."""
    report = Report()
    text = source.read_text("utf-8") if source else ""
    runs: Counter[tuple[str, str]] = Counter()
    outputs: Counter[str] = Counter()
    reasons = 0
    if source:
        report.problems += check_source(source, name)
        reasons = sum("no-run" in fence.info for fence in pages.read(text)[0])
        try:
            blocks = extract_from_file(source)
        except (RuntimeError, Warning) as error:
            report.problems.append(f"{name}: pytest-codeblocks: {error}")
            blocks = []
        found = [block for block in blocks if block.syntax in RUN]
        runs.update((block.syntax, plain(block.code)) for block in found)
        outputs.update(
            plain(b.expected_output) for b in found if b.expected_output is not None
        )

    numbered = [
        (n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip()
    ]

    def line(code: str) -> int:
        """Where the page holds the block, or else its first line."""
        wanted = [line.strip() for line in code.splitlines()]
        whole = [
            numbered[i][0]
            for i in range(len(numbered))
            if [line for _, line in numbered[i : i + len(wanted)]] == wanted
        ]
        return next(
            iter(whole + [n for n, line in numbered if wanted and wanted[0] in line]), 1
        )

    def quote(code: str) -> str:
        return repr(code.partition("\n")[0])

    reader = Reader(html)
    for code in reader.found:
        shown = plain(code.text)
        if "no-run" in code.classes:
            report.no_run += 1
            if not may_rest(code):
                report.problems.append(
                    f"{name}:{line(shown)}: no-run on Python: {quote(shown)}"
                )
        elif runs[code.language, shown] > 0:
            runs[code.language, shown] -= 1
            report.shown += 1
        elif code.language == "text" and outputs[shown] > 0:
            outputs[shown] -= 1
        elif not (
            from_package(code) or (code.language == "console" and shown in commands)
        ):
            report.problems.append(
                f"{name}:{line(shown)}: shown as code, and never run: {quote(shown)}"
            )
    for (_, hidden), times in runs.items():
        if times:
            report.problems.append(
                f"{name}:{line(hidden)}: runs, and is not shown as it runs: "
                f"{quote(hidden)}"
            )
    for hidden, times in outputs.items():
        if times:
            report.problems.append(
                f"{name}:{line(hidden)}: expected output that is not shown "
                f"as text: {quote(hidden)}"
            )
    if report.no_run != reasons:
        report.problems.append(
            f"{name}: {report.no_run} blocks carry no-run, and {reasons} "
            "fences of the source do"
        )
    if "```" in reader.prose or "~~~" in reader.prose:
        report.problems.append(
            f"{name}: a fence was not understood, and shows as prose"
        )
    return report


def commands(readme: Path) -> set[str]:
    """README's commands, the only ones that CI runs as a reader types them."""
    return {
        plain(f.code)
        for f in pages.read(readme.read_text("utf-8"))[0]
        if f.info == "console"
    }


def guard(docs: Path, site: Path, allowed: set[str]) -> Report:
    """The problems of a whole built site, and its counts."""
    sources = {}
    for source in docs.rglob("*.md"):
        page = source.relative_to(docs).with_suffix("")
        page = page.parent if page.name == "index" else page
        sources[site / page / "index.html"] = source
    report = Report()
    for html in sorted({*site.rglob("*.html"), *sources}):
        source = sources.get(html)
        name = (
            source.relative_to(docs.parent) if source else html.relative_to(site)
        ).as_posix()
        built = html.read_text("utf-8") if html.exists() else ""
        report += check_page(source, built, name, allowed)
    return report
