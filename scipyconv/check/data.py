"""The numbers that a case is tried with: integers, and real numbers.

A convolution is trilinear, so from integers come integers: its output, its gradients,
its tangents and its second derivatives. They are drawn so small, and if need be so few,
that no sum reaches 2^p, where p is the number of bits of the dtype's significand. Every
partial sum is then exact, in whatever order, and the result may be compared for
equality.
"""

from math import isqrt, prod
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch

from scipyconv.check import answers
from scipyconv.check.cases import Case, Sizes
from scipyconv.check.operands import Operands
from scipyconv.check.precision import Precision

Array = npt.NDArray[Any]

#: Larger amplitudes say no more, and transforms err in proportion to them.
_AMPLITUDES = (3, 2, 1)
#: How often to draw again, where some result happens to be all zeros.
_ATTEMPTS = 50


def integer_operands(case: Case, precision: Precision, salt: str = "") -> Operands:
    """Return integers from which every result is exact in a dtype.

    Args:
        case: The shapes.
        precision: The dtype.
        salt: Another salt, other numbers.

    Examples:
        >>> from scipyconv.check.cases import find_case
        >>> from scipyconv.check.precision import find_precision
        >>> case = find_case("conv1d", "one channel")
        >>> integer_operands(case, find_precision("bfloat16")).x
        array([[[ 1.,  3., -3.,  2.]]])
    """
    for attempt in range(_ATTEMPTS):
        operands = _draw_integers(case, precision, f"{salt} {attempt}")
        if not is_vacuous(case, operands):
            break
    return operands


def wide_integers(case: Case, precision: Precision, spare: int) -> Operands:
    """Return integers whose sums stay so many bits below what is exact in a dtype.

    Sums of them are exact, and the stages of a transform, whose error is relative to
    the largest numbers, are not.

    Args:
        case: The shapes.
        precision: The dtype.
        spare: The number of bits that no sum needs.

    Examples:
        >>> from scipyconv.check.cases import find_case
        >>> from scipyconv.check.precision import find_precision
        >>> case = find_case("conv1d", "one channel")
        >>> wide_integers(case, find_precision("float32"), 4).x
        array([[[-32., 124., 114., 214.]]])
    """
    random = _generator(case, "wide")
    products = 2 * (1 + precision.complex) * max(1, _longest(case))
    most = max(3, isqrt(2 ** max(0, precision.bits - spare) // products))
    shapes = case.input_shape, case.weight_shape, case.bias_shape, case.output_shape
    x, w, b, g = (_integers(random, shape, most, precision) for shape in shapes)
    return Operands(x, w, b if case.bias else None, g)


def is_vacuous(case: Case, operands: Operands) -> bool:
    """Whether a function that returns nothing but zeros would pass somewhere.

    With an empty batch it does, and must.
    """
    right = answers.first_order(case, operands).values()
    return case.batch != 0 and any(each.size and not each.any() for each in right)


def is_exact(case: Case, operands: Operands, precision: Precision) -> bool:
    """Whether no sum that leads to the output or a gradient can reach 2^p."""
    sums = answers.first_order(case, operands.magnitudes()).values()
    return all(each.max(initial=0) < 2**precision.bits for each in sums)


def _draw_integers(case: Case, precision: Precision, salt: str) -> Operands:
    random = _generator(case, salt)
    most, terms = _amplitude(case, precision)

    def draw(shape: Sizes) -> Array:
        return _integers(random, shape, most, precision)

    x, w, g = draw(case.input_shape), draw(case.weight_shape), draw(case.output_shape)
    w = _thinned(random, w, (0, 1), terms)
    g = _thinned(random, g, (-1 - len(case.pixels),), terms)
    return Operands(x, w, draw(case.bias_shape) if case.bias else None, g)


def real_operands(case: Case, precision: Precision) -> Operands:
    """Return normally distributed numbers, already rounded to a dtype."""
    random = _generator(case, "real")

    def draw(shape: Sizes) -> Array:
        values = random.standard_normal(shape)
        if precision.complex:
            values = values + 1j * random.standard_normal(shape)
        return to_array(to_tensor(values, precision.dtype), precision)

    return Operands(
        draw(case.input_shape),
        draw(case.weight_shape),
        draw(case.bias_shape) if case.bias else None,
        draw(case.output_shape),
    )


def to_tensor(array: Array, dtype: torch.dtype) -> torch.Tensor:
    """Return a new tensor of a dtype."""
    return torch.from_numpy(np.array(array, order="C")).to(dtype)


def to_array(tensor: torch.Tensor, precision: Precision) -> Array:
    """Return a tensor's values in a NumPy dtype that holds them exactly."""
    wide = getattr(torch, precision.home)
    values: Array = tensor.detach().to(wide).resolve_conj().resolve_neg().numpy()
    return values


def _generator(case: Case, salt: str) -> np.random.Generator:
    return np.random.default_rng(
        crc32(f"{case.family} {case.describe()} {salt}".encode())
    )


def _amplitude(case: Case, precision: Precision) -> tuple[int, int]:
    """Return the largest number to draw, and how many terms a sum of products may have.

    A second derivative adds two sums of products and the bias, and the part of a
    complex product adds two products.
    """
    longest = _longest(case)
    for most in _AMPLITUDES:
        products = 2 * (1 + precision.complex) * most * most
        terms = (2**precision.bits - 1 - most) // products
        if terms >= longest:
            break
    return most, terms


def _longest(case: Case) -> int:
    """Return the largest number of products that any result adds up."""
    return max(
        max(case.channels, case.filters) * prod(case.taps),
        prod(case.output_shape) // max(1, case.bias_shape[0]),
        prod(case.input_shape) // (case.groups * case.channels),
    )


def _integers(
    random: np.random.Generator, shape: Sizes, most: int, precision: Precision
) -> Array:
    """Draw integers: of both signs and never zero, or, unsigned, from zero on."""

    def draw() -> Array:
        if precision.dtype is torch.uint8:
            return np.asarray(random.integers(0, most + 1, shape))
        signs = random.choice([-1, 1], shape)
        return np.asarray(random.integers(1, most + 1, shape) * signs)

    drawn = draw() + 1j * draw() if precision.complex else draw()
    return np.asarray(drawn, precision.home)


def _thinned(
    random: np.random.Generator, array: Array, axes: Sizes, terms: int
) -> Array:
    """Return the array with zeros enough that no slice has too many terms."""
    share = 1.0
    thin: Array = array
    while any(_fullest(thin, axis) > terms for axis in axes):
        share *= 0.8
        thin = array * (random.random(array.shape) < share)
    return thin


def _fullest(array: Array, axis: int) -> int:
    """Return the largest number of terms in a slice across an axis."""
    rows = np.moveaxis(array, axis, 0)
    return max((int(np.count_nonzero(row)) for row in rows), default=0)
