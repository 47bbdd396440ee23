"""How other people's code uses a layer, each test named after where that was told.

Whatever torch's own layer allows, ours must allow: its storages are resized, its saved
tensors packed, its parameters sharded, its calls recorded, counted and overridden.
"""

import asyncio
import copy
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import tracemalloc
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import scipyconv
from scipyconv import functional, nn
from scipyconv.convert import to_scipyconv

pytestmark = [
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning"),
]

ENGINES = ["direct", "matmul", "fft"]
FUNCTIONS = [f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)]
LAYERS = [f"Conv{kind}{dims}d" for kind in ("", "Transpose") for dims in (1, 2, 3)]
FLOATING = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
COMPLEX = [torch.complex32, torch.complex64, torch.complex128]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
SIZES = (4, 5, 6)


def operands(name, dtype=torch.float32, requires_grad=True):
    """x, w and b for a function, three channels into two, kernels of unequal sides."""
    dims = int(name[-2])
    channels = (3, 2) if "ranspose" in name else (2, 3)
    shapes = (2, 3, *SIZES[:dims]), (*channels, *(2, 3, 1)[:dims]), (2,)
    return [
        torch.randn(shape, dtype=torch.complex64)
        .to(dtype)
        .requires_grad_(requires_grad)
        if dtype.is_complex
        else torch.randn(shape).to(dtype).requires_grad_(requires_grad)
        for shape in shapes
    ]


def gradients(function, tensors, g=None, **options):
    """The output and the gradient with respect to every argument."""
    y = function(*tensors, **options)
    g = torch.randn_like(y) if g is None else g
    return y, *torch.autograd.grad(y, tensors, g)


# Storages (pytorch 83665, MONAI 7171): a data loader stacks into a tensor it gave away.


def assert_resizable(*tensors):
    for tensor in tensors:
        storage = tensor.untyped_storage()
        assert storage.resizable()
        storage.resize_(storage.nbytes() + 16)


def random_like(y):
    """A cotangent also for a dtype that torch draws no numbers of."""
    return torch.randn(y.shape, dtype=torch.complex64 if y.is_complex() else None).to(
        y.dtype
    )


def all_about(function, tensors):
    """Every tensor of a call: arguments, cotangents, gradients, second gradients."""
    y = function(*tensors)
    g = random_like(y).requires_grad_()
    firsts = torch.autograd.grad(y, tensors, g, create_graph=True)
    cotangents = [random_like(first) for first in firsts]
    seconds = torch.autograd.grad(firsts, [*tensors, g], cotangents, allow_unused=True)
    return [
        *tensors,
        y,
        g,
        *firsts,
        *cotangents,
        *(second for second in seconds if second is not None),
    ]


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_monai_7171_stack_into_a_batch_that_grows():
    x, w = torch.empty(0, 2, 8, 8), torch.ones(3, 2, 3, 3)
    for n in (2, 4):
        torch.stack([torch.ones(2, 8, 8)] * n, out=x)
        assert functional.conv2d(x, w).shape == (n, 3, 6, 6)


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_pytorch_83665_every_function_and_engine(name, method):
    function = partial(getattr(functional, name), method=method)
    assert_resizable(*all_about(function, operands(name)))
    with torch.no_grad():
        tensors = operands(name)
        assert_resizable(function(*tensors), *tensors)


@pytest.mark.parametrize("dtype", FLOATING + COMPLEX, ids=str)
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_pytorch_83665_every_dtype(name, dtype):
    assert_resizable(*all_about(getattr(functional, name), operands(name, dtype)))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("method", ENGINES)
def test_pytorch_83665_integers(method, dtype):
    tensors = [torch.ones(2, 3, 4, 5).to(dtype), torch.ones(2, 3, 2, 3).to(dtype)]
    assert_resizable(functional.conv2d(*tensors, method=method), *tensors)


