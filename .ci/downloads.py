"""Say how many bytes of packages a pip log speaks of, whether fetched, cached or at
hand."""

import re
import sys
from pathlib import Path

UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}

log = Path(sys.argv[1]).read_text()
sizes = {
    name: float(number) * UNITS[unit]
    for name, number, unit in re.findall(
        r"(?:Downloading|Using cached) (?:\S*/)?([^\s/]+) "
        r"\(([\d.]+) (bytes|kB|MB|GB)\)",
        log,
    )
}
for path in map(Path, re.findall(r"Processing (/\S+)", log)):
    if path.is_file():
        sizes[path.name] = path.stat().st_size
if not sizes:
    sys.exit(f"{sys.argv[1]} speaks of no package")
print(f"{len(sizes)} packages, {sum(sizes.values()) / 1e6:.0f} MB to download")
