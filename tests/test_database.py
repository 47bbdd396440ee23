"""PyTorch's own databases of operators and modules: every sample, run by us and by
torch.

Numbers below double precision are compared with torch's in double precision, because
torch's own in half precision are rounded more than once."""

import collections
import copy
import warnings

import pytest
import torch
import torch.nn.functional as F

import scipyconv
from scipyconv import functional

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is :DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning"),
    pytest.mark.filterwarnings("ignore:Complex modules are a new feature:UserWarning"),
    # torch's own, not ours
    pytest.mark.filterwarnings(
        "ignore:Using padding='same' with even kernel:UserWarning"
    ),
    pytest.mark.filterwarnings(
        "ignore:ComplexHalf support is experimental:UserWarning"
    ),
]

FUNCTIONS = [name for name in functional.__all__ if name.startswith("conv")]
OPERATORS = {
    op.name.removeprefix("nn.functional."): op
    for op in op_db
    if op.name.removeprefix("nn.functional.") in FUNCTIONS
}
MODULES = {
    info.module_cls.__name__: info
    for info in module_db
    if info.module_cls.__name__ in scipyconv.nn.__all__
}
#: Fewer samples than these would mean that the database was not read.
LEAST = {
    "conv1d": 8,
    "conv2d": 20,
    "conv3d": 16,
    "conv_transpose1d": 8,
    "conv_transpose2d": 8,
    "conv_transpose3d": 8,
}
DOUBLE = {
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
    torch.complex128: torch.complex128,
}
#: One unit in the last place: the direct engine rounds a result once.
CLOSE = {
    torch.float16: {"rtol": 1e-3, "atol": 1e-5},
    torch.bfloat16: {"rtol": 8e-3, "atol": 1e-5},
    torch.complex32: {"rtol": 1e-3, "atol": 1e-3},
    torch.float32: {"rtol": 1e-6, "atol": 1e-5},
    torch.complex64: {"rtol": 1e-6, "atol": 1e-5},
    torch.int64: {"rtol": 0, "atol": 0},
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.complex128: {"rtol": 1e-12, "atol": 1e-12},
}
#: The other engines add up in the dtype itself. A sum of n products of random numbers
#: has an error of about √n eps times a product, and is itself about √n of them: eps
#: times the largest sum. The factor is for the luck of the draw, for derivatives that
#: are sums of sums, and for torch's own errors, which are as large where the dtype is
#: double. 53 was the most that was seen: in a second derivative that is a single
#: number.
FACTOR = 64


@pytest.fixture(scope="module")
def counts(request):
    """How many samples passed, by what was compared, operator and dtype; shown at the
    end."""
    counted = collections.Counter()
    yield counted
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print()
        for what in dict.fromkeys(what for what, *_ in counted):
            rows = {
                (name, dtype): n
                for (each, name, dtype), n in counted.items()
                if each == what
            }
            print(f"{what}: {sum(rows.values())} samples of torch's database passed")
            for name in dict.fromkeys(name for name, _ in rows):
                listed = (
                    f"{dtype} {n}" for (each, dtype), n in rows.items() if each == name
                )
                print(f"    {name}: {', '.join(listed)}")


@pytest.fixture
def passed(counts, record_property):
    """A function that notes how many samples of an operator passed in a dtype."""

    def note(what, name, dtype, n):
        counts[what, name, str(dtype).removeprefix("torch.")] += n
        record_property("samples", f"{what}, {name}, {dtype}: {n}")

    return note


def by_dtype(*more, only=lambda _: True):
    """Each operator with each dtype that its OpInfo lists, and more."""
    return pytest.mark.parametrize(
        ("name", "dtype"),
        [
            (name, dtype)
            for name, op in OPERATORS.items()
            for dtype in sorted({*op.dtypes, *more}, key=str)
            if only(dtype)
        ],
        ids=str,
    )


def floating(dtype):
    return dtype.is_floating_point or dtype.is_complex


def samples(name, dtype):
    """Each sample's tensors (the bias may be None) and its other arguments."""
    found = [
        ([each.input, *each.args], each.kwargs)
        for each in OPERATORS[name].sample_inputs("cpu", dtype, requires_grad=False)
    ]
    assert len(found) >= LEAST[name]
    assert all(len(tensors) == 3 for tensors, _ in found)
    return found


def in_double(tensors):
    return [
        t
        if t is None or not floating(t.dtype)
        else t.to(DOUBLE.get(t.dtype, torch.float64))
        for t in tensors
    ]


