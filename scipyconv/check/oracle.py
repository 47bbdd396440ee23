"""The right answer: the trilinear form and its three maps, by the direct engine.

NumPy in, NumPy out, and no convolution of torch's. A convolution's form

    T(a, w, s) = sum over n, o, c, t, k of  s[n, o, t] · w[o, c, k] · a[n, c, p]

has a large side a and a small side s. A convolution takes a to s, and a transposed one
s to a; so each is the other's gradient, and one form answers for both. With integers,
every answer is exact. Gradients conjugate what they multiply by, as torch's do.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from scipyconv.check.cases import Case, Sizes
from scipyconv.engines import direct
from scipyconv.geometry import Geometry

Array = npt.NDArray[Any]


def output(case: Case, x: Array, w: Array, b: Array | None = None) -> Array:
    """Return the layer's output.

    Examples:
        >>> from scipyconv.check.cases import find_case
        >>> case = find_case("conv1d", "one channel")
        >>> output(case, np.array([[[0.0, 1, 3, 2]]]), np.array([[[1.0, 2]]]))
        array([[[2., 7., 7.]]])
    """
    y = _like_output(
        case, (_large if case.transposed else _small)(case, _batched(case, x), w)
    )
    return y if b is None else y + b.reshape(-1, *[1] * len(case.pixels))


def input_gradient(case: Case, w: Array, g: Array) -> Array:
    """Return the input's gradient, for the cotangent g."""
    back = _small if case.transposed else _large
    return back(case, _batched(case, g), w.conj()).reshape(case.input_shape)


def weight_gradient(case: Case, x: Array, g: Array) -> Array:
    """Return the weight's gradient, for the cotangent g."""
    x, g = _batched(case, x).conj(), _batched(case, g)
    large, small = (g, x) if case.transposed else (x, g)
    return direct.weight_gradient(large, small, _geometry(case))


def bias_gradient(case: Case, g: Array) -> Array:
    """Return the bias's gradient: the cotangent, summed over all but the channels."""
    axes = (0, *range(2, 2 + len(case.pixels)))
    total: Array = _batched(case, g).sum(axes)
    return total


def _small(case: Case, a: Array, w: Array) -> Array:
    return direct.correlate(a, w, _geometry(case))


def _large(case: Case, s: Array, w: Array) -> Array:
    return direct.input_gradient(w, s, _geometry(case))


def _geometry(case: Case) -> Geometry:
    shapes = case.input_shape, case.output_shape
    large, small = reversed(shapes) if case.transposed else shapes
    return Geometry(
        x=_with_batch(case, large),
        w=case.weight_shape,
        y=_with_batch(case, small),
        stride=case.each("stride"),
        padding=case.zeros,
        dilation=case.each("dilation"),
        groups=case.groups,
    )


def _with_batch(case: Case, shape: Sizes) -> Sizes:
    return (1, *shape) if case.batch is None else shape


def _batched(case: Case, array: Array) -> Array:
    return array[np.newaxis] if case.batch is None else array


def _like_output(case: Case, y: Array) -> Array:
    return y.reshape(case.output_shape)