@pytest.mark.parametrize("name", ["conv1d", "conv_transpose2d"])
def test_pytorch_83665_conjugate_views(name):
    tensors = [t.detach() for t in operands(name, torch.complex64)]
    views = [t.conj().requires_grad_() for t in tensors]
    assert_resizable(*all_about(getattr(functional, name), views), *tensors)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pytorch_83665_unbatched_and_expanded_cotangents(name):
    x, w, b = operands(name)
    x = x[0].detach().requires_grad_()
    assert_resizable(*all_about(getattr(functional, name), [x, w, b]))
    y = getattr(functional, name)(x, w, b)
    g = torch.ones(1)
    found = torch.autograd.grad(y, [x, w, b], g.expand(y.shape))
    assert_resizable(g, y, *found)
    y = getattr(functional, name)(x, w, b)
    y.sum().backward()
    assert_resizable(y, x, w, b, x.grad, w.grad, b.grad)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)], ids=str)
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_pytorch_83665_gradients_of_some_arguments(name, wanted):
    tensors = [
        t.requires_grad_(i in wanted)
        for i, t in enumerate(operands(name, requires_grad=False))
    ]
    y = getattr(functional, name)(*tensors)
    found = torch.autograd.grad(y, [tensors[i] for i in wanted], torch.randn_like(y))
    assert_resizable(y, *tensors, *found)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_pytorch_83665_forward_mode_and_vmap(name):
    function = getattr(functional, name)
    tensors = operands(name, requires_grad=False)
    tangents = [torch.randn_like(t) for t in tensors]
    y, y_dot = torch.func.jvp(function, tuple(tensors), tuple(tangents))
    assert_resizable(*tensors, *tangents, y, y_dot)
    stack = torch.randn(2, *tensors[0].shape)
    assert_resizable(torch.func.vmap(function, (0, None, None))(stack, *tensors[1:]))
    assert_resizable(stack, *tensors)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_pytorch_83665_padding_modes(mode):
    layer = nn.Conv2d(3, 2, 3, padding=(1, 2), padding_mode=mode)
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    assert_resizable(*all_about(lambda x, *_: layer(x), [x, *layer.parameters()]))


def test_pytorch_83665_the_textbook_layer():
    layer = scipyconv.ScipyConv2d(2, 3)
    x = torch.randn(2, 4, 5, requires_grad=True)
    assert_resizable(*all_about(lambda x, *_: layer(x), [x, *layer.parameters()]))
    with torch.no_grad():
        assert_resizable(layer(x), x, *layer.parameters())


# Two processes that share the parameters out.

SHARDED = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor
from scipyconv.nn import Conv2d, ConvTranspose2d


def network():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        Conv2d(2, 4, (2, 3), stride=(2, 1), groups=2), torch.nn.Tanh(),
        ConvTranspose2d(4, 2, (3, 2), stride=2), torch.nn.Tanh(),
        Conv2d(2, 3, 3, padding=1, padding_mode="circular")).double()


def one(model):
    mesh = init_device_mesh("cpu", (2,))
    return FullyShardedDataParallel(
        model, device_mesh=mesh, device_id=torch.device("cpu"), use_orig_params=True)


def two(model):
    mesh = init_device_mesh("cpu", (2,))
    for layer in model:
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def step(model, x, g):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    (g * model(x)).sum((1, 2, 3)).mean().backward()
    optimizer.step()


def whole(model):
    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(model):
            return [p.detach().clone() for p in model.parameters()]
    return [p.full_tensor() if isinstance(p, DTensor) else p.detach()
            for p in model.parameters()]


dist.init_process_group("gloo")
rank = dist.get_rank()
alone, sharded = network(), {"one": one, "two": two}[sys.argv[1]](network())
start = whole(alone)
torch.manual_seed(7)
x = torch.randn(6, 2, 5, 4, dtype=torch.float64)
g = torch.randn_like(alone(x))
start = [p.clone() for p in start]
step(alone, x, g)
step(sharded, x[rank::2], g[rank::2])
for before, ours, theirs in zip(start, whole(sharded), whole(alone), strict=True):
    assert (before - theirs).abs().max() > 1e-4
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)
dist.barrier()
dist.destroy_process_group()
if rank == 0:
    print("one step, the same")
