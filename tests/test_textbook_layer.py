"""The layer's numbers: against the definition, against torch, in every dtype and memory
layout."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from scipyconv import ScipyConv2d, ScipyConv2dFunction
from scipyconv.textbook import single_channel

REAL_AND_COMPLEX = [torch.float32, torch.float64, torch.complex64, torch.complex128]
HALF = [torch.float16, torch.bfloat16]

apply = ScipyConv2dFunction.apply


def random(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, requires_grad=True)


def torch_conv2d(x, w, b=None):
    """The same map by torch, for a tensor x of any number of dimensions."""
    y = F.conv2d(x.reshape(-1, 1, *x.shape[-2:]), w[None, None], b)
    return y.reshape(*x.shape[:-2], *y.shape[-2:])


def output_and_gradients(layer, tensors, g):
    y = layer(*tensors)
    return y, *torch.autograd.grad(y, [t for t in tensors if t is not None], g)


def double_loop(x, w):
    """The definition."""
    h, v = w.shape
    y = np.empty((x.shape[0] - h + 1, x.shape[1] - v + 1), x.dtype)
    for i, j in np.ndindex(y.shape):
        y[i, j] = sum(w[k, m] * x[i + k, j + m] for k in range(h) for m in range(v))
    return y


sizes = st.tuples(
    st.integers(1, 4), st.integers(1, 4), st.integers(0, 4), st.integers(0, 4)
)


@settings(deadline=None, derandomize=True)
@given(sizes, st.lists(st.integers(0, 3), max_size=3), st.integers(0, 2**32 - 1))
def test_any_shape_against_the_definition(size, batch, seed):
    height, width, more_rows, more_columns = size
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*batch, height + more_rows, width + more_columns))
    w = rng.standard_normal((height, width))
    y = apply(torch.from_numpy(x), torch.from_numpy(w))
    assert y.shape == (*batch, more_rows + 1, more_columns + 1)
    for i in np.ndindex(*batch):
        np.testing.assert_allclose(y[i], double_loop(x[i], w), atol=1e-12)


@pytest.mark.parametrize("dtype", REAL_AND_COMPLEX, ids=str)
@pytest.mark.parametrize("batch", [(), (1,), (6,), (2, 3)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_against_torch(dtype, batch, with_bias):
    x, w = random(*batch, 4, 5, dtype=dtype), random(2, 3, dtype=dtype)
    b = random(1, dtype=dtype) if with_bias else None
    g = torch.randn(*batch, 3, 3, dtype=dtype)
    ours = output_and_gradients(apply, (x, w, b), g)
    theirs = output_and_gradients(torch_conv2d, (x, w, b), g)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_is_rounded_once(dtype):
    """As close to the exact result as one rounding leaves it, though gradients sum 500
    planes."""
    x, w, b = (
        random(500, 4, 5, dtype=dtype),
        random(2, 3, dtype=dtype),
        random(1, dtype=dtype),
    )
    g = torch.randn(500, 3, 3, dtype=dtype)
    ours = output_and_gradients(apply, (x, w, b), g)
    exact = output_and_gradients(
        torch_conv2d,
        [t.detach().double().requires_grad_() for t in (x, w, b)],
        g.double(),
    )
    half_a_step = torch.finfo(dtype).eps / 2
    for one, other in zip(ours, exact, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(
            one.double(), other, rtol=1.01 * half_a_step, atol=1e-5
        )


def test_complex_filter_is_not_conjugated():
    x = torch.tensor([[1 + 2j]])
    w = torch.tensor([[3 + 4j]])
    assert apply(x, w).item() == (1 + 2j) * (3 + 4j)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str
)
def test_integers_as_in_torch(dtype):
    x, w, b = (
        torch.randint(0, 9, size, dtype=dtype) for size in [(2, 4, 5), (2, 3), (1,)]
    )
    y = apply(x, w, b)
    assert y.dtype == dtype
    assert torch.equal(y, torch_conv2d(x, w, b))


LAYOUTS = {
    "transposed": lambda: torch.randn(5, 4).mT,
    "every second column": lambda: torch.randn(4, 10)[:, ::2],
    "expanded": lambda: torch.randn(4, 1).expand(3, 4, 5),
    "flipped": lambda: torch.randn(4, 5).flip(0),
    "conjugated": lambda: torch.randn(4, 5, dtype=torch.complex64).conj(),
    "negated": lambda: torch.randn(4, 5, dtype=torch.complex64).conj().imag,
    "from NumPy, reversed and copied": lambda: torch.from_numpy(
        np.eye(4, 5)[::-1].copy()
    ).float(),
    "requires a gradient": lambda: torch.randn(4, 5, requires_grad=True),
    "a parameter": lambda: torch.nn.Parameter(torch.randn(4, 5)),
    "one number in memory": lambda: torch.broadcast_to(torch.tensor(2.0), (4, 5)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(layout):
    x = LAYOUTS[layout]()
    w = x.detach()[..., :2, 1:4].reshape(-1, 2, 3)[
        0
    ]  # a view of x where that is possible
    before = x.detach().clone(), w.clone()
    y = apply(x, w)
    torch.testing.assert_close(y, torch_conv2d(x.clone(), w.clone()))
    assert torch.equal(x, before[0])
    assert torch.equal(w, before[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
def test_results_share_no_memory_with_arguments(dtype):
    x, w, b = (
        torch.ones(4, 5).to(dtype),
        torch.ones(1, 1).to(dtype),
        torch.zeros(1).to(dtype),
    )
    y = apply(x, w, b)
    assert torch.equal(y, x)
    y.zero_()
    assert x.all()
    assert w.all()


def test_gradients_share_no_memory_with_the_cotangent():
    """With an output of one number, its cotangent is the gradient of the bias: a copy
    of it."""
    tensors, g = (
        (random(2, 3), random(2, 3), random(1)),
        torch.ones(1, 1, dtype=torch.float64),
    )
    for gradient in torch.autograd.grad(apply(*tensors), tensors, g):
        gradient.zero_()
    assert g == 1


def test_as_many_dimensions_as_torch_has():
    x, w, b = random(*[1] * 62, 4, 5), random(2, 3), random(1)
    g = torch.randn(*[1] * 62, 3, 3, dtype=torch.float64)
    ours = output_and_gradients(apply, (x, w, b), g)
    theirs = output_and_gradients(torch_conv2d, (x, w, b), g)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("batch", [(0,), (3, 0), (0, 2)], ids=str)
def test_no_planes(batch):
    x, w, b = random(*batch, 4, 5), random(2, 3), random(1)
    y = apply(x, w, b)
    assert y.shape == (*batch, 3, 3)
    grad_x, grad_w, grad_b = torch.autograd.grad(y, (x, w, b), torch.ones_like(y))
    assert grad_x.shape == x.shape
    assert torch.equal(grad_w, torch.zeros_like(w))
    assert torch.equal(grad_b, torch.zeros_like(b))


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_the_bias_gradient_has_the_bias_shape(shape):
    x, w, b = random(6, 4, 5), random(2, 3), random(*shape)
    g = torch.randn(6, 3, 3, dtype=torch.float64)
    (grad_b,) = torch.autograd.grad(apply(x, w, b), b, g)
    assert grad_b.shape == shape
    torch.testing.assert_close(grad_b, g.sum().reshape(shape))


def calls_of_scipy(monkeypatch, work):
    """Run `work` and return what SciPy was asked for: name, shapes of the two arrays,
    mode."""
    calls = []

    def spy(name):
        original = getattr(single_channel, name)

        def spied(in1, in2, mode):
            calls.append((name, in1.shape, in2.shape, mode))
            return original(in1, in2, mode)

        monkeypatch.setattr(single_channel, name, spied)

    spy("correlate2d")
    spy("convolve2d")
    work()
    return calls


FORWARD = ("correlate2d", (4, 5), (2, 3), "valid")
FOR_INPUT = ("convolve2d", (3, 3), (2, 3), "full")
FOR_FILTER = ("correlate2d", (4, 5), (3, 3), "valid")


@pytest.mark.parametrize("needs_x", [True, False])
@pytest.mark.parametrize("needs_w", [True, False])
@pytest.mark.parametrize("needs_b", [True, False])
def test_scipy_computes_what_is_needed_and_no_more(
    monkeypatch, needs_x, needs_w, needs_b
):
    needs = needs_x, needs_w, needs_b
    tensors = [
        torch.randn(shape).requires_grad_(need)
        for shape, need in zip([(4, 5), (2, 3), (1,)], needs, strict=True)
    ]

    def forward_and_backward():
        y = apply(*tensors)
        assert y.requires_grad == any(needs)
        if any(needs):
            y.backward(torch.randn(3, 3))

    calls = calls_of_scipy(monkeypatch, forward_and_backward)
    print(*calls, sep="\n")
    assert calls == [FORWARD] + [FOR_INPUT] * needs_x + [FOR_FILTER] * needs_w
    assert [t.grad is not None for t in tensors] == list(needs)


def test_one_call_of_scipy_for_each_plane(monkeypatch):
    x, w = random(2, 3, 4, 5), random(2, 3)
    calls = calls_of_scipy(
        monkeypatch, lambda: apply(x, w).backward(torch.ones(2, 3, 3, 3))
    )
    assert calls == [FORWARD] * 6 + [FOR_INPUT] * 6 + [FOR_FILTER] * 6


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.complex64], ids=str)
def test_meta_and_fake_tensors_have_the_right_shapes(monkeypatch, dtype):
    def forward_and_backward(x, w, b):
        y = apply(x, w, b)
        return y, *torch.autograd.grad(y, (x, w, b), torch.ones_like(y))

    arguments = [random(*shape, dtype=dtype) for shape in [(6, 4, 5), (2, 3), (1,)]]
    meta = [t.detach().to("meta").requires_grad_() for t in arguments]
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(t) for t in arguments]

    def compute():
        for t, like in zip(
            forward_and_backward(*meta), [meta[0][:, :3, :3], *meta], strict=True
        ):
            assert (t.shape, t.dtype, t.device.type) == (like.shape, dtype, "meta")
        for t, like in zip(
            forward_and_backward(*fake), [fake[0][:, :3, :3], *fake], strict=True
        ):
            assert isinstance(t, FakeTensor)
            assert (t.shape, t.dtype, t.device.type) == (like.shape, dtype, "cpu")

    assert calls_of_scipy(monkeypatch, compute) == []


def test_the_module_computes_the_function():
    layer, x = ScipyConv2d(2, 3), torch.randn(6, 4, 5)
    assert torch.equal(layer(x), apply(x, layer.filter, layer.bias))
    layer = ScipyConv2d(2, 3, bias=False)
    assert layer.bias is None
    assert torch.equal(layer(x), apply(x, layer.filter, None))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 2), (5, 5)], ids=str)
@pytest.mark.parametrize("dtype", [*HALF, *REAL_AND_COMPLEX], ids=str)
def test_the_module_starts_as_torch_does(size, dtype):
    torch.manual_seed(3)
    ours = ScipyConv2d(*size, dtype=dtype)
    torch.manual_seed(3)
    theirs = torch.nn.Conv2d(1, 1, size, dtype=dtype)
    torch.testing.assert_close(ours.filter, theirs.weight[0, 0])
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_reset_parameters():
    layer = ScipyConv2d(2, 3)
    before = copy.deepcopy(layer.state_dict())
    layer.reset_parameters()
    for name, value in layer.state_dict().items():
        assert not torch.equal(value, before[name])
        assert value.abs().max() <= 6**-0.5


def test_reset_parameters_leaves_what_a_subclass_adds():
    class Scaled(ScipyConv2d):
        def __init__(self):
            super().__init__(2, 3)
            self.scale = torch.nn.Parameter(torch.ones(1))
            self.norm = torch.nn.LayerNorm(3)

    layer = Scaled()
    layer.reset_parameters()
    assert layer.scale == 1
    assert torch.equal(layer.norm.weight, torch.ones(3))


def test_device_and_dtype():
    layer = ScipyConv2d(2, 3, device="meta", dtype=torch.complex128)
    for parameter in layer.parameters():
        assert (parameter.device.type, parameter.dtype) == ("meta", torch.complex128)
    assert layer(torch.empty(4, 5, device="meta", dtype=torch.complex128)).shape == (
        3,
        3,
    )
    layer = ScipyConv2d(2, 3).to(torch.float64)
    assert layer(torch.randn(4, 5, dtype=torch.float64)).dtype == torch.float64


def test_representation():
    assert (
        repr(ScipyConv2d(2, 3))
        == "ScipyConv2d(filter_height=2, filter_width=3, bias=True)"
    )
    assert "bias=False" in repr(ScipyConv2d(2, 3, bias=False))


def through_file(layer):
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    twin = ScipyConv2d(2, 3, bias=layer.bias is not None)
    twin.load_state_dict(torch.load(file))
    return twin


@pytest.mark.parametrize(
    "twin_of",
    [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)), through_file],
    ids=["deepcopy", "pickle", "state_dict"],
)
@pytest.mark.parametrize("bias", [True, False])
def test_copies(twin_of, bias):
    layer, x = ScipyConv2d(2, 3, bias=bias), torch.randn(4, 5)
    assert list(layer.state_dict()) == (["filter", "bias"] if bias else ["filter"])
    twin = twin_of(layer)
    before = twin(x)
    assert torch.equal(before, layer(x))
    with torch.no_grad():
        layer.filter.zero_()
    assert torch.equal(twin(x), before)


def test_compile_falls_back_to_python():
    """Dynamo cannot look into SciPy: it breaks the graph there, and the numbers stay
    right."""
    model = torch.nn.Sequential(torch.nn.Tanh(), ScipyConv2d(2, 3), torch.nn.Tanh())
    tensors, g = (
        [torch.randn(4, 5, requires_grad=True), *model.parameters()],
        torch.randn(3, 3),
    )

    def run(model):
        return output_and_gradients(lambda x, *_: model(x), tensors, g)

    with pytest.warns(UserWarning, match="Dynamo does not know how to trace"):
        compiled = run(torch.compile(model, backend="aot_eager"))
    for one, other in zip(compiled, run(model), strict=True):
        torch.testing.assert_close(one, other)
