"""The built pages: all code ran, no other host is asked, no LaTeX shows, one example
throughout."""

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import example
import guard
import numpy as np
import pytest

from scipyconv_site import pages

# The array of each name is the same on every page, wherever it has the example's shape.
NAMES = ["x", "w", "y", "target", "g", "grad_w", "grad_x"]


# The kinds of <link> that make a browser fetch something or open a connection.
LINKS = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "modulepreload",
    "preconnect",
    "dns-prefetch",
    "manifest",
}


class Requests(HTMLParser):
    """The addresses that a browser fetches without being asked."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tag = ""
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        given = {name: value or "" for name, value in attrs}
        self.found += [
            given[name] for name in ("src", "data", "poster") if name in given
        ]
        self.found += [
            part.split()[0] for part in given.get("srcset", "").split(",") if part
        ]
        self.found += in_css(given.get("style", ""))
        if tag in {"use", "image"} or LINKS & set(given.get("rel", "").split()):
            self.found += [
                given[name] for name in ("href", "xlink:href") if name in given
            ]

    def handle_data(self, data):
        if self.tag == "style":
            self.found += in_css(data)
        elif self.tag == "script":
            self.found += re.findall(r"https?://[^\s\"']+", data)

    def handle_endtag(self, tag):
        self.tag = ""


def in_css(css: str) -> list[str]:
    """The addresses that a style sheet fetches."""
    return re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", css)


def elsewhere(addresses: list[str]) -> list[str]:
    """Those of the addresses that name a host."""
    return [address for address in addresses if re.match(r"\s*(https?:)?//", address)]


def latex(html: str) -> list[str]:
    """What looks like LaTeX outside code, where nothing will set it any more."""
    return re.findall(r"\\[A-Za-z(\[]\w*|\$", guard.Reader(html).prose)


def arrays(code: str) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of the example's names that a block writes out in numbers."""
    for node in ast.walk(ast.parse(code)):
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            continue
        name, value = node.targets[0].id, node.value
        if (
            isinstance(value, ast.Call)
            and value.args
            and (
                ast.unparse(value.func).rpartition(".")[2]
                in {"array", "asarray", "tensor"}
            )
        ):
            value = value.args[0]
        if name in NAMES and isinstance(value, ast.List):
            try:
                yield name, np.array(ast.literal_eval(value), dtype=float)
            except (TypeError, ValueError):  # computed, or not an array of numbers
                continue


def strays(code: str) -> list[str]:
    """The names whose array has the example's shape and other numbers."""
    return [
        name
        for name, array in arrays(code)
        if array.shape == np.shape(getattr(example, name))
        and not np.array_equal(array, np.asarray(getattr(example, name)))
    ]


def test_all_of_the_site_ran(site, record_property):
    """Every block, or it says that it is not meant to, and why."""
    report = guard.guard(pages.DOCS, site, guard.commands(pages.README))
    record_property("blocks", f"{report.shown} shown, {report.no_run} marked no-run")
    assert not report.problems, "\n".join(report.problems)
    assert report.shown >= 60


def test_the_site_asks_no_other_host(site):
    pages_of_site = list(site.rglob("*.html"))
    assert pages_of_site
    fetched = {
        path.relative_to(site).as_posix(): Requests(path.read_text("utf-8")).found
        for path in pages_of_site
    }
    fetched |= {
        path.relative_to(site).as_posix(): in_css(path.read_text("utf-8"))
        for path in site.rglob("*.css")
    }
    assert all(fetched[path.relative_to(site).as_posix()] for path in pages_of_site)
    hosts = {
        path: elsewhere(found) for path, found in fetched.items() if elsewhere(found)
    }
    assert not hosts


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<script>fetch("https://example.org/count")</script>',
        '<link rel="stylesheet" href="//cdn.example/a.css">',
        '<link rel="preconnect" href="https://fonts.example">',
        '<img srcset="a.png 1x, https://example.org/b.png 2x">',
        '<p style="background: url(https://example.org/a.png)">',
        "<style>@import 'https://example.org/a.css';</style>",
        '<svg><image href="https://example.org/a.png"/></svg>',
    ],
)
def test_a_request_elsewhere_is_seen(html):
    assert elsewhere(Requests(html).found)


def test_a_link_is_not_a_request():
    assert not Requests(
        '<a href="https://example.org">x</a>'
        '<link rel="canonical" href="https://example.org">'
    ).found


def test_every_page_has_a_title_and_one_heading(site):
    for path in site.rglob("*.html"):
        html = path.read_text("utf-8")
        assert re.search(r"<title>[^<]*\w[^<]*</title>", html), path
        assert len(re.findall(r"<h1\b", html)) == 1, path


def test_no_latex_leaks(site):
    leaks = {
        path.relative_to(site).as_posix(): latex(path.read_text("utf-8"))
        for path in site.rglob("*.html")
    }
    assert not {page: found for page, found in leaks.items() if found}


def test_latex_is_seen():
    assert latex(r"<p>\(x\)</p>") == [r"\(x"]
    assert latex(r"<math><mi>\foo</mi></math>") == [r"\foo"]
    assert latex("<p>$x$</p>") == ["$", "$"]
    assert not latex(r"<pre>\n $x</pre><code>\t</code><annotation>\sum</annotation>")


@pytest.mark.parametrize(
    "path",
    [pages.README, *sorted(pages.DOCS.rglob("*.md"))],
    ids=lambda path: path.relative_to(pages.ROOT).as_posix(),
)
def test_arrays_are_the_examples(path):
    for fence in pages.read(path.read_text("utf-8"))[0]:
        exercise = fence.name.startswith(("exercise: ", "solution: "))
        if fence.info == "python" and not exercise:
            assert not strays(fence.code), f"{path.name}:{fence.line}"


def test_another_array_is_seen():
    x = np.asarray(example.x).tolist()
    assert strays(f"x = np.array({x})") == []
    found = [name for name, _ in arrays(f"x = {x}\nw = torch.tensor([[1, 2], [3, 4]])")]
    assert found == ["x", "w"]
    x[1][1] += 1
    assert strays(f"x = np.array({x}, dtype=float)") == ["x"]
    assert strays(f"x = torch.tensor({x})") == ["x"]
    assert strays("x = np.array([[1.0, 2.0]])\nx = np.array([[a]])") == []
