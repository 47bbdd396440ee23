"""What a convolution and its gradients are computed from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Operands:
    """An input x, a weight w, a bias b or None, and a cotangent g, as NumPy arrays."""

    x: Array
    w: Array
    b: Array | None
    g: Array

    def magnitudes(self) -> "Operands":
        """Return absolute values; of a complex number, its parts' sum of them."""
        b = None if self.b is None else _magnitude(self.b)
        return Operands(_magnitude(self.x), _magnitude(self.w), b, _magnitude(self.g))


def _magnitude(array: Array) -> Array:
    return np.asarray(np.abs(array.real) + np.abs(array.imag))
