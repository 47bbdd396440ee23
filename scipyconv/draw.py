"""The figures of the site: one color a role, one hand for all of them.

Every figure on the pages is drawn by the block beside it, with the functions of this
module. It needs matplotlib (``pip install "scipyconv[docs]"``) and nothing else in the
package imports it.

A role is what an array is to the layer: ``"x"`` the input, ``"w"`` the filter, ``"y"``
the output (and the bias that belongs to it), ``"g"`` the cotangent. A gradient,
``"grad_x"`` or ``"grad_w"``, carries the hue of its owner, hatched in the hue of the
cotangent that made it. ``"plain"`` has no role.

A script that ends with figures open shows them in windows, or saves them as PNG files
beside itself if no window can be opened. Set matplotlib's ``MPLBACKEND`` to ``agg`` to
prevent both. A notebook shows them by itself.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

INK = "#1c2024"
MUTED = "#687078"
COLOR = {
    "x": "#2563d9",
    "w": "#936715",
    "y": "#154735",
    "b": "#154735",
    "g": "#590261",
    "plain": INK,
}
"""The hue of each role on white. The site swaps these very values for its dark ones."""

_CELL = 0.5  # inches
_NUMBER, _LABEL, _TAP = 14, 13, 11  # points


def _hue(role: str) -> str:
    return COLOR[role.removeprefix("grad_")]


def _tint(role: str) -> tuple[str, float]:
    return _hue(role), 0.14  # a hue and its opacity, as matplotlib takes them


def _number(value: float, digits: int) -> str:
    text = f"{value:z.{digits}f}" if digits else f"{value:zg}"
    return text.replace("-", "\N{MINUS SIGN}")


@dataclass
class Array:
    """A two-dimensional array as a grid of cells.

    Args:
        values: Shape (rows, columns); a NaN is an empty cell with a dotted border.
        role: ``"x"``, ``"w"``, ``"y"``, ``"g"``, ``"grad_x"``, ``"grad_w"`` or
            ``"plain"``.
        title: A short line above the grid.
        taps: A filter, shape (height, width), to lay over the cells as a window. A NaN
            is a gap, as between the taps of a dilated filter.
        window: (row, column) of the window's top left cell.
        mark: (row, column) of each cell to set in a thick frame.
        faint: (row, column) of each cell of a border: dotted, its number in gray.
        digits: Decimals to show; 0 shows a number as short as it is.

    Raises:
        ValueError: a role that there is not.

    Examples:
        >>> Array([[0, 1, 3], [2, 1, 2]], "x", taps=[[1, 2]], window=(1, 0)).width
        3.0
        >>> Array([[1]], "z")
        Traceback (most recent call last):
        ...
        ValueError: role must be one of x, w, y, b, g, plain, grad_x, grad_w or grad_b,
        got 'z'
    """

    values: npt.ArrayLike
    role: str
    title: str = ""
    taps: npt.ArrayLike | None = None
    window: tuple[int, int] = (0, 0)
    mark: Iterable[tuple[int, int]] = ()
    faint: Iterable[tuple[int, int]] = ()
    digits: int = 0

    def __post_init__(self) -> None:
        self.values = np.atleast_2d(np.asarray(self.values, dtype=float))
        if self.role.removeprefix("grad_") not in COLOR:
            raise ValueError(
                f"role must be one of {', '.join(COLOR)}, grad_x, grad_w or grad_b, "
                f"got {self.role!r}"
            )

    @property
    def width(self) -> float:
        """Cells across, the title included."""
        return max(float(np.shape(self.values)[1]), 0.2 * len(self.title))

    @property
    def height(self) -> float:
        """Cells down, the title not included."""
        return float(np.shape(self.values)[0])

    def _draw(self, ax: Axes, left: float, top: float) -> None:
        hue, values = _hue(self.role), np.asarray(self.values)
        columns, faint_cells = values.shape[1], set(self.faint)
        left += (self.width - columns) / 2
        if self.title:
            ax.text(
                left + columns / 2,
                top - 0.22,
                self.title,
                color=INK,
                ha="center",
                va="baseline",
                fontsize=_LABEL,
            )
        for (row, column), value in np.ndenumerate(values):
            at = (left + column, top + row)
            faint = (row, column) in faint_cells
            if faint or np.isnan(value):
                ax.add_patch(Rectangle(at, 1, 1, fill=False, ec=MUTED, lw=0.6, ls=":"))
                if faint and not np.isnan(value):
                    _words(
                        ax,
                        at[0] + 0.5,
                        at[1] + 0.52,
                        _number(value, self.digits),
                        MUTED,
                        _NUMBER,
                    )
                continue
            ax.add_patch(Rectangle(at, 1, 1, fc=_tint(self.role), ec=hue, lw=0.8))
            if self.role.startswith("grad_"):
                ax.add_patch(
                    Rectangle(
                        at,
                        1,
                        1,
                        fill=False,
                        ec=COLOR["g"],
                        hatch="///",
                        lw=0,
                        alpha=0.5,
                    )
                )
            ax.text(
                at[0] + 0.5,
                at[1] + 0.52,
                _number(value, self.digits),
                color=INK,
                ha="center",
                va="center",
                fontsize=_NUMBER,
            )
        if self.taps is not None:
            self._draw_window(
                ax, left, top, np.atleast_2d(np.asarray(self.taps, dtype=float))
            )
        for row, column in self.mark:
            ax.add_patch(
                Rectangle(
                    (left + column, top + row),
                    1,
                    1,
                    fill=False,
                    ec=hue,
                    lw=2.6,
                    zorder=3,
                )
            )

    def _draw_window(
        self, ax: Axes, left: float, top: float, taps: npt.NDArray[Any]
    ) -> None:
        left, top = left + self.window[1], top + self.window[0]
        frame: dict[str, Any] = {"fill": False, "ec": COLOR["w"], "zorder": 3}
        gaps = np.isnan(taps).any()
        ax.add_patch(
            Rectangle(
                (left, top),
                taps.shape[1],
                taps.shape[0],
                lw=0.8 if gaps else 2.6,
                **frame,
            )
        )
        for (row, column), tap in np.ndenumerate(taps):
            if np.isnan(tap):
                continue
            if gaps:
                ax.add_patch(
                    Rectangle((left + column, top + row), 1, 1, lw=2.6, **frame)
                )
            ax.text(
                left + column + 0.1,
                top + row + 0.11,
                _number(tap, self.digits),
                color=COLOR["w"],
                ha="left",
                va="top",
                fontsize=_TAP,
                fontweight="bold",
            )


class _Drawing(Figure):
    """A figure that knows whether it has been saved."""

    kept = False

    def savefig(self, *args: Any, **options: Any) -> None:
        super().savefig(*args, **options)
        self.kept = True


def _bare(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of that many cells, y downward, without axes."""
    size = (width * _CELL, height * _CELL)
    fig = plt.figure(figsize=size, FigureClass=_Drawing)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    return fig, ax


