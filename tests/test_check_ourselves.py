"""The project's own functions and layers, held by the project's own checker.

Its oracle is the direct engine, so for that engine these tests compare what is around
it: arguments, gradients, memory, manners. The engine itself is compared with torch's
functions and with the definition elsewhere."""

from functools import partial

import pytest
import torch

import scipyconv
from scipyconv import ScipyConv2dFunction, functional, nn
from scipyconv.check import (
    cases,
    check_convolution,
    check_gradients,
    check_layer,
    find_case,
)
from scipyconv.check.family import FAMILIES
from scipyconv.engines.choice import METHODS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_function_by_each_engine(family, method):
    function = partial(getattr(functional, family), method=method)
    report = check_convolution(function, family, cases=cases(family)[::3])
    assert report.ok, str(report)
    assert not report.left_out


@pytest.mark.parametrize("family", FAMILIES)
def test_each_function_has_every_derivative(family):
    case = find_case(family, "several of everything")
    function = getattr(functional, family)
    report = check_convolution(function, family, cases=[case], require="all")
    assert report.ok, str(report)


@pytest.mark.parametrize(
    "name", [name for name in nn.__all__ if name.startswith("Conv")]
)
def test_each_layer(name):
    report = check_layer(getattr(nn, name), probes=["logic", "modes"])
    assert report.ok, str(report)


def test_the_textbook_layer():
    torch.manual_seed(0)
    layer = scipyconv.ScipyConv2d(2, 3, dtype=torch.float64)
    x = torch.randn(4, 5, dtype=torch.float64)
    assert check_gradients(layer, [x]).ok
    arguments = [x, layer.filter.detach(), layer.bias.detach()]
    assert check_gradients(ScipyConv2dFunction.apply, arguments).ok
