"""Wrong convolutions, as a table: each one has a mistake that somebody could make.

Here are the mistakes of arithmetic; those of manners are in `check_manners.py`. The
rest of each is right, so that a check that misses the mistake passes.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from check_by_hand import (
    CONV,
    TRANSPOSED,
    Setup,
    collect,
    correlate,
    input_gradient,
    spread,
    weight_gradient,
)
from check_manners import MANNERS
from check_mutant import (
    Mutant,
    around,
    given,
    giving,
    of_bias,
    of_input,
    of_output,
    of_weight,
)

COMPLEX = ("complex64",)
FLIPPED = "the kernel is flipped along every dimension"


def flip(w):
    return w.flip(tuple(range(2, w.ndim)))


def turn(w):
    return w.transpose(-1, -2)


def turned(value):
    return value[::-1] if isinstance(value, tuple) else value


def shuffle(t, groups, dim):
    """Deal the channels out to the groups in turn."""
    return t.unflatten(dim, (groups, -1)).transpose(dim, dim + 1).flatten(dim, dim + 1)


def only_first_group(t, groups, dim):
    kept = t.unflatten(dim, (groups, -1))
    mask = torch.zeros(groups, dtype=t.dtype)
    mask[0] = 1
    return (kept * mask.reshape(-1, *[1] * (kept.ndim - dim - 1))).flatten(dim, dim + 1)


def remainder(x, w, s):
    """How many pixels behind the last window are left over."""
    spans = s.spans(w.shape[2:])
    return tuple(
        (n - span) % step
        for n, span, step in zip(x.shape[2:], spans, s.stride, strict=True)
    )


def behind(t, counts):
    """Move what lies in front by some pixels backwards; zeros come in front."""
    pads = [n for count in reversed(counts) for n in (count, -count)]
    return F.pad(t, pads)


def is_strided(s):
    return max(s.stride) > 1


def is_dilated(s):
    return max(s.dilation) > 1


def is_depthwise(w, s):
    return s.groups > 1 and w.shape[1] == 1


def one_stride(s):
    return replace(s, stride=(s.stride[0],) * len(s.stride))


def weight_gradient_from_the_end(x, w, g, s):
    """Correlate with a stretched cotangent, and keep the last taps that come out."""
    return weight_gradient(behind(x, tuple(-r for r in remainder(x, w, s))), w, g, s)


def input_gradient_from_the_end(x, w, g, s):
    return behind(input_gradient(x, w, g, s), remainder(x, w, s))


def weight_gradient_without_remainder(x, w, g, s):
    """Leave out the last window where the stride leaves a remainder."""
    kept = [n - (r > 0) for n, r in zip(g.shape[2:], remainder(x, w, s), strict=True)]
    cut = torch.zeros_like(g)
    cut[..., : kept[0], : kept[1]] = g[..., : kept[0], : kept[1]]
    return weight_gradient(x, w, cut, s)


def swapped_arguments(x, w, g, s):
    """Correlate the cotangent with the input, as `correlate2d` does unasked."""
    return flip(weight_gradient(x, w, g, s))


def drop_tail(size, dim):
    """Leave out the last number along a dimension that is one more than full tiles."""

    def change(t, *_):
        n = t.shape[dim]
        if n > size and n % size == 1:
            t = t.clone()
            t.select(dim, n - 1).zero_()
        return t

    return change


def tf32(t):
    """Keep 11 of float32's 24 bits."""
    c = t * 8193.0
    return c - (c - t)


def in_half(x, w, s):
    """Round the running sum to 11 bits after each tap."""
    windows = s.windows(x.shape[2:], w.shape[2:])
    total = torch.zeros(())
    for tap, place in s.places(windows, w.shape[2:]):
        one = correlate(
            x[place], w[tap][..., None, None], Setup((1, 1), (1, 1), s.groups)
        )
        total = (total + one).half().to(x.dtype)
    return total


def padded_by_copy(x, pairs):
    """Repeat the pixels of the edge."""
    return F.pad(x, [n for pair in reversed(pairs) for n in pair], mode="replicate")


def empty_border(x, pairs):
    """Put both sides' zeros behind."""
    return F.pad(x, [n for pair in reversed(pairs) for n in (0, sum(pair))])


