"""Every mistake in the dictionary is named when a function makes it, and only then."""

import numpy as np
import pytest
import torch
from torch.autograd import Function

from scipyconv.check import cases, check_convolution
from scipyconv.check.answers import GRADIENTS, QUANTITIES, first_order
from scipyconv.check.cases import Case
from scipyconv.check.data import integer_operands, to_array, to_tensor
from scipyconv.check.diagnosis.conditions import find_condition
from scipyconv.check.diagnosis.mistakes import MISTAKES
from scipyconv.check.operands import Operands
from scipyconv.check.precision import find_precision

NAMES = {
    "several of everything",
    "every size alike",
    "stride with a remainder",
    "groups",
    "same with even kernels",
    "everything at once",
    "output padding",
}
PROBE = {"output": "forward"}


def function_with(family, compute, spoiled):
    """A function made of the oracle, one of whose results comes from `compute`."""

    class Layer(Function):
        @staticmethod
        def forward(ctx, parameters, input, weight, bias):
            ctx.parameters, ctx.with_bias = parameters, bias is not None
            ctx.save_for_backward(input, weight, *([] if bias is None else [bias]))
            return result("output", *operands(ctx, parameters), like=input)

        @staticmethod
        def backward(ctx, g):
            case, given = operands(ctx, ctx.parameters, g)
            wanted = zip(GRADIENTS.values(), ctx.needs_input_grad[1:], strict=True)
            return None, *(
                result(quantity, case, given, like=g) if needed else None
                for quantity, needed in wanted
            )

    def operands(ctx, parameters, g=None):
        saved = ctx.to_save if g is None else ctx.saved_tensors
        x, w, *b = (array(tensor) for tensor in saved)
        case = case_of(family, x, w, b, parameters)
        g = np.zeros(case.output_shape, x.dtype) if g is None else array(g)
        return case, Operands(x, w, b[0] if b else None, g)

    def result(quantity, case, given, like):
        right = first_order(case, given)[quantity]
        found = compute(case, quantity, given) if quantity == spoiled else right
        return to_tensor(right if found is None else found, like.dtype)

    def layer(input, weight, bias=None, **parameters):
        return Layer.apply(parameters, input, weight, bias)

    return layer


def array(tensor):
    return to_array(tensor, find_precision(tensor.dtype))