def _words(
    ax: Axes, left: float, top: float, text: str, color: str, size: float
) -> None:
    """Write centered lines one by one: a browser's type has other widths."""
    lines = text.split("\n")
    for i, line in enumerate(lines):
        ax.text(
            left,
            top + 0.45 * (i - (len(lines) - 1) / 2),
            line,
            color=color,
            ha="center",
            va="center",
            fontsize=size,
        )


def _arrow(ax: Axes, start: Any, end: Any, role: str, width: float) -> None:
    ax.add_patch(
        FancyArrowPatch(
            tuple(start),
            tuple(end),
            arrowstyle="-|>",
            mutation_scale=13,
            color=_hue(role),
            lw=width,
            shrinkA=0,
            shrinkB=0,
        )
    )


def place(*items: tuple[float, float, Array | str]) -> Figure:
    """Draw arrays and words where they are put.

    Args:
        items: (left, top, what): in cells, from the top left, the corner of an array's
            cells or the middle of a word. A title needs 0.75 of a cell above its array.

    Examples:
        >>> w = Array([[1, 2]], "w")
        >>> figure = place((0.2, 0.2, w), (2.8, 0.7, "→"), (3.4, 0.7, "y"))
    """
    ends = [
        (left + item.width, top + item.height)
        if isinstance(item, Array)
        else (left + 0.105 * len(item), top)
        for left, top, item in items
    ]
    fig, ax = _bare(*np.max(ends, axis=0) + 0.15)
    for left, top, item in items:
        if isinstance(item, Array):
            item._draw(ax, left, top)
        elif item == "\N{RIGHTWARDS ARROW}":
            _arrow(ax, (left - 0.3, top), (left + 0.3, top), "plain", 1.2)
        else:
            _words(ax, left, top, item, INK, _NUMBER)
    return fig


