"""What PyTorch does with a function: compile, trace, export, autocast, checkpoint,
profile it."""

import re
import shutil
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from geometries import RICH, TINY, names
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import scipyconv.functional as ours
import scipyconv.nn

PLANE = next(case for case in RICH if case.function == "conv2d")
STAMPS = next(case for case in RICH if case.function == "conv_transpose2d")
BOTH = names([PLANE, STAMPS])


@pytest.fixture(autouse=True)
def _reset():
    torch.compiler.reset()


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def compiled(function, **options):
    return torch.compile(function, fullgraph=True, backend="aot_eager", **options)


def cubed(function):
    """A scalar that weighs every output differently."""

    def scalar(*tensors):
        y = function(*tensors)
        weights = torch.arange(1, y.numel() + 1, dtype=y.dtype).reshape(y.shape)
        return (weights.cos() * y**3).sum()

    return scalar


def output_and_gradients(function, tensors, g):
    tensors = [t.detach().requires_grad_() for t in tensors]
    y = function(*tensors)
    return y, *torch.autograd.grad(y, tensors, g)


# torch.compile


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        *((case, torch.float64) for case in RICH),
        (TINY[0], torch.complex128),
        (TINY[3], torch.complex128),
    ],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_compile_forward_and_backward(case, dtype):
    tensors = case.tensors(dtype)
    expected = case.theirs(*tensors)
    g = torch.randn(expected.shape, dtype=dtype)
    result = output_and_gradients(compiled(case.ours), tensors, g)
    for one, other in zip(
        result, output_and_gradients(case.theirs, tensors, g), strict=True
    ):
        close(one, other)


#: The first has no size twice, nor one of the weight's, or Dynamo would take them for
#: one.
SIZES = [(4, 5, 6), (3, 5, 6), (4, 7, 6), (3, 11, 7)]


@pytest.mark.parametrize(
    ("function", "options"),
    [
        ("conv2d", {"stride": 2, "padding": 1}),
        ("conv2d", {"stride": 3, "padding": "same"}),
        (
            "conv_transpose2d",
            {"stride": 2, "padding": ((1, 0), (0, 2)), "output_padding": 1},
        ),
    ],
    ids=str,
)
def test_compile_with_dynamic_shapes(function, options):
    """Batch and spatial sizes change, and one graph serves them all, forward and
    backward."""
    counter = CompileCounterWithBackend("aot_eager")
    w = torch.randn(2, 2, 3, 2, dtype=torch.float64)

    def f(x, w):
        return getattr(ours, function)(x, w, **options)

    dynamic = torch.compile(f, fullgraph=True, backend=counter, dynamic=True)
    for n, height, width in SIZES:
        x = torch.randn(n, 2, height, width, dtype=torch.float64)
        expected = f(x, w)
        g = torch.randn(expected.shape, dtype=torch.float64)
        for one, other in zip(
            output_and_gradients(dynamic, (x, w), g),
            output_and_gradients(f, (x, w), g),
            strict=True,
        ):
            close(one, other)
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    "transform", ["grad", "vmap", "vmap(grad)", "jacrev", "vjp", "grad(grad)"]
)
@pytest.mark.parametrize("case", **names([TINY[1], TINY[3]]))
def test_compile_of_transforms(case, transform):
    """compile(grad(f, argnums=(0, 1, 2))) once gave 0.0 for the weight's gradient,
    silently."""
    tensors = case.tensors()
    f, every = cubed(case.ours), (0, 1, 2)
    more = [torch.stack([t, 2 * t, t - 1]) for t in tensors]
    function, arguments = {
        "grad": (grad(f, argnums=every), tensors),
        "vmap": (vmap(case.ours, in_dims=(0, None, 0)), [more[0], tensors[1], more[2]]),
        "vmap(grad)": (vmap(grad(f, argnums=every)), more),
        "jacrev": (jacrev(case.ours, argnums=every), tensors),
        "vjp": (
            lambda *t: vjp(f, *t)[1](torch.tensor(3.0, dtype=torch.float64)),
            tensors,
        ),
        "grad(grad)": (
            grad(lambda *t: grad(f)(*t).sin().sum(), argnums=every),
            tensors,
        ),
    }[transform]
    expected = function(*arguments)
    result = compiled(function)(*arguments)
    if transform == "grad":
        for one, other in zip(
            result, grad(cubed(case.theirs), argnums=every)(*tensors), strict=True
        ):
            assert other.any()
            close(one, other)
    for one, other in zip(
        *((r if isinstance(r, tuple) else (r,)) for r in (result, expected)),
        strict=True,
    ):
        assert other.any()
        close(one, other)


