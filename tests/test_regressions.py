"""One test for each bug that another library had, named after it; none of them may come
back here.

Expected numbers come from torch in double precision, from the definition by einsum or
by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import scipyconv
from scipyconv import functional

CONV = [getattr(functional, f"conv{n}d") for n in (1, 2, 3)]
TRANSPOSE = [getattr(functional, f"conv_transpose{n}d") for n in (1, 2, 3)]
LETTERS = "pqr"


def random(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype)


def torchs(function):
    """torch's function of the same name."""
    return getattr(F, function.__name__)


def all_gradients(function, tensors, g, **options):
    """The output, and each gradient with the other arguments constant."""
    yield function(*tensors, **options).detach()
    for i in range(len(tensors)):
        given = [t.detach() for t in tensors]
        given[i].requires_grad_()
        yield torch.autograd.grad(function(*given, **options), given[i], g)[0]


def assert_same(function, tensors, reference=None, other=None, **options):
    """Output and gradients are those of torch, or of another function or other
    tensors."""
    reference, other = reference or torchs(function), other or tensors
    g = torch.randn_like(reference(*other, **options))
    ours, theirs = (
        list(all_gradients(f, given, g, **options))
        for f, given in ((function, tensors), (reference, other))
    )
    for one, expected in zip(ours, theirs, strict=True):
        assert one.shape == expected.shape
        torch.testing.assert_close(one, expected)
    return ours


def windows(x, w, stride, dilation):
    """Cross-correlation by its definition, one tap at a time; x is padded already."""
    size = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(x.shape[2:], w.shape[2:], stride, dilation, strict=True)
    ]
    y = x.new_zeros(x.shape[0], w.shape[0], *size)
    for k in np.ndindex(*w.shape[2:]):
        pixels = tuple(
            slice(d * i, d * i + s * (n - 1) + 1, s)
            for i, d, s, n in zip(k, dilation, stride, size, strict=True)
        )
        y = y + torch.einsum("nc...,oc->no...", x[:, :, *pixels], w[:, :, *k])
    return y


