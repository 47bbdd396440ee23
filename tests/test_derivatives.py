"""Derivatives of the six functions: each argument alone and all together, any order,
any mode."""

import itertools
from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from geometries import CASES, RICH, TINY, border, names
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import (
    functional_call,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    stack_module_state,
    vjp,
    vmap,
)

import scipyconv.functional
import scipyconv.nn

ARGUMENTS = ["input", "weight", "bias"]
EACH_AND_ALL = [(0,), (1,), (2,), (0, 1, 2)]
SUBSETS = [s for s in itertools.product([True, False], repeat=3) if any(s)]
PLANE = [case for case in RICH if case.dims == 2]
#: A form linear in each argument has no error but rounding, however wide the step.
EXACT = {"eps": 0.1, "atol": 1e-9, "rtol": 1e-9}
COUNT = Counter()

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(scope="module", autouse=True)
def _report(record_testsuite_property):
    """How many checks there were, in pytest's XML and at its end (-rP, -s)."""
    yield
    for what, count in COUNT.items():
        record_testsuite_property(what, count)
        print(f"{what}: {count}")


def close(one, other):
    """Nothing is so large or so small here that rounding needs more."""
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def of(case, chosen, dtype=torch.float64):
    """The function of the chosen arguments alone, and their values."""
    tensors = case.tensors(dtype)

    def function(*values):
        given = list(tensors)
        for i, value in zip(chosen, values, strict=True):
            given[i] = value
        return case.ours(*given)

    return function, [tensors[i].requires_grad_() for i in chosen]


def cubed(function, case):
    """A scalar whose derivatives of every order up to the third are not zero."""
    cotangent = torch.randn(case.theirs(*case.tensors()).shape, dtype=torch.float64)
    return lambda *tensors: (cotangent * function(*tensors) ** 3).sum()


# Against differences


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("case", **names(TINY))
def test_gradcheck(case, dtype, engine):
    for chosen in EACH_AND_ALL:
        function, values = of(case, chosen, dtype)
        assert gradcheck(function, values, check_forward_ad=True, **EXACT)
        COUNT[f"gradcheck, reverse and forward, entry by entry, {dtype}, {engine}"] += 1


@pytest.mark.parametrize("case", **names(CASES))
@pytest.mark.parametrize("chosen", EACH_AND_ALL, ids=str)
def test_gradcheck_along_a_random_direction(case, chosen, engine):
    function, values = of(case, chosen)
    assert gradcheck(function, values, check_forward_ad=True, fast_mode=True, **EXACT)
    COUNT[f"gradcheck, reverse and forward, a random direction, float64, {engine}"] += 1


@pytest.mark.parametrize("case", **names(TINY))
def test_gradgradcheck(case, engine):
    function, values = of(case, (0, 1, 2))
    assert gradgradcheck(function, values, check_fwd_over_rev=True, **EXACT)
    COUNT[
        f"gradgradcheck, forward over reverse, entry by entry, float64, {engine}"
    ] += 1


@pytest.mark.parametrize("case", **names(CASES))
def test_gradgradcheck_along_a_random_direction(case, engine):
    function, values = of(case, (0, 1, 2))
    assert gradgradcheck(
        function, values, check_fwd_over_rev=True, fast_mode=True, **EXACT
    )
    COUNT[
        f"gradgradcheck, forward over reverse, a random direction, float64, {engine}"
    ] += 1


@pytest.mark.parametrize("case", **names(TINY))
def test_gradgradcheck_of_complex_numbers(case, engine):
    function, values = of(case, (0, 1, 2), torch.complex128)
    assert gradgradcheck(
        function, values, check_fwd_over_rev=True, fast_mode=True, **EXACT
    )
    COUNT[
        f"gradgradcheck, forward over reverse, a random direction, complex128, {engine}"
    ] += 1


# Against torch


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("case", **names(CASES))
def test_output_and_gradients_against_torch(case, dtype):
    """The conjugates, too, where gradcheck passes either way if forward and backward
    agree."""
    tensors = case.tensors(dtype)
    ours, back = vjp(case.ours, *tensors)
    theirs, their_back = vjp(case.theirs, *tensors)
    close(ours, theirs)
    g = torch.randn(ours.shape, dtype=dtype)
    for one, other in zip(back(g), their_back(g), strict=True):
        close(one, other)


