"""The oracle and its numbers: right in every derivative, and exact in every dtype."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from scipyconv.check import answers, cases
from scipyconv.check.data import integer_operands, real_operands, to_array, to_tensor
from scipyconv.check.family import FAMILIES
from scipyconv.check.precision import PRECISIONS, find_precision

NARROW = ["bfloat16", "float16", "complex64", "int8", "uint8"]
FLOATS = [name for name, each in PRECISIONS.items() if not each.integer]


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def tensors(operands, dtype):
    named = {"input": operands.x, "weight": operands.w, "bias": operands.b}
    return {
        name: to_tensor(array, dtype).requires_grad_()
        for name, array in named.items()
        if array is not None
    }


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_the_oracle_is_torchs_convolution_in_every_derivative(family, dtype):
    """Outputs, gradients and second derivatives; torch in double is exact here."""
    precision = find_precision(dtype)
    function = getattr(functional, family)
    for case in cases(family):
        at = integer_operands(case, precision)
        along = integer_operands(case, precision, "others")
        leaves, moves = tensors(at, dtype), tensors(along, dtype)
        y = function(*leaves.values(), **case.parameters)
        g = to_tensor(at.g, dtype).requires_grad_()
        gradients = torch.autograd.grad(y, list(leaves.values()), g, create_graph=True)
        right = answers.first_order(case, at)
        for came, array in zip([y, *gradients], right.values(), strict=True):
            assert np.array_equal(to_array(came, precision), array), case
        inputs = [leaves["input"], leaves["weight"], g]
        second = torch.autograd.grad(
            gradients, inputs, list(moves.values()), allow_unused=True
        )
        right = answers.second_order(case, at, along)
        for came, array in zip(second, right.values(), strict=True):
            if came is None:
                assert not array.any(), case
                continue
            assert np.array_equal(to_array(came, precision), array), case


def partial_sums(case, operands):
    """The largest that any sum of products may reach, in whatever order it is made."""
    sizes = operands.magnitudes()
    first = answers.first_order(case, sizes)
    second = answers.second_order(case, sizes, sizes)
    return max(array.max(initial=0) for array in [*first.values(), *second.values()])


@pytest.mark.parametrize("name", NARROW)
def test_every_sum_of_integers_is_exact_in_its_dtype(family, name):
    precision = find_precision(name)
    for case in cases(family, "full" if family == "conv2d" else "quick"):
        operands = integer_operands(case, precision)
        assert partial_sums(case, operands) < 2**precision.bits, case


@pytest.mark.parametrize("name", ["float32", *NARROW])
def test_zeros_would_pass_nowhere_and_neither_would_other_numbers(family, name):
    precision = find_precision(name)
    for case in cases(family):
        operands = integer_operands(case, precision)
        other = integer_operands(case, precision, "others")
        if case.batch == 0:
            continue
        right, wrong = (answers.first_order(case, each) for each in (operands, other))
        for quantity, array in right.items():
            assert array.any(), (case, quantity)
            if array.size > 3:
                assert not np.array_equal(array, wrong[quantity]), (case, quantity)


@pytest.mark.parametrize("name", FLOATS)
def test_real_operands_are_numbers_of_their_dtype(name):
    precision = find_precision(name)
    operands = real_operands(cases("conv2d")[10], precision)
    again = to_array(to_tensor(operands.x, precision.dtype), precision)
    assert np.array_equal(again, operands.x)
    assert not np.array_equal(operands.x, np.round(operands.x))


def test_unsigned_integers_are_not_negative():
    x = integer_operands(cases("conv2d")[5], find_precision("uint8")).x
    assert x.min() == 0 < x.max()
