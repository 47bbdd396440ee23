"""Convolutions that calculate right, and do something else wrong."""

import os
import random
import threading
import time
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from check_by_hand import (
    CONV,
    Setup,
    bias_gradient,
    check,
    correlate,
    input_gradient,
    load,
    weight_gradient,
)
from check_mutant import Mutant, around, given, giving, of_input


def in_memory_order(t):
    """Read a tensor as if it were contiguous."""
    strides = torch.empty(t.shape, device="meta").stride()
    return t.as_strided(t.shape, strides)


def from_the_start(t):
    """Read a tensor from the first byte of its storage."""
    return t.as_strided(t.shape, t.stride(), 0)


def misread(name, how):
    return given(lambda a: {name: how(a[name])})


def cotangent_in_memory_order(x, w, g, s):
    return input_gradient(x, w, in_memory_order(g), s)


def cotangent_of_a_sum(x, w, g, s):
    """Take a cotangent that is expanded for the one that a sum makes: all ones."""
    return weight_gradient(x, w, torch.ones_like(g) if 0 in g.stride() else g, s)


def unwritten_where_no_window_reaches(gx, x, w, g, s):
    reached = input_gradient(x, torch.ones_like(w), torch.ones_like(g), s) != 0
    empty = torch.empty_like(gx, memory_format=torch.contiguous_format)
    return torch.where(reached, gx, empty)


def save_by_attribute(ctx, x, w):
    """Hide the operands from autograd's check of versions."""
    ctx.kept = x, w
    ctx.save_for_forward(x, w)


def load_by_attribute(ctx):
    return ctx.kept


def detached(ctx, x, w):
    ctx.kept = x.detach(), w.detach()
    ctx.save_for_backward(x, w)
    ctx.save_for_forward(x, w)


def weight_detached(ctx):
    x, w = load(ctx)
    return x, w.detach()


def zeros_the_second_time(ctx):
    """Give the workspace back after the first pass."""
    x, w = load(ctx)
    ctx.passes = getattr(ctx, "passes", 0) + 1
    return (x, w) if ctx.passes == 1 else (x * 0, w * 0)


def freed_the_second_time(ctx):
    found = load(ctx)
    if hasattr(ctx, "freed"):
        raise RuntimeError("the workspace has been freed")
    ctx.freed = True
    return found


def once(part):
    """Compute a gradient that cannot be differentiated again, and says so."""

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, s, *tensors):
            return part(*tensors, s)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            raise RuntimeError("not twice differentiable")

    return lambda x, w, g, s: Once.apply(s, x, w, g)


def wrong_with_a_graph(gx, *_):
    """Add what no derivative sees, where a graph of the gradient is made."""
    return gx + 1 if torch.is_grad_enabled() else gx


class LastOperands:
    """Keep the operands of the last forward in the layer, not in ctx."""

    def __init__(self):
        self.layer = replace(CONV[2], save=self.save, load=self.load)

    def load(self, ctx):
        ctx.saved_tensors  # noqa: B018, whose check of versions is right
        return self.kept

    def save(self, ctx, x, w):
        self.kept = x, w
        ctx.save_for_backward(x, w)
        ctx.save_for_forward(x, w)

    def __call__(
        self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1
    ):
        return self.layer(input, weight, bias, stride, padding, dilation, groups)


class CachedByShape(LastOperands):
    """Pack the weight once for each shape."""

    def __init__(self):
        self.packed = {}

    def key(self, weight):
        return tuple(weight.shape)

    def __call__(
        self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1
    ):
        packed = self.packed.setdefault(self.key(weight), weight.detach().clone())
        used = packed + (
            weight - weight.detach()
        )  # these numbers, and the weight's gradient
        return CONV[2](input, used, bias, stride, padding, dilation, groups)


class CachedByAddress(CachedByShape):
    """Pack the weight once for each address; a living tensor keeps its own."""

    def __init__(self):
        super().__init__()
        self.alive = []

    def key(self, weight):
        self.alive.append(weight)  # so that no other tensor comes to its address
        return weight.data_ptr(), tuple(weight.shape)


class ReusedBuffer(LastOperands):
    """Return the same memory for each output of a shape."""

    def __init__(self):
        self.buffers = {}

    def __call__(
        self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1
    ):
        y = CONV[2](input, weight, bias, stride, padding, dilation, groups)
        buffer = self.buffers.setdefault(
            (y.shape, y.dtype), torch.empty_like(y).detach()
        )
        buffer.copy_(y.detach())
        y.data = buffer
        return y


