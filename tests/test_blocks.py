"""How the blocks of a page run: from a clean state, compared exactly, and failing with
a line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scipyconv_site import pages

EXPECTED = f"<!--{pages.EXPECTED}-->"

LEAKS = """
```python
import os, random, warnings
from pathlib import Path
import matplotlib.pyplot as plt, numpy as np, torch

random.seed(0), np.random.seed(0), torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
torch.set_default_device("meta")
torch.set_grad_enabled(False)
torch.autograd.set_detect_anomaly(True, check_nan=False)
torch.set_num_threads(1 + torch.get_num_threads())
torch.set_printoptions(precision=1)
np.set_printoptions(precision=1)
np.seterr(all="ignore")
plt.figure()
plt.rcParams["font.size"] = 99
warnings.simplefilter("ignore")
os.environ["LEAK"] = "1"
Path("leak.txt").write_text("")
leak = 1
```
"""

CLEAN = """
```python
import os, random, warnings
from pathlib import Path
import matplotlib.pyplot as plt, numpy as np, torch

assert random.random() != random.Random(0).random()
assert np.random.rand() != np.random.RandomState(0).rand()
assert torch.rand(1) != torch.rand(1, generator=torch.Generator().manual_seed(0))
assert torch.get_default_dtype() == torch.float32
assert torch.empty(1).device.type == "cpu"
assert torch.is_grad_enabled()
assert not torch.is_anomaly_enabled()
assert torch.get_num_threads() == int(os.environ["THREADS"])
assert str(torch.tensor(1 / 3)) == "tensor(0.3333)"
assert str(np.array([1 / 3])) == "[0.33333333]"
assert np.geterr()["divide"] == "warn"
assert plt.get_fignums() == []
assert plt.rcParams["font.size"] == 10
assert plt.get_backend().lower() == "agg"
assert ("ignore", None, Warning, None, 0) not in warnings.filters
assert "LEAK" not in os.environ
assert list(Path().iterdir()) == []
assert "leak" not in globals()
```
"""

SCRIPT = f"""
```python
import pickle
import warnings
import matplotlib.pyplot as plt

warnings.warn_explicit("of another module", DeprecationWarning, "another.py", 1)
plt.plot([0, 1])
plt.show()

class Layer:
    pass

if __name__ == "__main__":
    print(type(pickle.loads(pickle.dumps(Layer()))).__name__)
```
{EXPECTED}
```text
Layer
```

```sh
set -e
echo "$MPLBACKEND"
python -c "print(1 + 2)"
```
{EXPECTED}
```text
Agg
3
```
"""

WRONG = f"""
```python
def divide(a):

    return a / 0

divide(1)
```

!!! note

    ```python
    a = 1


    a.b
    ```

```python
if True
```

```python
print("a")
print("b")
```
{EXPECTED}
```text
a
c
```

```python
print("unseen")
```

```python
pass
```
{EXPECTED}
```text
never printed
```

```bash
set -e
ls nowhere
true
```

```python
import time
time.sleep(0.6)
```

```python
import warnings
warnings.warn("of this page", DeprecationWarning)
```

```python
import warnings
warnings.warn("of anyone")
```
"""

MESSAGES = [
    "docs/wrong.md:5: ZeroDivisionError: division by zero",
    "docs/wrong.md:16: AttributeError: 'int' object has no attribute 'b'",
    "docs/wrong.md:20: SyntaxError: expected ':'",
    "docs/wrong.md:28: the block printed something else\n--- on the page\n+++ printed\n"
    "@@ -1,2 +1,2 @@\n a\n-c\n+b\n",
    "docs/wrong.md:33: prints, and the page does not show what:\nunseen\n",
    "docs/wrong.md:41: the block printed something else\n--- on the page\n+++ printed\n"
    "@@ -1 +0,0 @@\n-never printed\n",
    "docs/wrong.md:45: the shell answered 2\nls: ",
    "docs/wrong.md:51: took 1 s, and a block has 0.5 s",
    "docs/wrong.md:58: DeprecationWarning: of this page",
    "docs/wrong.md:63: UserWarning: of anyone",
]

OUTDATED = f"""
# A page

```python
print(1)
print("")
print(2)
```

{EXPECTED}
```text
old
```

- In a list:

    ```python
    print("new")
    print()
    print("new")
    ```

    Prose.

```python
pass
```
{EXPECTED}
```text
gone
```
"""

UPDATED = f"""
# A page

```python
print(1)
print("")
print(2)
```

{EXPECTED}
```text
1

2
```

- In a list:

    ```python
    print("new")
    print()
    print("new")
    ```
    {EXPECTED}
    ```text
    new

    new
    ```

    Prose.

```python
pass
```
"""


@pytest.fixture(scope="module")
def run_pages(tmp_path_factory):
    """A function that runs pytest over pages, given as texts by name, with our
    plugin."""

    def run(texts, *options, **environment):
        folder = tmp_path_factory.mktemp("project")
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "docs").mkdir()
        for name, text in texts.items():
            (folder / "docs" / name).write_text(text, "utf-8")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "scipyconv_site.blocks",
            "--codeblocks",
            "--block-seconds=0.5",
            "docs",
            *options,
        ]
        outside = {name: text for name, text in os.environ.items() if name != "CI"}
        done = subprocess.run(
            command,
            cwd=folder,
            env=outside | environment,
            capture_output=True,
            text=True,
        )
        return done, folder / "docs"

    return run


@pytest.fixture(scope="module")
def failures(run_pages):
    done, _ = run_pages({"wrong.md": WRONG})
    return done.stdout


def test_blocks_start_clean_as_scripts_do(run_pages):
    texts = {"leaks.md": LEAKS + CLEAN, "script.md": SCRIPT, "updated.md": UPDATED}
    done, _ = run_pages(texts, "-Werror", THREADS=str(pages.THREADS), DISPLAY=":0")
    assert "7 passed" in done.stdout, done.stdout


def test_the_tests_go_on_where_they_were():
    before = sys.modules["__main__"], Path.cwd()
    with pytest.raises(ZeroDivisionError):
        pages.run("1 / 0")
    assert (sys.modules["__main__"], Path.cwd()) == before


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message[:16])
def test_a_failure_says_where_and_why(failures, message):
    assert message in failures, failures


def test_every_wrong_block_fails(failures):
    assert f"{len(MESSAGES)} failed" in failures
    assert " passed" not in failures


def test_outputs_are_updated(run_pages):
    _, docs = run_pages({"page.md": OUTDATED}, "--update-outputs")
    assert (docs / "page.md").read_text("utf-8") == UPDATED


def test_outputs_are_never_updated_in_ci(run_pages):
    done, docs = run_pages({"page.md": OUTDATED}, "--update-outputs", CI="true")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "not for CI" in done.stderr
    assert (docs / "page.md").read_text("utf-8") == OUTDATED
