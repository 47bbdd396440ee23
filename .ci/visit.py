"""Wait until `mkdocs serve` answers, then visit every page and all that the pages ask
for.

python3 visit.py LOG PID
"""

import os
import re
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin
from urllib.request import urlopen

LIMIT = 480  # seconds, installation included, while the tests run beside it


class Links(HTMLParser):
    """The addresses that a page names."""

    def __init__(self, page: str, html: str) -> None:
        super().__init__()
        self.page = page
        self.found: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src"} and value:
                self.found.add(urldefrag(urljoin(self.page, value)).url)


def served_at(log: Path, pid: int) -> str:
    """Return the address that the server prints once it is up."""
    while time.monotonic() < LIMIT_AT:
        if match := re.search(r"Serving on (http\S+)", log.read_text()):
            return match[1]
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.5)
    sys.exit(f"the server is not up:\n{log.read_text()[-5000:]}")


def get(url: str) -> str:
    """Return what stands at an address, or stop where it is not there."""
    try:
        with urlopen(url, timeout=60) as answer:
            assert answer.status == 200, answer.status
            return answer.read().decode(errors="replace")
    except (AssertionError, OSError) as error:
        sys.exit(f"{url}: {error}")


LIMIT_AT = time.monotonic() + LIMIT
home = served_at(Path(sys.argv[1]), int(sys.argv[2]))
pages = re.findall(r"<loc>(.*?)</loc>", get(urljoin(home, "sitemap.xml")))
sources = [path for path in Path("docs").rglob("*.md") if "_site" not in path.parts]
assert len(pages) == len(sources), (
    f"{len(sources)} sources, but {len(pages)} pages: {pages}"
)

linked: set[str] = set()
for page in pages:
    html = get(page)
    assert "</html>" in html, page
    linked |= {link for link in Links(page, html).found if link.startswith(home)}
others = sorted(linked - set(pages))
for link in others:
    get(link)
print(
    f"{home}: {len(pages)} pages and {len(others)} other files they name, each "
    "answered 200"
)
