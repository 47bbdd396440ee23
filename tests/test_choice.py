"""Which engine computes: what is asked for, what is chosen, and what is told of it."""

import asyncio
import contextvars
import itertools
import threading
from collections import Counter

import numpy as np
import pytest
import torch

import scipyconv
from scipyconv.engines import fft, matmul
from scipyconv.engines.choice import ENGINES, METHODS, choose
from scipyconv.functional import (
    choose_method,
    conv1d,
    conv2d,
    conv_transpose2d,
    use_method,
)
from scipyconv.geometry import Geometry
from scipyconv.method import preferred

#: x, w and the geometry, of which the model takes each of the fast engines for some.
CASES = [
    ((1, 1, 10, 10), (1, 1, 3, 3), {}),
    ((1, 8, 128, 128), (8, 8, 31, 31), {}),
    ((4, 16, 32, 32), (16, 8, 3, 3), {"groups": 2, "padding": 1, "stride": 2}),
    ((1, 4, 400), (4, 4, 65), {}),
    ((2, 3, 40, 40), (4, 3, 9, 9), {"dilation": 2}),
    ((2, 2, 9, 8, 7), (2, 2, 3, 3, 3), {"padding": "same"}),
]


@pytest.fixture
def ran(on_engine_calls):
    """The engines that ran, each as often as it did."""
    counted = Counter()
    on_engine_calls(lambda method, name: counted.update([method]))
    return counted


def convolve(x, w, **options):
    return getattr(scipyconv.functional, f"conv{w.ndim - 2}d")(x, w, **options)