"""


@pytest.mark.parametrize("version", ["one", "two"])
def test_torch_fsdp_one_step_of_two_processes(version, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SHARDED, "utf-8")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
        version,
    ]
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | quiet,
        start_new_session=True,
    ) as launched:
        try:
            printed, errors = launched.communicate(timeout=110)
        except subprocess.TimeoutExpired:
            os.killpg(launched.pid, signal.SIGKILL)  # the two that it launched as well
            raise
    assert launched.returncode == 0, printed + errors
    assert printed == "one step, the same\n"


# A second call like the first.


class Doubled(TorchFunctionMode):
    """Doubles what any function of torch's returns."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return 2 * func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pytorch_131947_function_mode(name):
    """It takes part in every call: in the first, in one like it, between two."""
    function = getattr(functional, name)
    x, w, b = operands(name, requires_grad=False)
    with Doubled():
        first, second = function(x, w, b), function(x, w, b)
    single = function(x, w, b)
    with Doubled():
        third = function(x, w, b)
    for doubled in (first, second, third):
        torch.testing.assert_close(doubled, 2 * single)
    assert torch.equal(function(x, w, b), single)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_pytorch_nested_tensors_after_a_like_call(layout):
    """Refused, as by torch, though a batch of the same sizes has just been taken."""
    x, w = torch.ones(2, 2, 4, 4), torch.ones(1, 2, 2, 2)
    functional.conv2d(x, w)
    nested = torch.nested.nested_tensor(list(x), layout=layout)
    with pytest.raises((NotImplementedError, RuntimeError)):
        F.conv2d(nested, w)
    with pytest.raises((NotImplementedError, RuntimeError), match=r"input|nested"):
        functional.conv2d(nested, w)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_pytorch_mixed_dtypes_after_a_like_call(name, which):
    tensors = operands(name, requires_grad=False)
    getattr(functional, name)(*tensors)
    tensors[which] = tensors[which].double()
    for package in (F, functional):
        with pytest.raises(RuntimeError):
            getattr(package, name)(*tensors)


class Quiet(int):
    """An int that does not say which."""

    def __repr__(self):
        return "n"


@pytest.mark.parametrize("argument", ["stride", "padding", "dilation"])
@pytest.mark.parametrize("make", [Quiet, np.int64], ids=["subclass", "NumPy's"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_numpy_ints_of_other_types(name, make, argument):
    x, w, b = operands(name, requires_grad=False)
    for n in (1, 2, 1):
        options = {argument: make(n), "padding": make(2)} | {argument: make(n)}
        expected = getattr(F, name)(x, w, b, **{k: int(v) for k, v in options.items()})
        ours = getattr(functional, name)(x, w, b, **options)
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("wrong", [True, 1.0, np.float64(1), np.True_, "1"], ids=repr)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_numpy_what_equals_one_is_refused_after_a_like_call(name, wrong):
    x, w, b = operands(name, requires_grad=False)
    getattr(functional, name)(x, w, b, stride=1)
    with pytest.raises(TypeError, match="stride"):
        getattr(functional, name)(x, w, b, stride=wrong)
    with pytest.raises(TypeError):
        getattr(F, name)(x, w, b, stride=wrong)


# What is saved for the backward pass.


def packed_to_half():
    """Saves activations in half precision, and gives them back in their own."""

    def pack(t):
        return t.to(torch.complex32 if t.is_complex() else torch.float16), t.dtype

    def unpack(kept):
        return kept[0].to(kept[1])

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_pytorch_64729_saved_in_half_precision(name, dtype, method):
    """Gradients as far off as torch's, whatever the engine saved."""
    tensors = operands(name, dtype)
    g = torch.randn_like(getattr(F, name)(*tensors))
    exact = gradients(getattr(F, name), tensors, g)[1:]
    with packed_to_half():
        theirs = gradients(getattr(F, name), tensors, g)[1:]
        ours = gradients(getattr(functional, name), tensors, g, method=method)[1:]
    for one, other, right in zip(ours, theirs, exact, strict=True):
        allowed = (other - right).abs().max() + 1e-12
        assert (one - right).abs().max() <= 1.01 * allowed


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_pytorch_64729_as_many_saved_by_every_engine(name, method):
    """The operands, as torch does, so that offloading and checkpointing count right."""
    saved = []
    x, w, b = operands(name)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(tuple(t.shape)) or t, lambda t: t
    ):
        getattr(functional, name)(x, w, b, method=method)
    assert sorted(saved) == sorted([tuple(x.shape), tuple(w.shape)])


@pytest.mark.parametrize("inside", ENGINES)
@pytest.mark.parametrize("outside", ["auto", *ENGINES])
def test_pytorch_90105_checkpoint_in_use_method(inside, outside):
    """The forward is computed again in the backward pass, outside the `with`."""
    layers = torch.nn.Sequential(
        nn.Conv2d(3, 4, (2, 3)), torch.nn.Tanh(), nn.ConvTranspose2d(4, 2, 3, stride=2)
    )
    x = torch.randn(2, 3, 5, 6, requires_grad=True)
    leaves = [x, *layers.parameters()]
    g = torch.randn_like(layers(x))
    expected = torch.autograd.grad(layers(x), leaves, g)
    with scipyconv.use_method(inside):
        y = checkpoint(layers, x, use_reentrant=False)
    with scipyconv.use_method(outside):
        found = torch.autograd.grad(y, leaves, g)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# Threads and tasks that choose engines.

TINY = torch.ones(1, 1, 3), torch.ones(1, 1, 2)


def engine_of(on_engine_calls):
    """A function that tells which engine the calling thread's convolutions use."""
    heard = []
    on_engine_calls(lambda method, _: heard.append((threading.get_ident(), method)))

    def engine():
        heard.clear()
        functional.conv1d(*TINY)
        [method] = {m for thread, m in heard if thread == threading.get_ident()}
        return method

    return engine


def test_python_threads_leave_in_the_order_they_entered(on_engine_calls):
    engine = engine_of(on_engine_calls)
    chosen, seen = engine(), {}
    entered, left = threading.Barrier(2, timeout=20), threading.Event()

    def first():
        with scipyconv.use_method("fft"):
            entered.wait()
            seen["first"] = engine()
            entered.wait()
        left.set()

    def second():
        with scipyconv.use_method("direct"):
            entered.wait()
            entered.wait()
            assert left.wait(20)
            seen["second"] = engine()

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"first": "fft", "second": "direct"}
    assert engine() == chosen


