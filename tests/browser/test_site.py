"""The built site in Chromium: what a reader sees, and what their browser asks for."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import DESKTOP, PHONE, opened, url
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from scipyconv_site import pages

CODE = "learn/01-one-output.md"
# One page of each kind, to be read in the dark scheme too.
KINDS = (
    "index.md",
    "learn/07-how-a-pixel-is-blamed.md",
    "learn/summary.md",
    "how-to/padding.md",
    "explain/matrix-view.md",
    "reference/functions.md",
    "reference/notation.md",
)
#: The smallest text of a page's figures, in pixels of the screen.
SMALLEST = """() => Math.min(...[...document.querySelectorAll(".drawn svg")].flatMap(
    svg => [...svg.querySelectorAll("text, tspan")].map(text =>
        parseFloat(getComputedStyle(text).fontSize)
        * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)), 99)"""
PAGES = sorted(str(path.relative_to(pages.DOCS)) for path in pages.DOCS.rglob("*.md"))


def with_one_entry(route: Route) -> None:
    """Answer with a search index that is read at once."""
    index = route.fetch().json()
    route.fulfill(json=index | {"docs": index["docs"][:1]})


@pytest.mark.parametrize("source", PAGES)
def test_a_page_asks_no_other_host_fits_a_phone_and_can_be_read_by_all(
    browser: Browser, address: str, source: str
) -> None:
    context = browser.new_context(
        viewport=PHONE, reduced_motion="reduce"
    )  # no fading of colors
    # To index the whole site for each page would take most of the time; search has its
    # own test.
    context.route("**/search_index.json", with_one_entry)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url(address, source), wait_until="networkidle")
    page.evaluate(
        "document.querySelectorAll('details').forEach(fold => fold.open = true)"
    )
    assert [u for u in asked if not u.startswith((address, "data:"))] == []
    assert len(asked) > 5  # the page itself, its style, its script, its fonts
    assert errors == []
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["width"], f"{source} is {wide} pixels wide on a phone"
    small = page.evaluate(SMALLEST)
    assert small >= 9, f"{source} has a figure with text of {small:.1f} pixels"
    if (
        source != CODE
    ):  # highlighted code looks the same everywhere and takes most of the time
        page.evaluate("document.querySelectorAll('pre').forEach(code => code.remove())")
    assert violations(page) == []
    if source in (CODE, *KINDS):
        page.evaluate("document.body.dataset.mdColorScheme = 'slate'")
        assert violations(page, runOnly=["color-contrast"]) == []
    context.close()


def violations(page: Page, **options: object) -> list[tuple[str, list[str]]]:
    """What hinders a reader who cannot see the page well, or uses a keyboard alone."""
    options["resultTypes"] = ["violations"]
    found = Axe().run(page, options=options).response["violations"]
    return [
        (each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_roles_colours_and_the_type_reach_figures_and_equations(
    browser: Browser, address: str, scheme: str
) -> None:
    context = browser.new_context(viewport=DESKTOP, color_scheme=scheme)
    page = opened(context, address, "learn/01-one-output.md")
    page.evaluate("document.fonts.ready")
    shown = page.evaluate("document.body.dataset.mdColorScheme")
    assert shown == {"light": "default", "dark": "slate"}[scheme]
    color = page.evaluate("""() => {
        const ink = element => getComputedStyle(element);
        return [ink(document.querySelector("math .role-x")).color,
                ink(document.querySelector(".drawn path[style*='--role-x']")).fill]}""")
    assert set(color) == {
        {"light": "rgb(37, 99, 217)", "dark": "rgb(80, 145, 241)"}[scheme]
    }
    fonts = page.evaluate(
        "[...document.fonts].filter(font => font.status == 'loaded').map(font => "
        "font.family)"
    )
    assert {"Source Serif 4", "Source Sans 3", "Source Code Pro", "STIX Two Math"} <= {
        font.strip('"') for font in fonts
    }
    context.close()


def test_the_copy_button_copies_each_block_as_it_was_run(
    context: BrowserContext, address: str
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    source = "learn/01-one-output.md"
    page = opened(context, address, source)
    page.evaluate("document.querySelectorAll('details').forEach(f => f.open = true)")
    fences, _ = pages.read((pages.DOCS / source).read_text("utf-8"))
    codes = [fence.code.strip() for fence in fences if fence.info == "python"]
    blocks = page.locator(".language-python").all()
    assert len(blocks) == len(codes) > 3
    for block, code in zip(blocks, codes, strict=True):
        block.hover()
        block.locator(".md-code__button[data-md-type=copy]").click()
        page.wait_for_function(
            "async code => (await navigator.clipboard.readText()).trim() == code",
            arg=code,
        )


def test_the_scheme_can_be_switched(context: BrowserContext, address: str) -> None:
    page = opened(context, address, "index.md")
    page.get_by_title("Switch to the dark scheme").click()
    assert page.evaluate("document.body.dataset.mdColorScheme") == "slate"
    page.get_by_title("Switch to the light scheme").click()
    assert page.evaluate("document.body.dataset.mdColorScheme") == "default"


def test_a_chapter_leads_back_on_and_to_its_source(
    context: BrowserContext, address: str
) -> None:
    page = opened(context, address, "learn/04-not-a-convolution.md")
    expect(page.locator(".md-footer__link--prev")).to_contain_text(
        "What does a filter see?"
    )
    expect(page.locator(".md-footer__link--next")).to_contain_text("What comes back?")
    edit = page.locator("a[rel=edit]").get_attribute("href")
    assert edit.endswith("/edit/main/docs/learn/04-not-a-convolution.md")


def test_an_answer_is_folded_until_it_is_asked_for(
    context: BrowserContext, address: str
) -> None:
    page = opened(context, address, "learn/01-one-output.md")
    answer = page.locator("details", has_text="Answer").first
    code = answer.locator("pre").first
    expect(code).to_be_hidden()
    answer.locator("summary").click()
    expect(code).to_be_visible()