def raises_or_is(call, expected):
    """Forward mode under compile: an error is right, and so is the right number; zero
    is not."""
    try:
        result = call()
    except (
        NotImplementedError,
        RuntimeError,
    ) as error:  # Dynamo's own are RuntimeErrors
        return str(error)
    assert result is not None
    close(result, expected)
    return None


FORWARD = {
    "jvp": lambda f, x, w, b: jvp(f, (x, w, b), (w.new_ones(x.shape), w, b))[1],
    "jvp of the weight": lambda f, x, w, b: jvp(lambda w: f(x, w, b), (w,), (w,))[1],
    "jacfwd": lambda f, x, w, b: jacfwd(f)(x, w, b),
    "jacfwd of the weight": lambda f, x, w, b: jacfwd(f, argnums=1)(x, w, b),
    "hessian": lambda f, x, w, b: hessian(cubed(f), argnums=1)(x, w, b),
    "jvp of jvp": lambda f, x, w, b: jvp(
        lambda x, w: jvp(lambda x, w: f(x, w, b), (x, w), (x, w))[1], (x, w), (x, w)
    )[1],
}


@pytest.mark.parametrize(
    ("transform", "fullgraph"),
    [
        *((transform, True) for transform in FORWARD),
        ("jvp", False),
        ("jacfwd of the weight", False),
    ],
)
def test_forward_mode_inside_compile_is_never_zero(transform, fullgraph):
    case = TINY[1]
    tensors = case.tensors()

    def function(*t):
        return FORWARD[transform](case.ours, *t)

    expected = function(*tensors)
    assert expected.any()
    call = torch.compile(function, fullgraph=fullgraph, backend="aot_eager")
    raises_or_is(lambda: call(*tensors), expected)


def test_forward_mode_inside_compile_says_what_to_do():
    tensors = torch.randn(1, 1, 4, 5), torch.randn(1, 1, 2, 3)
    with pytest.raises(
        (NotImplementedError, torch._dynamo.exc.TorchDynamoException),
        match=r"forward mode must stay outside torch\.compile",
    ):
        compiled(lambda *t: jvp(ours.conv2d, t, t)[1])(*tensors)


@pytest.mark.parametrize(
    "before", [False, True], ids=["cold", "compiled before without duals"]
)
@pytest.mark.parametrize("which", [(0,), (1,), (0, 1, 2)], ids=str)
def test_a_dual_tensor_through_a_compiled_function_keeps_its_tangent(which, before):
    case = TINY[1]
    tensors, tangents = case.tensors(), case.tensors()
    function = compiled(case.ours)
    if before:
        function(*tensors)

    def tangent(f):
        with forward_ad.dual_level():
            given = [
                forward_ad.make_dual(t, d) if i in which else t
                for i, (t, d) in enumerate(zip(tensors, tangents, strict=True))
            ]
            return forward_ad.unpack_dual(f(*given)).tangent

    expected = tangent(case.ours)
    assert expected.any()
    raises_or_is(lambda: tangent(function), expected)