def rows(*lines: Sequence[Array | str]) -> Figure:
    """Draw lines of arrays and words, each line laid out from left to right.

    Examples:
        >>> figure = rows([Array([[1, 2], [3, 4]], "w", title="w"), "is the filter"])
    """
    gap = 0.3
    placed: list[tuple[float, float, Array | str]] = []
    bottom = 0.0
    for line in lines:
        arrays = [item for item in line if isinstance(item, Array)]
        top = bottom + (0.75 if any(item.title for item in arrays) else 0.25)
        height = max([item.height for item in arrays] or [0.8])
        left = 0.15
        for item in line:
            if isinstance(item, str):
                width = 0.21 * len(item) + 0.15
                placed.append((left + width / 2, top + height / 2, item))
            else:
                width = item.width
                placed.append((left, top + (height - item.height) / 2, item))
            left += width + gap
        bottom = top + height + 0.15
    return place(*placed)


def images(
    pictures: Mapping[str, npt.ArrayLike], columns: int = 2, signed: bool = True
) -> Figure:
    """Draw pictures in gray under their titles, all on one scale.

    Args:
        pictures: Title to array of shape (height, width).
        columns: Pictures in a row.
        signed: Zero is mid-grey and the largest magnitude black or white, so that a
            negative response is seen and not clamped. Otherwise the scale runs from
            least to greatest.

    Examples:
        >>> figure = images({"a slope": [[-1, 0, 1]], "its negative": [[1, 0, -1]]})
    """
    arrays = {
        title: np.asarray(picture, dtype=float) for title, picture in pictures.items()
    }
    values = np.concatenate([array.ravel() for array in arrays.values()])
    high = max(np.abs(values).max(), 1e-12) if signed else values.max()
    low = -high if signed else values.min()
    lines = -(-len(arrays) // columns)
    height, width = next(iter(arrays.values())).shape
    across = 6.4 / columns
    fig, axs = plt.subplots(
        lines,
        columns,
        squeeze=False,
        layout="constrained",
        figsize=(6.4, lines * (across * height / width + 0.3)),
        FigureClass=_Drawing,
    )
    for ax in axs.flat:
        ax.axis("off")
    for ax, (title, array) in zip(axs.flat, arrays.items(), strict=False):
        ax.imshow(array, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        ax.set_title(title, color=INK, fontsize=_LABEL)
    return fig


def axes(
    xlabel: str, ylabel: str, log: bool = False, height: float = 3.6
) -> tuple[Figure, Axes]:
    """Make plain axes to plot on, both logarithmic if asked.

    Examples:
        >>> figure, ax = axes("step", "error", log=True)
        >>> lines = ax.plot([1e-6, 1e-1], [1e-10, 1e-15], color=COLOR["w"])
    """
    fig, ax = plt.subplots(
        figsize=(6.4, height), layout="constrained", FigureClass=_Drawing
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set_color(MUTED)
    ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=12, which="both")
    ax.set_xlabel(xlabel, color=INK, fontsize=_LABEL)
    ax.set_ylabel(ylabel, color=INK, fontsize=_LABEL)
    if log:
        ax.set(xscale="log", yscale="log")
    return fig, ax


def diagram(
    boxes: Mapping[str, tuple[float, float, str, str]],
    arrows: Sequence[tuple[str, str, str, str]],
) -> Figure:
    """Draw boxes and the arrows between them.

    Args:
        boxes: Name to (column, row, text, role); a column is 3.6 cells wide, a row 2.1
            high.
        arrows: (from, to, label, role); arrows both ways between two boxes run side by
            side.

    Examples:
        >>> boxes = {"x": (0, 0, "x", "x"), "y": (1, 0, "y", "y")}
        >>> arrows = [("x", "y", "forward", "y"), ("y", "x", "backward", "g")]
        >>> figure = diagram(boxes, arrows)
    """
    across, down, wide, high = 3.6, 2.1, 2.3, 1.1
    columns = max(box[0] for box in boxes.values()) + 1
    lines = max(box[1] for box in boxes.values()) + 1
    fig, ax = _bare(
        columns * across - (across - wide) + 0.2, lines * down - (down - high) + 0.7
    )

    def middle(name: str) -> npt.NDArray[np.float64]:
        return np.array(
            [
                boxes[name][0] * across + wide / 2 + 0.1,
                boxes[name][1] * down + high / 2 + 0.35,
            ]
        )

    for name, (_, _, text, role) in boxes.items():
        corner = middle(name) - (wide / 2, high / 2)
        ax.add_patch(
            FancyBboxPatch(
                (corner[0], corner[1]),
                wide,
                high,
                fc=_tint(role),
                ec=_hue(role),
                boxstyle="round,pad=0,rounding_size=0.15",
            )
        )
        column, row = middle(name)
        _words(ax, column, row, text, INK, _LABEL)
    pairs = {(start, end) for start, end, *_ in arrows}
    for start, end, label, role in arrows:
        a, b = middle(start), middle(end)
        along = (b - a) / np.hypot(*(b - a))
        # y points down: the left of the way forward is above, the way back passes below
        # it.
        side = np.array([along[1], -along[0]])
        offset = side * (0.2 if (end, start) in pairs else 0)
        reach = (
            min(
                abs(wide / 2 / along[0]) if along[0] else np.inf,
                abs(high / 2 / along[1]) if along[1] else np.inf,
            )
            + 0.06
        )
        _arrow(ax, a + along * reach + offset, b - along * reach + offset, role, 1.6)
        upright = abs(along[0]) > abs(along[1])
        at = (a + b) / 2 + offset + side * (0.26 if upright else 0.18)
        align = "center" if upright else ("left" if side[0] > 0 else "right")
        ax.text(
            at[0], at[1], label, color=_hue(role), ha=align, va="center", fontsize=12
        )
    return fig


def table(
    lines: Sequence[str], columns: Sequence[str], cells: npt.ArrayLike, corner: str = ""
) -> Figure:
    r"""Draw a table of yes and no.

    Args:
        lines: A label for each row.
        columns: A heading for each column; a line break folds a long one.
        cells: Booleans, shape (lines, columns): yes is a filled tick, no an empty
            cross.
        corner: What the rows list, said above them.

    Examples:
        >>> columns = ["input\nalone", "all"]
        >>> figure = table(["no flip"], columns, [[True, True]], "mistake")
    """
    truth = np.asarray(cells, dtype=bool)
    headings = [column.split("\n") for column in columns]
    label = 0.17 * max(len(line) for line in [*lines, corner]) + 0.3
    across = (
        0.17 * max(6, *(len(word) for heading in headings for word in heading)) + 0.3
    )
    head = 0.45 * max(len(heading) for heading in headings) + 0.3
    fig, ax = _bare(label + across * len(columns), head + 0.8 * len(lines) + 0.1)
    ax.text(0.1, head - 0.4, corner, color=MUTED, va="center", fontsize=12)
    for j, column in enumerate(columns):
        up = 0.4 + 0.225 * (len(headings[j]) - 1)
        _words(ax, label + across * (j + 0.5), head - up, column, INK, 12)
    for i in range(len(lines) + 1):
        ax.axhline(head + 0.8 * i, color=MUTED, lw=0.6)
    for i, line in enumerate(lines):
        top = head + 0.8 * i
        ax.text(0.1, top + 0.4, line, color=INK, va="center", fontsize=12)
        for j in range(len(columns)):
            yes = truth[i, j]
            if yes:
                ax.add_patch(
                    Rectangle(
                        (label + across * j, top), across, 0.8, fc=_tint("plain"), lw=0
                    )
                )
            ax.text(
                label + across * (j + 0.5),
                top + 0.42,
                "\N{CHECK MARK}" if yes else "\u00d7",
                color=INK if yes else MUTED,
                ha="center",
                va="center",
                fontsize=14,
            )
    return fig


#: The script that is run, whose name Python forgets before the end.
_SCRIPT = Path(getattr(sys.modules["__main__"], "__file__", None) or "")


@atexit.register
def _show() -> None:
    """Show or save what a script has drawn and leaves open."""
    decided = {"MPLBACKEND", "PYTEST_VERSION"} & os.environ.keys()
    failed = hasattr(sys, "last_type")
    if not _SCRIPT.is_file() or decided or failed or sys.flags.interactive:
        return
    figures = {number: plt.figure(number) for number in plt.get_fignums()}
    unseen = {
        n: f for n, f in figures.items() if isinstance(f, _Drawing) and not f.kept
    }
    if unseen and plt.get_backend().lower() != "agg":  # what matplotlib falls back on
        plt.show()
        return
    for number, figure in unseen.items():
        path = _SCRIPT.with_name(f"{_SCRIPT.stem}-{number}.png")
        figure.savefig(path, dpi=192)
        sys.stderr.write(f"no window can be opened here: saved {path}\n")