def case_of(family, x, w, b, parameters):
    groups = parameters.get("groups", 1)
    dims = w.ndim - 2
    first, second = w.shape[:2]
    channels, filters = (
        (first // groups, second)
        if "transpose" in family
        else (second, first // groups)
    )
    batch = x.shape[0] if x.ndim == w.ndim else None
    return Case(
        "",
        family,
        batch,
        channels,
        filters,
        x.shape[-dims:],
        w.shape[2:],
        parameters,
        bias=bool(b),
    )


def chosen(family):
    return [case for case in cases(family) if case.name in NAMES]


def diagnosis(function, family, quantity="output"):
    """In complex numbers, so that a conjugate shows."""
    return check_convolution(
        function,
        family,
        cases=chosen(family),
        dtypes=["complex128"],
        probes=[PROBE.get(quantity, quantity)],
    )


EACH = [(mistake, quantity) for mistake in MISTAKES for quantity in mistake.quantities]


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_function_made_of_the_oracle_is_right(quantity):
    assert diagnosis(function_with("conv2d", None, None), "conv2d", quantity).ok


@pytest.mark.parametrize(
    ("mistake", "quantity"),
    EACH,
    ids=[f"{mistake.text}-{quantity}" for mistake, quantity in EACH],
)
def test_a_function_with_the_mistake_is_wrong_and_the_mistake_is_named(
    mistake, quantity
):
    """Or it is right, where a mistake makes no difference to a result."""
    family = "conv_transpose2d" if "output padding" in mistake.text else "conv2d"
    function = function_with(family, forgiving(mistake.compute), quantity)
    report = diagnosis(function, family, quantity)
    if not report.ok:
        named = [each for each in report.diagnosis if each.startswith(f"{quantity}: ")]
        assert any(mistake.text in each for each in named), str(report)


def forgiving(compute):
    def attempt(case, quantity, operands):
        try:
            return compute(case, quantity, operands)
        except (ValueError, IndexError):
            return None

    return attempt


def test_most_mistakes_make_a_difference():
    """So that the test above is not one of functions that are right."""
    precision = find_precision("complex128")
    given = [(case, integer_operands(case, precision)) for case in chosen("conv2d")]
    right = [first_order(case, operands) for case, operands in given]

    def changes(mistake, quantity):
        found = (
            forgiving(mistake.compute)(case, quantity, each) for case, each in given
        )
        return any(
            came is not None and not np.array_equal(came, known[quantity])
            for came, known in zip(found, right, strict=True)
        )

    harmless = [
        (mistake.text, quantity)
        for mistake, quantity in EACH
        if not changes(mistake, quantity)
    ]
    assert len(harmless) < len(EACH) / 8, harmless


def test_a_mistake_that_is_in_no_dictionary_is_not_named():
    def compute(case, quantity, operands):
        right = first_order(case, operands)[quantity].copy()
        right.flat[0] += 7
        return right

    report = diagnosis(function_with("conv2d", compute, "output"), "conv2d")
    assert not report.ok
    assert report.diagnosis == ()


def test_a_mistake_in_some_cases_is_named_with_what_they_have_in_common():
    def compute(case, quantity, operands):
        right = first_order(case, operands)[quantity]
        stepped = max(case.each("stride")) > 1 and case.groups > 1
        return np.flip(right, (2, 3)) if stepped else right

    function = function_with("conv2d", compute, "weight gradient")
    report = check_convolution(function, probes=["logic"], dtypes=["float64"])
    assert report.diagnosis == (
        "weight gradient: the kernel is flipped along every dimension, in all cases "
        "with a stride above 1 and several groups",
    )


def test_what_failing_cases_have_in_common_is_said_without_a_known_mistake():
    def compute(case, quantity, operands):
        right = first_order(case, operands)[quantity].copy()
        right.flat[-1] += 5 if case.filters * case.groups > 16 else 0
        return right

    function = function_with("conv2d", compute, "output")
    report = check_convolution(function, probes=["logic"], dtypes=["float64"])
    assert report.diagnosis == (
        "output: it is wrong with more than 16 output channels, and only then: in the "
        "only such case of 47 cases",
    )


def test_a_condition_tells_failing_trials_from_passing_ones():
    precision = find_precision("float32")
    trials = [(case, precision) for case in cases("conv2d")]
    odd = [trial for trial in trials if trial[0].name in ("one channel", "groups")]
    assert find_condition(odd, [trial for trial in trials if trial not in odd]) == ""
    assert find_condition([], trials) == find_condition(trials, []) == ""


def test_a_constant_factor_is_told():
    def compute(case, quantity, operands):
        return first_order(case, operands)[quantity] * 0.75

    report = diagnosis(
        function_with("conv2d", compute, "input gradient"), "conv2d", "input gradient"
    )
    assert report.diagnosis == (
        "input gradient: it is off by a factor of 0.75, in all 6 cases",
    )


def test_nothing_is_diagnosed_of_a_right_function():
    assert (
        check_convolution(torch.nn.functional.conv2d, probes=["logic"]).diagnosis == ()
    )


def test_a_bias_gradient_that_is_a_mean_is_named_also_where_it_is_nan():
    class Bias(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y, b):
            return y + b[:, None, None]

        @staticmethod
        def backward(ctx, g):
            return g, g.mean((-3, -2, -1)[-2:] if g.ndim == 3 else (0, 2, 3))

    def conv2d(input, weight, bias=None):
        y = torch.nn.functional.conv2d(input, weight)
        return y if bias is None else Bias.apply(y, bias)

    report = check_convolution(conv2d, probes=["logic"], dtypes=["float32"])
    [diagnosis] = report.diagnosis
    assert "empty batch" in {row.case for row in report.findings}
    assert "it is divided by the batch and the number of output positions" in diagnosis