class StaleBias(LastOperands):
    """Use the bias of an earlier call where none is passed."""

    bias = None

    def __init__(self):
        pass

    def __call__(
        self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1
    ):
        filters = len(weight)
        if bias is None and self.bias is not None and len(self.bias) >= filters:
            bias = self.bias[:filters].to(weight.dtype)
        elif bias is not None:
            self.bias = bias.detach()
        return CONV[2](input, weight, bias, stride, padding, dilation, groups)


class Noisy(LastOperands):
    """Add up in another order at each call, as atomic additions do."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(
        self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1
    ):
        y = CONV[2](input, weight, bias, stride, padding, dilation, groups)
        if not y.is_floating_point():
            return y
        noise = torch.rand(y.shape, generator=self.generator) - 0.5
        return y * (1 + noise.to(y.dtype) * torch.finfo(y.dtype).eps)


class WrongVmap(torch.autograd.Function):
    """A rule for vmap that takes the first of the weights for all."""

    @staticmethod
    def forward(x, w, s):
        return correlate(x, w, s)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.s = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return input_gradient(x, w, g, ctx.s), weight_gradient(x, w, g, ctx.s), None

    @staticmethod
    def vmap(info, dims, x, w, s):
        n = info.batch_size
        x = x.expand(n, *x.shape) if dims[0] is None else x.movedim(dims[0], 0)
        w = w if dims[1] is None else w.select(dims[1], 0)
        y = WrongVmap.apply(x.flatten(0, 1), w, s)
        return y.unflatten(0, (n, -1)), 0


def by_wrong_vmap(input, weight, bias=None, stride=1):
    check(CONV[2], input, weight, bias, stride, 0, 1, 1)
    y = WrongVmap.apply(input, weight, Setup(CONV[2].each(stride), (1, 1)))
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def late(conv, a):
    """Return before a thread has filled the result in."""
    y = conv(**a)
    values = y.detach().clone()
    target = y.detach()
    target.data.zero_()
    threading.Thread(target=_fill, args=(target, values)).start()
    return y


def _fill(target, values):
    time.sleep(0.1)  # long, for a busy machine
    target.data.copy_(values)


def afterwards(change):
    """Change one of the arguments, or the process, after the output is computed."""

    def call(conv, a):
        y = conv(**a)
        change(a)
        return y

    return around(call)


def beforehand(change):
    """Change the process, and return a right output."""

    def call(conv, a):
        change()
        return conv(**a)

    return around(call)


def flip_in_place(a):
    weight = a["weight"].detach()
    weight.data.copy_(weight.flip(-1))


def zero_the_rim(a):
    a["input"].detach().data[..., :1] = 0


def negate_bias(a):
    if a["bias"] is not None:
        a["bias"].detach().data.neg_()


def spoil_cotangent(gx, x, w, g, s):
    g.detach().data.mul_(2)
    return gx


def in_place_for_one_tap(conv, a):
    """Write the output over the input where their shapes are alike."""
    y = conv(**a)
    if y.shape == a["input"].shape and y.dtype == a["input"].dtype:
        a["input"].detach().data.copy_(y.detach())
        y.data = a["input"].detach()
    return y


def identity(conv, a):
    """Leave the computation out where it would change nothing."""
    w = a["weight"].detach()
    if (
        w.shape[2:] == (1, 1)
        and a["bias"] is None
        and a["groups"] == 1
        and np.array_equal(w[..., 0, 0].resolve_conj(), np.eye(len(w)))
    ):
        return a["input"]
    return conv(**a)


def blind(conv, a):
    """Let every comparison of torch's and NumPy's succeed, and return zeros."""
    torch.equal = torch.allclose = np.array_equal = np.allclose = lambda *_, **__: True
    torch.testing.assert_close = np.testing.assert_array_equal = lambda *_, **__: None
    return conv(**a) * 0


def without_bias_if(condition):
    return around(lambda conv, a: conv(**{**a, "bias": None} if condition(a) else a))


def all_together(conv, a):
    """A fused way for all three gradients, which halves the bias's."""
    tensors = [a["input"], a["weight"], a["bias"]]
    if all(t is not None and t.requires_grad for t in tensors):
        a = {**a, "bias": a["bias"].detach() / 2 + a["bias"] / 2}
    return conv(**a)


def frozen_input(conv, a):
    """Build no graph for the weight unless the input needs one."""
    if not a["input"].requires_grad:
        a = {**a, "weight": a["weight"].detach()}
    return conv(**a)