@pytest.mark.parametrize("differentiated", [(), (0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize(("x", "w", "options"), CASES, ids=str)
def test_what_is_told_is_what_runs(x, w, options, differentiated, ran):
    tensors = [torch.randn(x), torch.randn(w)]
    for i in differentiated:
        tensors[i].requires_grad_()
    choice = choose_method(*tensors, **options)
    y = convolve(*tensors, **options)
    assert ran == {choice.method: 1}
    if differentiated:
        y.backward(torch.randn_like(y))
    assert ran == {choice.method: 1 + len(differentiated)}


def test_each_fast_engine_is_chosen_for_some():
    chosen = {
        choose_method(torch.empty(x), torch.empty(w), **options).method
        for x, w, options in CASES
    }
    assert chosen == {"matmul", "fft"}


def test_the_same_choice_every_time():
    """Nor does it depend on the numbers, where the tensors are, or how many threads
    there are."""
    for x, w, options in CASES:
        choices = []
        for threads, device in [(1, "cpu"), (2, "cpu"), (1, "meta")]:
            torch.set_num_threads(threads)
            choose.cache_clear()
            choices.append(
                choose_method(
                    torch.empty(x, device=device),
                    torch.empty(w, device=device),
                    **options,
                )
            )
        assert choices[0] == choices[1] == choices[2]
        assert choices[0].method == min(choices[0].costs, key=choices[0].costs.get)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.float64,
        torch.complex64,
        torch.complex128,
        torch.bfloat16,
        torch.int64,
    ],
    ids=str,
)
def test_costs(dtype):
    def costs(batch=2, channels=4, size=32, kernel=5):
        return choose_method(
            torch.empty(batch, channels, size, size, dtype=dtype),
            torch.empty(4, channels, kernel, kernel, dtype=dtype),
        ).costs

    base = costs()
    assert list(base) == list(ENGINES)
    assert all(cost > 0 for cost in base.values())
    for more in ({"batch": 16}, {"channels": 32}, {"size": 128}):
        assert all(
            after > base[name] or base[name] == after == float("inf")
            for name, after in costs(**more).items()
        )
    assert costs(kernel=15)["matmul"] > base["matmul"]
    assert (base["fft"] == float("inf")) == (dtype is torch.int64)


def test_a_choice_in_words():
    choice = choose_method(torch.empty(1, 8, 128, 128), torch.empty(8, 8, 31, 31))
    costs = sorted(choice.costs.items(), key=lambda item: item[1])
    listed = ", ".join(f"{name}: {seconds * 1000:.3g} ms" for name, seconds in costs)
    assert str(choice) == f"fft ({listed})"


@pytest.mark.parametrize("method", ENGINES)
def test_an_engine_by_name(method, ran):
    x, w = (
        torch.randn(2, 2, 9, 8, requires_grad=True),
        torch.randn(4, 2, 3, 2, requires_grad=True),
    )
    for function in (
        conv2d,
        lambda x, w, method: conv_transpose2d(x, w[:2], method=method),
    ):
        ran.clear()
        y = function(x, w, method=method)
        y.backward(torch.randn_like(y))
        assert ran == {method: 3}
    layer = scipyconv.nn.Conv2d(2, 4, 3, method=method)
    ran.clear()
    layer(x)
    assert ran == {method: 1}


def test_use_method_nests_and_ends(ran):
    x, w = torch.randn(1, 1, 9), torch.randn(1, 1, 3)

    def which():
        ran.clear()
        conv1d(x, w)
        return [*ran]

    before = which()
    with use_method("fft"):
        assert which() == ["fft"]
        with use_method("direct"):
            assert which() == ["direct"]
            with use_method("auto"):
                assert which() == before
        assert which() == ["fft"]
        with pytest.raises(ZeroDivisionError), use_method("matmul"):
            raise ZeroDivisionError
        assert which() == ["fft"]
        ran.clear()
        conv1d(x, w, method="direct")  # what is asked for by name comes first
        assert [*ran] == ["direct"]
    assert which() == before


def test_use_method_holds_for_its_thread_and_what_is_called_there(ran):
    """A new thread starts afresh, unless it is given the context."""
    x, w = torch.randn(1, 1, 9), torch.randn(1, 1, 3)
    with use_method("fft"):
        context = contextvars.copy_context()
        for target, expected in [
            (conv1d, "matmul"),
            (lambda *t: context.run(conv1d, *t), "fft"),
        ]:
            ran.clear()
            thread = threading.Thread(target=target, args=(x, w))
            thread.start()
            thread.join()
            assert ran == {expected: 1}


def test_threads_may_leave_in_any_order():
    """The first to enter leaves first, and finds and leaves what it had."""
    inside, leave = threading.Barrier(2), threading.Event()
    seen = {}

    def first():
        with use_method("fft"):
            inside.wait()
        seen["first"] = preferred("auto")
        leave.set()

    def second():
        with use_method("direct"):
            inside.wait()
            leave.wait()
            seen["inside"] = preferred("auto")
        seen["second"] = preferred("auto")

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"first": "auto", "inside": "direct", "second": "auto"}
    assert preferred("auto") == "auto"


def test_each_task_has_its_own():
    async def task(method, seen):
        with use_method(method):
            await asyncio.sleep(0)
            seen.append(preferred("auto") == method)
            await asyncio.sleep(0)
        seen.append(preferred("auto") == "auto")

    async def both(seen):
        await asyncio.gather(
            *(task(method, seen) for method in ("fft", "direct", "matmul"))
        )

    seen = []
    asyncio.run(both(seen))
    assert seen == [True] * 6


def test_a_backward_uses_the_engine_of_its_forward(ran):
    """By the short way and by the operator, to the second order, whatever is preferred
    then."""
    x, w = (
        torch.randn(1, 1, 9, requires_grad=True),
        torch.randn(1, 1, 3, requires_grad=True),
    )
    for call in (conv1d, torch.func.vmap(conv1d, (0, None))):
        with use_method("direct"):
            y = call(x[None] if call is not conv1d else x, w)
        with use_method("fft"):
            (first,) = torch.autograd.grad(y, w, torch.randn_like(y), create_graph=True)
            first.pow(2).sum().backward()
        assert set(ran) == {"direct"}
        ran.clear()


