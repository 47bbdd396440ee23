"""Print the one console command of README.md that holds the given word."""

import re
import sys
from pathlib import Path

blocks = re.findall(
    r"^```console\n(.*?)^```$", Path("README.md").read_text(), re.M | re.S
)
found = [block.strip() for block in blocks if sys.argv[1] in block]
if len(blocks) != 2 or len(found) != 1:
    sys.exit(
        f"README.md: expected two console blocks, one with {sys.argv[1]!r}; found "
        f"{blocks}"
    )
print(found[0])