@pytest.mark.parametrize("argnum", range(3), ids=ARGUMENTS)
@pytest.mark.parametrize("case", **names([TINY[0], TINY[4]]))
@pytest.mark.parametrize("order", [2, 3])
def test_any_order_in_any_mode(case, argnum, order):
    """Third order, and reverse and forward over each other in every sequence."""
    tensors = case.tensors()
    ours, theirs = (cubed_with_seed(f, case) for f in (case.ours, case.theirs))
    for _ in range(order):
        theirs = jacrev(theirs, argnums=argnum)
    expected = theirs(*tensors)
    assert expected.abs().max() > 0.1
    for modes in itertools.product([jacfwd, jacrev], repeat=order):
        function = ours
        for mode in modes:
            function = mode(function, argnums=argnum)
        close(function(*tensors), expected)


def cubed_with_seed(function, case):
    torch.manual_seed(1)
    return cubed(function, case)


@pytest.mark.parametrize("case", **names(TINY))
def test_the_whole_hessian(case):
    """Mixed blocks too: the input's with the weight's, and so on."""
    tensors = case.tensors()
    ours, theirs = (
        hessian(cubed_with_seed(f, case), argnums=(0, 1, 2))(*tensors)
        for f in (case.ours, case.theirs)
    )
    for i, j in itertools.product(range(3), repeat=2):
        close(ours[i][j], theirs[i][j])


@pytest.mark.parametrize("case", **names(RICH))
def test_third_order_of_mixed_arguments(case):
    """By input, weight and input again, each as torch has it.

    With output_padding torch raises in its own double backward: so it does not hear of
        that.
    """
    pairs = tuple(border(case.options.get("padding", 0), [0] * case.dims, 0, 0, 0))
    theirs = case.theirs
    if case.transposed:
        theirs = case._replace(options=case.options | {"padding": pairs}).theirs
    tensors, directions = case.tensors(), case.tensors()
    results = []
    for function in (case.ours, theirs):
        f = cubed_with_seed(function, case)
        for i in (0, 1, 0):

            def f(*t, f=f, i=i):
                return (directions[i] * grad(f, argnums=i)(*t)).sum()

        results.append(grad(f, argnums=(0, 1, 2))(*tensors))
    for one, other in zip(*results, strict=True):
        assert other.any()
        close(one, other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("case", **names(RICH))
def test_forward_over_forward(case, dtype):
    """Silently zero through an autograd.Function (pytorch #197867); gradgradcheck
    cannot see it.

    Along a direction of all three arguments a convolution is a parabola: d2y = 2
        conv(dx, dw).
    """
    tensors, tangents = tuple(case.tensors(dtype)), tuple(case.tensors(dtype))
    expected = 2 * case.theirs(*tangents[:2])
    assert expected.abs().max() > 0.1

    def once(*t):
        return jvp(case.ours, t, tangents)[1]

    close(jvp(once, tensors, tangents)[1], expected)
    other = tuple(case.tensors(dtype))
    mixed = case.theirs(tangents[0], other[1]) + case.theirs(other[0], tangents[1])
    close(jvp(once, tensors, other)[1], mixed)


@pytest.mark.parametrize("case", **names(TINY[:2] + TINY[3:5]))
def test_jacfwd_of_jacfwd(case):
    """The same by torch.func's Jacobians: the block of input and weight does not depend
    on them."""
    tensors = case.tensors()
    ours = jacfwd(jacfwd(case.ours, argnums=0), argnums=1)(*tensors)
    assert ours.any()
    close(ours, jacrev(jacrev(case.theirs, argnums=0), argnums=1)(*tensors))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("case", **names(RICH))
def test_jvp_of_each_argument_alone(case, dtype):
    tensors, tangents = case.tensors(dtype), case.tensors(dtype)
    for i in range(3):

        def with_the_others_fixed(function, i=i):
            return lambda t: function(*tensors[:i], t, *tensors[i + 1 :])

        ours, theirs = (
            jvp(with_the_others_fixed(f), (tensors[i],), (tangents[i],))[1]
            for f in (case.ours, case.theirs)
        )
        close(ours, theirs)


@pytest.mark.parametrize("case", **names(RICH))
def test_dual_tensors(case):
    tensors, tangents = case.tensors(), case.tensors()
    with forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(*pair) for pair in zip(tensors, tangents, strict=True)
        ]
        y, y_dot = forward_ad.unpack_dual(case.ours(*duals))
    close(y, case.theirs(*tensors))
    close(y_dot, jvp(case.theirs, tuple(tensors), tuple(tangents))[1])


