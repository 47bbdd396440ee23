"""The cases of the checker: right shapes, in order, each parameter alone."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional

from scipyconv.check import cases, find_case
from scipyconv.check.cases import random_cases
from scipyconv.check.family import FAMILIES


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_torch_makes_outputs_of_the_shapes_that_cases_tell(family):
    for case in cases(family, "full"):
        x, w = torch.zeros(case.input_shape), torch.zeros(case.weight_shape)
        b = torch.zeros(case.bias_shape) if case.bias else None
        y = getattr(functional, family)(x, w, b, **case.parameters)
        assert tuple(y.shape) == case.output_shape, case


def test_the_first_failure_is_the_smallest_as_cases_come_by_size(family):
    sizes = [case.size for case in cases(family, "full")]
    assert sizes == sorted(sizes)


def test_no_two_cases_have_one_name(family):
    assert max(Counter(map(str, cases(family, "full"))).values()) == 1


def test_every_parameter_is_tried_alone(family):
    alone = {frozenset(case.parameters) for case in cases(family)}
    names = {"stride", "padding", "dilation", "groups"}
    assert {frozenset([name]) for name in names} <= alone
    assert frozenset(["stride", "groups"]) in alone


def test_every_size_of_a_tile_and_one_more_comes_out(family):
    out = {n for case in cases(family) for n in case.output_shape[2:]}
    assert {17, 65} <= out or FAMILIES[family].transposed
    assert {17} <= {n for case in cases(family) for n in case.input_shape}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
def test_the_numbers_of_a_parameter_do_not_read_the_same_backward(dims, name):
    values = [case.parameters.get(name) for case in cases(f"conv{dims}d")]
    uneven = [value for value in values if isinstance(value, tuple)]
    assert sum(value != value[::-1] for value in uneven) >= 2


def test_random_cases_are_the_same_each_time_and_differ_by_seed():
    assert random_cases("conv2d", 8) == random_cases("conv2d", 8)
    assert random_cases("conv2d", 8) != random_cases("conv2d", 8, seed=1)


def test_quick_cases_are_among_the_full_ones(family):
    assert set(map(str, cases(family))) < set(map(str, cases(family, "full")))


def test_an_unknown_family_level_or_name_is_refused():
    with pytest.raises(ValueError, match=r"family must be one of .*: it is 'conv'"):
        cases("conv")
    with pytest.raises(ValueError, match=r"level must be .* it is 'slow'"):
        cases(level="slow")
    with pytest.raises(ValueError, match=r"case must be one that .* it is 'none'"):
        find_case("conv2d", "none")


def test_a_case_checks_one_function_and_a_known_failure_must_fail():
    case = find_case("conv2d", "one channel")

    def wrong(x, w, bias=None):
        return functional.conv2d(x, w.flip(2, 3), bias)

    case.check(functional.conv2d)
    with pytest.raises(AssertionError, match="the kernel is flipped"):
        case.check(wrong)
    case.check(wrong, failing=["one-channel"])
    case.check(wrong, failing=["one channel"])
    with pytest.raises(AssertionError, match="take it off the list"):
        case.check(functional.conv2d, failing=["one-channel"])
    with pytest.raises(AssertionError, match="the kernel is flipped"):
        case.check(wrong, failing=["stride-two"])


@pytest.mark.parametrize("case", cases("conv1d")[:6], ids=str)
def test_a_test_may_be_made_of_each_case(case):
    case.check(functional.conv1d)


def test_same_padding_puts_the_greater_half_behind():
    assert find_case("conv2d", "same with even kernels").zeros == ((0, 1), (1, 2))
    assert np.array_equal(find_case("conv1d", "padding one").zeros, [(1, 1)])
