"""The guard sees a block that did not run, and does not say that it is not meant to."""

from pathlib import Path

import guard
import pytest

from scipyconv_site import pages

EXPECTED = f"<!--{pages.EXPECTED}-->"
COMMANDS = {"pip install of-readme"}

GOOD = f"""
# A page with one of each kind that is allowed

```python
print("one")

print("two")
```
{EXPECTED}
```text
one
two
```

??? success "Solution"

    <!-- solution: sum -->
    ```python
    print(1)

    print(2)
    ```

    {EXPECTED}
    ```text
    1
    2
    ```

<!-- figure: a line that
     rises -->
```python
import matplotlib.pyplot as plt

plt.plot([0, 1])
```

```bash
set -e
true
true
```

```console
pip install of-readme
```

<!-- no-run: CUDA is another language -->
```{{.cpp .no-run}}
int main() {{}}
```

<!-- no-run: the error is meant -->
```{{.text .no-run}}
Traceback (most recent call last):
  File "page.py", line 1, in <module>
ZeroDivisionError: division by zero
```

<!-- no-run: a signature -->
```{{.python .no-run}}
ScipyConv2d(filter_height, filter_width, bias=True)
def backward(ctx, g): ...
```

```{{.python}}
--8<-- "docs/package.txt"
```
"""

RAN = "```python\nprint(1)\n```\n"
NEVER = "shown as code, and never run"

# What is planted, and what the guard must say of it.
PLANTED = {
    "py": ("```py\nx = 1\n```", NEVER),
    "python3": ("```python3\nx = 1\n```", NEVER),
    "capital": ("```Python\nx = 1\n```", NEVER),
    "space": ("``` python\nx = 1\n```", NEVER),
    "title": ('```python title="a.py"\nx = 1\n```', NEVER),
    "hl_lines": ('```python hl_lines="1"\nx = 1\n```', NEVER),
    "exec": ('```python exec="on"\nx = 1\n```', NEVER),
    "exec-paragraphs": (
        '```python exec="on"\nx = 1\n\ny = 2\n```',
        "a fence was not understood",
    ),
    "braces": ("```{.python}\nx = 1\n```", NEVER),
    "tildes": ("~~~python\nx = 1\n~~~", NEVER),
    "pycon": ("```pycon\n>>> 1 + 1\n2\n```", NEVER),
    "console": ("```console\n$ python x.py\n```", NEVER),
    "untagged": ("```\nx = 1\n```", NEVER),
    "output-of-nothing": ("```text\n1\n```", NEVER),
    "indented": ("    x = 1\n    y = 2", NEVER),
    "blockquote": ("> ```python\n> x = 1\n> ```", NEVER),
    "html-pre": ("<pre>\nx = 1\n</pre>", NEVER),
    "html-code": ("<p><code>x = 1\ny = 2</code></p>", NEVER),
    "inline-code": ("Prose with `x = 1\ny = 2` in it.", NEVER),
    "snippet": ('--8<-- "docs/snippet.txt"', NEVER),
    "snippet-in-fence": ('```python\n--8<-- "docs/lines.txt"\n```', NEVER),
    "snippet-runs": (
        '```python\n--8<-- "docs/lines.txt"\n```',
        "runs, and is not shown",
    ),
    "hidden": (f"<!--\n{RAN}-->", "runs, and is not shown"),
    "cont": ("```text\n1\n```\n<!--pytest-codeblocks:cont-->\n" + RAN, NEVER),
    "swallowed": (f"{RAN}{EXPECTED}\n{RAN}", NEVER),
    "swallowed-source": (
        f"{RAN}{EXPECTED}\n{RAN}",
        "no fence of the kind that belongs to it",
    ),
    "far-output": (
        f"{RAN}\nProse.\n\n{EXPECTED}\n```text\n1\n```",
        "is not right above",
    ),
    "output-of-text": (
        f"{RAN}\n<!-- no-run: r -->\n```{{.text .no-run}}\nq\n```\n\n"
        f"{EXPECTED}\n```text\n1\n```",
        "is not right above",
    ),
    "skip": (
        "<!--pytest-codeblocks:skip-->\n```text\n1\n```\n" + RAN,
        "unknown comment",
    ),
    "skipfile": ("<!--pytest-codeblocks:skipfile-->\n" + RAN, NEVER),
    "importorskip": (
        "<!--pytest-codeblocks:importorskip(nothing)-->\n" + RAN,
        "unknown comment",
    ),
    "xfail": ("<!--pytest.mark.xfail-->\n" + RAN, "unknown comment"),
    "skipif": ("<!--pytest.mark.skipif(True, reason='')-->\n" + RAN, "unknown comment"),
    "ignore-whitespace": (
        f"{RAN}<!--{pages.EXPECTED}-ignore-whitespace-->\n```text\n1\n```",
        "unknown comment",
    ),
    "misspelt": (
        f"{RAN}<!--pytest-codeblock:expected-output-->\n```text\n1\n```",
        "unknown comment",
    ),
    "misspelt-output": (
        f"{RAN}<!--pytest-codeblock:expected-output-->\n```text\n1\n```",
        NEVER,
    ),
    "keyword": (
        "<!--pytest-codeblocks:expected_output-->\n" + RAN,
        "pytest-codeblocks: Unknown",
    ),
    "exercise-far": ("<!-- exercise: sum -->\n\n" + RAN, "no fence of the kind"),
    "shell": ("```bash\nfalse\ntrue\n```", "only the last one's exit code counts"),
    "shell-line": ("```sh\nfalse; true\n```", "only the last one's exit code counts"),
    "shell-pipe": (
        "```bash\nfalse | true\n```",
        "only its last command's exit code counts",
    ),
    "no-reason": ("```{.text .no-run}\nq\n```", "no-run without a reason"),
    "empty-reason": (
        "<!-- no-run: -->\n```{.text .no-run}\nq\n```",
        "no-run without a reason",
    ),
    "no-run-html": (
        '<pre class="no-run">\nx = 1\n</pre>',
        "1 blocks carry no-run, and 0",
    ),
    "no-run-python": (
        "<!-- no-run: slow -->\n```{.python .no-run}\nx = f(1)\n```",
        "no-run on Python",
    ),
    "no-run-body": (
        "<!-- no-run: slow -->\n```{.python .no-run}\ndef f():\n    return 1\n```",
        "no-run on Python",
    ),
    "no-run-pycon": (
        "<!-- no-run: slow -->\n```{.pycon .no-run}\n>>> f(1)\n```",
        "no-run on Python",
    ),
    "no-run-disguise": (
        "<!-- no-run: slow -->\n```{.text .no-run}\nimport os\n```",
        "no-run on Python",
    ),
    "reference-fake": ('<div class="doc-contents"><pre>>>> 1 / 0\n</pre></div>', NEVER),
}


