"""Every exercise marks itself: no skeleton passes its check, and every solution
does."""

import re

import pytest

from scipyconv_site import pages

CHAPTERS = sorted((pages.DOCS / "learn").glob("[0-9]*.md"))
PREDICTION = re.compile(r'^ *(\?\?\?\+?|!!!) question "Predict', re.MULTILINE)

# What a solution must not survive: the mistakes that the chapters are about.
MISTAKES = [
    ("correlate2d", "convolve2d"),
    ("convolve2d", "correlate2d"),
    ("[::-1, ::-1]", ""),
    ("[::-1, ::-1]", ".T"),
    ('"full"', '"same"'),
    ('"valid"', '"same"'),
]


def named(kind: str) -> dict[tuple[str, str], pages.Fence]:
    """The blocks under a comment `kind: NAME`, by page and name."""
    found = [
        ((page.name, fence.name.removeprefix(f"{kind}: ")), fence)
        for page in sorted(pages.DOCS.rglob("*.md"))
        for fence in pages.read(page.read_text("utf-8"))[0]
        if fence.name.startswith(f"{kind}: ")
    ]
    assert len(found) == len(dict(found)), (
        f"two blocks of one page are {kind}s of one name"
    )
    return dict(found)


SKELETONS = named("exercise")
SOLUTIONS = named("solution")
EXERCISES = [
    pytest.param(key, id=" ".join(key)) for key in SKELETONS if key in SOLUTIONS
]


def mistaken(code: str) -> list[str]:
    """The solution with one mistake each, its check untouched."""
    body, check = code.split("\n# check\n")
    both = "from scipy.signal import convolve2d, correlate2d\n"
    return [
        both + body[: at.start()] + wrong + body[at.end() :] + "\n# check\n" + check
        for right, wrong in MISTAKES
        for at in re.finditer(re.escape(right), body)
        if "import" not in body[: at.start()].splitlines()[-1]
    ]


def printed(fence: pages.Fence) -> list[str]:
    return pages.run(fence.code).splitlines()


def test_there_are_ten_chapters():
    assert [page.name[:3] for page in CHAPTERS] == [f"{n:02}-" for n in range(1, 11)]


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_a_chapter_asks_draws_and_lets_you_try(page):
    text = page.read_text("utf-8")
    fences = pages.read(text)[0]
    assert 1 <= sum(fence.name.startswith("exercise: ") for fence in fences) <= 2
    assert any(fence.name.startswith("figure: ") for fence in fences)
    assert PREDICTION.search(text)


def test_skeletons_and_solutions_belong_together():
    assert list(SKELETONS) == list(SOLUTIONS)


@pytest.mark.parametrize("key", EXERCISES)
def test_both_have_the_same_check(key):
    checks = [
        fence.code.split("\n# check\n") for fence in (SKELETONS[key], SOLUTIONS[key])
    ]
    assert [len(parts) for parts in checks] == [2, 2], "one line `# check` in each"
    assert checks[0][0] != checks[1][0]
    assert checks[0][1] == checks[1][1]


@pytest.mark.parametrize("key", EXERCISES)
def test_the_skeleton_says_what_is_wrong(key):
    lines = printed(SKELETONS[key])
    assert any(re.match(r"Not yet: \S", line) for line in lines)
    assert "Correct." not in lines


@pytest.mark.parametrize("key", EXERCISES)
def test_the_solution_is_correct(key):
    lines = printed(SOLUTIONS[key])
    assert lines[-1] == "Correct."
    assert not any("Not yet" in line for line in lines)


@pytest.mark.parametrize("key", EXERCISES)
def test_the_check_sees_the_usual_mistakes(key):
    for code in mistaken(SOLUTIONS[key].code):
        try:
            output = pages.run(code)
        except (LookupError, RuntimeError, ValueError):  # which the reader sees as well
            continue
        assert "Correct." not in output, code


def test_some_solutions_can_be_mistaken():
    assert sum(len(mistaken(SOLUTIONS[key.values[0]].code)) for key in EXERCISES) >= 5
