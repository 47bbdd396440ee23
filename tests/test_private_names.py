"""The private names of PyTorch that `scipyconv/internals.py` needs, and what each is
for.

When a new PyTorch changes one, a test here says which; when one is no longer needed,
too."""

import ast
import inspect
import itertools
import warnings
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import Function, forward_ad
from torch.func import grad, jvp
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import scipyconv.functional
from scipyconv import internals, operator, short_way

NAMES = {
    "_AutoDispatchBelowAutograd",
    "_C",
    "_current_level",
    "_dispatch_tls_is_dispatch_key_included",
    "_functorch",
    "_is_tracing",
    "_len_torch_dispatch_stack",
    "_parse_dispatch_key",
    "_profiler_enabled",
    "_set_fwd_grad_enabled",
}


def private_names_of_torch(path):
    """Every name that begins with one underscore, looked up in torch or imported from
    it."""
    tree = ast.parse(Path(path).read_text("utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            found |= {*node.module.split("."), *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {
                part
                for alias in node.names
                if alias.name.startswith("torch")
                for part in alias.name.split(".")
            }
        elif isinstance(node, ast.Attribute):
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in (
                "torch",
                "forward_ad",
                "Tensor",
            ):
                found.add(node.attr)
    return {
        name for name in found if name.startswith("_") and not name.startswith("__")
    }


def test_these_are_all():
    assert private_names_of_torch(internals.__file__) == NAMES


def test_no_other_module_uses_one():
    """But the textbook layer, which a page shows whole, has the switch of forward
    mode."""
    package = Path(internals.__file__).parent
    modules = {path for path in package.rglob("*.py") if path.name != "internals.py"}
    found = {path.name: private_names_of_torch(path) for path in modules}
    assert found.pop("single_channel.py") == {"_set_fwd_grad_enabled"}
    assert found.pop("convert.py") == {"_ConvNd"}
    assert not any(found.values()), found


class Double(Function):
    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(ctx, inputs, output): ...

    @staticmethod
    def backward(ctx, g):
        return 2 * g


def test_the_part_of_apply_that_records_one_level():
    """single_level_apply: what Function.apply calls below torch.func's levels."""
    x = torch.randn(3, requires_grad=True)
    g = torch.randn(3)
    (gradient,) = torch.autograd.grad(internals.single_level_apply(Double)(x), x, g)
    assert torch.equal(gradient, 2 * g)


def test_a_function_of_one_level_must_be_let_through():
    """enable_single_level_autograd_function: inside torch.func, apply raises without
    it."""
    function = internals.single_level_apply(Double)

    def let_through(x):
        with internals.single_level():
            return function(x)

    x = torch.tensor(3.0)
    with pytest.raises(RuntimeError, match="functorch"):
        grad(function)(x)
    assert grad(let_through)(x) == 2


def test_a_profiler_is_noticed():
    """_profiler_enabled: a name for the profiler costs nothing where there is none."""
    assert not internals.is_profiled()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        assert internals.is_profiled()
    assert not internals.is_profiled()


def test_the_switch_of_forward_mode():
    """_set_fwd_grad_enabled: a context manager, and jvp runs with forward mode switched
    off."""
    assert list(inspect.signature(forward_ad._set_fwd_grad_enabled).parameters) == [
        "mode"
    ]
    seen = []

    class Probe(Function):
        @staticmethod
        def forward(x):
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output): ...

        @staticmethod
        def jvp(ctx, x_dot):
            seen.append(torch._C._is_fwd_grad_enabled())
            with forward_ad._set_fwd_grad_enabled(True):
                seen.append(torch._C._is_fwd_grad_enabled())
            seen.append(torch._C._is_fwd_grad_enabled())
            return x_dot

    jvp(Probe.apply, (torch.ones(1),), (torch.ones(1),))
    assert seen == [False, True, False]


def test_below_autograd():
    """_AutoDispatchBelowAutograd: the operator called in its own Autograd kernel is the
    next one.

    Without it the kernel would call itself for ever.
    """
    x = torch.randn(3, requires_grad=True)
    with torch._C._AutoDispatchBelowAutograd():
        assert not (2 * x).requires_grad
    assert (2 * x).requires_grad


def test_the_level_of_forward_mode():
    """_current_level: below zero outside of forward mode, and not inside, by whichever
    door."""
    assert forward_ad._current_level == -1
    with forward_ad.dual_level():
        assert forward_ad._current_level >= 0
    levels = []

    def function(x):
        levels.append(forward_ad._current_level)
        return x

    jvp(function, (torch.ones(1),), (torch.ones(1),))
    assert levels[0] >= 0
    grad(lambda x: function(x).sum())(torch.ones(1))
    assert levels[1] == forward_ad._current_level == -1