# What torch's users miss.


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("function", CONV)
def test_pytorch_17150_asymmetric_padding(function):
    """Padding was the same on both sides, and F.pad before it needed a copy by hand."""
    dims = CONV.index(function) + 1
    padding = ((1, 2), (3, 0), (0, 1))[:dims]
    x, w, b = (
        random(2, 4, 5, 4, 6)[..., *[0] * (3 - dims)],
        random(6, 2, *(3, 2, 2)[:dims]),
        random(6),
    )
    stride, options = (2, 1, 3)[:dims], {"dilation": (1, 2, 1)[:dims], "groups": 2}

    def by_hand(x, w, b, padding, stride, **options):
        flat = [n for pair in reversed(padding) for n in pair]
        return torchs(function)(F.pad(x, flat), w, b, stride=stride, **options)

    ours = assert_same(
        function, (x, w, b), by_hand, padding=padding, stride=stride, **options
    )
    mirrored = tuple((after, before) for before, after in padding)
    other = function(x, w, b, padding=mirrored, stride=stride, **options)
    assert other.shape != ours[0].shape or not torch.allclose(other, ours[0])


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("function", CONV)
@pytest.mark.parametrize("stride", [2, 3])
def test_pytorch_67551_same_padding_with_a_stride(function, stride):
    """`same` was refused with a stride."""
    dims = CONV.index(function) + 1
    x, w, b = (
        random(2, 2, *(7, 5, 4)[:dims]),
        random(3, 2, *(4, 3, 2)[:dims]),
        random(3),
    )

    def by_hand(x, w, b, padding, stride):
        flat = []
        for n, k in zip(x.shape[2:], w.shape[2:], strict=True):
            missing = max(0, (math.ceil(n / stride) - 1) * stride + k - n)
            flat = [missing // 2, missing - missing // 2, *flat]
        return torchs(function)(F.pad(x, flat), w, b, stride=stride)

    y = assert_same(function, (x, w, b), by_hand, padding="same", stride=stride)[0]
    assert list(y.shape[2:]) == [math.ceil(n / stride) for n in x.shape[2:]]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_pytorch_46027_padding_modes_of_transposed_layers(mode):
    """Transposed layers knew `zeros` alone: here the adjoint of the padded
    convolution."""
    forward = torch.nn.Conv2d(
        3,
        4,
        (3, 2),
        stride=(2, 1),
        padding=(2, 1),
        padding_mode=mode,
        bias=False,
        dtype=torch.float64,
    )
    ours = scipyconv.nn.ConvTranspose2d(
        4,
        3,
        (3, 2),
        stride=(2, 1),
        padding=(2, 1),
        bias=False,
        padding_mode=mode,
        dtype=torch.float64,
    )
    ours.weight = forward.weight
    x = random(2, 3, 5, 4)
    y = forward(x)
    g = torch.randn_like(y)
    assert ours(g).shape == x.shape
    torch.testing.assert_close((y * g).sum(), (x * ours(g)).sum())


# Silent mistakes of grouped convolutions.


@pytest.mark.usefixtures("engine")
def test_pytorch_50042_grouped_weight_gradient_with_a_stride():
    """24 groups with stride 2 and padding 1: the last row of the weight's gradient was
    wrong."""
    x, w = torch.ones(1, 24, 6, 6), torch.ones(24, 1, 3, 3, requires_grad=True)
    y = functional.conv2d(x, w, stride=2, padding=1, groups=24)
    y.backward(torch.ones_like(y))
    row = [6.0, 9, 9]
    assert w.grad.tolist() == [[[[4.0, 6, 6], row, row]]] * 24
    assert_same(
        functional.conv2d,
        (random(2, 24, 6, 5), random(24, 1, 3, 3)),
        stride=2,
        padding=1,
        groups=24,
    )


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("function", CONV)
@pytest.mark.parametrize("multiplier", [1, 2])
def test_pytorch_51430_weight_gradient_with_groups(function, multiplier):
    """torch.nn.grad.conv*_weight was wrong when there were several groups."""
    dims = CONV.index(function) + 1
    x, w, g = (
        random(2, 6, *(5, 4, 3)[:dims]),
        random(3 * multiplier, 2, *(3, 2, 2)[:dims]),
        None,
    )
    w.requires_grad_()
    y = function(x, w, groups=3)
    g = torch.randn_like(y)
    [grad_w] = torch.autograd.grad(y, w, g)
    for group in range(3):
        o, c = (
            slice(group * multiplier, (group + 1) * multiplier),
            slice(2 * group, 2 * group + 2),
        )
        alone = w[o].detach().requires_grad_()
        [expected] = torch.autograd.grad(
            torchs(function)(x[:, c], alone), alone, g[:, o]
        )
        torch.testing.assert_close(grad_w[o], expected)
    theirs = getattr(torch.nn.grad, f"{function.__name__}_weight")
    torch.testing.assert_close(grad_w, theirs(x, w.shape, g, groups=3))


@pytest.mark.usefixtures("engine")
def test_pytorch_68868_grouped_3d_weight_gradient():
    """Conv3d with 3 groups, stride (4, 4, 1) and padding 1: wrong weight gradients on
    the CPU."""
    x, w, b = random(2, 6, 5, 9, 3), random(9, 2, 2, 2, 2), random(9)
    assert_same(functional.conv3d, (x, w, b), stride=(4, 4, 1), padding=1, groups=3)


# Silent mistakes for tensors that do not lie in memory as usual.


def layouts(t):
    """The same numbers, differently in memory: permuted, every other one, channels
    last, a view."""
    yield (
        "permuted",
        t.permute(*reversed(range(t.ndim)))
        .contiguous()
        .permute(*reversed(range(t.ndim))),
    )
    wide = torch.full((*t.shape[:-1], 2 * t.shape[-1]), math.nan, dtype=t.dtype)
    wide[..., ::2] = t
    yield "every other", wide[..., ::2]
    yield "channels last", t.to(memory_format=torch.channels_last)
    padded = torch.full([n + 2 for n in t.shape], math.nan, dtype=t.dtype)
    inside = (slice(1, -1),) * t.ndim
    padded[inside] = t
    yield "inside", padded[inside]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("function", [functional.conv2d, functional.conv_transpose2d])
def test_pytorch_18948_memory_layouts(function):
    """Weights and inputs that were not contiguous gave other numbers than their
    copies."""
    x, w = random(2, 4, 5, 7), random(4, 2, 3, 2)
    for (name, x_), (_, w_) in zip(layouts(x), layouts(w), strict=True):
        assert name == "inside" or not (x_.is_contiguous() and w_.is_contiguous())
        assert_same(function, (x_, w_), torchs(function), (x, w), groups=2, stride=2)


@pytest.mark.usefixtures("engine")
def test_pytorch_15297_expanded_grouped_weight():
    """One filter, expanded to all groups, was read as if it lay in memory eight
    times."""
    w = random(3, 3)[None].expand(8, -1, -1)[:, None]
    assert 0 in w.stride()
    x = random(2, 8, 5, 6)
    ours = assert_same(
        functional.conv2d,
        (x, w),
        torchs(functional.conv2d),
        (x, w.contiguous()),
        groups=8,
    )
    for i in range(8):
        torch.testing.assert_close(
            ours[0][:, i : i + 1], F.conv2d(x[:, i : i + 1], w[:1])
        )


@pytest.mark.usefixtures("engine")
def test_pytorch_15297_gradient_of_an_expanded_weight():
    """The gradient of what was expanded is the sum over the groups."""
    kernel = random(3, 2).requires_grad_()
    x, g = random(2, 4, 5, 6), random(2, 4, 3, 5)
    y = functional.conv2d(x, kernel.expand(4, 1, -1, -1), groups=4)
    [ours] = torch.autograd.grad(y, kernel, g)
    each = [
        torch.nn.grad.conv2d_weight(x[:, i : i + 1], (1, 1, 3, 2), g[:, i : i + 1])[
            0, 0
        ]
        for i in range(4)
    ]
    torch.testing.assert_close(ours, torch.stack(each).sum(0))


@pytest.mark.usefixtures("engine")
def test_pytorch_55781_discontiguous_weight():
    """Every other column of a larger tensor as the weight: blocks of the output were
    wrong."""
    w = torch.arange(0, 1.0, 1 / 2.0**8).reshape(16, 8, 1, 2)[:, :, :, ::2]
    assert not w.is_contiguous()
    x = torch.randn(3, 8, 4, 5)
    torch.testing.assert_close(functional.conv2d(x, w), F.conv2d(x, w.contiguous()))
    assert_same(functional.conv2d, (x.double(), w.double()))


@pytest.mark.usefixtures("engine")
def test_pytorch_5112_transposed_output_padding_and_dilation():
    """Backward with output_padding and dilation read beyond its memory."""
    options = {"output_padding": 1, "dilation": 2}
    x, w = torch.ones(1, 4, 1, 1, requires_grad=True), torch.ones(4, 1, 3, 3)
    y = functional.conv_transpose2d(x, w, **options)
    y.backward(torch.ones_like(y))
    assert y.shape == (1, 1, 6, 6)
    assert x.grad.flatten().tolist() == [9.0] * 4
    assert y[0, 0, 5].tolist() == y[0, 0, :, 5].tolist() == [0.0] * 6


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "options",
    [{"output_padding": 1, "dilation": 2}, {"output_padding": 2, "stride": 3}],
    ids=str,
)
@pytest.mark.parametrize("function", TRANSPOSE)
def test_pytorch_5112_second_derivatives_with_output_padding(function, options):
    """And backward of backward crashed."""
    dims = TRANSPOSE.index(function) + 1
    shapes = (1, 2, *(2, 3, 1)[:dims]), (2, 1, *(2, 1, 2)[:dims])
    g, *cotangents = (
        random(*shape)
        for shape in (
            torchs(function)(*map(torch.ones, shapes), **options).shape,
            *shapes,
        )
    )
    leaves = [random(*shape).requires_grad_() for shape in shapes]

    def second(conv):
        first = torch.autograd.grad(
            conv(*leaves, **options), leaves, g, create_graph=True
        )
        return [
            torch.autograd.grad(
                first[i], leaves[1 - i], cotangents[i], retain_graph=True
            )[0]
            for i in range(2)
        ]

    for ours, theirs in zip(second(function), second(torchs(function)), strict=True):
        assert theirs.abs().max() > 0.01
        torch.testing.assert_close(ours, theirs)
    if dims == 1:
        assert gradgradcheck(lambda *t: function(*t, **options), leaves)


