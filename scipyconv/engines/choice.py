"""Which engine for which convolution: a model of their costs that is small enough to read.

Nothing is timed when a layer runs, so the same layer takes the same engine in every run and on
every machine. What the costs are made of was measured once, and is written below.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import inf, prod
from types import ModuleType

from scipyconv.engines import direct, fft, matmul
from scipyconv.engines.border import bordered
from scipyconv.engines.fft import Sizes

#: The engines, by the name that `method` takes.
ENGINES: dict[str, ModuleType] = {"direct": direct, "matmul": matmul, "fft": fft}
METHODS = ("auto", *ENGINES)


@dataclass(frozen=True)
class Choice:
    """The engine that `method="auto"` takes for a convolution.

    Attributes:
        method: The engine's name.
        costs: What each engine is estimated to take, in seconds, for the maps that were asked for;
            on the machine the model was made on, with two threads.
    """

    method: str
    costs: dict[str, float]

    def __str__(self) -> str:
        """Name the engine and list the estimates, the cheapest first."""
        costs = sorted(self.costs.items(), key=lambda item: item[1])
        return f"{self.method} (" + ", ".join(f"{n}: {1e3 * s:.3g} ms" for n, s in costs) + ")"


@lru_cache(4096)
def choose(x: Sizes, w: Sizes, y: Sizes, stride: Sizes, dilation: Sizes, groups: int,
           kind: str = "f4", maps: str = "yxw",
           padding: tuple[tuple[int, int], ...] = ()) -> Choice:
    """Choose the engine for some of the three maps of a convolution.

    Args:
        x: The shape of x, without its border.
        w: The shape of w.
        y: The shape of y.
        stride: One for each spatial dimension.
        dilation: One for each spatial dimension.
        groups: How many groups of channels.
        kind: NumPy's kind and size of a number, such as `"f4"` for float32.
        maps: The maps to compute: `"y"`, the correlation, `"x"` and `"w"`, the gradients.
        padding: The border's zeros: (before, after) for each spatial dimension.

    Examples:
        >>> plane, small, large = (1, 8, 128, 128), (8, 8, 3, 3), (8, 8, 31, 31)
        >>> choose(plane, small, (1, 8, 126, 126), (1, 1), (1, 1), 1).method
        'matmul'
        >>> choose(plane, large, (1, 8, 98, 98), (1, 1), (1, 1), 1).method
        'fft'
    """
    batch, c, o = x[0], w[1], w[0] // groups
    products = batch * groups * o * c * prod(w[2:]) * prod(y[2:])
    wide = {"f4": 1, "f8": 2, "c8": 4, "c16": 8}.get(kind, 50)  # BLAS knows no integers
    whole = bordered(x, padding)
    phases = prod(stride) * prod(dilation)
    costs = {
        "direct": len(maps) * (100_000 + 40_000 * phases * groups * o + 9 * products),
        "matmul": sum(
            _matmul(role, x, w, y, stride, dilation, groups, whole, wide) for role in maps),
        "fft": inf,
    }
    if products and kind[0] in "fc":
        costs["fft"] = wide * fft.cost(
            fft.make_plan(whole, w, y, stride, dilation, groups, kind[0] == "f"), maps)
    seconds = {name: 1e-9 * nanoseconds for name, nanoseconds in costs.items()}
    return Choice(min(seconds, key=lambda name: seconds[name]), seconds)


def _matmul(role: str, x: Sizes, w: Sizes, y: Sizes, stride: Sizes, dilation: Sizes,
            groups: int, whole: Sizes, wide: int) -> float:
    """Nanoseconds: products, more of them where a matrix has few rows, and what moves numbers."""
    taps, stamped = prod(w[2:]), role == "x" and max(stride) > 1
    if role == "x" and not stamped:  # the flipped weights slide over as many places as x has
        reach = (n + d * (k - 1) for n, d, k in zip(x[2:], dilation, w[2:], strict=True))
        whole, w, y = (x[0], w[0], *reach), (x[1], w[0] // groups, *w[2:]), x
    outputs, inputs, columns = w[0] // groups, w[1] * taps, x[0] * groups * prod(y[2:])
    products, moved = columns * inputs * outputs, 9 * columns * inputs / y[-1] * (taps > 1)
    if stamped:
        outputs, inputs = inputs, outputs
        moved = (2.2 + 31 / y[-1]) * columns * outputs + 1400 * x[0] * taps
    elif role != "w" and matmul.multiplies_first(whole, w, y, stride, dilation, groups):
        places = x[0] * groups * prod(whole[2:])
        outputs, inputs = outputs * taps, w[1]
        products, moved = places * outputs * inputs, 0.7 * places * outputs
    waking = 0 if matmul.is_short(columns, outputs, inputs) else 180_000
    multiplied = products * (0.03 + 0.45 / min(outputs, 64))
    return 100_000 + waking + wide * (multiplied + moved)
