"""A page shows `single_channel.py` whole, and the file has each part that the page
explains."""

import re

from scipyconv_site import pages

NAME = "scipyconv/textbook/single_channel.py"
PAGE = (pages.DOCS / "explain/own-file.md").read_text("utf-8")
SOURCE = (pages.ROOT / NAME).read_text("utf-8")


def test_the_page_includes_the_file():
    fences = [fence for fence in pages.read(PAGE)[0] if NAME in fence.info + fence.code]
    assert [fence.code for fence in fences] == [f'--8<-- "{NAME}"\n']


def test_the_file_has_what_the_page_explains():
    section = PAGE.split("## What each part is for")[1].split("\n## ")[0]
    leads = re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE)
    names = [name for lead in leads for name in re.findall(r"`([^`]+)`", lead)]
    assert len(names) > 10
    assert [name for name in names if name not in SOURCE] == []
