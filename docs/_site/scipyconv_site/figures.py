"""Run the block under a ``<!-- figure: alternative text -->``, show what it drew, and
fold the block under it.

A Markdown extension and not a MkDocs hook, so that whatever renders the Markdown draws
the figures. The block stays an ordinary ``python`` fence: the tests run the very text
that drew the figure."""

import contextlib
import hashlib
import html
import io
import re
from functools import cache
from importlib.metadata import version
from math import ceil
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor
from matplotlib.figure import Figure

import scipyconv
from scipyconv import draw
from scipyconv_site import pages

CACHE = Path(".cache/figures")
FIGURE = "figure: "
TYPE = "font-family: var(--figure-font)"
LARGER = 1.25  # what a point of a figure is on a wide page, in pixels
LEGIBLE = 9  # pixels: text no smaller than this, however narrow the page
SIZE = re.compile(r"font-size: ([\d.]+)px")
SMALL = (
    10.8  # points: an exponent is no smaller, and fits, as the page's type is narrow
)
FOLD = '??? drawing "{} by this code"'


def run(code: str) -> list[Figure]:
    """Run a block as the tests run it, and return the figures that it leaves open."""
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        pages.run(code)
    return [plt.figure(number) for number in plt.get_fignums()]


def to_svg(figure: Figure, alt: str, prefix: str) -> str:
    """One figure as SVG that takes its colors and its type from the page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            dpi=192,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    width, height = 72 * figure.get_size_inches()
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    for role, hue in draw.COLOR.items():
        if role != "plain":
            svg = svg.replace(hue, f"var(--role-{role})")
    svg = svg.replace(draw.INK, "currentColor").replace("#000000", "currentColor")
    svg = svg.replace(draw.MUTED, "var(--figure-muted)")
    svg = re.sub(r"font-family: [^;\"]*", TYPE, svg)
    svg = re.sub(
        r"font: (?:(bold|\d+) )?([\d.]+px) [^;\"]*",
        lambda m: f"font-weight: {m[1] or 'normal'}; font-size: {m[2]}; {TYPE}",
        svg,
    )
    svg = SIZE.sub(lambda m: f"font-size: {max(float(m[1]), SMALL):g}px", svg)
    smallest = min(map(float, SIZE.findall(svg)), default=LEGIBLE)
    least, most = ceil(width * LEGIBLE / smallest), width * LARGER
    label = html.escape(alt, quote=True)
    svg = re.sub(
        r"<svg[^>]*>",
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}" '
        f'style="width: {most:.0f}px; min-width: {least}px">',
        svg,
        count=1,
    )
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    return re.sub(r">\s+<", "><", svg)


@cache
def drawn_by() -> str:
    """All that draws a figure besides its block: our sources, and the libraries'
    versions."""
    sources = sorted(Path(scipyconv.__file__).parent.rglob("*.py"))
    sources += [Path(pages.__file__), Path(__file__)]
    libraries = ("matplotlib", "numpy", "scipy", "torch", "scikit-learn")
    return "\0".join(
        [path.read_text("utf-8") for path in sources] + [*map(version, libraries)]
    )


def drawn(code: str, alt: str) -> str:
    """The figure element of a block, from the cache where nothing it depends on has
    changed."""
    key = hashlib.sha256("\0".join([code, alt, drawn_by()]).encode()).hexdigest()[:16]
    kept = CACHE / f"{key}.html"
    if not kept.exists():
        figures = run(code)
        if not figures:
            raise ValueError(f"the block of the figure {alt!r} left no figure open")
        element = "".join(
            to_svg(f, alt, f"f{key[:8]}-{n}") for n, f in enumerate(figures)
        )
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(f'<figure class="drawn">{element}</figure>', "utf-8")
    return kept.read_text("utf-8")


class Figures(Preprocessor):
    """Put each figure above the fence that draws it, and fold the fence."""

    def run(self, lines: list[str]) -> list[str]:
        fences, comments = pages.read("\n".join(lines))
        below = {fence.comment.line: fence for fence in fences if fence.comment}
        for comment in reversed(comments):
            if not comment.text.startswith(FIGURE):
                continue
            fence = below.get(comment.line)
            if fence is None or fence.info != "python":
                raise ValueError(
                    f"<!-- {comment.text} --> must be right above a fence of python"
                )
            alt = " ".join(comment.text.removeprefix(FIGURE).split())
            figure = self.md.htmlStash.store(drawn(fence.code, alt))
            code = lines[fence.line - 1 : fence.end]
            fold = FOLD.format("Drawn and printed" if fence.output else "Drawn")
            # The comment goes: its text is the figure's label now.
            lines[comment.line - 1 : fence.end] = [
                fence.indent + figure,
                "",
                fence.indent + fold,
                "",
                *("    " + line if line else "" for line in code),
            ]
        return lines


class FiguresExtension(Extension):
    """The extension; it runs before SuperFences, which takes the fences away."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown's own name
        md.preprocessors.register(Figures(md), "scipyconv-figures", 29)


def makeExtension(**options: object) -> FiguresExtension:  # noqa: N802 - Markdown's own name
    """Make the extension, as Markdown asks of a module that is named as one."""
    return FiguresExtension(**options)