# Shapes without numbers are checked as numbers are.


def on_meta(shapes):
    return [torch.empty(shape, device="meta") for shape in shapes]


def fakes(shapes):
    with FakeTensorMode():
        return [torch.empty(shape) for shape in shapes]


def assert_refused_everywhere(function, shapes, match, **options):
    """On the CPU as torch does; and just so without numbers, where torch returned a
    shape."""
    with pytest.raises(RuntimeError):
        torchs(function)(*map(torch.ones, shapes), **options)
    for tensors in (list(map(torch.ones, shapes)), on_meta(shapes), fakes(shapes)):
        with pytest.raises(RuntimeError, match=match) as error:
            function(*tensors, **options)
        assert error.type is RuntimeError


def test_pytorch_178125_output_padding_on_meta_1d():
    """conv_transpose1d on meta took an output_padding that reaches the stride."""
    shapes = [(2, 4, 5), (4, 3, 3)]
    assert_refused_everywhere(
        functional.conv_transpose1d,
        shapes,
        "^output_padding must",
        stride=2,
        output_padding=2,
        groups=2,
    )


def test_pytorch_178127_output_padding_on_meta_2d():
    """conv_transpose2d on meta took an output_padding that reaches the stride."""
    shapes = [(2, 4, 5, 3), (4, 3, 3, 2)]
    for added in ((2, 0), (0, 2), (2, 2)):
        assert_refused_everywhere(
            functional.conv_transpose2d,
            shapes,
            "^output_padding must",
            stride=2,
            output_padding=added,
        )
    assert functional.conv_transpose2d(
        *on_meta(shapes), stride=2, output_padding=(1, 0)
    ).shape == (2, 3, 12, 6)