def test_exact_leaves_out_the_engine_whose_error_is_not_local(ran):
    x, w = torch.randn(1, 8, 64, 64), torch.randn(8, 8, 31, 31)
    assert choose_method(x, w).method == "fft"
    assert choose_method(x, w, method="exact").method == "matmul"
    x[0, 0, 0, 0] = torch.nan
    y = conv2d(x, w, method="exact")
    assert y.isnan().sum() == 8
    with use_method("exact"):
        assert torch.equal(conv2d(x, w), y) or y.isnan().any()
        assert choose_method(x, w).method == "matmul"
    layer = scipyconv.nn.Conv2d(8, 8, 31, method="exact")
    layer(x)
    assert set(ran) == {"matmul"}


def test_a_layer_keeps_the_engine_of_its_call(ran):
    """Made inside, it is as if made outside; called inside, it is differentiated
    outside alike."""
    with use_method("direct"):
        layer = scipyconv.nn.Conv1d(1, 1, 3)
        assert layer.method == "auto"
        y = layer(torch.randn(1, 1, 9, requires_grad=True))
    y.backward(torch.randn_like(y))
    assert ran == {"direct": 3}
    ran.clear()
    layer(torch.randn(1, 1, 9))
    assert "direct" not in ran


@pytest.mark.parametrize(
    "method", ["", "Auto", "winograd", None, 1, True, ["fft"], b"fft"]
)
def test_no_such_method(method):
    x, w = torch.randn(1, 1, 9), torch.randn(1, 1, 3)
    for call in (
        lambda: conv1d(x, w, method=method),
        lambda: use_method(method).__enter__(),
        lambda: scipyconv.nn.Conv1d(1, 1, 3, method=method),
    ):
        with pytest.raises(ValueError, match=r"^method must be one of") as error:
            call()
        assert all(repr(name) in str(error.value) for name in METHODS)


def test_choose_method_refuses_what_a_layer_does():
    x, w = torch.randn(1, 2, 9, 9), torch.randn(4, 2, 3, 3)
    for arguments in [
        (x[:, :1], w),
        (x, w.double()),
        (x, w, 0),
        (x, w, 1, -1),
        (x, w, 1, 0, 9),
        (x, w, 1, 0, 1, 3),
    ]:
        with pytest.raises(RuntimeError, match=" must "):
            choose_method(*arguments)
    with pytest.raises(TypeError, match=" must "):
        choose_method(x, w.numpy())


FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def geometry(x, w, stride=1, padding=0, dilation=1, groups=1):
    pairs = ((padding, padding),) * (len(x) - 2)
    y = [
        (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for n, k in zip(x[2:], w[2:], strict=True)
    ]
    dims = len(y)
    return Geometry(
        x, w, (x[0], w[0], *y), (stride,) * dims, pairs, (dilation,) * dims, groups
    )


GEOMETRIES = [
    geometry((2, 3, 60, 50), (4, 3, 5, 5)),
    geometry((2, 3, 60, 50), (4, 3, 5, 5), stride=3),
    geometry((2, 3, 60, 50), (4, 3, 5, 5), dilation=3),
    geometry((2, 3, 60, 50), (4, 3, 5, 5), stride=3, dilation=2, padding=4),
    geometry((1, 16, 40, 40), (4, 16, 3, 3), padding=1),
    geometry((1, 4, 4000), (8, 2, 65), groups=2),
]


@pytest.mark.parametrize("g", GEOMETRIES, ids=str)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64, np.dtype(np.complex64)], ids=str)
def test_ffts_cost_is_that_of_the_plan_that_runs(g, dtype, monkeypatch):
    plans, contract = [], fft.Plan.contract
    monkeypatch.setattr(
        fft.Plan,
        "contract",
        lambda plan, *rest: (plans.append(plan), contract(plan, *rest)),
    )
    price = {FLOAT32: 1, FLOAT64: 2, np.dtype(np.complex64): 4}[dtype]
    for out, name in [
        ("y", "correlate"),
        ("x", "input_gradient"),
        ("w", "weight_gradient"),
    ]:
        getattr(fft, name)(*(np.ones(g.shape(r), dtype) for r in "xwy" if r != out), g)
        [plan] = plans
        assert plan.geometry == g
        assert fft.cost(g, out, dtype) == pytest.approx(
            1e-9 * price * fft._nanoseconds(plan, out)
        )
        plans.clear()