@pytest.mark.filterwarnings(
    "ignore:Attempted to insert a get_attr Node:UserWarning"
)  # torch's own
@pytest.mark.parametrize("case", **names(RICH))
def test_linearize(case):
    """Switching between a Function and a custom operator lost the tangent here,
    silently."""
    tensors = case.tensors()
    y, push = linearize(case.ours, *tensors)
    close(y, case.theirs(*tensors))
    for _ in range(2):
        tangents = tuple(case.tensors())
        close(push(*tangents), jvp(case.theirs, tuple(tensors), tangents)[1])


@pytest.mark.parametrize("mode", [jacrev, jacfwd])
@pytest.mark.parametrize("case", **names(TINY))
def test_jacobians(case, mode):
    tensors = case.tensors()
    for i in range(3):
        close(
            mode(case.ours, argnums=i)(*tensors),
            jacrev(case.theirs, argnums=i)(*tensors),
        )


@pytest.mark.parametrize("case", **names(RICH))
def test_a_gradient_penalty_is_not_dropped(case):
    """The ancestor saved copies: its second derivative was missing without a word."""
    penalties = []
    tensors = case.tensors(requires_grad=True)
    g = torch.randn(case.theirs(*tensors).shape, dtype=torch.float64)
    for function in (case.ours, case.theirs):
        (grad_x,) = torch.autograd.grad(
            function(*tensors), tensors[0], g, create_graph=True
        )
        (grad_w,) = torch.autograd.grad(
            function(*tensors), tensors[1], g, create_graph=True
        )
        penalty = grad_x.square().sum() + grad_w.pow(3).sum()
        penalties.append(torch.autograd.grad(penalty, tensors[:2]))
    for one, other in zip(*penalties, strict=True):
        close(one, other)


# vmap


def mapped(case, which, in_dims=(0, 0, 0), count=3):
    """Tensors with one more dimension, first; the same with it elsewhere; and where."""
    tensors = [
        torch.randn((count, *t.shape) if m else t.shape, dtype=torch.float64)
        for t, m in zip(case.tensors(), which, strict=True)
    ]
    in_dims = tuple(d if m else None for d, m in zip(in_dims, which, strict=True))
    elsewhere = [
        t if d is None else t.movedim(0, d)
        for t, d in zip(tensors, in_dims, strict=True)
    ]
    return tensors, elsewhere, in_dims


def loop(function, tensors, which):
    """What vmap does, one after the other."""
    results = [
        function(*(t[i] if m else t for t, m in zip(tensors, which, strict=True)))
        for i in range(3)
    ]
    if isinstance(results[0], tuple):
        return tuple(map(torch.stack, zip(*results, strict=True)))
    return torch.stack(results)


@pytest.mark.parametrize("which", SUBSETS, ids=str)
@pytest.mark.parametrize("case", **names(RICH))
def test_vmap_of_any_arguments(case, which):
    for in_dims, out_dims in [((0, 0, 0), 0), ((1, 2, 1), 1), ((-1, -2, -1), -1)]:
        tensors, elsewhere, dims = mapped(case, which, in_dims)
        y = vmap(case.ours, in_dims=dims, out_dims=out_dims)(*elsewhere)
        close(y.movedim(out_dims, 0), loop(case.theirs, tensors, which))


@pytest.mark.parametrize("which", SUBSETS, ids=str)
@pytest.mark.parametrize("case", **names(PLANE + [CASES[6]]))
def test_vmap_of_grad_and_grad_of_vmap(case, which):
    """All three roles with each set of mapped operands: each joins another letter of
    the form."""
    tensors, _, in_dims = mapped(case, which)
    ours, theirs = (cubed_with_seed(f, case) for f in (case.ours, case.theirs))
    every = (0, 1, 2)
    expected = loop(grad(theirs, argnums=every), tensors, which)
    result = vmap(grad(ours, argnums=every), in_dims=in_dims)(*tensors)
    total = grad(lambda *t: vmap(ours, in_dims=in_dims)(*t).sum(), argnums=every)(
        *tensors
    )
    for i in every:
        close(result[i], expected[i])
        close(total[i], expected[i] if which[i] else expected[i].sum(0))


