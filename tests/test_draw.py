"""A script that draws shows what it drew, or saves it where there is no screen."""

import os
import subprocess
import sys

import pytest

DRAWS = """
from scipyconv.draw import Array, axes, images, rows

rows([Array([[1, 2], [3, 4]], "w")])
axes("step", "error")
images({"a slope": [[-1, 0, 1]]})
"""


def run(folder, code, *options, **more):
    """Run a script where no window can be opened; return what it says and saves."""
    script = folder / "script.py"
    script.write_text(code, "utf-8")
    gone = ("MPLBACKEND", "PYTEST_VERSION", "DISPLAY", "WAYLAND_DISPLAY")
    env = {name: value for name, value in os.environ.items() if name not in gone}
    ran = subprocess.run(
        [sys.executable, *options, script.name],
        capture_output=True,
        cwd=folder,
        text=True,
        env=env | more,
    )
    return ran.stderr, sorted(path.name for path in folder.glob("*.png"))


@pytest.mark.skipif(sys.platform != "linux", reason="a window can always be opened")
def test_a_script_saves_what_it_drew_where_there_is_no_screen(tmp_path):
    said, saved = run(tmp_path, DRAWS)
    assert saved == ["script-1.png", "script-2.png", "script-3.png"]
    assert [
        line.split()[-1].endswith(name)
        for line, name in zip(said.splitlines(), saved, strict=True)
    ] == [True] * 3
    assert all((tmp_path / name).stat().st_size > 1000 for name in saved)


def test_a_figure_that_the_script_saved_is_not_saved_again(tmp_path):
    code = "from scipyconv.draw import axes\nfig, ax = axes('a', 'b')\n"
    said, saved = run(tmp_path, code + "fig.savefig('mine.png', bbox_inches='tight')")
    assert (said, saved) == ("", ["mine.png"])


def test_a_figure_of_anybody_else_is_left_alone(tmp_path):
    code = "import matplotlib.pyplot as plt\nimport scipyconv.draw\nplt.figure()\n"
    assert run(tmp_path, code) == ("", [])


@pytest.mark.parametrize("name", ["MPLBACKEND", "PYTEST_VERSION"])
def test_tests_and_builds_stay_silent(name, tmp_path):
    assert run(tmp_path, DRAWS, **{name: "agg"}) == ("", [])


def test_a_script_that_fails_shows_its_error_alone(tmp_path):
    said, saved = run(tmp_path, DRAWS + "1 / 0\n")
    assert said.endswith("ZeroDivisionError: division by zero\n")
    assert saved == []


def test_a_window_is_opened_where_there_is_a_screen(tmp_path):
    """A backend of windows, in matplotlib's own settings and not in the environment."""
    (tmp_path / "matplotlibrc").write_text("backend: module://windows\n", "utf-8")
    (tmp_path / "windows.py").write_text(
        "from matplotlib.backend_bases import FigureManagerBase\n"
        "from matplotlib.backends.backend_agg import FigureCanvasAgg\n"
        "class FigureManager(FigureManagerBase):\n"
        "    @classmethod\n"
        "    def pyplot_show(cls, *, block=None):\n"
        "        import sys; sys.stderr.write('shown\\n')\n"
        "class FigureCanvas(FigureCanvasAgg):\n"
        "    manager_class = FigureManager\n",
        "utf-8",
    )
    assert run(tmp_path, DRAWS) == ("shown\n", [])