LAYERS = [
    ("Conv1d", (2, 4, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 2, 6)),
    (
        "Conv2d",
        (2, 3, (2, 3)),
        {"padding": ((1, 0), (0, 2)), "padding_mode": "reflect"},
        (2, 2, 3, 4),
    ),
    (
        "Conv2d",
        (2, 3, (2, 3)),
        {"padding": "same", "stride": 2, "padding_mode": "replicate"},
        (2, 3, 4),
    ),
    ("Conv3d", (1, 2, 2), {"padding": 1, "padding_mode": "circular"}, (1, 1, 2, 3, 2)),
    (
        "ConvTranspose1d",
        (2, 4, 3),
        {"stride": 2, "groups": 2, "output_padding": 1},
        (2, 2, 3),
    ),
    (
        "ConvTranspose2d",
        (2, 3, (2, 3)),
        {"padding": 1, "stride": 2, "padding_mode": "circular"},
        (2, 2, 3, 3),
    ),
    (
        "ConvTranspose2d",
        (2, 3, 2),
        {"padding": 1, "stride": 2, "padding_mode": "reflect"},
        (2, 3, 3),
    ),
    (
        "ConvTranspose3d",
        (1, 2, 2),
        {"padding": ((1, 0), (0, 0), (0, 1)), "padding_mode": "replicate"},
        (1, 1, 2, 3, 2),
    ),
]


def layer_and_input(name, arguments, options, shape):
    layer = getattr(scipyconv.nn, name)(*arguments, **options, dtype=torch.float64)
    return layer, torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("made", LAYERS, ids=lambda made: f"{made[0]} {made[2]}")
def test_compile_of_layers(made):
    layer, x = layer_and_input(*made)
    wanted = x, *layer.parameters()
    y, again = layer(x), compiled(layer)(x)
    g = torch.randn_like(y)
    close(again, y)
    for one, other in zip(
        torch.autograd.grad(again, wanted, g),
        torch.autograd.grad(y, wanted, g),
        strict=True,
    ):
        close(one, other)


def test_compile_of_a_training_step():
    """A model, an optimizer step and an in-place ReLU: the same parameters as without
    compile."""

    def train(call):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            scipyconv.nn.Conv2d(1, 2, 3, padding=1),
            torch.nn.ReLU(inplace=True),
            scipyconv.nn.ConvTranspose2d(2, 1, 2, stride=2),
        ).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        function = call(model)
        for _ in range(3):
            optimizer.zero_grad()
            function(
                torch.randn(2, 1, 3, 4, dtype=torch.float64)
            ).cos().mean().backward()
            optimizer.step()
        return list(model.parameters())

    for one, other in zip(train(compiled), train(lambda model: model), strict=True):
        close(one, other)


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script:DeprecationWarning"
)  # torch's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor writes C++")
def test_inductor():
    case = TINY[1]
    tensors = case.tensors()
    g = torch.randn(case.theirs(*tensors).shape, dtype=torch.float64)
    # The plainest C++, compiled in seconds.
    with torch._inductor.config.patch(
        {
            "cpp_cache_precompile_headers": False,
            "compile_threads": 1,
            "cpp.simdlen": 1,
            "cpp.vec_isa_ok": False,
        }
    ):
        function = torch.compile(case.ours, fullgraph=True)
        result = output_and_gradients(function, tensors, g)
    for one, other in zip(
        result, output_and_gradients(case.theirs, tensors, g), strict=True
    ):
        close(one, other)


# Traces and exports


def operators(graph):
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


TRACED = {
    "the function": lambda f: f,
    "vjp": lambda f: lambda *t: vjp(f, *t)[1](f(*t)),
    "jvp": lambda f: lambda *t: jvp(f, t, t)[1],
    "vmap": lambda f: (
        lambda x, w, b: vmap(f, in_dims=(None, 0, None))(x, torch.stack([w, -w]), b)
    ),
    "grad of grad": lambda f: grad(
        lambda *t: grad(cubed(f))(*t).sin().sum(), argnums=(0, 1)
    ),
}


@pytest.mark.parametrize(
    ("transform", "mode"),
    [
        *((transform, "real") for transform in TRACED),
        ("the function", "symbolic"),
        ("vjp", "symbolic"),
    ],
)
@pytest.mark.parametrize("case", **BOTH)
def test_make_fx_records_the_operator(case, transform, mode):
    """Not its result, which would be a constant in the graph: so run the graph on other
    numbers."""
    function = TRACED[transform](case.ours)
    graph = make_fx(function, tracing_mode=mode)(*case.tensors())
    assert "scipyconv.contract.default" in operators(graph.graph)
    others = case.tensors()
    expected = function(*others)
    result = graph(*others)
    for one, other in zip(
        *((r if isinstance(r, tuple) else (r,)) for r in (result, expected)),
        strict=True,
    ):
        close(one, other)


