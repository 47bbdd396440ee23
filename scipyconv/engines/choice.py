"""Which engine for which convolution: what each says that it costs, compared.

Nothing is timed when a layer runs, so the same layer takes the same engine in every run
and on every machine. What the costs are made of was measured once, and is written in
each engine's `cost`. Adding an engine is adding a file and a row of `ENGINES`.
"""

from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from scipyconv.engines import direct, fft, matmul
from scipyconv.geometry import Geometry

#: The engines, by the name that `method` takes.
ENGINES: dict[str, ModuleType] = {"direct": direct, "matmul": matmul, "fft": fft}
#: What `method` takes: also "auto", for the cheapest, and "exact", for the cheapest of
#: those whose results depend on their own terms alone.
METHODS = ("auto", "exact", *ENGINES)


@dataclass(frozen=True)
class Choice:
    """The engine for a convolution.

    Attributes:
        method: The engine's name.
        costs: What each engine is estimated to take, in seconds, for the maps that were
            asked for; on the machine the model was made on, with two threads.
    """

    method: str
    costs: dict[str, float]

    def __str__(self) -> str:
        """Name the engine and list the estimates, the cheapest first."""
        costs = sorted(self.costs.items(), key=lambda item: item[1])
        return (
            f"{self.method} ("
            + ", ".join(f"{n}: {1e3 * s:.3g} ms" for n, s in costs)
            + ")"
        )


@lru_cache(4096)
def choose(
    geometry: Geometry,
    dtype: np.dtype[Any],
    passes: tuple[str, ...] = ("y", "xw"),
    method: str = "auto",
) -> Choice:
    """Choose the engine for some of the three maps of a convolution.

    Args:
        geometry: The convolution.
        dtype: The dtype of its numbers.
        passes: The maps to compute, those of each pass in one string: `"y"`, the
            correlation, `"x"` and `"w"`, the gradients. Maps of one pass share what an
            engine prepares of an operand.
        method: One of `METHODS`.

    Examples:
        >>> plane, float32 = (1, 8, 128, 128), np.dtype(np.float32)
        >>> def layer(k):
        ...     w, y = (8, 8, k, k), (1, 8, 129 - k, 129 - k)
        ...     return Geometry(plane, w, y, (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
        >>> choose(layer(3), float32).method
        'matmul'
        >>> choose(layer(31), float32).method
        'fft'
        >>> choose(layer(31), float32, method="exact").method
        'matmul'
    """
    costs = {
        name: sum(engine.cost(geometry, maps, dtype) for maps in passes)
        for name, engine in ENGINES.items()
    }
    allowed = [
        name
        for name, engine in ENGINES.items()
        if method in ("auto", name) or (method == "exact" and engine.LOCAL)
    ]
    return Choice(min(allowed, key=lambda name: costs[name]), costs)