@pytest.mark.parametrize("function", [*CONV, *TRANSPOSE])
@pytest.mark.parametrize("bias", [(5,), (1,), (), (6, 1), (1, 6), (0,)])
def test_pytorch_178128_bias_shape_on_meta(function, bias):
    """conv_transpose3d on meta took a bias of the wrong size; the numbers were
    refused."""
    dims = ([*CONV, *TRANSPOSE].index(function)) % 3 + 1
    channels = (6, 2) if function in CONV else (4, 3)
    shapes = [(1, 4, *(4, 5, 3)[:dims]), (*channels, *(2, 3, 1)[:dims]), bias]
    assert_refused_everywhere(function, shapes, "^bias must", groups=2)


# Other libraries.


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.complex128, torch.complex64], ids=str
)
def test_fft_conv_pytorch_keeps_double_precision(dtype):
    """float64 came back as float32, and complex numbers were complex64 throughout."""
    x, w, b = (
        random(*shape, dtype=dtype) for shape in ((1, 1, 3, 5), (2, 1, 2, 3), (2,))
    )
    y, *gradients = assert_same(functional.conv2d, (x, w, b), stride=(1, 2))
    assert {t.dtype for t in (y, *gradients)} == {dtype}
    if dtype is not torch.complex64:
        tensors = [t.requires_grad_() for t in (x, w, b)]
        assert gradcheck(lambda *t: functional.conv2d(*t, stride=(1, 2)), tensors)
        exact = windows(x, w, (1, 2), (1, 1)) + b[:, None, None]
        assert (y - exact).abs().max() < 1e-13


