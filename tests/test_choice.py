"""Which engine computes: what is asked for, what is chosen, and what is told of it."""

import threading
from collections import Counter

import pytest
import torch

import scipyconv
from scipyconv.engines.choice import ENGINES, METHODS, choose
from scipyconv.functional import choose_method, conv1d, conv2d, conv_transpose2d, use_method

#: x, w and the geometry, of which the model takes each of the fast engines for some.
CASES = [((1, 1, 10, 10), (1, 1, 3, 3), {}), ((1, 8, 128, 128), (8, 8, 31, 31), {}),
         ((4, 16, 32, 32), (16, 8, 3, 3), {"groups": 2, "padding": 1, "stride": 2}),
         ((1, 4, 400), (4, 4, 65), {}), ((2, 3, 40, 40), (4, 3, 9, 9), {"dilation": 2}),
         ((2, 2, 9, 8, 7), (2, 2, 3, 3, 3), {"padding": "same"})]


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
    chosen = {choose_method(torch.empty(x), torch.empty(w), **options).method
              for x, w, options in CASES}
    assert chosen == {"matmul", "fft"}


def test_the_same_choice_every_time():
    """Nor does it depend on the numbers, where the tensors are, or how many threads there are."""
    for x, w, options in CASES:
        choices = []
        for threads, device in [(1, "cpu"), (2, "cpu"), (1, "meta")]:
            torch.set_num_threads(threads)
            choose.cache_clear()
            choices.append(choose_method(torch.empty(x, device=device),
                                         torch.empty(w, device=device), **options))
        assert choices[0] == choices[1] == choices[2]
        assert choices[0].method == min(choices[0].costs, key=choices[0].costs.get)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128,
                                   torch.bfloat16, torch.int64], ids=str)
def test_costs(dtype):
    def costs(batch=2, channels=4, size=32, kernel=5):
        return choose_method(torch.empty(batch, channels, size, size, dtype=dtype),
                             torch.empty(4, channels, kernel, kernel, dtype=dtype)).costs

    base = costs()
    assert list(base) == list(ENGINES)
    assert all(cost > 0 for cost in base.values())
    for more in ({"batch": 16}, {"channels": 32}, {"size": 128}):
        assert all(after > base[name] or base[name] == after == float("inf")
                   for name, after in costs(**more).items())
    assert costs(kernel=15)["matmul"] > base["matmul"]
    assert (base["fft"] == float("inf")) == (dtype is torch.int64)


def test_a_choice_in_words():
    text = str(choose_method(torch.empty(1, 8, 128, 128), torch.empty(8, 8, 31, 31)))
    assert text.startswith("fft (fft: ")
    assert all(f"{name}: " in text for name in ENGINES)


@pytest.mark.parametrize("method", ENGINES)
def test_an_engine_by_name(method, ran):
    x, w = torch.randn(2, 2, 9, 8, requires_grad=True), torch.randn(4, 2, 3, 2, requires_grad=True)
    for function in (conv2d, lambda x, w, method: conv_transpose2d(x, w[:2], method=method)):
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


def test_use_method_holds_in_the_whole_program(ran):
    x, w = torch.randn(1, 1, 9), torch.randn(1, 1, 3)
    with use_method("fft"):
        thread = threading.Thread(target=conv1d, args=(x, w))
        thread.start()
        thread.join()
    assert ran == {"fft": 1}


def test_a_layer_keeps_the_engine_of_its_call(ran):
    """Made inside, it is as if made outside; called inside, it is differentiated outside alike."""
    with use_method("direct"):
        layer = scipyconv.nn.Conv1d(1, 1, 3)
        assert layer.method == "auto"
        y = layer(torch.randn(1, 1, 9, requires_grad=True))
    y.backward(torch.randn_like(y))
    assert ran == {"direct": 3}
    ran.clear()
    layer(torch.randn(1, 1, 9))
    assert "direct" not in ran


@pytest.mark.parametrize("method", ["", "Auto", "winograd", None, 1, True, ["fft"], b"fft"])
def test_no_such_method(method):
    x, w = torch.randn(1, 1, 9), torch.randn(1, 1, 3)
    for call in (lambda: conv1d(x, w, method=method), lambda: use_method(method).__enter__(),
                 lambda: scipyconv.nn.Conv1d(1, 1, 3, method=method)):
        with pytest.raises(ValueError, match=r"^method must be one of") as error:
            call()
        assert all(repr(name) in str(error.value) for name in METHODS)


def test_choose_method_refuses_what_a_layer_does():
    x, w = torch.randn(1, 2, 9, 9), torch.randn(4, 2, 3, 3)
    for arguments in [(x[:, :1], w), (x, w.double()), (x, w, 0), (x, w, 1, -1), (x, w, 1, 0, 9),
                      (x, w, 1, 0, 1, 3)]:
        with pytest.raises(RuntimeError, match=" must "):
            choose_method(*arguments)
    with pytest.raises(TypeError, match=" must "):
        choose_method(x, w.numpy())