@pytest.mark.filterwarnings(
    "ignore:Attempted to insert a get_attr Node:UserWarning"
)  # torch's own
@pytest.mark.parametrize("case", **BOTH)
def test_linearize_records_no_constant(case):
    tensors = case.tensors()
    _, push = linearize(case.ours, *tensors)
    for tangents in (case.tensors(), case.tensors()):
        expected = jvp(case.theirs, tuple(tensors), tuple(tangents))[1]
        assert expected.any()
        close(push(*tangents), expected)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("made", LAYERS[:2] + LAYERS[4:6], ids=lambda made: made[0])
def test_export(made, strict):
    layer, x = layer_and_input(*made)
    program = torch.export.export(layer, (x,), strict=strict)
    assert "scipyconv.contract.default" in operators(program.graph)
    other = torch.randn_like(x)
    close(program.module()(other), layer(other))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d"])
def test_export_with_dynamic_shapes(name, strict):
    layer = getattr(scipyconv.nn, name)(
        2, 3, (2, 3), stride=(1, 2), padding=(1, 0), dtype=torch.float64
    )
    n, height, width = (
        torch.export.Dim(d, min=3, max=64) for d in ("n", "height", "width")
    )
    program = torch.export.export(
        layer,
        (torch.randn(4, 2, 5, 9, dtype=torch.float64),),
        dynamic_shapes=({0: n, 2: height, 3: 2 * width + 1},),
        strict=strict,
    )
    for shape in [(3, 2, 3, 7), (7, 2, 6, 11)]:
        x = torch.randn(shape, dtype=torch.float64)
        close(program.module()(x), layer(x))


# The operator


DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        *(("direct", dtype) for dtype in DTYPES),
        ("matmul", torch.float64),
        ("fft", torch.float64),
        ("auto", torch.complex64),
    ],
    ids=str,
)
@pytest.mark.parametrize("role", "yxw")
def test_opcheck(role, method, dtype):
    shapes = {"x": (2, 2, 5), "w": (4, 1, 2), "y": (2, 4, 3)}
    a, b = (
        torch.randn(shapes[r], dtype=dtype, requires_grad=True)
        for r in {"y": "xw", "x": "wy", "w": "xy"}[role]
    )
    torch.library.opcheck(
        torch.ops.scipyconv.contract.default,
        (role, a, b, [2], [1, 0], [1], 2, list(shapes[role]), method),
    )


@pytest.mark.parametrize("role", "yxw")
def test_opcheck_of_integers(role):
    shapes = {"x": (2, 2, 5), "w": (4, 1, 2), "y": (2, 4, 3)}
    a, b = (
        torch.randint(9, shapes[r]) for r in {"y": "xw", "x": "wy", "w": "xy"}[role]
    )
    torch.library.opcheck(
        torch.ops.scipyconv.contract.default,
        (role, a, b, [2], [1, 0], [1], 2, list(shapes[role]), "direct"),
    )


def as_fake(tensors, kind):
    if kind == "meta":
        return nullcontext(), [t if t is None else t.to("meta") for t in tensors]
    mode = FakeTensorMode()
    return mode, [t if t is None else mode.from_tensor(t) for t in tensors]


@pytest.mark.parametrize("kind", ["fake", "meta"])
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.complex64, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("case", **names(RICH))
def test_fake_tensors_have_the_right_shapes(case, dtype, kind):
    tensors = case.tensors(dtype, requires_grad=True)
    real = case.ours(*tensors)
    context, fakes = as_fake(tensors, kind)
    with context:
        fake = case.ours(*fakes)
        gradients = torch.autograd.grad(fake, fakes, torch.empty_like(fake))
    assert (fake.shape, fake.dtype, fake.stride()) == (
        real.shape,
        real.dtype,
        real.stride(),
    )
    assert [g.shape for g in gradients] == [t.shape for t in tensors]
    assert fake.device.type == ("meta" if kind == "meta" else "cpu")