def same_before(span):
    return span // 2, (span - 1) // 2


def first_tap_only(w):
    """A kernel size of one number: the first dimension's, for both."""
    return w[..., : w.shape[2]]


FORWARD = [
    Mutant(
        "flip in forward",
        "flip",
        given(lambda a: {"weight": flip(a["weight"])}),
        f"output: {FLIPPED}",
    ),
    Mutant(
        "flip of the last dimension only",
        "flip",
        given(lambda a: {"weight": a["weight"].flip(-1)}),
        "output: the kernel is flipped along its last dimension",
    ),
    Mutant(
        "kernel transposed in forward",
        "transposed",
        given(lambda a: {"weight": turn(a["weight"])}),
        "output: the kernel is transposed",
        cases=("every size alike",),
    ),
    Mutant(
        "stride dims swapped",
        "swapped",
        given(lambda a: {"stride": turned(a["stride"])}),
        "output: the dimensions of stride are swapped",
    ),
    Mutant(
        "dilation dims swapped",
        "swapped",
        given(lambda a: {"dilation": turned(a["dilation"])}),
        "output: the dimensions of dilation are swapped",
        cases=("dilation of one dimension", "dilation and padding"),
    ),
    Mutant(
        "padding dims swapped",
        "swapped",
        given(lambda a: {"padding": turned(a["padding"])}),
        "output: the dimensions of padding are swapped",
        cases=("everything at once",),
    ),
    Mutant(
        "first stride for both dims",
        "first for all",
        given(
            lambda a: {
                "stride": a["stride"][0]
                if isinstance(a["stride"], tuple)
                else a["stride"]
            }
        ),
        "output: the first stride is used for all dimensions",
    ),
    Mutant(
        "stride and dilation swapped",
        "swapped",
        given(lambda a: {"stride": a["dilation"], "dilation": a["stride"]}),
        "output: stride and dilation are swapped",
    ),
    Mutant(
        "dilation ignored",
        "ignored",
        given(lambda a: {"dilation": 1}),
        "output: the dilation is taken for 1",
        cases=("everything at once",),
    ),
    Mutant(
        "padding behind only",
        "padding",
        replace(CONV[2], border=empty_border),
        "output: the padding lies behind only",
        cases=("padding one",),
    ),
    Mutant(
        "padding repeats the edge",
        "padding",
        replace(CONV[2], border=padded_by_copy),
        "output: the border holds the nearest pixels, not zeros",
        cases=("everything at once",),
    ),
    Mutant(
        "even kernel with same, extra zeros in front",
        "padding",
        replace(CONV[2], same=same_before),
        "output: the padding lies on the wrong side",
        cases=("same with even kernels", "same with odd kernels"),
        source="pytorch/executorch#20558",
    ),
    Mutant(
        "same forgets the dilation",
        "padding",
        around(
            lambda conv, a: (
                conv(
                    **{
                        **a,
                        "padding": tuple((k - 1) // 2 for k in a["weight"].shape[2:]),
                    }
                )
                if a["padding"] == "same"
                else conv(**a)
            )
        ),
        cases=("same with odd kernels", "same with dilation"),
    ),
    Mutant(
        "only square kernels",
        "square",
        given(lambda a: {"weight": first_tap_only(a["weight"])}),
        source="Maratyszcza/NNPACK#15",
    ),
    Mutant(
        "groups mixed in forward",
        "groups",
        around(
            lambda conv, a: (
                conv(
                    **{
                        **a,
                        "bias": None,
                        "weight": shuffle(a["weight"], a["groups"], 0),
                    }
                )
                + (0 if a["bias"] is None else a["bias"].reshape(-1, 1, 1))
            )
        ),
        "output: the groups of the weight are interleaved",
        cases=("groups with stride", "groups"),
    ),
    Mutant(
        "every group reads the first group's channels",
        "groups",
        of_output(
            lambda y, x, w, s: correlate(
                x.unflatten(1, (s.groups, -1))[:, :1]
                .expand(-1, s.groups, *[-1] * 3)
                .flatten(1, 2),
                w,
                s,
            )
        ),
        "output: the groups of the input are all the first one",
    ),
    Mutant(
        "bias left out",
        "bias",
        giving(
            lambda y, a: y if a["bias"] is None else y - a["bias"].reshape(-1, 1, 1)
        ),
        "output: the bias is left out",
    ),
    Mutant(
        "bias added along the wrong dimension",
        "bias",
        replace(
            CONV[2],
            add_bias=lambda y, b: (
                y + (b if y.shape[-1] == len(b) else b.reshape(-1, 1, 1))
            ),
        ),
        cases=("every size alike",),
    ),
    Mutant(
        "the conjugate that SciPy takes",
        "conjugate",
        given(lambda a: {"weight": a["weight"].conj()}),
        "output: the weight is conjugated",
        dtypes=COMPLEX,
    ),
    Mutant(
        "imaginary part lost without a bias",
        "complex",
        giving(
            lambda y, a: (
                y
                if a["bias"] is not None or not y.is_complex()
                else torch.complex(y.real, torch.zeros_like(y.real))
            )
        ),
        "output: its imaginary part is lost",
        dtypes=COMPLEX,
        cases=("no bias and everything",),
        source="fft-conv-pytorch 1.2.0",
    ),
    Mutant(
        "more than sixteen channels",
        "tails",
        given(
            lambda a: (
                {"input": torch.cat([a["input"][:, :16], a["input"][:, 16:] * 0], 1)}
                if a["input"].ndim == 4 and a["input"].shape[1] > 16
                else {}
            )
        ),
        cases=("many channels",),
    ),
    Mutant(
        "tile tail of the width",
        "tails",
        of_output(drop_tail(16, 3)),
        cases=("seventeen pixels", "seventeen outputs"),
        source="pytorch/pytorch#192212",
    ),
    Mutant(
        "tile tail of the height",
        "tails",
        of_output(drop_tail(16, 2)),
        cases=("seventeen pixels", "seventeen outputs"),
    ),
    Mutant(
        "tile tail of the filters",
        "tails",
        of_output(drop_tail(16, 1)),
        cases=("many filters",),
    ),
    Mutant(
        "wrong for stride remainder with dilation",
        "pair",
        of_output(
            lambda y, x, w, s: y * 2 if is_dilated(s) and any(remainder(x, w, s)) else y
        ),
        cases=("dilation with a remainder",),
    ),
    Mutant(
        "wrong for groups with a batch of one",
        "pair",
        of_output(lambda y, x, w, s: y.flip(1) if s.groups > 1 and len(x) == 1 else y),
        cases=("groups with a batch of one",),
    ),
    Mutant(
        "wrong for padding with dilation",
        "pair",
        around(
            lambda conv, a: (
                conv(**{**a, "dilation": 1})
                if a["padding"] == (2, 1) and a["dilation"] == (2, 3)
                else conv(**a)
            )
        ),
        cases=("dilation and padding",),
    ),
    Mutant(
        "input shorter than the kernel",
        "short",
        of_output(lambda y, x, w, s: y * 0 if x.shape[2] <= w.shape[2] else y),
        cases=("kernel as large as the input",),
        source="fla-org/flash-linear-attention#1140",
    ),
    Mutant(
        "float64 through float32",
        "rounding",
        of_output(lambda y, x, w, s: y.float().to(y.dtype)),
        dtypes=("float64",),
        source="fft-conv-pytorch 1.2.0",
    ),
    Mutant(
        "inputs rounded as TF32",
        "rounding",
        of_output(lambda y, x, w, s: correlate(tf32(x), tf32(w), s)),
        source="pytorch/pytorch#153698",
    ),
    Mutant("half accumulation", "rounding", replace(CONV[2], output=in_half)),
    Mutant(
        "a large number saturates",
        "range",
        of_output(lambda y, x, w, s: y.clamp(-127, 127)),
        dtypes=("int32",),
    ),
    Mutant(
        "int32 through float32",
        "range",
        around(
            lambda conv, a: conv(
                **{
                    k: v.float() if isinstance(v, torch.Tensor) else v
                    for k, v in a.items()
                }
            ).to(torch.int32)
        ),
        dtypes=("int32",),
    ),
    Mutant(
        "int64 through float64",
        "range",
        around(
            lambda conv, a: conv(
                **{
                    k: v.double() if isinstance(v, torch.Tensor) else v
                    for k, v in a.items()
                }
            ).to(torch.int64)
        ),
        dtypes=("int64",),
    ),
]

INPUT_GRADIENT = [
    Mutant(
        "flip missing in the input gradient",
        "flip",
        replace(
            CONV[2], input_gradient=lambda x, w, g, s: input_gradient(x, flip(w), g, s)
        ),
        f"input gradient: {FLIPPED}",
    ),
    Mutant(
        "transposed instead of flipped in the input gradient",
        "transposed",
        replace(
            CONV[2],
            input_gradient=lambda x, w, g, s: input_gradient(x, flip(turn(w)), g, s),
        ),
        "input gradient: the kernel is transposed and flipped",
        cases=("every size alike",),
    ),
    Mutant(
        "remainder in front in the input gradient",
        "remainder",
        replace(CONV[2], input_gradient=input_gradient_from_the_end),
        "input gradient: the remainder that the stride leaves lies in front",
        source="CMU10-714, homework 6",
    ),
    Mutant(
        "conjugate missing in the input gradient",
        "conjugate",
        replace(
            CONV[2], input_gradient=lambda x, w, g, s: spread(g, w, s, x.shape[2:])
        ),
        "input gradient: the weight is not conjugated",
        dtypes=COMPLEX,
        source="einconv 0.1.0",
    ),
    Mutant(
        "input gradient only for the first group",
        "groups",
        of_input(lambda gx, x, w, g, s: only_first_group(gx, s.groups, 1)),
        "input gradient: the groups of the input but the first are left at zero",
        source="taper, pull request 19",
    ),
    Mutant(
        "input gradient divided by the batch",
        "scale",
        of_input(lambda gx, x, *_: gx / max(1, len(x))),
        "input gradient: it is divided by the batch",
    ),
    Mutant(
        "input gradient of the wrong sign",
        "scale",
        of_input(lambda gx, *_: -gx),
        "input gradient: its sign is wrong",
    ),
    Mutant(
        "input gradient is zero",
        "constant",
        of_input(lambda gx, *_: gx * 0),
        "input gradient: it is 0 everywhere",
        source="pytorch/glow#1447",
    ),
    Mutant(
        "input gradient as if the cotangent were one",
        "constant",
        replace(
            CONV[2],
            input_gradient=lambda x, w, g, s: input_gradient(
                x, w, torch.ones_like(g), s
            ),
        ),
        "input gradient: the cotangent is ignored",
    ),
    Mutant(
        "first stride for both dims in the input gradient",
        "first for all",
        of_input(
            lambda gx, x, w, g, s: input_gradient(
                F.pad(x, (0, x.shape[3] * s.stride[0], 0, 0)), w, g, one_stride(s)
            )[..., : x.shape[3]]
        ),
    ),
    Mutant(
        "depthwise with stride, wrong input gradient",
        "pair",
        of_input(
            lambda gx, x, w, g, s: (
                gx.flip(1) if is_depthwise(w, s) and is_strided(s) else gx
            )
        ),
        cases=("depthwise with stride",),
        source="tracel-ai/burn#1891",
    ),
    Mutant(
        "input gradient wrong for a batch above sixteen",
        "tails",
        of_input(lambda gx, *_: torch.cat([gx[:16], gx[16:] * 0])),
        cases=("many samples",),
    ),
    Mutant(
        "input gradient sums the overlap once",
        "overlap",
        of_input(
            lambda gx, x, w, g, s: input_gradient(x, w * 0 + w[..., -1:, -1:], g, s)
        ),
    ),
    Mutant(
        "input gradient spreads over the border",
        "padding",
        of_input(lambda gx, *_: gx.roll(1, -1)),
        cases=("padding one",),
    ),
]

WEIGHT_GRADIENT = [
    Mutant(
        "flip in the weight gradient",
        "flip",
        of_weight(lambda gw, *_: flip(gw)),
        f"weight gradient: {FLIPPED}",
    ),
    Mutant(
        "arguments swapped in the weight gradient",
        "swapped",
        replace(CONV[2], weight_gradient=swapped_arguments),
        f"weight gradient: {FLIPPED}",
        source="scipy.signal.correlate2d, mode valid",
    ),
    Mutant(
        "weight gradient transposed",
        "transposed",
        of_weight(lambda gw, *_: turn(gw)),
        "weight gradient: the kernel is transposed",
        cases=("every size alike",),
    ),
    Mutant(
        "channels and filters of the weight gradient swapped",
        "swapped",
        of_weight(lambda gw, *_: gw.transpose(0, 1)),
        "weight gradient: the weight's channels and filters are swapped",
        cases=("every size alike",),
    ),
    Mutant(
        "channels of the weight gradient in reverse",
        "shuffled",
        of_weight(lambda gw, *_: gw.flip(1)),
        "weight gradient: the weight's channels are in reverse order",
        source="apple/tensorflow_macos#230",
    ),
    Mutant(
        "remainder in front in the weight gradient",
        "remainder",
        replace(CONV[2], weight_gradient=weight_gradient_from_the_end),
        "weight gradient: the remainder that the stride leaves lies in front",
    ),
    Mutant(
        "last window dropped in the weight gradient",
        "remainder",
        replace(CONV[2], weight_gradient=weight_gradient_without_remainder),
    ),
    Mutant(
        "conjugate missing in the weight gradient",
        "conjugate",
        replace(
            CONV[2], weight_gradient=lambda x, w, g, s: collect(x, g, s, w.shape[2:])
        ),
        "weight gradient: the input is not conjugated",
        dtypes=COMPLEX,
        source="einconv 0.1.0",
    ),
    Mutant(
        "weight gradient of only the first group",
        "groups",
        of_weight(lambda gw, x, w, g, s: only_first_group(gw, s.groups, 0)),
        "weight gradient: the groups of the weight but the first are left at zero",
    ),
    Mutant(
        "weight gradient with its groups mixed",
        "groups",
        of_weight(lambda gw, x, w, g, s: shuffle(gw, s.groups, 0)),
        "weight gradient: the groups of the weight are interleaved",
        source="pytorch/pytorch#68868",
    ),
    Mutant(
        "weight gradient under groups with stride",
        "pair",
        of_weight(
            lambda gw, x, w, g, s: shuffle(gw, s.groups, 0) if is_strided(s) else gw
        ),
        "weight gradient: the groups of the weight are interleaved",
        cases=("groups with stride",),
        source="pytorch/pytorch#51430",
    ),
    Mutant(
        "weight gradient averaged over the batch",
        "scale",
        of_weight(lambda gw, x, *_: gw / max(1, len(x))),
        "weight gradient: it is divided by the batch",
        source="cTensor, issue 3",
    ),
    Mutant(
        "weight gradient averaged over the positions",
        "scale",
        of_weight(lambda gw, x, w, g, s: gw / g[0, 0].numel() if len(g) else gw),
        "weight gradient: it is divided by the number of output positions",
    ),
    Mutant(
        "weight gradient twice",
        "scale",
        of_weight(lambda gw, *_: 2 * gw),
        "weight gradient: it is off by a factor of 2",
    ),
    Mutant(
        "weight gradient of the first sample only",
        "batch",
        replace(
            CONV[2],
            weight_gradient=lambda x, w, g, s: weight_gradient(x[:1], w, g[:1], s),
        ),
        "weight gradient: only the first sample's cotangent counts",
    ),
    Mutant(
        "weight gradient is constant", "constant", of_weight(lambda gw, *_: gw * 0 + 7)
    ),
    Mutant(
        "weight gradient loses the last pixel",
        "tails",
        of_weight(
            lambda gw, x, w, g, s: (
                weight_gradient(x, w, F.pad(g, (0, -1)), s)
                if g.shape[3] % 16 == 1 and g.shape[3] > 16
                else gw
            )
        ),
        cases=("seventeen pixels",),
    ),
    Mutant(
        "weight gradient rounded to half",
        "rounding",
        of_weight(lambda gw, *_: gw.half().to(gw.dtype)),
    ),
    Mutant(
        "weight gradient ignores the dilation",
        "ignored",
        of_weight(
            lambda gw, x, w, g, s: collect(
                x, g, replace(s, dilation=(1, 1)), w.shape[2:]
            )
        ),
        "weight gradient: the dilation is taken for 1",
        cases=("everything at once",),
    ),
]

BIAS_GRADIENT = [
    Mutant(
        "bias gradient averaged over all",
        "bias",
        of_bias(lambda gb, x, w, g, s: gb / max(1, g[:, 0].numel())),
        "bias gradient: it is divided by the batch and the number of output positions",
    ),
    Mutant(
        "bias gradient averaged over the batch",
        "bias",
        of_bias(lambda gb, x, *_: gb / max(1, len(x))),
        "bias gradient: it is divided by the batch",
    ),
    Mutant(
        "bias gradient keeps the width",
        "bias",
        of_bias(lambda gb, x, w, g, s: g.sum((0, 1, 2))),
        "bias gradient: it is summed over all dimensions but the second spatial",
        cases=("every size alike",),
    ),
    Mutant(
        "bias gradient of a shape that autograd sums",
        "bias",
        of_bias(lambda gb, x, w, g, s: g.sum(0)),
        cases=("every size alike",),
    ),
    Mutant(
        "bias gradient of the first sample",
        "bias",
        of_bias(lambda gb, x, w, g, s: g[:1].sum((0, 2, 3))),
        "bias gradient: only the first sample's cotangent counts",
    ),
]

OTHER_FAMILIES = [
    Mutant(
        "1-D flip in the weight gradient",
        "flip",
        of_weight(lambda gw, *_: flip(gw), CONV[1]),
        f"weight gradient: {FLIPPED}",
        family="conv1d",
    ),
    Mutant(
        "1-D causal padding",
        "padding",
        replace(CONV[1], border=lambda x, pairs: F.pad(x, (sum(pairs[0]), 0))),
        "output: the padding lies in front only",
        family="conv1d",
        cases=("padding one",),
    ),
    Mutant(
        "3-D depth and width of the stride swapped",
        "swapped",
        given(lambda a: {"stride": turned(a["stride"])}, CONV[3]),
        family="conv3d",
        cases=("no bias and everything",),
    ),
    Mutant(
        "3-D weight gradient with transposed planes",
        "transposed",
        of_weight(lambda gw, *_: turn(gw), CONV[3]),
        family="conv3d",
        diagnosis="weight gradient: the kernel is transposed",
    ),
    Mutant(
        "transposed convolution without the flip",
        "flip",
        given(lambda a: {"weight": flip(a["weight"])}, TRANSPOSED[2]),
        f"output: {FLIPPED}",
        family="conv_transpose2d",
    ),
    Mutant(
        "output padding filled with zeros",
        "output padding",
        around(
            lambda conv, a: (
                F.pad(
                    conv(**{**a, "output_padding": 0, "bias": None}),
                    [
                        n
                        for p in reversed(conv.each(a["output_padding"]))
                        for n in (0, p)
                    ],
                )
                + (0 if a["bias"] is None else a["bias"].reshape(-1, 1, 1))
            ),
            TRANSPOSED[2],
        ),
        family="conv_transpose2d",
        cases=("output padding and padding",),
    ),
    Mutant(
        "output padding in front",
        "output padding",
        giving(
            lambda y, a: y.roll(
                tuple(TRANSPOSED[2].each(a["output_padding"])), (-2, -1)
            ),
            TRANSPOSED[2],
        ),
        family="conv_transpose2d",
        cases=("output padding and padding", "output padding"),
    ),
    Mutant(
        "transposed weight gradient with groups mixed",
        "groups",
        replace(
            TRANSPOSED[2],
            weight_gradient=lambda x, w, g, s: shuffle(
                TRANSPOSED[2].weight_gradient(x, w, g, s), s.groups, 0
            ),
        ),
        "weight gradient: the groups of the weight are interleaved",
        family="conv_transpose2d",
    ),
]

MUTANTS: tuple[Mutant, ...] = (
    *FORWARD,
    *INPUT_GRADIENT,
    *WEIGHT_GRADIENT,
    *BIAS_GRADIENT,
    *OTHER_FAMILIES,
    *MANNERS,
)