def random_like(t):
    return torch.randn_like(t, dtype=DOUBLE.get(t.dtype, torch.float64)).to(t.dtype)


def assert_close(ours, reference, dtype, engine):
    """In this dtype the same: up to the last rounding, or as close as the largest
    number is."""
    assert ours.dtype == dtype
    assert ours.shape == reference.shape
    if floating(dtype) and engine != "direct":
        # The database draws from -9 to 9: a sum of such terms that happens to be small
        # is no closer than they are.
        largest = max(reference.abs().max().item(), 9.0) if reference.numel() else 0.0
        error = (ours.to(reference.dtype) - reference).abs()
        assert (error <= FACTOR * torch.finfo(dtype).eps * largest).all()
        return
    if floating(dtype):
        reference = reference.to(dtype)
        if dtype is torch.complex32:
            ours, reference = ours.to(torch.complex64), reference.to(torch.complex64)
    torch.testing.assert_close(ours, reference, **CLOSE[dtype])


def test_the_databases_have_all():
    assert set(OPERATORS) == set(FUNCTIONS)
    assert set(MODULES) == set(scipyconv.nn.__all__)
    for op in OPERATORS.values():
        assert {
            torch.int64,
            torch.float16,
            torch.bfloat16,
            torch.complex64,
        } <= op.dtypes


@by_dtype(torch.complex32)
def test_forward(name, dtype, engine, passed):
    ours, theirs = getattr(functional, name), getattr(F, name)
    found = samples(name, dtype)
    for tensors, options in found:
        y = ours(*tensors, **options)
        assert y.shape == theirs(*tensors, **options).shape
        assert_close(y, theirs(*in_double(tensors), **options), dtype, engine)
    passed(f"forward, {engine}", name, dtype, len(found))


def each_gradient(function, tensors, options, g):
    """The gradient of each argument by itself, the others being constants."""
    for i, tensor in enumerate(tensors):
        if tensor is not None:
            given = list(tensors)
            given[i] = tensor.detach().requires_grad_()
            yield torch.autograd.grad(function(*given, **options), given[i], g)[0]


@by_dtype(torch.complex32, only=floating)
def test_first_derivatives(name, dtype, engine, passed):
    ours, theirs = getattr(functional, name), getattr(F, name)
    found = samples(name, dtype)
    for tensors, options in found:
        doubles = in_double(tensors)
        g = random_like(ours(*tensors, **options))
        expected = each_gradient(theirs, doubles, options, *in_double([g]))
        for one, other in zip(
            each_gradient(ours, tensors, options, g), expected, strict=True
        ):
            assert_close(one, other, dtype, engine)
    passed(f"first derivatives, {engine}", name, dtype, len(found))


def each_tangent(function, tensors, options, tangents):
    """The derivative along each argument by itself, in forward mode."""
    for i, tensor in enumerate(tensors):
        if tensor is not None:

            def along(value, i=i):
                return function(*tensors[:i], value, *tensors[i + 1 :], **options)

            yield torch.func.jvp(along, (tensor,), (tangents[i],))[1]


@by_dtype(only=lambda dtype: dtype in (torch.float16, torch.float64, torch.complex128))
def test_forward_mode(name, dtype, engine, passed):
    ours, theirs = getattr(functional, name), getattr(F, name)
    found = samples(name, dtype)
    for tensors, options in found:
        tangents = [t if t is None else random_like(t) for t in tensors]
        expected = each_tangent(
            theirs, in_double(tensors), options, in_double(tangents)
        )
        for one, other in zip(
            each_tangent(ours, tensors, options, tangents), expected, strict=True
        ):
            assert_close(one, other, dtype, engine)
    passed(f"forward mode, {engine}", name, dtype, len(found))


def second_derivatives(function, tensors, options, g, cotangents):
    """Of each gradient, by each argument and by the cotangent; zero where there is
    none."""
    leaves = [t.detach().requires_grad_() for t in [*tensors, g] if t is not None]
    given = iter(leaves)
    y = function(*(t if t is None else next(given) for t in tensors), **options)
    gradients = torch.autograd.grad(y, leaves[:-1], leaves[-1], create_graph=True)
    for gradient, cotangent in zip(gradients, cotangents, strict=True):
        yield from torch.autograd.grad(
            gradient, leaves, cotangent, retain_graph=True, materialize_grads=True
        )


