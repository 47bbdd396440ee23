"""Derivatives of every order and in every mode, for each argument alone and for all
together."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import (
    functional_call,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    stack_module_state,
    vjp,
)
from torch.func import vmap as torch_vmap

from scipyconv import ScipyConv2d, ScipyConv2dFunction
from scipyconv.textbook import single_channel

# torch's own forward mode loads its decompositions by what torch itself deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is :DeprecationWarning"
)

apply = ScipyConv2dFunction.apply
ARGUMENTS = ["input", "filter", "bias"]
EACH_AND_ALL = [(0,), (1,), (2,), (0, 1, 2)]


def arguments(dtype=torch.float64, batch=()):
    """Neither square nor symmetric: an input of 4 by 5 and a filter of 2 by 3."""
    return [torch.randn(shape, dtype=dtype) for shape in [(*batch, 4, 5), (2, 3), (1,)]]


def torch_conv2d(x, w, b):
    return F.conv2d(x[None, None], w[None, None], b)[0, 0]


def with_the_others_fixed(chosen, tensors):
    """The layer as a function of the chosen arguments alone, and their values."""

    def function(*values):
        given = list(tensors)
        for i, value in zip(chosen, values, strict=True):
            given[i] = value
        return apply(*given)

    return function, [tensors[i] for i in chosen]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
@pytest.mark.parametrize("chosen", EACH_AND_ALL, ids=str)
def test_gradcheck(chosen, batch, dtype):
    function, values = with_the_others_fixed(chosen, arguments(dtype, batch))
    values = [value.requires_grad_() for value in values]
    assert gradcheck(function, values, check_forward_ad=True, check_undefined_grad=True)
    assert gradgradcheck(
        function,
        values,
        check_fwd_over_rev=True,
        check_rev_over_rev=True,
        fast_mode=bool(batch),
    )  # which takes longest: along a random direction


@pytest.mark.parametrize("bias", [True, False])
def test_gradcheck_of_the_module(bias):
    layer = ScipyConv2d(2, 3, bias=bias, dtype=torch.float64)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, *_: layer(x), [x, *layer.parameters()])


def cubed(conv):
    """A scalar whose third derivatives are not zero."""
    weights = torch.randn(3, 3, dtype=torch.float64)
    return lambda *tensors: (weights * conv(*tensors) ** 3).sum()


@pytest.mark.parametrize("argnum", range(3), ids=ARGUMENTS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_any_order_in_any_mode(argnum, order):
    """The cube of the output against the same by torch's own convolution."""
    tensors = arguments()
    torch.manual_seed(1)
    ours = cubed(apply)
    torch.manual_seed(1)
    theirs = cubed(torch_conv2d)
    for _ in range(order):
        theirs = jacrev(theirs, argnums=argnum)
    expected = theirs(*tensors)
    assert expected.abs().max() > 0.1
    for modes in itertools.product([jacfwd, jacrev], repeat=order):
        function = ours
        for mode in modes:
            function = mode(function, argnums=argnum)
        torch.testing.assert_close(function(*tensors), expected)


def test_the_whole_hessian():
    """Mixed blocks too: the input's with the filter's, and so on."""
    tensors = arguments()
    torch.manual_seed(1)
    ours = hessian(cubed(apply), argnums=(0, 1, 2))(*tensors)
    torch.manual_seed(1)
    theirs = hessian(cubed(torch_conv2d), argnums=(0, 1, 2))(*tensors)
    for i, j in itertools.product(range(3), repeat=2):
        torch.testing.assert_close(ours[i][j], theirs[i][j])


def second_jvp(conv, tensors, tangents):
    return jvp(lambda *t: jvp(conv, t, tangents)[1], tensors, tangents)[1]


def test_forward_over_forward():
    """Along a direction of all three arguments the layer is a parabola: d2y = 2
    corr(dx, dw)."""
    tensors, tangents = tuple(arguments()), tuple(arguments())
    expected = 2 * torch_conv2d(tangents[0], tangents[1], None)
    torch.testing.assert_close(second_jvp(apply, tensors, tangents), expected)


