"""Every bad input: its class is torch's own for the same mistake, its message whole."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import linearize
from torch.fx.experimental.proxy_tensor import make_fx

from scipyconv import ScipyConv2d, ScipyConv2dFunction
from scipyconv.textbook.checks import check_tensors

x = torch.zeros(4, 5)
w = torch.zeros(2, 3)
b = torch.zeros(1)
DTYPES = (
    "float16, bfloat16, float32, float64, complex32, complex64, complex128, "
    "uint8, int8, int16, int32, int64"
)

# arguments, error, message, and the same mistake in torch's layer (None where torch has
# no say).
BAD_TENSORS = {
    "input is a list": (
        ([[1.0]], w, b),
        TypeError,
        "input must be a torch.Tensor: its type is list; pass torch.tensor(input)",
        lambda: F.conv2d([[1.0]], w[None, None], b),
    ),
    "input has negative strides": (
        (np.zeros((4, 5))[::-1], w, b),
        TypeError,
        "input must be a torch.Tensor: its type is ndarray; pass "
        "torch.from_numpy(input.copy())",
        lambda: F.conv2d(np.zeros((1, 1, 4, 5)), w[None, None], b),
    ),
    "filter is None": (
        (x, None, b),
        TypeError,
        "filter must be a torch.Tensor: its type is NoneType; pass a tensor, for "
        "instance torch.ones(2, 3)",
        lambda: F.conv2d(x[None, None], None, b),
    ),
    "bias is a number": (
        (x, w, 5.0),
        TypeError,
        "bias must be a torch.Tensor or None: its type is float; pass "
        "torch.tensor(bias)",
        lambda: F.conv2d(x[None, None], w[None, None], 5.0),
    ),
    "input is sparse": (
        (x.to_sparse(), w, b),
        RuntimeError,
        "input must be a dense tensor: its layout is torch.sparse_coo; pass "
        "input.to_dense()",
        lambda: F.conv2d(x[None, None].to_sparse(), w[None, None], b),
    ),
    "input is on a GPU": (
        lambda: (torch.zeros(4, 5, device="cuda"), w, b),
        RuntimeError,
        "input must be in main memory, where SciPy computes: it is on cuda:0; pass "
        "input.cpu(), or move a layer with layer.cpu()",
        None,
    ),
    "filter is on a GPU": (
        lambda: (x, torch.zeros(2, 3, device="cuda"), b),
        RuntimeError,
        "filter must be in main memory, where SciPy computes: it is on cuda:0; pass "
        "filter.cpu(), or move a layer with layer.cpu()",
        None,
    ),
    "filter is on meta alone": (
        (x, w.to("meta"), b),
        RuntimeError,
        "filter must have the input's device: filter has meta, input has cpu; pass "
        "filter.to(input.device), or convert a layer with layer.to(input.device)",
        None,
    ),
    "bool": (
        (x.bool(), w.bool(), None),
        NotImplementedError,
        f"input must be one of {DTYPES}: it is torch.bool; pass "
        "input.to(torch.float32)",
        lambda: F.conv2d(x[None, None].bool(), w[None, None].bool()),
    ),
    "float8": (
        (x.to(torch.float8_e5m2), w.to(torch.float8_e5m2), None),
        NotImplementedError,
        f"input must be one of {DTYPES}: it is torch.float8_e5m2; pass "
        "input.to(torch.float32)",
        lambda: F.conv2d(*(t[None, None].to(torch.float8_e5m2) for t in (x, w))),
    ),
    "filter of a dtype that is not computed in": (
        (x, w.bool(), b),
        RuntimeError,
        "filter must have the input's dtype: filter has torch.bool, input has "
        "torch.float32; pass filter.to(input.dtype), or convert a layer with "
        "layer.to(input.dtype)",
        lambda: F.conv2d(x[None, None], w[None, None].bool(), b),
    ),
    "filter of another dtype": (
        (x, w.double(), b),
        RuntimeError,
        "filter must have the input's dtype: filter has torch.float64, input has "
        "torch.float32; pass filter.to(input.dtype), or convert a layer with "
        "layer.to(input.dtype)",
        lambda: F.conv2d(x[None, None], w[None, None].double(), b),
    ),
    "complex input, real filter": (
        (x.to(torch.complex64), w, None),
        RuntimeError,
        "filter must have the input's dtype: filter has torch.float32, input has "
        "torch.complex64; pass filter.to(input.dtype), or convert a layer with "
        "layer.to(input.dtype)",
        lambda: F.conv2d(x[None, None].to(torch.complex64), w[None, None]),
    ),
    "integer input, float layer": (
        (x.long(), w, b),
        RuntimeError,
        "filter must have the input's dtype: filter has torch.float32, input has "
        "torch.int64; pass input.to(filter.dtype)",
        lambda: F.conv2d(x[None, None].long(), w[None, None], b),
    ),
    "bias of another dtype": (
        (x, w, b.long()),
        RuntimeError,
        "bias must have the input's dtype: bias has torch.int64, input has "
        "torch.float32; pass bias.to(input.dtype), or convert a layer with "
        "layer.to(input.dtype)",
        lambda: F.conv2d(x[None, None], w[None, None], b.long()),
    ),
    "input of one dimension": (
        (x[0], w, b),
        RuntimeError,
        "input must have 2 dimensions, height and width, behind any batch dimensions: "
        "its shape is (5,); pass input.reshape(height, width)",
        lambda: F.conv2d(x[0], w[None, None], b),
    ),
    "input without dimensions": (
        (x[0, 0], w, b),
        RuntimeError,
        "input must have 2 dimensions, height and width, behind any batch dimensions: "
        "its shape is (); pass input.reshape(height, width)",
        lambda: F.conv2d(x[0, 0], w[None, None], b),
    ),
    "filter of four dimensions": (
        (x, w[None, None], b),
        RuntimeError,
        "filter must have 2 dimensions, height and width: its shape is (1, 1, 2, 3); "
        "pass filter.reshape(height, width)",
        lambda: F.conv2d(x[None, None], w[None], b),
    ),
    "filter of one dimension": (
        (x, w[0], b),
        RuntimeError,
        "filter must have 2 dimensions, height and width: its shape is (3,); pass "
        "filter.reshape(height, width)",
        lambda: F.conv2d(x[None, None], w[0], b),
    ),
    "empty filter": (
        (x, w[:0], b),
        RuntimeError,
        "filter must have at least one row and one column: it is 0 by 3; pass a "
        "filter of 1 by 1 or more",
        lambda: F.conv2d(x[None, None], w[None, None, :0], b),
    ),
    "filter higher than the input": (
        (x, torch.zeros(6, 3), b),
        RuntimeError,
        "filter must not be larger than the input: filter is 6 by 3, input is 4 by 5; "
        "pass a smaller filter, or pad the input: torch.nn.functional.pad(input, (0, "
        "0, 0, 2))",
        lambda: F.conv2d(x[None, None], torch.zeros(1, 1, 6, 3), b),
    ),
    "filter larger than the input everywhere": (
        (x, torch.zeros(5, 7), b),
        RuntimeError,
        "filter must not be larger than the input: filter is 5 by 7, input is 4 by 5; "
        "pass a smaller filter, or pad the input: torch.nn.functional.pad(input, (0, "
        "2, 0, 1))",
        lambda: F.conv2d(x[None, None], torch.zeros(1, 1, 5, 7), b),
    ),
    "input without rows": (
        (x[:0], w, b),
        RuntimeError,
        "filter must not be larger than the input: filter is 2 by 3, input is 0 by 5; "
        "pass a smaller filter, or pad the input: torch.nn.functional.pad(input, (0, "
        "0, 0, 2))",
        lambda: F.conv2d(x[None, None, :0], w[None, None], b),
    ),
    "two biases": (
        (x, w, torch.zeros(2)),
        RuntimeError,
        "bias must have one element, its shape (1,) or (): its shape is (2,); pass "
        "torch.zeros(1), say, or None",
        lambda: F.conv2d(x[None, None], w[None, None], torch.zeros(2)),
    ),
    "no bias in a tensor": (
        (x, w, torch.zeros(0)),
        RuntimeError,
        "bias must have one element, its shape (1,) or (): its shape is (0,); pass "
        "torch.zeros(1), say, or None",
        lambda: F.conv2d(x[None, None], w[None, None], torch.zeros(0)),
    ),
    "bias of two dimensions": (
        (x, w, torch.zeros(1, 1)),
        RuntimeError,
        "bias must have one element, its shape (1,) or (): its shape is (1, 1); pass "
        "bias.reshape(1)",
        lambda: F.conv2d(x[None, None], w[None, None], torch.zeros(1, 1)),
    ),
}

BAD_LAYERS = {
    "height 0": (
        lambda: ScipyConv2d(0, 3),
        ValueError,
        "filter_height must be at least 1: it is 0; pass 3, say",
        None,  # torch makes a layer that fails when it is called
    ),
    "negative width": (
        lambda: ScipyConv2d(3, -1),
        RuntimeError,
        "filter_width must be at least 1: it is -1; pass 3, say",
        lambda: torch.nn.Conv2d(1, 1, (3, -1)),
    ),
    "fractional height": (
        lambda: ScipyConv2d(2.0, 3),
        TypeError,
        "filter_height must be an int: it is 2.0, of type float; pass 3, say",
        lambda: torch.nn.Conv2d(1, 1, (2.0, 3)),
    ),
    "height from a text": (
        lambda: ScipyConv2d("3", 3),
        TypeError,
        "filter_height must be an int: it is '3', of type str; pass 3, say",
        lambda: torch.nn.Conv2d(1, 1, ("3", 3)),
    ),
    "width True": (
        lambda: ScipyConv2d(3, True),
        TypeError,
        "filter_width must be an int: it is True, of type bool; pass 3, say",
        None,  # torch takes it for 1
    ),
    "height and width in one": (
        lambda: ScipyConv2d((3, 3), 3),
        TypeError,
        "filter_height must be an int: it is (3, 3), of type tuple; pass 3, say",
        None,
    ),
    "integer parameters": (
        lambda: ScipyConv2d(3, 3, dtype=torch.int64),
        RuntimeError,
        "dtype must be a floating-point or complex one, or no gradient could reach "
        "the parameters: it is torch.int64; pass torch.float64, say",
        lambda: torch.nn.Conv2d(1, 1, 3, dtype=torch.int64),
    ),
    "bool parameters": (
        lambda: ScipyConv2d(3, 3, dtype=torch.bool),
        RuntimeError,
        "dtype must be a floating-point or complex one, or no gradient could reach "
        "the parameters: it is torch.bool; pass torch.float64, say",
        lambda: torch.nn.Conv2d(1, 1, 3, dtype=torch.bool),
    ),
    "float8 parameters": (
        lambda: ScipyConv2d(3, 3, dtype=torch.float8_e5m2),
        NotImplementedError,
        "dtype must be one of float16, bfloat16, float32, float64, complex32, "
        "complex64, complex128: it is torch.float8_e5m2; pass torch.float32, say",
        lambda: torch.nn.Conv2d(1, 1, 3, dtype=torch.float8_e5m2),
    ),
    "NumPy's dtype": (
        lambda: ScipyConv2d(3, 3, dtype=np.float32),
        TypeError,
        "dtype must be a torch.dtype or None: it is <class 'numpy.float32'>; pass "
        "torch.float64, say",
        lambda: torch.nn.Conv2d(1, 1, 3, dtype=np.float32),
    ),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensors(case):
    arguments, error, message, in_torch = BAD_TENSORS[case]
    if callable(arguments):  # a fake tensor can be on a GPU that is not there
        with FakeTensorMode(allow_non_fake_inputs=True):
            arguments = arguments()
    with pytest.raises(Exception) as caught:
        ScipyConv2dFunction.apply(*arguments)
    assert (caught.type, str(caught.value)) == (error, message)
    if in_torch:
        with pytest.raises(error) as by_torch:
            in_torch()
        assert by_torch.type is error


@pytest.mark.parametrize("case", BAD_LAYERS)
def test_bad_layers(case):
    make, error, message, in_torch = BAD_LAYERS[case]
    with pytest.raises(Exception) as caught:
        make()
    assert (caught.type, str(caught.value)) == (error, message)
    if in_torch:
        with pytest.raises(error) as by_torch:
            in_torch()
        assert by_torch.type is error


@pytest.mark.parametrize(
    "case", ["input is a list", "filter higher than the input", "two biases"]
)
def test_a_module_has_the_same_door(case):
    (x, w, b), error, message, _ = BAD_TENSORS[case]
    layer = ScipyConv2d(1, 1)
    layer.filter = torch.nn.Parameter(w)
    layer.bias = torch.nn.Parameter(b)
    with pytest.raises(error) as caught:
        layer(x)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "case", ["filter larger than the input everywhere", "two biases", "bool"]
)
@pytest.mark.parametrize("kind", ["meta", "fake"])
def test_tensors_without_numbers_have_the_same_door(case, kind):
    arguments, error, message, _ = BAD_TENSORS[case]
    mode = FakeTensorMode()
    arguments = [
        t if t is None else t.to("meta") if kind == "meta" else mode.from_tensor(t)
        for t in arguments
    ]
    with pytest.raises(error) as caught:
        ScipyConv2dFunction.apply(*arguments)
    assert str(caught.value) == message


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_nested_tensors_are_refused(layout):
    with pytest.raises(NotImplementedError) as caught:
        ScipyConv2dFunction.apply(
            torch.nested.nested_tensor([x, x[:3]], layout=layout), w, b
        )
    assert str(caught.value) == (
        "input must be a dense tensor: it is a nested one; pass each of input.unbind() "
        "by itself"
    )
    with pytest.raises(NotImplementedError):
        F.conv2d(torch.nested.nested_tensor([x[None, None]]), w[None, None], b)


def test_vmap_does_not_hide_a_wrong_shape():
    """What vmap maps is no dimension of the filter's: the door counts the others."""
    with pytest.raises(
        RuntimeError, match=r"filter must have 2 dimensions.* \(1, 2, 3\)"
    ):
        torch.vmap(ScipyConv2dFunction.apply)(
            torch.zeros(7, 4, 5), torch.zeros(7, 1, 2, 3)
        )
    with pytest.raises(RuntimeError, match=r"bias must have one element.* \(7,\)"):
        torch.vmap(ScipyConv2dFunction.apply, in_dims=(0, None, None))(
            torch.zeros(7, 4, 5), w, torch.zeros(7)
        )