def test_the_switch_of_the_recorder():
    """_is_tracing: whether torch.jit.trace records, which sees the dispatcher's
    operators alone.

    torch.jit.is_tracing answers the same, and takes ten times as long.
    """
    seen = []

    def function(x):
        seen.append((torch._C._is_tracing(), torch.jit.is_tracing()))
        return 2 * x

    function(torch.ones(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit is deprecated
        torch.jit.trace(function, torch.ones(1), check_trace=False)
    assert seen == [(False, False), (True, True)]


def test_the_stack_of_dispatch_modes():
    """_len_torch_dispatch_stack: how many modes want to see each operator, make_fx's
    among them.

    What does not go through the dispatcher they would miss; a fake tensor has no
    numbers for it."""
    assert torch._C._len_torch_dispatch_stack() == 0
    with TorchDispatchMode(), FakeTensorMode():
        assert torch._C._len_torch_dispatch_stack() == 2
    seen = []

    def function(x):
        seen.append(torch._C._len_torch_dispatch_stack())
        return 2 * x

    make_fx(function)(torch.ones(1))
    assert seen[0] > 0
    assert torch._C._len_torch_dispatch_stack() == 0


class AsItIs:
    """A context manager that does nothing."""

    def __init__(self, *_): ...
    def __enter__(self): ...
    def __exit__(self, *_): ...


def conv(x, w):
    return scipyconv.functional.conv1d(x, w, stride=2, padding=1)


@pytest.fixture
def operands():
    torch.manual_seed(0)
    return tuple(
        torch.randn(shape, dtype=torch.float64) for shape in [(1, 1, 5), (1, 1, 2)]
    )


def forward_twice(x, w):
    return jvp(lambda *t: jvp(conv, t, (x, w))[1], (x, w), (x, w))[1]


def test_forward_over_forward_needs_the_switch(monkeypatch, operands):
    """When this fails, pytorch #197867 is cured: remove the switch in jvp."""
    assert forward_twice(*operands).any()
    monkeypatch.setattr(forward_ad, "_set_fwd_grad_enabled", AsItIs)
    assert not forward_twice(*operands).any()


def mixed_orders(x, w):
    """Forward mode and reverse mode one in the other, in every sequence of three."""

    def reverse(f):
        return lambda t: grad(lambda t: (f(t) ** 2).sum())(t)

    def forward(f):
        return lambda t: jvp(f, (t,), (x,))[1]

    results = {}
    for order in range(1, 4):
        for modes in itertools.product([forward, reverse], repeat=order):
            function = lambda t: conv(t, w) ** 3  # noqa: E731
            for mode in modes:
                function = mode(function)
            results[tuple(mode.__name__ for mode in modes)] = function(x)
    return results


@pytest.mark.parametrize("enabler", ["forward mode", "reverse mode"])
def test_mixed_orders_need_both_enablers(enabler, monkeypatch, operands):
    """Below the Autograd kernel both modes are off: left so, the levels further out see
    nothing.

    When this fails, PyTorch leaves them on: remove the enabler in forward.
    """
    expected = mixed_orders(*operands)
    assert all(result.any() for result in expected.values())

    def forward(*args):
        with (
            torch.enable_grad() if enabler == "forward mode" else AsItIs(),
            forward_ad._set_fwd_grad_enabled(True)
            if enabler == "reverse mode"
            else AsItIs(),
            torch._C._AutoDispatchBelowAutograd(),
        ):
            return operator._contract(*args)

    monkeypatch.setattr(operator.Contraction, "forward", staticmethod(forward))
    found = mixed_orders(*operands)
    assert any(not torch.allclose(found[modes], expected[modes]) for modes in expected)


def test_the_older_vmap_is_noticed():
    """_dispatch_tls_is_dispatch_key_included: is_grads_batched maps without
    torch.func's stack.

    _parse_dispatch_key: the mode's key by its name, which is the only way to have it.
    """
    conv2d = scipyconv.functional.conv2d
    x, w = torch.randn(1, 1, 3, 4, requires_grad=True), torch.randn(1, 1, 2, 3)
    y, seen = conv2d(x, w), []
    y.register_hook(lambda g: seen.append(short_way.is_plain(g)))
    g = torch.randn(3, *y.shape)
    (found,) = torch.autograd.grad(y, x, g, is_grads_batched=True, retain_graph=True)
    assert seen == [False]
    for one, cotangent in zip(found, g, strict=True):
        torch.testing.assert_close(
            one, torch.autograd.grad(y, x, cotangent, retain_graph=True)[0]
        )
    assert short_way.is_plain(x)
