"""The short way past the dispatcher: only where nothing is lost, and then with the same
numbers."""

import numpy as np
import pytest
import torch
from geometries import RICH, names
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functionalize, grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from scipyconv import functional, short_way
from scipyconv.functional import conv2d

pytestmark = pytest.mark.usefixtures("engine")


class Subclass(torch.Tensor):
    pass


def fake():
    with FakeTensorMode():
        return short_way.is_plain(torch.empty(3))


def dual():
    with forward_ad.dual_level():
        return short_way.is_plain(torch.ones(3))


def inside(transform):
    """What is_plain answers within a transform of a function."""
    seen = []

    def function(x):
        seen.append(short_way.is_plain(x))
        return (2 * x).sum()

    transform(function)
    return any(seen)


X = torch.arange(3.0)
NOT_PLAIN = {
    "vmap": lambda: inside(lambda f: vmap(f)(X)),
    "grad": lambda: inside(lambda f: grad(f)(X)),
    "jvp": lambda: inside(lambda f: jvp(f, (X,), (X,))),
    "functionalize": lambda: inside(lambda f: functionalize(f)(X)),
    "make_fx": lambda: inside(lambda f: make_fx(f)(X)),
    "dual level": dual,
    "fake": fake,
    "compile": lambda: torch.compile(
        lambda x: x + short_way.is_plain(x), backend="eager", fullgraph=True
    )(torch.zeros(())).item(),
    "meta": lambda: short_way.is_plain(X.to("meta")),
    "sparse": lambda: short_way.is_plain(X.to_sparse()),
    "subclass": lambda: short_way.is_plain(X.as_subclass(Subclass)),
    "one of two": lambda: short_way.is_plain(X, X.to("meta")),
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_not_plain(what):
    assert not NOT_PLAIN[what]()


def test_plain():
    for t in (
        X,
        torch.nn.Parameter(X),
        X.clone().requires_grad_(),
        None,
        X[::2],
        X.double(),
    ):
        assert short_way.is_plain(t)
    with torch.no_grad():
        assert short_way.is_plain(X)
    with torch.inference_mode():
        assert short_way.is_plain(torch.ones(2))


def results(case, tensors, g):
    leaves = [t.detach().requires_grad_() for t in tensors]
    y = case.ours(*leaves)
    return y, torch.autograd.grad(y, leaves, g)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.complex128], ids=str
)
@pytest.mark.parametrize("case", **names(RICH))
def test_the_operators_numbers(case, dtype, monkeypatch):
    tensors = case.tensors(dtype)
    g = torch.randn_like(case.ours(*tensors))
    y, short = results(case, tensors, g)
    assert "ConvolutionBackward" in repr(y.grad_fn) or "Squeeze" in repr(y.grad_fn)
    monkeypatch.setattr(short_way, "is_plain", lambda *_: False)
    long_y, long = results(case, tensors, g)
    assert "ConvolutionBackward" not in repr(long_y.grad_fn)
    for one, other in zip((y, *short), (long_y, *long), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("case", **names(RICH))
def test_double_backward(case):
    tensors = case.tensors(requires_grad=True)
    g = torch.randn_like(case.ours(*tensors)).requires_grad_()

    def second(function):
        first = torch.autograd.grad(function(*tensors), tensors, g, create_graph=True)
        loss = sum(f.pow(3).sum() for f in first)
        return torch.autograd.grad(loss, (*tensors[:2], g))

    for one, other in zip(second(case.ours), second(case.theirs), strict=True):
        torch.testing.assert_close(one, other)


def convolved(x, w):
    return conv2d(x, w, padding=1, stride=2)


def leaves():
    return (
        torch.randn(2, 2, 9, 8, requires_grad=True),
        torch.randn(4, 2, 3, 2, requires_grad=True),
    )


def test_saved_tensors_go_through_hooks():
    """The operands alone, whatever the engine: then a hook sees what it sees in
    torch."""
    x, w = leaves()
    packed = []

    def pack(t):
        packed.append(t.shape)
        return t.detach().numpy().copy()

    with torch.autograd.graph.saved_tensors_hooks(pack, torch.from_numpy):
        y = convolved(x, w)
    assert packed == [x.shape, w.shape]
    g = torch.randn_like(y)
    wanted = torch.autograd.grad(
        torch.nn.functional.conv2d(x, w, padding=1, stride=2), (x, w), g
    )
    for one, other in zip(torch.autograd.grad(y, (x, w), g), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint(reentrant):
    x, w = leaves()
    y = checkpoint(lambda x, w: convolved(x, w).sin(), x, w, use_reentrant=reentrant)
    g = torch.randn_like(y)
    y.backward(g)
    expected = torch.nn.functional.conv2d(x, w, padding=1, stride=2).sin()
    for t, other in zip((x, w), torch.autograd.grad(expected, (x, w), g), strict=True):
        torch.testing.assert_close(t.grad, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changed", [0, 1])
def test_a_change_of_what_was_saved_is_noticed(changed):
    tensors = [t.clone() for t in leaves()]
    y = convolved(*tensors)
    with torch.no_grad():
        tensors[changed].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(torch.randn_like(y))


@pytest.mark.parametrize("name", ["stride", "dilation", "padding", "groups"])
def test_a_call_that_was_checked_lets_no_other_pass(name):
    """1, 1.0 and True are equal, and only the first is taken."""
    x, w = torch.randn(1, 1, 5, 5), torch.randn(1, 1, 2, 2)
    wrong = (
        [1.0, True]
        if name == "groups"
        else [(1.0, 1.0), 1.0, True, (True, 1), "1", "(1, 1)"]
    )
    for right in [1] if name == "groups" else [1, (1, 1)]:
        conv2d(x, w, **{name: right})
        conv2d(x, w, **{name: right})
    for value in wrong:
        with pytest.raises((TypeError, RuntimeError, ValueError)):
            conv2d(x, w, **{name: value})


def test_a_call_that_was_checked_looks_at_all_of_the_tensors():
    x, w, b = torch.randn(2, 4, 5, 5), torch.randn(6, 2, 2, 2), torch.randn(6)
    functional.conv2d(x, w, b, groups=2)
    for wrong in [
        (x[:, :3], w, b),
        (x, w[:5], b),
        (x, w, b[:5]),
        (x, w.double(), b),
        (x, w, b.double()),
        (x[0, 0, 0], w, b),
        (x, w[..., None], b),
    ]:
        with pytest.raises(RuntimeError, match=" must "):
            functional.conv2d(*wrong, groups=2)
    for wrong in [(x.numpy(), w, b), (None, w, b), (x, None, b), (x, w, 3)]:
        with pytest.raises(TypeError, match=" must "):
            functional.conv2d(*wrong, groups=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert functional.conv2d(x, w, b, groups=2).dtype is torch.bfloat16


def test_calls_that_were_checked_are_not_kept_for_ever(monkeypatch):
    calls = dict.fromkeys(range(4096))
    monkeypatch.setattr(short_way, "_CALLS", calls)
    conv2d(torch.randn(1, 1, 5, 5), torch.randn(1, 1, 2, 2))
    assert len(calls) == 1


def test_numpys_error_state_is_left_alone():
    """Also where a backward of the short way calls the operator."""
    before = np.geterr()
    x, w = (
        torch.randn(1, 2, 6, 7, requires_grad=True),
        torch.randn(3, 2, 3, 2, requires_grad=True),
    )
    y = conv2d(x, w)
    for first in torch.autograd.grad(y, (x, w), torch.randn_like(y), create_graph=True):
        first.pow(2).sum().backward(retain_graph=True)
    assert np.geterr() == before


def test_the_biass_gradient_of_a_channels_last_cotangent():
    """In one precision added up one after the other, 0.1 drifts."""
    x, w = torch.randn(8, 1, 224, 224), torch.randn(4, 1, 1, 1)
    bias = torch.zeros(4, requires_grad=True)
    g = torch.full((8, 4, 224, 224), 0.1).to(memory_format=torch.channels_last)
    [found] = torch.autograd.grad(conv2d(x, w, bias), bias, g)
    torch.testing.assert_close(
        found, torch.full((4,), 0.1 * 8 * 224 * 224), rtol=1e-6, atol=0
    )
