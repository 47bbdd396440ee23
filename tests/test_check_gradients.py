"""The gradients of any function: exact where it is linear, by many steps elsewhere."""

import pytest
import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional as F

from scipyconv.check import check_gradients

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.complex64]


def wrong_by(factor):
    """The hyperbolic tangent, with a gradient that is off by a factor."""

    class Tanh(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.tanh()

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return factor * g * (1 - x.tanh() ** 2)

    return Tanh.apply


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_linear_function_is_exact_in_any_dtype(dtype):
    x, w = torch.ones(1, 2, 4, 3, dtype=dtype), torch.ones(3, 2, 2, 2, dtype=dtype)
    report = check_gradients(F.conv2d, [x, w])
    assert report.ok
    assert {row.method for row in report.rows} == {"exact"}
    assert "exact in" in str(report)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_linear_function_that_is_off_by_little_is_wrong_in_any_dtype(dtype):
    class Nearly(Function):
        @staticmethod
        def forward(ctx, x):
            return 3 * x

        @staticmethod
        def backward(ctx, g):
            return 3 * g * (1 + 4 * torch.finfo(g.dtype).eps)

    report = check_gradients(Nearly.apply, torch.ones(4, dtype=dtype))
    assert not report.ok
    with pytest.raises(AssertionError, match="and the slope is"):
        report.raise_if_failed()


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.complex128, torch.float32], ids=str
)
@pytest.mark.parametrize(
    "function",
    [torch.tanh, torch.sin, torch.exp, F.silu, lambda x: x**3],
    ids=lambda f: f.__name__,
)
def test_smooth_functions_are_right(function, dtype):
    if dtype.is_complex and function is F.silu:
        pytest.skip("torch has none")
    report = check_gradients(function, torch.randn(7, dtype=dtype))
    assert report.ok, str(report)
    assert report.rows[0].method == "sweep"
    assert len(report.advice) == (dtype is torch.float32)


@pytest.mark.parametrize("factor", [0.0, -1.0, 2.0, 1.001, 1 + 1e-7])
def test_a_smooth_function_that_is_off_by_a_factor_is_wrong(factor):
    x = torch.randn(5, dtype=torch.float64)
    assert check_gradients(wrong_by(1.0), x).ok
    assert not check_gradients(wrong_by(factor), x).ok


def test_float32_sees_a_thousandth():
    assert check_gradients(wrong_by(1.0), torch.randn(5)).ok
    assert not check_gradients(wrong_by(1.002), torch.randn(5)).ok


def test_hidden_parameters_are_found_and_left_as_they_are():
    layer = nn.Linear(3, 2)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    scale = torch.ones(2, requires_grad=True)

    def function(x):
        return layer(x) * scale

    report = check_gradients(function, torch.ones(4, 3))
    assert [row.argument for row in report.rows] == [
        "input 0",
        "layer.weight",
        "layer.bias",
        "scale",
    ]
    assert report.ok
    assert all(torch.equal(p, before[name]) for name, p in layer.named_parameters())
    assert layer.weight.grad is None
    assert torch.equal(scale, torch.ones(2))


class Forgetful(nn.Module):
    """Its bias is used without a gradient."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * 2 + self.bias.detach()


def test_a_parameter_that_gets_no_gradient_is_wrong():
    rows = {
        row.argument: row for row in check_gradients(Forgetful(), torch.ones(2, 3)).rows
    }
    assert rows["input 0"].ok
    assert not rows["bias"].ok
    assert "there is no gradient (None)" in rows["bias"].message


def test_a_gradient_that_only_takes_contiguous_cotangents_is_wrong():
    class ByMemory(Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            stored = (
                torch.as_strided(g, (1,), (1,)) if 0 in g.stride() else g.reshape(-1)
            )
            return F.pad(stored, (0, g.numel() - stored.numel())).reshape(g.shape)

    report = check_gradients(ByMemory.apply, torch.ones(2, 3))
    assert "with a cotangent that is expanded" in report.rows[0].message


def test_what_is_lost_random_or_broken_is_said():
    def message(function):
        report = check_gradients(function, torch.ones(3))
        assert not report.ok
        return report.rows[0].message

    assert "silently lost" in message(lambda x: x.detach() * 2)
    assert "switch off what is random" in message(nn.Dropout())
    assert "it raises ValueError: no" in message(raising)
    assert "no floating-point tensor" in message(lambda x: None)


def raising(x):
    raise ValueError("no")


def test_several_outputs_and_inputs_that_are_no_tensors_are_fine():
    report = check_gradients(
        lambda x, n, y: (x * y, n * x.sum()), [torch.ones(3), 2, torch.ones(3)]
    )
    assert report.ok
    assert [row.argument for row in report.rows] == ["input 0", "input 2"]


def test_large_arguments_are_tried_along_random_directions():
    report = check_gradients(lambda x: 2 * x, torch.ones(1000))
    assert report.ok
    assert "exact in 16 directions" in report.rows[0].message

    class OneWrong(Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            g = 2 * g
            g[77] += 1
            return g

    assert not check_gradients(OneWrong.apply, torch.ones(1000)).ok


def test_nothing_to_differentiate_is_refused():
    with pytest.raises(ValueError, match="inputs must include a floating-point tensor"):
        check_gradients(lambda n: n, [3])


@pytest.mark.parametrize("seed", range(8))
def test_fine_steps_that_agree_by_chance_do_not_blame_a_right_network(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)
    ).double()
    report = check_gradients(model, torch.randn(1, 1, 4, 5).double(), seed=seed)
    assert report.ok, str(report)