@pytest.mark.usefixtures("engine")
def test_fft_conv_pytorch_unbatched_and_valid():
    """Neither an input without a batch nor padding='valid' was known."""
    x, w = random(2, 4, 5), random(3, 2, 2, 3)
    y = assert_same(functional.conv2d, (x, w), padding="valid")[0]
    assert y.shape == (3, 3, 3)


def test_fft_conv_pytorch_initial_weights():
    """The initial weights were standard normal: far too large."""
    layer = scipyconv.nn.Conv2d(16, 8, 5)
    bound = 1 / math.sqrt(16 * 5 * 5)
    assert 0.9 * bound < layer.weight.abs().max() <= bound
    assert layer.bias.abs().max() <= bound


@pytest.mark.parametrize("groups", [0, -1, 3, 5])
@pytest.mark.parametrize("function", [*CONV, *TRANSPOSE])
def test_einconv_bad_groups(function, groups):
    """groups=0 was a ZeroDivisionError."""
    dims = ([*CONV, *TRANSPOSE].index(function)) % 3 + 1
    shapes = [(1, 4, *(4, 5, 3)[:dims]), (4, 2, *(2, 3, 1)[:dims])]
    assert_refused_everywhere(function, shapes, "groups", groups=groups)


@pytest.mark.usefixtures("engine")
def test_einconv_unbatched():
    """There was no convolution of a single sample."""
    x, w, b = random(4, 5), random(6, 2, 3), random(6)
    y = assert_same(functional.conv1d, (x, w, b), groups=2)[0]
    assert y.shape == (6, 3)


def test_unfoldnd_raises_for_a_kernel_that_does_not_fit():
    """Errors were not raised: a kernel larger than the input gave an empty result."""
    assert_refused_everywhere(
        functional.conv3d, [(1, 2, 3, 4, 5), (1, 2, 3, 4, 6)], "^weight must"
    )
    assert_refused_everywhere(
        functional.conv3d,
        [(1, 2, 3, 4, 5), (1, 2, 2, 4, 5)],
        "^weight must",
        dilation=(3, 1, 1),
    )


@pytest.mark.usefixtures("engine")
def test_tutorial_weight_and_bias_have_right_gradients():
    """gradcheck(module, [input]) sees the input alone: each argument is checked by
    itself here."""
    tensors = [random(1, 2, 4, 5), random(3, 2, 2, 3), random(3)]
    for i in range(3):

        def function(t, i=i):
            return functional.conv2d(*tensors[:i], t, *tensors[i + 1 :])

        assert gradcheck(function, [tensors[i].clone().requires_grad_()])


@pytest.mark.usefixtures("engine")
def test_tutorial_flip():
    """A backward without the flip passes while the filter is symmetric: this one is
    not."""
    w = torch.tensor([[[[1.0, 2], [3, 4]]]])
    x = torch.zeros(1, 1, 3, 3, requires_grad=True)
    y = functional.conv2d(x, w)
    [grad_x] = torch.autograd.grad(y, x, torch.tensor([[[[0.0, 1], [0, 0]]]]))
    torch.testing.assert_close(
        grad_x[0, 0], torch.tensor([[0.0, 1, 2], [0, 3, 4], [0, 0, 0]])
    )


@pytest.mark.usefixtures("engine")
def test_tutorial_gradient_penalty_is_not_ignored():
    """Detached saved tensors: create_graph=True gave a gradient that required none."""
    x, w = random(1, 1, 4, 5).requires_grad_(), random(2, 1, 2, 3).requires_grad_()
    v = random(1, 2, 3, 3)

    def penalty(conv):
        [gradient] = torch.autograd.grad(conv(x, w), x, v, create_graph=True)
        assert gradient.requires_grad
        return torch.autograd.grad((gradient**2).sum(), w)[0]

    ours, theirs = penalty(functional.conv2d), penalty(F.conv2d)
    assert theirs.abs().max() > 0.1
    torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("engine")
