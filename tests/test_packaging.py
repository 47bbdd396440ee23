"""What the wheel holds, what it asks for, and that the README and the workflow name the
same."""

import importlib.metadata
import itertools
import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import scipyconv

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        folder,
        ROOT,
    ]
    subprocess.run(command, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [
            name for name in archive.namelist() if name.endswith(".dist-info/METADATA")
        ]
        return message_from_string(archive.read(name).decode())


def test_wheel_holds_the_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "scipyconv").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == sources
    assert "scipyconv/py.typed" in names


def test_metadata(metadata: Message) -> None:
    assert metadata["Version"] == scipyconv.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    needed = [
        line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line
    ]
    assert sorted(re.split("[<>=]", line)[0] for line in needed) == [
        "numpy",
        "scipy",
        "threadpoolctl",
        "torch",
    ]


def test_wheel_needs_nothing_of_the_extras(wheel: Path, tmp_path: Path) -> None:
    """The layer works from the unpacked wheel, and imports no library of the site or
    the tests."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = f"""
import sys
import torch
before = set(sys.modules)
sys.path.insert(0, {str(tmp_path)!r})
import scipyconv
scipyconv.ScipyConv2d(2, 3)(torch.ones(4, 5)).backward(torch.randn(3, 3))
print(scipyconv.__file__)
print(*(set(sys.modules) - before))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    at, imported = done.stdout.splitlines()
    assert at == str(tmp_path / "scipyconv" / "__init__.py")
    assert (
        not {name.partition(".")[0] for name in imported.split()} & modules_of_extras()
    )


def modules_of_extras() -> set[str]:
    """The modules that the distributions named in the extras install."""
    lines = itertools.chain(*PROJECT["optional-dependencies"].values())
    extras = {re.match(r"[\w-]+", line)[0] for line in lines} - {"torch", "scipyconv"}
    modules = {
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if {name.replace("_", "-") for name in distributions} & extras
    }
    assert {"matplotlib", "mkdocs", "sklearn", "tqdm", "pytest_codeblocks"} <= modules
    return modules


def test_readme_names_the_pinned_torch() -> None:
    """The commands name it first, or pip would fetch the newest release to look at
    it."""
    [pin] = [
        line
        for line in PROJECT["optional-dependencies"]["docs"]
        if line.startswith("torch")
    ]
    readme = (ROOT / "README.md").read_text()
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert set(re.findall(r"torch==[\d.]+", readme)) == {pin}
    assert readme.count(f"pip install {pin} -e ") == 2
    assert workflow.count(f"pip install {pin} --index-url") == 2


def test_workflow_tests_the_lower_ends() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    for requirement in PROJECT["dependencies"]:
        name, lowest = requirement.split(">=")
        assert re.search(rf"{name}=={re.escape(lowest)}(\.0)* ", workflow), requirement