WRONG = {
    "channels": ("conv2d", (1, 3, 4, 4), (2, 2, 3, 3), None, {}),
    "kernel": ("conv2d", (1, 2, 2, 4), (2, 2, 3, 3), None, {}),
    "bias": ("conv1d", (1, 2, 4), (2, 2, 3), (3,), {}),
    "groups": ("conv1d", (1, 2, 4), (3, 1, 3), None, {"groups": 2}),
    "stride": ("conv3d", (1, 1, 2, 2, 2), (1, 1, 1, 1, 1), None, {"stride": 0}),
    "dimensions": ("conv2d", (4, 4), (2, 2, 3, 3), None, {}),
    "output_padding": (
        "conv_transpose1d",
        (1, 2, 4),
        (2, 2, 3),
        None,
        {"output_padding": 1},
    ),
    "padding": ("conv_transpose1d", (1, 2, 1), (2, 2, 2), None, {"padding": 3}),
    "a name": ("conv1d", (1, 2, 4), (2, 2, 3), None, {"padding": "full"}),
}


@pytest.mark.parametrize("kind", ["fake", "meta"])
@pytest.mark.parametrize("wrong", WRONG)
def test_fake_tensors_raise_the_same_errors(wrong, kind):
    function, *shapes, options = WRONG[wrong]
    tensors = [None if shape is None else torch.randn(shape) for shape in shapes]
    with pytest.raises((RuntimeError, TypeError, ValueError)) as real:
        getattr(ours, function)(*tensors, **options)
    context, fakes = as_fake(tensors, kind)
    with context, pytest.raises(real.type, match=re.escape(str(real.value))):
        getattr(ours, function)(*fakes, **options)


# Autocast


def outcome(function, tensors, options, context):
    """The dtypes of the output and of the gradients, or the class of the error."""
    tensors = [t.detach().clone().requires_grad_() for t in tensors]
    try:
        with context:
            y = function(*tensors, **options)
        torch.manual_seed(1)
        g = torch.randn(y.shape).to(y.dtype)
        gradients = torch.autograd.grad(y, tensors, g)
    except RuntimeError as error:
        return type(error)
    return [y.dtype, *(g.dtype for g in gradients)], y, gradients, g


def in_double(name, tensors, g, options, lower):
    """The same from the numbers as they are rounded, with no rounding after that."""
    wide = [
        t.to(lower if t.dtype in HALF_AND_SINGLE else t.dtype)
        .to(torch.complex128 if t.is_complex() else torch.float64)
        .requires_grad_()
        for t in tensors
    ]
    y = getattr(F, name)(*wide, **options)
    return y, *torch.autograd.grad(y, wide, g.to(y.dtype))


HALF_AND_SINGLE = (torch.float16, torch.bfloat16, torch.float32)


MIXED = [
    *[
        (dtype,) * 3
        for dtype in (
            torch.float32,
            torch.float64,
            torch.bfloat16,
            torch.float16,
            torch.complex64,
            torch.complex128,
        )
    ],
    # (A double bias is left out: torch takes it in conv_transpose1d and 2d alone,
    # autocast or not.)
    (torch.bfloat16, torch.float32, torch.float32),
    (torch.float32, torch.bfloat16, torch.float32),
    (torch.float32, torch.float64, torch.float64),
    (torch.float16, torch.bfloat16, torch.float32),
]