def test_tutorial_complex_filter_is_not_conjugated():
    """SciPy conjugates a complex filter, torch does not; gradcheck passes either
    way."""
    x, w = torch.tensor([[1.0 + 0j, 2]]), torch.tensor([[[1j]]])
    torch.testing.assert_close(functional.conv1d(x, w), torch.tensor([[1j, 2j]]))
    assert_same(
        functional.conv1d,
        (
            random(1, 2, 5, dtype=torch.complex128),
            random(3, 2, 2, dtype=torch.complex128),
        ),
    )


@pytest.mark.usefixtures("engine")
def test_tutorial_bias_gradient_has_the_bias_shape():
    """A bias gradient of another shape passes unseen: autograd sums what is too
    much."""
    b, g = random(3).requires_grad_(), random(2, 3, 3, 4)
    y = functional.conv2d(random(2, 1, 4, 5), random(3, 1, 2, 2), b)
    [gradient] = torch.autograd.grad(y, b, g)
    torch.testing.assert_close(gradient, g.sum((0, 2, 3)))


# What hand-written backwards forget.


@pytest.mark.parametrize("function", CONV)
@pytest.mark.parametrize("remainder", [1, 2])
def test_stride_remainder(function, remainder, engine):
    """The last pixels, which no window reaches, have a gradient: zero, by fft but for
    rounding."""
    dims = CONV.index(function) + 1
    size = [
        4 + 3 * i + remainder for i in range(1, dims + 1)
    ]  # a kernel of 4, a stride of 3
    tensors = random(2, 2, *size), random(3, 2, *[4] * dims)
    _, grad_x, _ = assert_same(function, tensors, stride=3)
    assert grad_x.shape == tensors[0].shape
    zero = 1e-14 if engine == "fft" else 0
    for axis in range(2, 2 + dims):
        assert (
            grad_x.narrow(axis, size[axis - 2] - remainder, remainder).abs().max()
            <= zero
        )
        assert grad_x.narrow(axis, size[axis - 2] - remainder - 1, 1).abs().max() > 0


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("function", [*CONV, *TRANSPOSE])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_mixed_second_derivative(function, dtype):
    """Zero in each argument alone, not zero across them."""
    dims = ([*CONV, *TRANSPOSE].index(function)) % 3 + 1
    shapes = (1, 2, *(4, 3, 3)[:dims]), (2, 2, *(2, 3, 1)[:dims])
    x, w = (random(*shape, dtype=dtype).requires_grad_() for shape in shapes)
    g = torch.randn_like(function(x, w, stride=2))
    v = torch.randn_like(x)

    def second(conv):
        [gradient] = torch.autograd.grad(conv(x, w, stride=2), x, g, create_graph=True)
        return torch.autograd.grad(gradient, (x, w), v, materialize_grads=True)

    by_x, by_w = second(function)
    assert by_x.abs().max() == 0
    assert by_w.abs().max() > 0.01
    torch.testing.assert_close(by_w, second(torchs(function))[1])
    # forward over reverse
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(w, torch.ones_like(w))
        leaf = x.detach().requires_grad_()
        [gradient] = torch.autograd.grad(function(leaf, dual, stride=2), leaf, g)
        tangent = forward_ad.unpack_dual(gradient).tangent
    leaf = x.detach().requires_grad_()
    [expected] = torch.autograd.grad(
        torchs(function)(leaf, torch.ones_like(w), stride=2), leaf, g
    )
    torch.testing.assert_close(tangent, expected)


# Tensors that are views of a special kind.