@pytest.fixture(scope="module")
def tiny(build_like_ours):
    """One site with a page for each kind, README as a page, and one page that is
    good."""
    planted = {f"{kind}.md": text + "\n" for kind, (text, _) in PLANTED.items()}
    return build_like_ours(
        {
            **planted,
            "index.md": GOOD,
            "readme.md": pages.README.read_text("utf-8"),
            "snippet.txt": "```python\nx = 1\n```\n",
            "lines.txt": "x = 1\n",
            "package.txt": (pages.ROOT / "scipyconv/__init__.py").read_text("utf-8"),
        }
    )


def check(tiny: tuple[Path, Path], kind: str, commands: set[str]) -> guard.Report:
    docs, site = tiny
    html = site / ("index.html" if kind == "index" else f"{kind}/index.html")
    return guard.check_page(
        docs / f"{kind}.md", html.read_text("utf-8"), f"{kind}.md", commands
    )


def test_all_of_readme_ran(tiny):
    report = check(tiny, "readme", guard.commands(pages.README))
    assert not report.problems, "\n".join(report.problems)
    assert report.shown >= 1
    assert len(guard.commands(pages.README)) == 2


def test_no_doctest_is_skipped():
    skipped = [
        path
        for path in (pages.ROOT / "scipyconv").rglob("*.py")
        if "doctest: +SKIP" in path.read_text("utf-8")
    ]
    assert not skipped


def test_what_is_allowed_passes(tiny):
    report = check(tiny, "index", COMMANDS)
    assert not report.problems, "\n".join(report.problems)
    assert (report.shown, report.no_run) == (4, 3)


def test_only_commands_of_readme_are_allowed(tiny):
    [problem] = check(tiny, "index", set()).problems
    assert NEVER in problem
    assert "pip install of-readme" in problem


@pytest.mark.parametrize("kind", PLANTED)
def test_the_guard_sees(tiny, kind):
    problems = check(tiny, kind, COMMANDS).problems
    print("\n".join(problems))
    assert any(PLANTED[kind][1] in problem for problem in problems)


def test_the_guard_reads_every_page_of_a_site(tiny):
    docs, site = tiny
    problems = guard.guard(docs, site, COMMANDS).problems
    seen = {
        problem.split(":")[0].removeprefix("docs/").removesuffix(".md")
        for problem in problems
    }
    assert seen >= set(PLANTED)
    assert "index" not in seen


def test_a_page_that_was_not_built_is_reported(tiny, tmp_path):
    docs, _ = tiny
    problems = guard.guard(docs, tmp_path, COMMANDS).problems
    assert any(
        p.startswith("docs/index.md:5: runs, and is not shown") for p in problems
    )