def test_forward_over_forward_needs_its_cure(monkeypatch):
    """Without the private switch it is zero. When this fails, torch is cured: remove
    the switch."""

    class LeaveAsItIs:
        def __init__(self, _): ...
        def __enter__(self): ...
        def __exit__(self, *_): ...

    tensors, tangents = tuple(arguments()), tuple(arguments())
    monkeypatch.setattr(single_channel.forward_ad, "_set_fwd_grad_enabled", LeaveAsItIs)
    assert not second_jvp(apply, tensors, tangents).any()


def test_dual_tensors():
    tensors, tangents = arguments(), arguments()
    with forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(*pair) for pair in zip(tensors, tangents, strict=True)
        ]
        y, y_dot = forward_ad.unpack_dual(apply(*duals))
    torch.testing.assert_close(y, torch_conv2d(*tensors))
    expected = jvp(torch_conv2d, tuple(tensors), tuple(tangents))[1]
    torch.testing.assert_close(y_dot, expected)


SUBSETS = [s for s in itertools.product([True, False], repeat=3) if any(s)]


def loop(function, tensors, mapped):
    """What vmap does, one after the other."""
    return torch.stack(
        [
            function(*(t[i] if m else t for t, m in zip(tensors, mapped, strict=True)))
            for i in range(7)
        ]
    )


def mapped_arguments(mapped, in_dims=0, batch=()):
    shapes = [(*batch, 4, 5), (2, 3), (1,)]
    tensors = [
        torch.randn((7, *shape) if m else shape, dtype=torch.float64)
        for shape, m in zip(shapes, mapped, strict=True)
    ]
    elsewhere = [
        t.movedim(0, in_dims) if m else t for t, m in zip(tensors, mapped, strict=True)
    ]
    return tensors, elsewhere, tuple(in_dims if m else None for m in mapped)


@pytest.mark.parametrize("mapped", SUBSETS, ids=str)
@pytest.mark.parametrize("in_dims", [0, 1, -1])
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_vmap(mapped, in_dims, batch):
    tensors, elsewhere, in_dims = mapped_arguments(mapped, in_dims, batch)
    torch.testing.assert_close(
        torch_vmap(apply, in_dims=in_dims)(*elsewhere), loop(apply, tensors, mapped)
    )


@pytest.mark.parametrize("mapped", SUBSETS, ids=str)
@pytest.mark.parametrize("argnum", range(3), ids=ARGUMENTS)
def test_vmap_of_grad_and_grad_of_vmap(mapped, argnum):
    tensors, _, in_dims = mapped_arguments(mapped)
    cube = cubed(apply)
    gradient = grad(cube, argnums=argnum)
    each = loop(gradient, tensors, mapped)
    torch.testing.assert_close(torch_vmap(gradient, in_dims=in_dims)(*tensors), each)

    def total(*tensors):
        return torch_vmap(cube, in_dims=in_dims)(*tensors).sum()

    expected = each if mapped[argnum] else each.sum(0)
    torch.testing.assert_close(grad(total, argnums=argnum)(*tensors), expected)


@pytest.mark.parametrize("mapped", SUBSETS, ids=str)
def test_vmap_of_hessian(mapped):
    tensors, _, in_dims = mapped_arguments(mapped)
    second = hessian(cubed(apply), argnums=1)
    torch.testing.assert_close(
        torch_vmap(second, in_dims=in_dims)(*tensors), loop(second, tensors, mapped)
    )


def test_nested_vmap():
    """Every input with every filter and every bias."""
    xs, ws, bs = (
        torch.randn(shape, dtype=torch.float64)
        for shape in [(6, 2, 4, 5), (7, 2, 3), (8, 1)]
    )
    function = torch_vmap(apply, in_dims=(None, None, 0), out_dims=2)
    function = torch_vmap(function, in_dims=(None, 0, None))
    function = torch_vmap(function, in_dims=(0, None, None))
    y = function(xs, ws, bs)
    assert y.shape == (6, 7, 2, 3, 8, 3)
    for i, j, k in itertools.product(range(6), range(7), range(8)):
        torch.testing.assert_close(y[i, j, :, :, k], apply(xs[i], ws[j], bs[k]))