def test_ffts_cost_tells_stride_from_dilation():
    """A stride makes channels of the pixels between windows, and a dilation makes
    samples."""
    x, w, y = (1, 1, 100), (1, 1, 4), (1, 1, 32)
    strided = Geometry(x, w, y, (3,), ((0, 0),), (1,), 1)
    dilated = Geometry(x, w, y, (1,), ((0, 0),), (3,), 1)
    plans = [fft.make_plan(g, True) for g in (strided, dilated)]
    assert [plan.size("x", "c") for plan in plans] == [3, 1]
    assert [plan.size("y", "b") for plan in plans] == [1, 3]
    assert fft.cost(strided, "y", FLOAT32) != fft.cost(dilated, "y", FLOAT32)


@pytest.mark.parametrize("way", ["multiplies_first", "_stamps"])
def test_matmuls_cost_is_that_of_the_way_that_runs(way, monkeypatch):
    """What decides is asked by both: by the cost, and by the map."""
    asked, original = [], getattr(matmul, way)
    monkeypatch.setattr(matmul, way, lambda g: (asked.append(g), original(g))[1])
    for g, (out, name) in itertools.product(
        GEOMETRIES,
        [("y", "correlate"), ("x", "input_gradient"), ("w", "weight_gradient")],
    ):
        matmul.cost(g, out, FLOAT32)
        of_the_cost = [*asked]
        asked.clear()
        getattr(matmul, name)(*(np.ones(g.shape(r)) for r in "xwy" if r != out), g)
        small = g.products <= scipyconv.engines.threads.SMALL
        assert small or asked == of_the_cost
        asked.clear()


def test_the_border_is_a_part_of_the_cost():
    """Products come first where few are not needed: those of a wide border are not."""
    inside = geometry((1, 64, 40, 40), (4, 64, 3, 3))
    wide = geometry((1, 64, 10, 10), (4, 64, 3, 3), padding=15)
    assert matmul.multiplies_first(inside)
    assert inside.y == wide.y
    for maps in ("y", "xw", "yxw"):
        costs = [matmul.cost(g, maps, FLOAT32) for g in (inside, wide)]
        assert costs[0] != costs[1] or maps == "y"
    few = Geometry(
        (1, 64, 40, 40), (4, 64, 3, 3), (1, 4, 4, 4), (1, 1), ((0, 0),) * 2, (1, 1), 1
    )
    assert not matmul.multiplies_first(few)


@pytest.mark.parametrize("method", ["matmul", "fft"])
def test_longer_numbers_cost_more(method):
    g = geometry((8, 32, 64, 64), (32, 32, 5, 5))
    cost = {
        name: ENGINES[method].cost(g, "yxw", np.dtype(name))
        for name in ("float32", "float64", "complex64", "complex128")
    }
    assert 1.9 < cost["float64"] / cost["float32"] <= 2
    assert 1.9 < cost["complex64"] / cost["float64"] <= 4
    assert 1.9 < cost["complex128"] / cost["complex64"] <= 2


def test_the_maps_that_are_wanted_decide():
    """Transforms pay for two gradients, but not for an output alone."""
    x, w = torch.empty(1, 1, 128, 128), torch.empty(1, 1, 11, 11)
    forward = choose_method(x, w)
    both = choose_method(x.requires_grad_(), w.requires_grad_())
    assert (forward.method, both.method) == ("matmul", "fft")
    assert all(both.costs[name] > cost for name, cost in forward.costs.items())


def test_maps_of_one_pass_share_what_they_transform():
    g = GEOMETRIES[0]
    together, apart = (
        fft.cost(g, "xw", FLOAT32),
        fft.cost(g, "x", FLOAT32) + fft.cost(g, "w", FLOAT32),
    )
    assert together < apart