@by_dtype(only=lambda dtype: dtype in (torch.float64, torch.complex128))
def test_second_derivatives(name, dtype, engine, passed):
    ours, theirs = getattr(functional, name), getattr(F, name)
    found = samples(name, dtype)
    for tensors, options in found:
        g = random_like(ours(*tensors, **options))
        cotangents = [random_like(t) for t in tensors if t is not None]
        expected = list(second_derivatives(theirs, tensors, options, g, cotangents))
        # by the weight, of the input's gradient: not zero
        assert expected[1].abs().max() > 0
        for one, other in zip(
            second_derivatives(ours, tensors, options, g, cotangents),
            expected,
            strict=True,
        ):
            assert_close(one, other, dtype, engine)
    passed(f"second derivatives, {engine}", name, dtype, len(found))


@pytest.mark.parametrize(
    "name", [name for name, op in OPERATORS.items() if op.error_inputs_func]
)
def test_error_inputs(name, passed):
    """Each raises what torch raises, but `same` with a stride, which we define."""
    raised = 0
    for each in OPERATORS[name].error_inputs("cpu"):
        sample = each.sample_input
        given = (sample.input, *sample.args)
        if (
            sample.kwargs.get("padding") == "same"
            and sample.kwargs.get("stride", 1) != 1
        ):
            y = getattr(functional, name)(*given, **sample.kwargs)
            strided = [-(-n // sample.kwargs["stride"]) for n in sample.input.shape[2:]]
            assert list(y.shape[2:]) == strided
            continue
        with pytest.raises(each.error_type) as theirs:
            getattr(F, name)(*given, **sample.kwargs)
        with pytest.raises(each.error_type) as ours:
            getattr(functional, name)(*given, **sample.kwargs)
        assert ours.type is theirs.type
        assert " must " in str(ours.value)
        raised += 1
    assert raised >= 8
    passed("error inputs", name, "error inputs", raised)


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.float8_e5m2, torch.float8_e4m3fn], ids=str
)
@pytest.mark.parametrize("name", OPERATORS)
def test_refused_dtypes(name, dtype):
    tensors, options = samples(name, torch.float32)[0]
    tensors = [t if t is None else t.to(dtype) for t in tensors]
    with pytest.raises(Exception) as theirs:
        getattr(F, name)(*tensors, **options)
    with pytest.raises(theirs.type, match="input must be one of") as ours:
        getattr(functional, name)(*tensors, **options)
    assert ours.type is theirs.type


def output_and_gradients(layer, inputs, g):
    inputs = [t.detach().requires_grad_() for t in inputs]
    y = layer(*inputs)
    return y, *torch.autograd.grad(y, [*inputs, *layer.parameters()], g)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluating"])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name, info in MODULES.items()
        for dtype in sorted(info.dtypes, key=str)
    ],
    ids=str,
)
def test_modules(name, dtype, training, engine, passed):
    info = MODULES[name]
    found = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=True, training=training
    )
    count = 0
    for each in found:
        made, applied = each.constructor_input, each.forward_input
        options = {"device": "cpu", "dtype": dtype} | made.kwargs
        theirs = info.module_cls(*made.args, **options).train(training)
        ours = getattr(scipyconv.nn, name)(*made.args, **options).train(training)
        with torch.no_grad():
            y = theirs(
                *applied.args, **applied.kwargs
            )  # from which a lazy one learns its shapes
        ours.load_state_dict(theirs.state_dict())
        ours(*applied.args, **applied.kwargs)
        assert type(ours).__name__ == type(theirs).__name__
        assert ours.training is theirs.training is training
        assert not applied.kwargs
        g = random_like(y)
        reference = copy.deepcopy(theirs).to(DOUBLE.get(dtype, torch.float64))
        expected = output_and_gradients(
            reference, in_double(applied.args), *in_double([g])
        )
        got = output_and_gradients(ours, applied.args, g)
        assert got[0].shape == y.shape
        assert len(got) == 4  # output, input, weight, bias
        for one, other in zip(got, expected, strict=True):
            assert_close(one, other, dtype, engine)
        if each.reference_fn is not None:
            assert_close(
                got[0], each.reference_fn(ours, *applied.args).detach(), dtype, engine
            )
        count += 1
    assert count >= 2
    passed(f"modules, {engine}", name, dtype, count)


def test_modules_have_no_error_inputs():
    """When this fails, torch's database has some: run them as those of the operators
    are run."""
    assert not [name for name, info in MODULES.items() if info.module_error_inputs_func]