@pytest.mark.parametrize("argnum", range(3), ids=ARGUMENTS)
def test_batched_cotangents(argnum):
    """gradcheck's own check of these uses a vmap that passes through no Function."""
    tensors = arguments(batch=(2,))
    _, pull_back = vjp(apply, *tensors)
    cotangents = torch.randn(7, 2, 3, 3, dtype=torch.float64)
    batched = torch_vmap(pull_back)(cotangents)[argnum]
    one_by_one = torch.stack([pull_back(g)[argnum] for g in cotangents])
    torch.testing.assert_close(batched, one_by_one)


def test_an_ensemble_of_modules():
    layers = [ScipyConv2d(2, 3) for _ in range(7)]
    parameters, buffers = stack_module_state(layers)
    x = torch.randn(4, 5)

    def call(parameters, buffers):
        return functional_call(layers[0], (parameters, buffers), (x,))

    expected = torch.stack([layer(x) for layer in layers])
    torch.testing.assert_close(torch_vmap(call)(parameters, buffers), expected)


def test_gradients_for_each_example():
    xs, w, b = arguments(batch=(7,))
    cube = cubed(apply)
    per_example = torch_vmap(grad(cube, argnums=(1, 2)), in_dims=(0, None, None))(
        xs, w, b
    )
    for i, x in enumerate(xs):
        for ours, theirs in zip(
            per_example, grad(cube, argnums=(1, 2))(x, w, b), strict=True
        ):
            torch.testing.assert_close(ours[i], theirs)


def test_a_gradient_penalty_is_not_dropped():
    """The ancestor saved copies: its second derivative was missing without a word."""
    x, w, b = (t.requires_grad_() for t in arguments())
    g = torch.randn(3, 3, dtype=torch.float64)
    (grad_x,) = torch.autograd.grad(apply(x, w, b), x, g, create_graph=True)
    assert grad_x.requires_grad
    (of_penalty,) = torch.autograd.grad(grad_x.square().sum(), w)
    (grad_x,) = torch.autograd.grad(torch_conv2d(x, w, b), x, g, create_graph=True)
    torch.testing.assert_close(
        of_penalty, torch.autograd.grad(grad_x.square().sum(), w)[0]
    )


@pytest.mark.parametrize("changed", [0, 1], ids=ARGUMENTS[:2])
def test_a_change_between_forward_and_backward_is_noticed(changed):
    tensors = [t.requires_grad_() for t in arguments()]
    tensors[changed] = tensors[changed].clone()
    y = apply(*tensors)
    with torch.no_grad():
        tensors[changed].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(torch.randn(3, 3, dtype=torch.float64))


def test_a_change_of_the_bias_does_not_matter():
    """Its gradient needs no value of it, in torch as here."""
    x, w, b = (t.requires_grad_() for t in arguments())
    y = apply(x, w, b)
    with torch.no_grad():
        b.add_(1)
    g = torch.randn(3, 3, dtype=torch.float64)
    y.backward(g)
    torch.testing.assert_close(b.grad, g.sum().reshape(1))


def test_the_adjoint():
    """<y, g> = <x, grad_x> = <w, grad_w>: no step size, and so no error but
    rounding."""
    x, w, _ = (t.requires_grad_() for t in arguments())
    g = torch.randn(3, 3, dtype=torch.float64)
    y = apply(x, w)
    grad_x, grad_w = torch.autograd.grad(y, (x, w), g)
    for product in ((x * grad_x).sum(), (w * grad_w).sum()):
        torch.testing.assert_close(product, (y * g).sum(), rtol=1e-13, atol=1e-13)