def with_bits(t):
    return {
        "conjugate": (t.conj().resolve_conj().conj(), t),
        "negative": (torch._neg_view(-t), t),
        "both": (torch._neg_view((-t).conj().resolve_conj()).conj(), t),
        "imaginary part": (
            torch.complex(torch.zeros_like(t.real), t.real).conj().imag,
            -t.real,
        ),
    }


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("kind", ["conjugate", "negative", "both", "imaginary part"])
@pytest.mark.parametrize("function", [*CONV, *TRANSPOSE])
def test_conjugate_and_negative_bits(function, kind):
    """.numpy() refuses both bits, and memory read without them has other numbers."""
    dims = ([*CONV, *TRANSPOSE].index(function)) % 3 + 1
    x, x_plain = with_bits(random(2, 2, *(4, 3, 2)[:dims], dtype=torch.complex128))[
        kind
    ]
    w, w_plain = with_bits(random(2, 3, *(2, 3, 1)[:dims], dtype=torch.complex128))[
        kind
    ]
    w, w_plain = (
        (w.transpose(0, 1), w_plain.transpose(0, 1))
        if function in CONV
        else (w, w_plain)
    )
    assert (x.is_conj(), x.is_neg()) == {
        "conjugate": (True, False),
        "negative": (False, True),
        "both": (True, True),
        "imaginary part": (False, True),
    }[kind]
    torch.testing.assert_close(x.resolve_conj().resolve_neg(), x_plain)
    assert_same(
        function, (x, w), torchs(function), (x_plain.clone(), w_plain.clone()), stride=2
    )
    # and the cotangent
    leaf, plain = (t.detach().clone().requires_grad_() for t in (w_plain, w_plain))
    y = function(x_plain, leaf)
    g, g_plain = with_bits(random(*y.shape, dtype=torch.complex128))[kind]
    [ours] = torch.autograd.grad(y, leaf, g)
    [theirs] = torch.autograd.grad(torchs(function)(x_plain, plain), plain, g_plain)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("function", [functional.conv2d, functional.conv_transpose2d])