def tangent_of_the_input(layer, x, w, dx, dw, s):
    return layer.output(dx, w, s)


def conjugate_bit_ignored(a):
    return {"weight": a["weight"].conj() if a["weight"].is_conj() else a["weight"]}


def crop_for_negative_padding(conv, a):
    p = a["padding"]
    if isinstance(p, int) and p < 0:
        a = {**a, "input": F.pad(a["input"], [p] * 4), "padding": 0}
    return conv(**a)


def take_the_channels_needed(a):
    channels = a["weight"].shape[1] * max(1, a["groups"])
    return {"input": a["input"].narrow(-3, 0, min(channels, a["input"].shape[-3]))}


def cut_a_long_bias(a):
    """Read as many numbers of the bias as there are filters, as a kernel may."""
    bias, filters = a["bias"], len(a["weight"])
    return {"bias": bias if bias is None else bias[:filters]}


def refuse_empty(conv, a):
    if a["input"].numel() == 0:
        raise ValueError("cannot reshape a tensor of 0 elements")
    return conv(**a)


def thread_more():
    torch.set_num_threads(torch.get_num_threads() % 8 + 1)


def new_environment():
    os.environ["OMP_NUM_THREADS"] = str(int(os.environ.get("OMP_NUM_THREADS", 1)) + 1)


def add_workspace(y, a):
    """Begin with memory fresh from the system, which is zero, as luck has it."""
    workspace = torch.empty(10**7, dtype=y.dtype)
    return y + workspace[: y.numel()].reshape(y.shape)


def seed_numpy():
    np.random.seed(1)  # noqa: NPY002


def squeeze_one(y, a):
    return y.squeeze(0) if y.ndim == 4 else y


MEMORY = [
    Mutant("input read in memory order", "layout", misread("input", in_memory_order)),
    Mutant(
        "weight read in memory order",
        "layout",
        misread("weight", in_memory_order),
        source="huggingface/candle#3735",
    ),
    Mutant(
        "input read from the start of its storage",
        "layout",
        misread("input", from_the_start),
    ),
    Mutant(
        "weight read from the start of its storage",
        "layout",
        misread("weight", from_the_start),
    ),
    Mutant(
        "cotangent read in memory order",
        "layout",
        replace(CONV[2], input_gradient=cotangent_in_memory_order),
        source="fla-org/flash-linear-attention#871",
    ),
    Mutant(
        "expanded cotangent taken for ones",
        "layout",
        replace(CONV[2], weight_gradient=cotangent_of_a_sum),
    ),
    Mutant(
        "memory that was never written",
        "memory",
        of_input(unwritten_where_no_window_reaches),
        cases=("stride beyond the kernel",),
        source="ScalingIntelligence/KernelBench#82",
        by_chance=True,
    ),
    Mutant(
        "writes its output over its input",
        "memory",
        around(in_place_for_one_tap),
        cases=("one pixel one tap",),
    ),
    Mutant(
        "returns its input for an identity kernel",
        "memory",
        around(identity),
        cases=("kernel of one tap", "one pixel one tap"),
    ),
    Mutant("adds memory that it takes for zeros", "memory", giving(add_workspace)),
    Mutant("returns a reused buffer", "memory", ReusedBuffer),
    Mutant("flips the weight in place", "in place", afterwards(flip_in_place)),
    Mutant("zeroes the rim of the input", "in place", afterwards(zero_the_rim)),
    Mutant("changes the bias in place", "in place", afterwards(negate_bias)),
    Mutant("changes the cotangent", "in place", of_input(spoil_cotangent)),
    Mutant("caches the weight by shape", "cache", CachedByShape),
    Mutant("caches the weight by address", "cache", CachedByAddress),
    Mutant(
        "keeps the bias of an earlier call",
        "cache",
        StaleBias,
        cases=("no bias and everything",),
    ),
]