@pytest.mark.parametrize("case", **names(CASES))
def test_batched_cotangents(case, engine):
    """By torch.func.vmap, where gradcheck's own check of these uses an older one."""
    tensors = case.tensors()
    y, back = vjp(case.ours, *tensors)
    cotangents = torch.randn(3, *y.shape, dtype=torch.float64)
    batched = vmap(back)(cotangents)
    one_by_one = [back(g) for g in cotangents]
    for i in range(3):
        close(batched[i], torch.stack([gradients[i] for gradients in one_by_one]))
    COUNT[f"batched gradients by torch.func.vmap, {engine}"] += 1


@pytest.mark.parametrize("case", **names(RICH))
def test_batched_second_derivatives(case, engine):
    tensors, directions = case.tensors(), case.tensors()
    f = cubed(case.ours, case)

    def along(*t):
        return sum(
            (d * g).sum()
            for d, g in zip(directions, grad(f, argnums=(0, 1, 2))(*t), strict=True)
        )

    second = grad(along, argnums=(0, 1, 2))
    more = [torch.stack([t, 2 * t, t - 1]) for t in tensors]
    for one, other in zip(
        vmap(second)(*more), loop(second, more, (True,) * 3), strict=True
    ):
        close(one, other)
    COUNT[f"batched second derivatives by torch.func.vmap, {engine}"] += 1


@pytest.mark.parametrize("case", **names(RICH))
def test_nested_vmap(case):
    """Every input with every weight and every bias, the dimensions strewn about."""
    x, w, b = case.tensors()
    xs, ws, bs = (
        torch.stack([t + i for i in range(n)], dim)
        for t, n, dim in [(x, 2, 1), (w, 3, -1), (b, 2, 0)]
    )
    function = vmap(case.ours, in_dims=(None, None, 0), out_dims=-1)
    function = vmap(function, in_dims=(None, -1, None), out_dims=1)
    function = vmap(function, in_dims=(1, None, None))
    y = function(xs, ws, bs)
    for i, j, k in itertools.product(range(2), range(3), range(2)):
        close(y[i].select(1, j)[..., k], case.theirs(x + i, w + j, b + k))


@pytest.mark.parametrize("case", **names(PLANE))
def test_vmap_twice_over_one_argument_and_once_over_another(case):
    """The second dimension joins where the first one already is."""
    x, w, b = case.tensors()
    xs, ws = (
        torch.stack([torch.stack([x, x + 1]), torch.stack([x * 2, -x])]),
        torch.stack([w, -w]),
    )
    g = torch.randn(2, 2, *case.theirs(x, w, b).shape, dtype=torch.float64)
    inner = vmap(lambda x, w, g: vjp(case.ours, x, w, b)[1](g), in_dims=(0, None, 0))
    result = vmap(inner)(xs, ws, g)
    for i, j in itertools.product(range(2), repeat=2):
        expected = vjp(case.theirs, xs[i, j], ws[i], b)[1](g[i, j])
        for one, other in zip(result, expected, strict=True):
            close(one[i, j], other)


@pytest.mark.parametrize("randomness", ["different", "same"])
def test_vmap_over_random_weights(randomness):
    case = PLANE[0]
    x, w, _ = case.tensors()
    torch.manual_seed(1)
    with_random_weight = vmap(
        lambda x: case.ours(x, torch.randn_like(w)), randomness=randomness
    )
    y = with_random_weight(x.expand(3, *x.shape))
    assert torch.equal(y[0], y[1]) == (randomness == "same")


@pytest.mark.parametrize(
    "case", **names([c for c in RICH if len(c.input) > c.dims + 1])
)
def test_gradients_for_each_example(case):
    """vmap(grad) over the batch's examples, each without a batch dimension, as torch's
    sum."""
    x, w, b = case.tensors()
    x = torch.cat([x, -x, x + 1])
    g = torch.randn(case.theirs(x, w, b).shape, dtype=torch.float64)

    def loss(w, b, x, g):
        return (case.ours(x, w, b) * g).sum()

    per_example = vmap(grad(loss, argnums=(0, 1)), in_dims=(None, None, 0, 0))(
        w, b, x, g
    )
    _, expected_w, expected_b = vjp(case.theirs, x, w, b)[1](g)
    for one, whole in zip(per_example, (expected_w, expected_b), strict=True):
        assert len(one) == len(x)
        close(one.sum(0), whole)
    for i in range(len(x)):
        _, expected_w, _ = vjp(case.theirs, x[i], w, b)[1](g[i])
        close(per_example[0][i], expected_w)


