"""The bounds on rounding: torch keeps them, and comes near them."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from scipyconv.check import cases, check_convolution
from scipyconv.check.bounds import terms
from scipyconv.check.family import find_family
from scipyconv.check.plan import make_plan
from scipyconv.check.precision import find_precision
from scipyconv.check.subject import Subject


def worst(function, dtype, family="conv2d"):
    """The largest error, of all results in all cases, over its bound."""
    plan = make_plan(family, dtypes=[dtype])
    subject, found = Subject(function, find_family(family)), 0.0
    for case, precision in plan.trials:
        trial = plan.make_trial(subject, case, precision)
        for quantity, tensor in trial.run(trial.reals).items():
            error = np.abs(trial.read(tensor) - trial.right_reals[quantity])
            limit = trial.limit(quantity)
            found = max(found, np.max(error[error > 0] / limit[error > 0], initial=0.0))
    return found


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_torch_keeps_the_bound_and_comes_near_it(dtype):
    assert 0.02 < worst(F.conv2d, dtype) < 1


def test_the_number_of_terms_is_what_ones_add_up_to():
    """Away from the border: the largest sum of ones is the number of terms."""
    from scipyconv.check import answers
    from scipyconv.check.operands import Operands

    for family in ("conv2d", "conv_transpose2d"):
        for case in cases(family):
            ones = Operands(
                np.ones(case.input_shape),
                np.ones(case.weight_shape),
                None,
                np.ones(case.output_shape),
            )
            for quantity, counts in answers.first_order(case, ones).items():
                assert counts.max(initial=0) <= terms(case, quantity), (case, quantity)


def test_a_function_that_errs_by_four_times_the_unit_is_not_right():
    """Of results of few terms: the bound is that of the terms, not a tolerance."""
    unit = find_precision("float32").unit

    def noisy(x, w, bias=None):
        return F.conv2d(x, w, bias) * (1 + 8 * unit)

    small = [case for case in cases("conv2d") if case.name == "one pixel one tap"]
    assert check_convolution(F.conv2d, cases=small, probes=["rounding"]).ok
    assert not check_convolution(noisy, cases=small, probes=["rounding"]).ok


def test_float16_may_accumulate_in_itself_and_must_not_where_more_is_asked():
    options = {"dtypes": ["float16"], "probes": ["rounding of the gradients"]}
    some = [case for case in cases("conv2d") if case.name == "sixty-five outputs"]
    assert check_convolution(F.conv2d, cases=some, **options).ok
    report = check_convolution(
        in_eleven_bits, cases=some, accumulate="float32", **options
    )
    assert not report.ok
    assert "(sums in float32)" in " ".join(str(report).split())


class in_eleven_bits_function(torch.autograd.Function):
    """A convolution whose weight gradient is summed in float16."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return F.conv2d(x, w)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        height, width = g.shape[2:]
        total = torch.zeros_like(w)
        for i in range(height):
            for j in range(width):
                window = x[:, :, i : i + w.shape[2], j : j + w.shape[3]]
                total += torch.einsum("no,nchw->ochw", g[:, :, i, j], window)
        return torch.nn.grad.conv2d_input(x.shape, w, g), total


def in_eleven_bits(x, w):
    return in_eleven_bits_function.apply(x, w)


def test_a_transform_is_held_to_a_bound_of_norms():
    def by_transform(x, w, factor=1.0):
        size = [m + n - 1 for m, n in zip(x.shape[2:], w.shape[2:], strict=True)]
        spectra = torch.einsum(
            "nchw,ochw->nohw",
            torch.fft.rfft2(x, size),
            torch.fft.rfft2(w.flip(2, 3), size),
        )
        full = torch.fft.irfft2(spectra, size)
        rows = slice(w.shape[2] - 1, x.shape[2])
        columns = slice(w.shape[3] - 1, x.shape[3])
        return full[:, :, rows, columns] * factor

    some = [case for case in cases("conv2d") if not case.parameters and case.batch]
    assert check_convolution(by_transform, cases=some[-1:], probes=["rounding"]).ok
    assert check_convolution(by_transform, cases=some, probes=["logic", "rounding"]).ok
    spoiled = check_convolution(
        lambda x, w: by_transform(x, w, 1 + 1e-4),
        cases=some,
        probes=["logic", "rounding"],
    )
    assert {row.verdict for row in spoiled.findings} == {"rounding"}


def test_a_transform_that_is_exact_by_luck_in_a_small_case_is_still_one():
    """fft-conv-pytorch 1.2.0: the first case whose rounding is more than a sum's."""

    def conv1d(input, weight):
        size = input.shape[2]
        spectra = torch.einsum(
            "ncl,ocl->nol",
            torch.fft.rfft(input, size),
            torch.fft.rfft(weight, size).conj(),
        )
        kept = size - weight.shape[2] + 1
        return torch.fft.irfft(spectra, size)[..., :kept]

    for case in cases("conv1d"):
        if not case.parameters and case.batch:
            report = check_convolution(
                conv1d, "conv1d", cases=[case], probes=["rounding"], dtypes=["float32"]
            )
            assert report.ok, str(report)


def test_a_function_may_transform_where_no_gradient_is_wanted_and_add_up_elsewhere():
    """scipyconv's own method="auto" chooses so for a transposed convolution."""

    def conv1d(input, weight):
        if input.requires_grad:
            return torch.nn.functional.conv1d(input, weight)
        spectra = torch.einsum(
            "ncl,ocl->nol",
            torch.fft.rfft(input, input.shape[2]),
            torch.fft.rfft(weight, input.shape[2]).conj(),
        )
        kept = input.shape[2] - weight.shape[2] + 1
        return torch.fft.irfft(spectra, input.shape[2])[..., :kept]

    for case in cases("conv1d"):
        if not case.parameters and case.batch:
            report = check_convolution(
                conv1d, "conv1d", cases=[case], probes=["rounding"], dtypes=["float32"]
            )
            assert report.ok, str(report)


def test_an_empty_batch_that_raises_is_not_supported_and_no_mistake():
    def conv2d(input, weight):
        if len(input) == 0:
            raise RuntimeError("no samples")
        return torch.nn.functional.conv2d(input, weight)

    report = check_convolution(conv2d, probes=["logic"], dtypes=["float32"])
    assert report.ok, str(report)
    assert "an empty batch" in {each.feature for each in report.unsupported}
    assert not check_convolution(
        conv2d, probes=["logic"], dtypes=["float32"], require=["an empty batch"]
    ).ok