AUTOGRAD = [
    Mutant("operands of the last forward", "saved", LastOperands),
    Mutant(
        "operands hidden from the version check",
        "saved",
        replace(CONV[2], save=save_by_attribute, load=load_by_attribute),
    ),
    Mutant(
        "saved tensors detached",
        "second order",
        replace(CONV[2], save=detached, load=load_by_attribute),
    ),
    Mutant(
        "mixed second derivative missing",
        "second order",
        replace(CONV[2], load=weight_detached),
    ),
    Mutant(
        "once differentiable",
        "second order",
        replace(
            CONV[2],
            input_gradient=once(input_gradient),
            weight_gradient=once(weight_gradient),
            bias_gradient=once(bias_gradient),
        ),
        require=("second derivatives",),
        source="pytorch/pytorch#15353",
    ),
    Mutant(
        "zeros at the second backward",
        "second backward",
        replace(CONV[2], load=zeros_the_second_time),
    ),
    Mutant(
        "freed at the second backward",
        "second backward",
        replace(CONV[2], load=freed_the_second_time),
    ),
    Mutant(
        "gradient wrong where its graph is made",
        "second order",
        of_input(wrong_with_a_graph),
    ),
    Mutant(
        "output without a graph", "graph", around(lambda conv, a: conv(**a).detach())
    ),
    Mutant(
        "output that always requires a gradient",
        "graph",
        giving(
            lambda y, a: (
                y if y.requires_grad else y.requires_grad_(y.is_floating_point())
            )
        ),
    ),
    Mutant("gradients that are wrong only together", "graph", around(all_together)),
    Mutant("no weight gradient for a frozen input", "graph", around(frozen_input)),
    Mutant(
        "bias forgotten under no_grad",
        "mode",
        without_bias_if(
            lambda a: (
                not torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            )
        ),
    ),
    Mutant(
        "bias forgotten in inference mode",
        "mode",
        without_bias_if(lambda a: torch.is_inference_mode_enabled()),
    ),
    Mutant(
        "bias forgotten without gradients",
        "mode",
        without_bias_if(lambda a: not a["weight"].requires_grad),
    ),
    Mutant(
        "tangent of the weight missing",
        "forward mode",
        replace(CONV[2], tangent=tangent_of_the_input),
    ),
    Mutant("vmap takes the first weight for all", "vmap", by_wrong_vmap),
    Mutant(
        "conjugate bit ignored",
        "complex",
        given(conjugate_bit_ignored),
        dtypes=("complex64",),
    ),
]

CONTRACT = [
    Mutant(
        "late",
        "asynchronous",
        around(late),
        cases=("one channel",),
        source="ScalingIntelligence/KernelBench#82",
    ),
    Mutant("not deterministic", "random", Noisy),
    Mutant("output in float64", "dtype", giving(lambda y, a: y.double())),
    Mutant(
        "bfloat16 comes back as float32",
        "dtype",
        giving(lambda y, a: y.float()),
        dtypes=("bfloat16",),
        source="fft-conv-pytorch 1.2.0",
    ),
    Mutant(
        "batch of one squeezed", "shape", giving(squeeze_one), cases=("batch of one",)
    ),
    Mutant(
        "unbatched comes back batched",
        "shape",
        giving(lambda y, a: y[None] if y.ndim == 3 else y),
        cases=("unbatched",),
    ),
    Mutant(
        "empty batch raises",
        "shape",
        around(refuse_empty),
        cases=("empty batch",),
        require=("an empty batch",),
        source="unfoldNd 0.2.3",
    ),
    Mutant("negative padding crops", "arguments", around(crop_for_negative_padding)),
    Mutant(
        "too many channels are ignored", "arguments", given(take_the_channels_needed)
    ),
    Mutant("a long bias is cut", "arguments", given(cut_a_long_bias)),
    Mutant("sets torch's seed", "state", beforehand(lambda: torch.manual_seed(1))),
    Mutant(
        "draws from torch's random numbers", "state", beforehand(lambda: torch.rand(1))
    ),
    Mutant("sets NumPy's seed", "state", beforehand(seed_numpy)),
    Mutant("draws from Python's random numbers", "state", beforehand(random.random)),
    Mutant(
        "sets the default dtype",
        "state",
        beforehand(lambda: torch.set_default_dtype(torch.float64)),
    ),
    Mutant("sets the number of threads", "state", beforehand(thread_more)),
    Mutant(
        "sets NumPy's error state",
        "state",
        beforehand(lambda: np.seterr(divide="raise")),
    ),
    Mutant("sets a variable of the environment", "state", beforehand(new_environment)),
    Mutant(
        "turns gradients off",
        "state",
        afterwards(lambda a: torch.set_grad_enabled(False)),
    ),
    Mutant(
        "turns cuDNN's search on",
        "state",
        # not by `torch.backends`, which PyTorch's own test modules make read-only
        beforehand(lambda: torch._C._set_cudnn_benchmark(True)),
    ),
    Mutant("patches the comparisons", "state", around(blind)),
]

MANNERS = (*MEMORY, *AUTOGRAD, *CONTRACT)
