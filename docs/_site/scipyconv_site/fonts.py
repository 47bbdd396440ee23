"""Cut the site's type from open fonts that come as Python packages, when the site is
built.

Nothing is fetched by the reader's browser and no font stands in the repository.
"""

import io
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import fontpkg
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from fontTools.varLib.instancer import instantiateVariableFont

CACHE = Path(".cache/fonts")
TEXT = [
    *range(0x20, 0x7F),
    *range(0xA0, 0x180),
    *range(0x2010, 0x2028),
    0x2032,
    0x2033,
    0x20AC,
    *range(0x2190, 0x2194),
    0x2202,
    0x2212,
    0x2248,
    0x2260,
    0x2264,
    0x2265,
    0x2713,
]
MATHS = [
    *range(0x20, 0x7F),
    *range(0xA0, 0x100),
    *range(0x2B0, 0x370),
    *range(0x391, 0x3D7),
    *range(0x2010, 0x2070),
    *range(0x20D0, 0x20F0),
    *range(0x2100, 0x2150),
    *range(0x2190, 0x2200),
    *range(0x2200, 0x2300),
    *range(0x2308, 0x230C),
    0x23B4,
    0x23B5,
    0x23DC,
    0x23DD,
    0x23DE,
    0x23DF,
    0x27E8,
    0x27E9,
    *range(0x1D400, 0x1D468),
    *range(0x1D6A4, 0x1D71C),
]


@cache
def cuts() -> dict[str, tuple[Path, list[int], dict[str, object]]]:
    """File name to the font it is cut from, the characters kept and the axes kept."""
    # Found and not imported: the package has a long start-up that is not needed here.
    maths = find_spec("ziamath")
    assert maths is not None
    assert maths.origin is not None
    stix = next(Path(maths.origin).parent.rglob("STIXTwoMath*"))
    serif, sans, code = "Source Serif 4", "Source Sans 3", "Source Code Pro"
    weight = (400, 700)
    return {
        "serif.woff2": (fontpkg.path(serif), TEXT, {"opsz": 14, "wght": weight}),
        "serif-italic.woff2": (
            fontpkg.path(serif, style="italic"),
            TEXT,
            {"opsz": 14, "wght": weight},
        ),
        "sans.woff2": (fontpkg.path(sans), TEXT, {"wght": weight}),
        "code.woff2": (fontpkg.path(code), TEXT, {"wght": weight}),
        "maths.woff2": (stix, MATHS, {}),
    }


def cut(name: str) -> bytes:
    """The font of that file name as WOFF2, from the cache if it has been cut before."""
    source, characters, axes = cuts()[name]
    kept = CACHE / f"{version('fonttools')}-{len(characters)}-{name}"
    if not kept.exists():
        font = TTFont(source)
        subsetter = Subsetter(Options(flavor="woff2", layout_features=["*"]))
        subsetter.populate(unicodes=characters)
        subsetter.subset(font)
        if axes:
            instantiateVariableFont(font, axes, inplace=True)
        font.flavor = "woff2"
        buffer = io.BytesIO()
        font.save(buffer)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(buffer.getvalue())
    return kept.read_bytes()
