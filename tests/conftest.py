"""What the tests share: a seed, one thread, the engines, and the site, built once for
all."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

import scipyconv
from scipyconv.engines.choice import ENGINES
from scipyconv_site import pages


def build(config: Path, site: Path, *options: str) -> Path:
    """Build a site with MkDocs and return where it is."""
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "-f",
        str(config),
        "-d",
        str(site),
    ]
    done = subprocess.run(
        [*command, *options],
        cwd=config.parent,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return site


Note = Callable[[str, str], None]


@pytest.fixture
def on_engine_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[Note], None]:
    """A function that lets another hear which engine computes which map, each time it
    does."""

    def tell(note: Note) -> None:
        inside: list[str] = []
        for method, engine in ENGINES.items():
            for name in ("correlate", "input_gradient", "weight_gradient"):
                original = getattr(engine, name)

                def spy(*args, method=method, name=name, original=original):
                    if (
                        not inside
                    ):  # not those of its own that an engine's function calls
                        note(method, name)
                    inside.append(name)
                    try:
                        return original(*args)
                    finally:
                        inside.pop()

                monkeypatch.setattr(engine, name, spy)

    return tell


@pytest.fixture(autouse=True)
def _seeded_and_on_one_thread() -> Iterator[None]:
    """Small arrays: torch's threads would take longer to wake than to compute."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each engine in turn, for every convolution of the test that names none."""
    with scipyconv.use_method(request.param):
        yield request.param


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our pages, built as strictly as MkDocs can, once for all processes that test.

    If the variable SITE names a folder, once for all runs: it is built there and stays.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = Path(os.environ.get("SITE", folder))
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "site.lock"):
        if not (folder / "site.built").exists():
            build(pages.ROOT / "mkdocs.yml", folder / "site", "--strict")
            (folder / "site.built").touch()
    return folder / "site"


@pytest.fixture(scope="session")
def build_like_ours(tmp_path_factory: pytest.TempPathFactory):
    """A function that builds a few pages, given as texts by name, with our Markdown
    extensions."""

    def build_pages(texts: dict[str, str]) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("tiny")
        config = folder / "mkdocs.yml"
        config.write_text(
            f"INHERIT: {pages.ROOT / 'mkdocs.yml'}\nnav:\nplugins: []\nhooks: []\n"
            "extra_css: []\nwatch: []\nvalidation: {nav: {omitted_files: info}}\n"
        )
        for name, text in texts.items():
            page = folder / "docs" / name
            page.parent.mkdir(exist_ok=True)
            page.write_text(text, "utf-8")
        return folder / "docs", build(config, folder / "site")

    return build_pages