@pytest.mark.parametrize("mode", [jacrev, jacfwd, hessian])
def test_vmap_of_jacobians(mode):
    case = TINY[1]
    which = (True, True, False)
    tensors, _, in_dims = mapped(case, which)
    f = cubed(case.ours, case)
    close(
        vmap(mode(f, argnums=1), in_dims=in_dims)(*tensors),
        loop(mode(f, argnums=1), tensors, which),
    )


LAYERS = {
    "Conv1d": ((2, 4, 3), {"stride": 2, "groups": 2}, (2, 6)),
    "Conv2d": (
        (2, 3, (2, 3)),
        {"padding": ((1, 0), (0, 2)), "padding_mode": "reflect"},
        (2, 2, 3, 4),
    ),
    "Conv3d": ((1, 2, 2), {"dilation": (1, 2, 1)}, (1, 2, 3, 3)),
    "ConvTranspose1d": (
        (2, 4, 3),
        {"stride": 2, "groups": 2, "output_padding": 1},
        (2, 2, 3),
    ),
    "ConvTranspose2d": (
        (2, 3, (2, 3)),
        {"padding": ((1, 0), (0, 2)), "padding_mode": "circular", "stride": 2},
        (2, 2, 3),
    ),
    "ConvTranspose3d": ((1, 2, 2), {"dilation": (1, 2, 1)}, (1, 1, 2, 3, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_an_ensemble_of_layers(name):
    """functional_call under vmap, and its gradient against each layer's own
    backward."""
    arguments, options, shape = LAYERS[name]
    layers = [
        getattr(scipyconv.nn, name)(*arguments, **options, dtype=torch.float64)
        for _ in range(3)
    ]
    x = torch.randn(shape, dtype=torch.float64)
    g = torch.randn(layers[0](x).shape, dtype=torch.float64)
    parameters, _ = stack_module_state(layers)

    def loss(parameters):
        return (functional_call(layers[0], parameters, (x,)) * g).sum()

    gradients = vmap(grad(loss))(parameters)
    for i, layer in enumerate(layers):
        (layer(x) * g).sum().backward()
        for key, parameter in layer.named_parameters():
            close(gradients[key][i], parameter.grad)


@pytest.mark.parametrize("name", [n for n in LAYERS if "padding_mode" in LAYERS[n][1]])
def test_gradcheck_of_layers_with_a_padding_mode(name):
    arguments, options, shape = LAYERS[name]
    layer = getattr(scipyconv.nn, name)(*arguments, **options, dtype=torch.float64)
    x = torch.randn(shape, dtype=torch.float64)
    tensors = [t.detach().requires_grad_() for t in (x, layer.weight, layer.bias)]

    def call(x, weight, bias):
        return functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert gradcheck(call, tensors, check_forward_ad=True, fast_mode=True, **EXACT)
    assert gradgradcheck(
        call, tensors, check_fwd_over_rev=True, fast_mode=True, **EXACT
    )


# What autograd is spared


@pytest.mark.parametrize("case", **names(PLANE))
def test_only_the_gradients_that_are_wanted_are_computed(case, on_engine_calls):
    """The frozen weight of a layer costs no engine call, nor does the first layer's
    input."""
    roles = []
    on_engine_calls(lambda method, name: roles.append(name))
    of_weight = "weight_gradient"
    of_input = "correlate" if case.transposed else "input_gradient"
    for wanted, expected in [
        ((0,), [of_input]),
        ((1,), [of_weight]),
        ((2,), []),
        ((0, 1, 2), [of_input, of_weight]),
    ]:
        for create_graph in (False, True):  # by the short way, and by the operator
            tensors = case.tensors()
            for i in wanted:
                tensors[i].requires_grad_()
            y = case.ours(*tensors)
            roles.clear()
            torch.autograd.grad(
                y,
                [tensors[i] for i in wanted],
                torch.randn_like(y),
                create_graph=create_graph,
            )
            assert sorted(roles) == sorted(expected)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, nullcontext])
def test_no_graph_where_none_is_wanted(context):
    case = PLANE[0]
    tensors = case.tensors(requires_grad=context is not nullcontext)
    with context():
        y = case.ours(*tensors)
    assert not y.requires_grad
    close(y, case.theirs(*tensors).detach())
