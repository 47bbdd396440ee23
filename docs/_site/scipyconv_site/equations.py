"""Turn the equations that ``pymdownx.arithmatex`` finds into MathML, when the page is
built.

The browser sets MathML by itself: no script, no network, and the text can be read aloud
and copied. The letters x, w, y and g take the color of their role."""

import html
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
ROLES = {"x", "w", "y", "g"}


def to_mathml(latex: str, display: str) -> ElementTree.Element:
    """An equation as an element; a command that the converter does not know fails the
    build."""
    markup = convert(latex, display=display)
    math = ElementTree.fromstring(markup.replace(f' xmlns="{NAMESPACE}"', ""))
    if "\\" in "".join(math.itertext()) or "&" in "".join(math.itertext()):
        raise ValueError(
            f"the equation {latex!r} holds a command that is not understood"
        )
    for letter in math.iter("mi"):
        if letter.text in ROLES:
            letter.set("class", f"role-{letter.text}")
    space(math)
    for table in math.iter("mtable"):
        for cell in table.iter("mtd"):
            if side := cell.attrib.pop("columnalign", None):
                table.set(
                    "class", "aligned"
                )  # Chromium ignores the attribute, the style sheet not
                cell.set("class", side)
    return math


def space(math: ElementTree.Element) -> None:
    """Set a sign tight before its number, and a slash tight between its sides."""
    for parent in math.iter():
        before = None
        for child in parent:
            if child.tag == "mo" and child.text == "/":
                child.attrib.update(lspace="0", rspace="0")
            elif child.tag == "mo" and child.text in {"+", "-", "\N{MINUS SIGN}"}:
                opens = (
                    before is not None
                    and before.tag == "mo"
                    and before.text not in {")", "]"}
                )
                if before is None or opens:
                    child.set("form", "prefix")
            before = child


class Equations(Treeprocessor):
    """Replace the text of each equation by its MathML."""

    def run(self, root: ElementTree.Element) -> None:
        for element in root.iter():
            if element.get("class") == "arithmatex":
                latex = html.unescape("".join(element.itertext())).strip()
                display = "block" if element.tag == "div" else "inline"
                math = to_mathml(latex[2:-2].strip(), display)
                element.text = None
                if element.tag == "div":
                    element.set(
                        "tabindex", "0"
                    )  # on a phone a wide one scrolls, by keyboard too
                element[:] = [math]


class EquationsExtension(Extension):
    """The extension; it runs after the inline patterns, so that none of them touches
    the MathML."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown's own name
        md.treeprocessors.register(Equations(md), "scipyconv-equations", 5)


def makeExtension(**options: object) -> EquationsExtension:  # noqa: N802 - Markdown's own name
    """Make the extension, as Markdown asks of a module that is named as one."""
    return EquationsExtension(**options)