def test_python_tasks_have_engines_of_their_own(on_engine_calls):
    engine = engine_of(on_engine_calls)
    chosen = engine()

    async def task(method, turns):
        with scipyconv.use_method(method):
            for _ in range(turns):
                await asyncio.sleep(0)
                assert engine() == method
        assert engine() == chosen

    async def both():
        await asyncio.gather(task("fft", 2), task("direct", 4), task("matmul", 3))

    asyncio.run(both())
    assert engine() == chosen


# Compilers and recorders.


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_pytorch_135057_compiled_autograd_after_an_eager_forward(name):
    from torch._dynamo import compiled_autograd

    torch._dynamo.reset()
    tensors = operands(name)
    g = torch.randn_like(getattr(F, name)(*tensors))
    expected = gradients(getattr(F, name), tensors, g)[1:]
    y = getattr(functional, name)(*tensors)
    with compiled_autograd._enable(partial(torch.compile, backend="eager")):
        y.backward(g)
    for tensor, right in zip(tensors, expected, strict=True):
        torch.testing.assert_close(tensor.grad, right)


class Up(torch.nn.Module):
    """A decoder's step, which says how large its output must be."""

    def __init__(self, layer):
        super().__init__()
        self.up = layer

    def forward(self, x):
        return self.up(x)


@pytest.mark.parametrize("name", LAYERS)
def test_fx_records_a_layer(name):
    layer = getattr(nn, name)(3, 2, 2, stride=2)
    x = operands(name.lower(), requires_grad=False)[0]
    for model in (layer, torch.nn.Sequential(layer, torch.nn.ReLU()), Up(layer)):
        recorded = torch.fx.symbolic_trace(model)
        torch.testing.assert_close(recorded(x), model(x))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_fx_records_an_output_size(dims):
    layer = getattr(nn, f"ConvTranspose{dims}d")(3, 2, 2, stride=2)
    x = torch.randn(1, 3, *SIZES[:dims])
    size = [2 * n + 1 for n in x.shape[2:]]

    class Fixed(Up):
        def forward(self, x):
            return self.up(x, output_size=size)

    recorded = torch.fx.symbolic_trace(Fixed(layer))
    assert list(recorded(x).shape[2:]) == size
    torch.testing.assert_close(recorded(x), layer(x, output_size=size))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_fx_records_a_function(name):
    class Model(torch.nn.Module):
        def forward(self, x, w, b):
            return getattr(functional, name)(x, w, b, stride=2)

    tensors = operands(name, requires_grad=False)
    recorded = torch.fx.symbolic_trace(Model())
    torch.testing.assert_close(recorded(*tensors), Model()(*tensors))


