"""How the browser's tests name and open a page of the site."""

from playwright.sync_api import BrowserContext, Page

PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


def url(address: str, source: str) -> str:
    """Where MkDocs puts the page of a source."""
    name = source.removesuffix(".md")
    return address + (
        name.removesuffix("index") if name.endswith("index") else name + "/"
    )


def opened(context: BrowserContext, address: str, source: str) -> Page:
    page = context.new_page()
    page.goto(url(address, source))
    return page
