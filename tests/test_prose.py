"""The pages' English: American spelling, and none of the turns that read as translated.

codespell knows the spelling. `INSTEAD` is the project's own style: each pattern was
once on a page, or is what writers of the field advise against."""

import re
import subprocess
import sys

import pytest

from scipyconv_site import pages

PAGES = [pages.README, *sorted(pages.DOCS.rglob("*.md"))]

#: What not to write, and what to write instead.
INSTEAD = {
    r"(?<!this )(?<!second )(?<!only )\bone (wants|needs|sees|takes|must)\b": "you",
    r"\blearnt\b": "learned",
    r"\bthat there (is|are) not\b": "unknown, missing",
    r"\bstands? (in the|at the|on the|under|above|below|beside|there)\b": "is",
    r"\b(so many|as many as that)\b(?! (as|that))": "N, or the number",
    r"\bnobody'?s affair|\bno \w+'s affair\b": "does not matter to",
    r"\bon a side path\b": "separately",
    r"\bin all of this\b": "throughout",
    r"\bin vain\b": "without effect",
    r"\bthe one of the\b": "that of the, or the noun again",
    r"\bit is when\b": "that happens when",
    r"\bto be sure\b|\bof course\b|\bobviously\b|\bsimply\b": "leave it out",
    r"\butili[sz]e": "use",
    r"\bin order to\b": "to",
    r"\bdue to the fact\b": "because",
    r"\bthe following\b": "this, or the thing's name",
    r"\bas well as\b": "and",
    r"\bwhilst\b|\bamongst\b": "while, among",
    r"\b(blazing|seamless|powerful|robust|state-of-the-art|leverag\w+)\b": "a number",
    r"\b([a-z]+) \1\b(?<!that that)(?<!had had)(?<!million million)": "one word, once",
}


def prose(text: str) -> list[tuple[int, str]]:
    """Return the numbered lines of a page without its code, math and addresses."""
    fences, comments = pages.read(text)
    hidden = {
        n for part in (*fences, *comments) for n in range(part.line, part.end + 1)
    }
    lines = ["" if n in hidden else line for n, line in enumerate(text.splitlines(), 1)]
    joined = "\n".join(lines)
    for code in (
        r"`+[^`]+`+",
        r"\$\$.+?\$\$",
        r"\$[^$\n]+\$",
        r"\]\([^)]*\)",
        r"<[^>]+>",
    ):
        joined = re.sub(
            code, lambda m: "·" + "\n" * m[0].count("\n"), joined, flags=re.DOTALL
        )
    return list(enumerate(joined.splitlines(), 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(pages.ROOT))
def test_a_page_has_none_of_the_turns_that_read_as_translated(page):
    found = [
        f"{page.name}:{number}: {match[0]!r}: {instead}"
        for number, line in prose(page.read_text("utf-8"))
        for pattern, instead in INSTEAD.items()
        for match in re.finditer(pattern, line, re.IGNORECASE)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("One wants to know this.", True),
        ("You want to know this.", False),
        ("`one wants` is code", False),
        ("```\none wants\n```\n", False),
        ("It says the the same.", True),
    ],
)
def test_the_style_sees_prose_alone(text, seen):
    lines = [line for _, line in prose(text)]
    assert seen == any(
        re.search(pattern, line, re.IGNORECASE) for pattern in INSTEAD for line in lines
    )


def test_the_spelling_is_american():
    said = subprocess.run(
        [
            sys.executable,
            "-m",
            "codespell_lib",
            "--builtin=clear,rare,en-GB_to_en-US",
            "--ignore-words-list=maths,fro",  # the name of a font; to and fro
            "--skip=*.json,*.js,*.css",
            *(str(pages.ROOT / name) for name in ("README.md", "CHANGELOG.md")),
            *(str(pages.ROOT / name) for name in ("docs", "scipyconv", "tests")),
        ],
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stdout + said.stderr