@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "dtypes", MIXED, ids=lambda d: " ".join(str(one)[6:] for one in d)
)
@pytest.mark.parametrize(
    "name",
    [
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
    ],
)
def test_autocast_as_in_torch(name, dtypes, lower):
    dims = int(name[-2])
    shapes = (2, 2, *range(3, 3 + dims)), (2, 2, *[2] * dims), (2,)
    tensors = [
        torch.randn(shape).to(dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    mine, torchs = (
        outcome(
            getattr(module, name), tensors, {"stride": 2}, torch.autocast("cpu", lower)
        )
        for module in (ours, F)
    )
    if isinstance(torchs, type):
        assert mine is torchs
        return
    assert not isinstance(mine, type), mine
    assert mine[0] == torchs[0]
    assert mine[0][0] == (
        lower
        if dtypes[0] not in (torch.float64, torch.complex64, torch.complex128)
        else dtypes[0]
    )
    exact = in_double(name, tensors, mine[3], {"stride": 2}, lower)
    for one, other in zip((mine[1], *mine[2]), exact, strict=True):
        # computed in single precision or more, and rounded once: to `lower`, and as a
        # leaf is
        eps = torch.finfo(one.dtype).eps + torch.finfo(lower).eps * (
            one.dtype in HALF_AND_SINGLE
        )
        torch.testing.assert_close(
            one.to(other.dtype), other, rtol=max(eps, 1e-6), atol=1e-5
        )


@pytest.mark.parametrize("made", LAYERS[:2] + LAYERS[4:6], ids=lambda made: made[0])
def test_autocast_of_layers_and_under_compile(made):
    layer, x = layer_and_input(*made)
    layer, x = layer.float(), x.detach().float().requires_grad_()
    compiled_layer = compiled(layer)
    with torch.autocast("cpu", torch.bfloat16):
        y, again = layer(x), compiled_layer(x)
    assert y.dtype is again.dtype is torch.bfloat16
    assert torch.equal(y, again)
    y.backward(torch.randn_like(y))
    assert (
        x.grad.dtype
        is layer.weight.grad.dtype
        is layer.bias.grad.dtype
        is torch.float32
    )
    assert layer(x).dtype is torch.float32


# Checkpoints, anomalies, changes in place


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("case", **names(RICH))
def test_checkpoint(case, reentrant):
    tensors = case.tensors()
    g = torch.randn(case.theirs(*tensors).shape, dtype=torch.float64)

    def function(*t):
        return checkpoint(lambda *t: case.ours(*t).sin(), *t, use_reentrant=reentrant)

    result = [t.detach().requires_grad_() for t in tensors]
    y = function(*result)
    y.backward(g)
    for one, other in zip(
        result,
        output_and_gradients(lambda *t: case.theirs(*t).sin(), tensors, g)[1:],
        strict=True,
    ):
        close(one.grad, other)


@pytest.mark.usefixtures("engine")
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.parametrize("case", **BOTH)
def test_anomaly_mode(case):
    tensors = case.tensors()
    g = torch.randn(case.theirs(*tensors).shape, dtype=torch.float64)
    with torch.autograd.detect_anomaly():
        for one, other in zip(
            output_and_gradients(case.ours, tensors, g),
            output_and_gradients(case.theirs, tensors, g),
            strict=True,
        ):
            close(one, other)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.filterwarnings("ignore:Error detected in:UserWarning")
def test_anomaly_mode_finds_a_nan():
    case = TINY[1]
    x, w, b = case.tensors(requires_grad=True)
    with torch.autograd.detect_anomaly():
        y = case.ours(x, w, b)
        with pytest.raises(RuntimeError, match="returned nan values"):
            y.backward(torch.full_like(y, torch.nan))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "changed", [None, 0, 1, 2], ids=["nothing", "input", "weight", "bias"]
)
@pytest.mark.parametrize("options", [{}, {"padding": 1}, {"stride": 2}], ids=str)
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
@pytest.mark.parametrize("batch", [(), (2,)], ids=["unbatched", "batch"])
def test_a_change_between_forward_and_backward_is_noticed_as_in_torch(
    name, options, changed, batch
):
    shapes = (*batch, 2, 3, 4), (2, 2, 2, 3), (2,)
    noticed = []
    for module in (ours, F):
        tensors = [
            torch.randn(s, dtype=torch.float64, requires_grad=True).clone()
            for s in shapes
        ]
        y = getattr(module, name)(*tensors, **options)
        if changed is not None:
            with torch.no_grad():
                tensors[changed].add_(1)
        try:
            y.backward(torch.randn_like(y))
            noticed.append(False)
        except RuntimeError as error:
            noticed.append("modified by an inplace operation" in str(error))
    assert noticed[0] == noticed[1] == (changed in (0, 1))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("case", **names(RICH))
def test_the_output_may_be_changed_in_place(case):
    """As by ReLU(inplace=True): it was not saved."""
    tensors = case.tensors()
    g = torch.randn(case.theirs(*tensors).shape, dtype=torch.float64)
    for one, other in zip(
        output_and_gradients(lambda *t: case.ours(*t).relu_(), tensors, g),
        output_and_gradients(lambda *t: case.theirs(*t).relu_(), tensors, g),
        strict=True,
    ):
        close(one, other)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("case", **names(RICH))
def test_a_graph_is_walked_twice_only_if_retained(case):
    y = case.ours(*case.tensors(requires_grad=True))
    y.backward(torch.randn_like(y), retain_graph=True)
    y.backward(torch.randn_like(y))
    with pytest.raises(RuntimeError, match="second time"):
        y.backward(torch.randn_like(y))


# No convolution of torch's own


def found(call):
    """The names of torch's operators that convolve, unfold or fold, among all that
    ran."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU]
    ) as profile:
        call()
    ran = {event.key for event in profile.key_averages()}
    ours = re.compile("scipyconv::|Convolution(Backward)?$|Contraction(Backward)?$")
    others = {name for name in ran if not ours.search(name)}
    return ran, {
        name
        for name in others
        if re.search("conv|fold|im2col|col2im|slow_", name, re.I)
    }


def thrice(function, tensors):
    """Forward, backward, double backward."""
    tensors = [t.detach().requires_grad_() for t in tensors]
    y = function(*tensors)
    gradients = torch.autograd.grad(
        y, tensors, torch.randn_like(y).requires_grad_(), create_graph=True
    )
    torch.autograd.grad(
        sum((g**2).sum() for g in gradients), tensors, allow_unused=True
    )  # the bias


DETECTED = {
    "conv1d": lambda x, w: F.conv1d(x[:, :, 0], w[:, :, 0]),
    "conv2d": F.conv2d,
    "conv3d": lambda x, w: F.conv3d(x[None], w[None]),
    "conv_transpose2d": F.conv_transpose2d,
    "im2col": lambda x, w: F.unfold(x, 2),
    "unfold": lambda x, w: x.unfold(2, 2, 1),
    "col2im": lambda x, w: F.fold(x.reshape(1, 4, -1), (3, 4), 2),
}


@pytest.mark.parametrize("name", DETECTED)
def test_the_detector_sees_torchs_own(name):
    x = torch.randn(1, 1, 4, 6)
    tensors = (torch.randn(1, 4, 6),) if name == "col2im" else (x,)
    _, suspects = found(lambda: DETECTED[name](tensors[0], torch.randn(1, 1, 2, 2)))
    assert f"aten::{name}" in suspects


def test_the_detector_sees_torchs_own_backward():
    tensors = torch.randn(1, 1, 4, 6), torch.randn(1, 1, 2, 2)
    _, suspects = found(lambda: thrice(F.conv2d, tensors))
    assert any("backward" in name for name in suspects)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("case", **names(RICH))
def test_no_convolution_of_torchs_own_runs(case):
    ran, suspects = found(lambda: thrice(case.ours, case.tensors()))
    assert "scipyconv::contract" in ran
    assert suspects == set()


@pytest.mark.parametrize("made", LAYERS, ids=lambda made: f"{made[0]} {made[2]}")
def test_no_convolution_of_torchs_own_runs_in_a_layer(made):
    layer, x = layer_and_input(*made)
    call = lambda x, *p: torch.func.functional_call(  # noqa: E731
        layer, dict(zip(("weight", "bias"), p, strict=True)), (x,)
    )
    ran, suspects = found(lambda: thrice(call, (x, layer.weight, layer.bias)))
    assert "scipyconv::contract" in ran
    assert suspects == set()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("transform", ["vmap", "jvp"])
def test_no_convolution_of_torchs_own_runs_in_a_transform(transform):
    t = tuple(PLANE.tensors())
    call = {
        "vmap": lambda: vmap(PLANE.ours)(*(torch.stack([one, one]) for one in t)),
        "jvp": lambda: jvp(PLANE.ours, t, t),
    }[transform]
    ran, suspects = found(call)
    assert "scipyconv::contract" in ran
    assert suspects == set()