def test_integers_that_require_a_gradient_do_not_exist():
    with pytest.raises(
        RuntimeError, match="Only Tensors of floating point and complex dtype"
    ):
        torch.zeros(4, 5, dtype=torch.int64, requires_grad=True)
    assert not ScipyConv2dFunction.apply(x.long(), w.long(), b.long()).requires_grad


def test_what_is_allowed_passes():
    for bias in (None, torch.zeros(()), torch.zeros(1)):
        check_tensors(x, w, bias)
    check_tensors(torch.zeros(0, 4, 5), x, b)
    assert ScipyConv2d(np.int64(2), 3).filter.shape == (2, 3)


def test_the_padding_that_the_message_names_is_enough_and_no_more():
    with pytest.raises(RuntimeError) as caught:
        ScipyConv2dFunction.apply(x, torch.zeros(5, 7))
    padding = eval(str(caught.value).split("pad(input, ")[1].removesuffix(")"))
    assert ScipyConv2dFunction.apply(F.pad(x, padding), torch.zeros(5, 7)).shape == (
        1,
        1,
    )


def trace_the_backward_alone():
    value = x.clone().requires_grad_()
    y = ScipyConv2dFunction.apply(value, w)
    make_fx(lambda g: torch.autograd.grad(y, value, g))(torch.zeros(3, 3))


def trace_the_function(mode):
    make_fx(lambda x, w: ScipyConv2dFunction.apply(x, w), tracing_mode=mode)(x, w)


TRACES = {
    "torch.export": lambda: torch.export.export(ScipyConv2d(2, 3), (x,), strict=False),
    "torch.func.linearize": lambda: linearize(
        lambda x: ScipyConv2dFunction.apply(x, w), x
    ),
    "make_fx": lambda: trace_the_function("real"),
    "make_fx, fake": lambda: trace_the_function("fake"),
    "make_fx of the backward alone": trace_the_backward_alone,
}


@pytest.mark.parametrize("trace", TRACES)
def test_a_graph_without_numbers_is_refused(trace):
    """Recorded, the layer would return memory that nobody filled."""
    with pytest.raises(NotImplementedError) as caught:
        TRACES[trace]()
    assert str(caught.value) == (
        "the layer must not be traced into a graph, which cannot record what SciPy "
        "computes: torch.export, torch.func.linearize or make_fx is tracing it; call "
        "it as it is, or use scipyconv.nn.Conv2d"
    )