def names_in(work):
    with torch.profiler.profile() as profile:
        work()
    return {event.name.lower() for event in profile.events()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_profiler_names_the_convolution(name):
    """Forward and backward, so that a table of times says where they went."""
    tensors = operands(name)
    y = None

    def forward():
        nonlocal y
        y = getattr(functional, name)(*tensors)

    for work in (forward, lambda: y.sum().backward()):
        assert any("conv" in event for event in names_in(work))


def flops(package, name, groups, train):
    layer = getattr(package, name)(4, 2, 2, groups=groups)
    x = torch.randn(2, 4, *SIZES[: int(name[-2])], requires_grad=train)
    with FlopCounterMode(display=False) as counter:
        y = layer(x)
        if train:
            y.sum().backward()
    return {
        where: sum(counts.values())
        for where, counts in counter.get_flop_counts().items()
    }


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_flop_counter_counts_as_for_torch(name, groups, train):
    """But of groups torch counts the weight's gradient once for each, and ours once."""
    expected = flops(torch.nn, name, groups, train)
    assert expected["Global"] > 0
    if train and groups > 1:
        forward = flops(torch.nn, name, groups, False)
        expected = dict.fromkeys(expected, 3 * forward["Global"])
    assert flops(nn, name, groups, train) == expected


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_pytorch_weights_changed_behind_autograds_back(name, method):
    """`w.data` is changed between forward and backward, as old optimizers do."""

    def after(function):
        x, w, b = (t.clone().requires_grad_() for t in tensors)
        y = function(x, w, b)
        w.data.mul_(2)
        x.data.mul_(3)
        return torch.autograd.grad(y, [x, w, b], g)

    tensors = operands(name, requires_grad=False)
    g = torch.randn_like(getattr(F, name)(*tensors))
    ours = after(partial(getattr(functional, name), method=method))
    for one, other in zip(ours, after(getattr(F, name)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


# Memory.


def is_out_of_memory(error):
    """What accelerate's find_executable_batch_size and Lightning's scaler look for."""
    return (
        isinstance(error, RuntimeError)
        and len(error.args) == 1
        and "DefaultCPUAllocator: can't allocate memory" in error.args[0]
    )


def huge(*shape):
    return torch.zeros(1).expand(shape)


BEYOND = {
    "output": lambda package, **o: package.conv2d(
        huge(1, 1, 2**22, 2**22), torch.ones(1, 1, 1, 1), **o
    ),
    "padding": lambda package, **o: package.conv2d(
        torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2), padding=2**22, **o
    ),
    "stamps": lambda package, **o: package.conv_transpose2d(
        torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 2), stride=2**22, **o
    ),
}


@pytest.mark.parametrize("method", ["auto", *ENGINES])
@pytest.mark.parametrize("call", BEYOND.values(), ids=BEYOND)
def test_accelerate_no_memory(call, method):
    """The caller catches it, halves the batch and goes on; all is as it was before."""
    with pytest.raises(RuntimeError) as theirs:
        call(F)
    assert is_out_of_memory(theirs.value)
    threads, state = torch.get_num_threads(), np.geterr()
    with pytest.raises(MemoryError, match=r"\d (bytes|[KMGTPE]i?B)") as ours:
        call(functional, method=method)
    assert is_out_of_memory(ours.value)
    assert (torch.get_num_threads(), np.geterr()) == (threads, state)
    tensors = operands("conv2d")
    ours = functional.conv2d(*tensors, method=method)
    torch.testing.assert_close(ours, F.conv2d(*tensors), rtol=1e-4, atol=1e-5)


def peak(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", ENGINES)
def test_scipy_a_wide_stride_needs_little_memory(method):
    """Only the first window fits, so nothing so long as the stride need be made."""
    x = torch.randn(1, 2, 9, requires_grad=True)
    w = torch.randn(3, 2, 4, requires_grad=True)
    found = []

    def work():
        y = functional.conv1d(x, w, stride=10**6, method=method)
        found.extend((y, *torch.autograd.grad(y, [x, w], torch.ones_like(y))))
        found.append(
            functional.conv_transpose1d(
                y.detach(), w.detach(), stride=10**6, method=method
            )
        )

    assert peak(work) < 2**20
    y = F.conv1d(x, w, stride=10**6)
    expected = y, *torch.autograd.grad(y, [x, w], torch.ones_like(y))
    for one, other in zip(found[:3], expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# Numbers at the ends of their range.


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.parametrize(
    ("of_x", "of_w"),
    [
        (1e36, 0.1),
        (0.1, 1e36),
        (1e18, 1e17),
        (1e-38, 1.0),
        (1.0, 1e-38),
        (1e-20, 1e-18),
        (1e36, 1e-38),
        (1e-38, 1e36),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_pytorch_float32_at_its_ends(name, of_x, of_w, method):
    """Finite where torch's is, and as close as numbers of that size allow."""
    shape = (1, 2, 3, 3)
    x = (of_x * torch.randn(1, 2 if name == "conv2d" else 1, 40, 41)).requires_grad_()
    w = (of_w * torch.randn(shape)).requires_grad_()
    g = torch.randn_like(getattr(F, name)(x, w))
    theirs = gradients(getattr(F, name), [x, w], g)
    ours = gradients(getattr(functional, name), [x, w], g, method=method)
    for one, other in zip(ours, theirs, strict=True):
        assert other.isfinite().all()
        scale = other.abs().max().double()
        off = (one.double() - other.double()).abs().max()
        assert off <= 1e-4 * scale + 1e-43


def wrapped(x, w):
    """A convolution in NumPy's integers, which wrap around."""
    size = [n - k + 1 for n, k in zip(x.shape[2:], w.shape[2:], strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *size), x.dtype)
    for i, j in np.ndindex(*w.shape[2:]):
        taken = x[:, None, :, i : i + size[0], j : j + size[1]]
        y += (taken * w[None, :, :, i, j, None, None]).sum(2, dtype=x.dtype)
    return torch.from_numpy(y)


@pytest.mark.parametrize("method", ENGINES)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_pytorch_integers_wrap_around(dtype, method):
    ends = torch.iinfo(dtype)
    x = torch.randint(ends.min // 2, ends.max // 2, (2, 3, 6, 7)).to(dtype)
    w = torch.randint(ends.min // 2, ends.max // 2, (2, 3, 2, 3)).to(dtype)
    ours = functional.conv2d(x, w, method=method)
    assert ours.dtype is dtype
    assert torch.equal(ours, wrapped(x.numpy(), w.numpy()))


@pytest.mark.parametrize("shape", [(10**6, 1, 1, 1), (1, 1, 1000, 1000)], ids=str)
def test_pytorch_bias_gradient_of_a_million(shape):
    """Added up in float32, it is no further off than torch's."""
    x, w = torch.zeros(shape), torch.ones(1, 1, 1, 1)
    g = torch.rand(shape)
    right = g.double().sum()

    def error(package):
        b = torch.zeros(1, requires_grad=True)
        package.conv2d(x, w, b).backward(g)
        return abs(b.grad.double().item() - right) / right

    assert error(functional) <= max(error(F), 6e-8)


# Nothing at all.


def outcome(function, *args, **options):
    """The shapes of the output and the gradients, or the class of the error."""
    try:
        y = function(*args, **options)
        leaves = [t for t in args if t is not None]
        found = torch.autograd.grad(y, leaves, torch.zeros_like(y))
        return [tuple(t.shape) for t in (y, *found)]
    except (RuntimeError, ValueError, TypeError, ArithmeticError, IndexError) as error:
        return type(error)


EMPTY = list(itertools.product((0, 2), (0, 2), (0, 2), (0, 4), (1, 2)))


@pytest.mark.parametrize("method", ["auto", *ENGINES])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_pytorch_zero_sizes(name, method):
    """Batch, channels of either side, the last axis: shapes and errors are torch's.

    But of no input channels the sum is zero, by the definition: torch has no output
        channels
    either then (pull 66256), though the weight has, and the bias.
    """
    different = []
    for batch, inputs, outputs, last, taps in EMPTY:
        dims = int(name[-2])
        channels = (inputs, outputs) if "ranspose" in name else (outputs, inputs)
        x = torch.zeros(batch, inputs, *SIZES[: dims - 1], last, requires_grad=True)
        w = torch.zeros(*channels, *(2, 3)[: dims - 1], taps, requires_grad=True)
        b = torch.zeros(outputs, requires_grad=True)
        theirs = outcome(getattr(F, name), x, w, b)
        ours = outcome(getattr(functional, name), x, w, b, method=method)
        if theirs is IndexError:  # torch trips where it refuses in other places
            theirs = RuntimeError
        if theirs != ours and inputs == 0 and isinstance(theirs, list):
            of_some = [n if n else m for n, m in zip(theirs[0], ours[0], strict=True)]
            theirs = [tuple(of_some), *theirs[1:]]
        if ours != theirs:
            different.append(((tuple(x.shape), tuple(w.shape)), ours, theirs))
    assert not different


# Errors that name the argument.

PICTURE, KERNEL = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2)
LONG = 10**5000  # more digits than Python turns into text


def refused(name, **options):
    return lambda: getattr(functional, name)(PICTURE, KERNEL, **options)


WRONG = {
    "choose_method": (
        lambda: scipyconv.choose_method(PICTURE, torch.ones(3, 3)),
        "weight",
    ),
    "padding": (refused("conv2d", padding=10**9), "padding|allocate"),
    "dilation": (refused("conv2d", dilation=10**30), "dilation"),
    **{
        f"long {name}": (refused("conv2d", **{name: LONG}), name)
        for name in ("stride", "padding", "dilation", "groups")
    },
    **{
        f"long {name}, transposed": (refused("conv_transpose2d", **{name: LONG}), name)
        for name in ("stride", "padding", "dilation", "groups", "output_padding")
    },
    **{
        f"negative {name}": (refused("conv2d", **{name: -LONG}), name)
        for name in ("stride", "padding", "dilation", "groups")
    },
    "dtype": (lambda: nn.Conv2d(1, 1, 3, dtype=torch.int64), "dtype"),
    "lazy": (lambda: nn.LazyConv2d(1, 3)(None), "input"),
    "lazy, transposed": (lambda: nn.LazyConvTranspose1d(1, 3)(None), "input"),
    "none": (lambda: nn.Conv2d(1, 1, 3)(None), "input"),
}


@pytest.mark.parametrize(("call", "named"), WRONG.values(), ids=WRONG)
def test_pytorch_an_error_names_its_argument(call, named):
    """Before NumPy, SciPy or Python trip over it."""
    with pytest.raises((RuntimeError, TypeError, ValueError), match=named) as error:
        call()
    assert "integer string conversion" not in str(error.value)
    assert "array is too big" not in str(error.value)
    assert len(str(error.value)) < 1000


# Adapters, averages, hooks.


class Adapted(torch.nn.Module):
    """peft's LoRA around a convolution, in brief: a frozen layer and a low-rank one."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = type(base)(
            base.in_channels,
            rank,
            base.kernel_size,
            base.stride,
            base.padding,
            bias=False,
        )
        self.lora_B = type(base)(rank, base.out_channels, 1, bias=False)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))

    def merged(self):
        """One layer with the same output."""
        layer = copy.deepcopy(self.base_layer)
        low = torch.einsum(
            "or,rchw->ochw", self.lora_B.weight[:, :, 0, 0], self.lora_A.weight
        )
        layer.weight.data += low.detach()
        return layer


def test_peft_low_rank_adapter():
    model = Adapted(nn.Conv2d(3, 4, (2, 3), stride=(1, 2), padding=1))
    x = torch.randn(2, 3, 5, 6)
    y = model(x)
    y.backward(torch.randn_like(y))
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"lora_A.weight", "lora_B.weight"}
    torch.testing.assert_close(model.merged()(x), y, rtol=1e-4, atol=1e-5)


CHANGES = {
    "nothing": lambda layer: layer,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.4),
    "pruned channels": partial(
        prune.ln_structured, name="weight", amount=1, n=2, dim=0
    ),
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "channels last": lambda layer: layer.to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_torch_utils_change_the_weight(change):
    """Outputs, gradients and state are those of torch's layer under the same change."""
    torch.manual_seed(2)
    ours = change(nn.Conv2d(3, 4, (2, 3))).eval()
    torch.manual_seed(2)
    theirs = change(torch.nn.Conv2d(3, 4, (2, 3))).eval()
    x = torch.randn(2, 3, 5, 6)
    y = theirs(x)
    g = torch.randn_like(y)
    torch.testing.assert_close(ours(x), y, rtol=1e-4, atol=1e-5)
    ours(x).backward(g)
    y.backward(g)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("name", LAYERS)
def test_opacus_gradients_of_each_sample(name):
    """vmap over grad, as torch.func and Opacus take them, against one at a time."""
    layer = getattr(nn, name)(3, 2, 2, stride=2)
    parameters = dict(layer.named_parameters())
    x = operands(name.lower(), requires_grad=False)[0]
    g = torch.randn_like(layer(x))

    def loss(parameters, sample, g):
        y = torch.func.functional_call(layer, parameters, (sample[None],))
        return (y[0] * g).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, x, g)
    for i in range(len(x)):
        alone = torch.autograd.grad(loss(parameters, x[i], g[i]), parameters.values())
        for (key, stacked), single in zip(per_sample.items(), alone, strict=True):
            torch.testing.assert_close(stacked[i], single, msg=key)


@pytest.mark.parametrize(
    "average", [None, get_ema_multi_avg_fn(0.9)], ids=["mean", "exponential"]
)
def test_torch_swa_utils_averages(average):
    def averaged(package):
        torch.manual_seed(0)
        layer = package.Conv2d(3, 2, (2, 3))
        mean = AveragedModel(layer, multi_avg_fn=average)
        for _ in range(3):
            layer.weight.data.add_(torch.randn_like(layer.weight))
            mean.update_parameters(layer)
        return mean

    x = torch.randn(2, 3, 4, 5)
    ours, theirs = averaged(nn), averaged(torch.nn)
    assert isinstance(ours.module, nn.Conv2d)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.optim.swa_utils.update_bn(
        [x], torch.nn.Sequential(ours.module, torch.nn.BatchNorm2d(2))
    )


@pytest.mark.parametrize("name", LAYERS)
def test_python_copies_and_pickles(name):
    """After a call, and with a gradient; the copy has weights of its own."""
    layer = getattr(nn, name)(3, 2, 2, method="fft")
    x = operands(name.lower(), requires_grad=False)[0]
    layer(x).sum().backward()
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(other) is type(layer)
        assert other.method == "fft"
        assert torch.equal(other(x), layer(x))
        other.weight.data.zero_()
        assert not torch.equal(other(x), layer(x))


def test_torch_hooks_of_states_and_gradients():
    layer, fired = nn.Conv2d(3, 2, (2, 3)), []
    layer.register_state_dict_post_hook(
        lambda module, state, prefix, _: state.update(extra=torch.ones(1))
    )
    layer.register_load_state_dict_pre_hook(
        lambda module, state, *_: fired.append(state.pop("extra").item())
    )
    layer.load_state_dict(layer.state_dict())
    assert fired == [1.0]
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    y = layer(x)
    g = torch.randn_like(y)
    expected = torch.autograd.grad(
        F.conv2d(x, layer.weight, layer.bias), [x, *layer.parameters()], g
    )
    seen = []
    leaves = [x, layer.weight, layer.bias]
    torch.autograd.graph.register_multi_grad_hook(leaves, seen.extend)
    layer.weight.register_hook(lambda grad: 2 * grad)
    layer.bias.register_post_accumulate_grad_hook(lambda b: fired.append(b.grad))
    y.grad_fn.register_hook(lambda inputs, outputs: fired.append("node"))
    y.backward(g)
    torch.testing.assert_close(x.grad, expected[0])
    torch.testing.assert_close(layer.weight.grad, 2 * expected[1])
    torch.testing.assert_close(fired[-1], expected[2])
    assert "node" in fired
    assert [s.shape for s in seen] == [t.shape for t in leaves]


@pytest.mark.parametrize("library", ["timm", "peft"])
def test_a_model_of_a_library(library):
    """A whole model from elsewhere, where it is installed, there and in numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip(library, exc_type=ImportError)
        if library == "timm":
            model = package.create_model("mobilenetv3_small_050", pretrained=False)
            x = torch.randn(1, 3, 32, 32)
        else:
            base = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
            config = package.LoraConfig(
                target_modules=["0"], r=2, init_lora_weights=False
            )
            model, x = package.get_peft_model(base, config), torch.randn(1, 3, 8, 8)
    model.eval()
    expected = model(x)
    to_scipyconv(model)
    left = [
        layer
        for layer in model.modules()
        if isinstance(layer, torch.nn.modules.conv._ConvNd)
        and type(layer).__module__ != "scipyconv.nn"
    ]
    assert not left
    torch.testing.assert_close(model(x), expected, rtol=1e-3, atol=1e-4)