def test_expanded_input_and_cotangent(function):
    """Stride 0 in memory; `y.sum()` sends such a cotangent."""
    x, w = random(1, 2, 1, 5).expand(3, -1, 4, -1), random(2, 2, 3, 2)
    assert_same(function, (x, w), torchs(function), (x.contiguous(), w))
    leaf, plain = (w.clone().requires_grad_() for _ in range(2))
    g = random(1, 1, 1, 1).expand(function(x, w).shape)
    [ours] = torch.autograd.grad(function(x, leaf), leaf, g)
    [theirs] = torch.autograd.grad(
        torchs(function)(x.contiguous(), plain), plain, g.contiguous()
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("engine")
def test_overlapping_input():
    """Windows of one line as a tensor of their own, by as_strided; its memory is left
    alone."""
    line = random(24)
    x = line.as_strided((2, 2, 4, 5), (4, 2, 3, 1))
    before, w = line.clone(), random(3, 2, 3, 2)
    assert_same(
        functional.conv2d, (x, w), torchs(functional.conv2d), (x.contiguous(), w)
    )
    assert torch.equal(line, before)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("function", [functional.conv2d, functional.conv_transpose2d])
def test_negative_strided_source(function):
    """What NumPy has flipped: torch refuses the view, and takes its copy and its
    flip."""
    x, w = (
        np.random.default_rng(0).standard_normal((2, 2, 2, 4, 5))[0],
        random(2, 2, 2, 3),
    )
    flipped = x[..., ::-1, ::-1]
    with pytest.raises(ValueError, match="negative"):
        torch.from_numpy(flipped)
    with pytest.raises(TypeError, match=r"pass torch.from_numpy\(input.copy\(\)\)"):
        function(flipped, w)
    copied = torch.from_numpy(flipped.copy())
    assert_same(function, (copied, w))
    torch.testing.assert_close(
        function(torch.from_numpy(x).flip((-2, -1)), w), torchs(function)(copied, w)
    )


@pytest.mark.usefixtures("engine")
def test_a_flipped_filter_within_the_operator():
    """Results are never views of memory with negative strides, nor of the arguments."""
    x = random(1, 1, 4, 5)
    for function in (functional.conv2d, functional.conv_transpose2d):
        y = function(x, torch.ones(1, 1, 1, 1, dtype=torch.float64))
        assert y.data_ptr() != x.data_ptr()
        y.zero_()
    assert x.abs().min() > 0


def test_wrong_bias_shapes_of_a_layer():
    """A bias put into a layer is checked when the layer is called."""
    layer = scipyconv.nn.Conv2d(2, 3, 2)
    layer.bias = torch.nn.Parameter(torch.zeros(1))  # broadcasting would take it
    with pytest.raises(
        RuntimeError, match=r"^bias must have one element for each of the 3"
    ):
        layer(torch.zeros(1, 2, 4, 4))


# NaN and infinity.

NON_FINITE = {
    "plain": {},
    "stride": {"stride": 2},
    "dilation": {"dilation": 2},
    "both": {"stride": 2, "dilation": 3},
    "same step": {"stride": 2, "dilation": 2},
    "coprime": {"stride": 3, "dilation": 2, "padding": 1},
    "groups": {"groups": 2, "padding": 1},
}


def put(t, value, position):
    t = t.clone()
    t[position] = value
    return t


def same_non_finite(ours, theirs):
    """NaN where torch has NaN, and infinity of the same sign where torch has it."""
    assert torch.equal(ours.isnan(), theirs.isnan())
    assert torch.equal(ours.isposinf(), theirs.isposinf())
    assert torch.equal(ours.isneginf(), theirs.isneginf())
    assert not ours.isfinite().all()
    assert ours.isfinite().any()
    finite = ours.isfinite()
    torch.testing.assert_close(ours[finite], theirs[finite])


@pytest.mark.parametrize("engine", ["direct", "matmul"], indirect=True)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("options", NON_FINITE.values(), ids=NON_FINITE)
@pytest.mark.parametrize("function", [*CONV, *TRANSPOSE])
def test_non_finite_input_and_cotangent(function, options, value, engine):
    """Zeros that are put between pixels or taps spread one NaN over many outputs."""
    dims = ([*CONV, *TRANSPOSE].index(function)) % 3 + 1
    x = random(2, 4, *(9, 8, 9)[:dims])
    w = random(4, 4 // options.get("groups", 1), *(3, 2, 2)[:dims])
    # where the second window's taps 1, 0 and 1 are, and a place on the other side
    pixel = [
        options.get("stride", 1)
        + k * options.get("dilation", 1)
        - options.get("padding", 0)
        for k in (1, 0, 1)[:dims]
    ]
    windows = [1, 0, 1][:dims]
    at, g_at = (pixel, windows) if function in CONV else (windows, pixel)
    bad = put(x, value, (0, 1, *at))
    y = function(bad, w, **options)
    same_non_finite(y, torchs(function)(bad, w, **options))
    assert y[1].isfinite().all()  # the other sample
    g = put(torch.randn_like(y), value, (1, 2, *g_at))
    ours, theirs = ([t.clone().requires_grad_() for t in (x, w)] for _ in range(2))
    got = torch.autograd.grad(function(*ours, **options), ours, g)
    expected = torch.autograd.grad(torchs(function)(*theirs, **options), theirs, g)
    same_non_finite(got[0], expected[0])
    same_non_finite(got[1], expected[1])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("function", [*CONV, *TRANSPOSE])
def test_fft_spreads_what_is_not_finite_and_warns_of_nothing(function, value):
    """A transform adds up all that it gets; the other sample has transforms of its
    own."""
    dims = ([*CONV, *TRANSPOSE].index(function)) % 3 + 1
    x, w = random(2, 2, *(6, 5, 4)[:dims]), random(2, 2, *(3, 2, 2)[:dims])
    y = function(
        put(x, value, (0, 0, *[0] * dims)), w, method="fft"
    )  # a warning is an error
    assert not y[0].isfinite().any()
    torch.testing.assert_close(y[1], function(x, w, method="direct")[1])
