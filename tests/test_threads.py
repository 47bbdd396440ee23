"""How pieces are shared among threads, and what is left behind: nothing that runs."""

import concurrent.futures
import itertools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

import scipyconv
from scipyconv.engines import fft, matmul, threads
from scipyconv.functional import conv2d


@pytest.fixture
def hands(monkeypatch):
    """A function that sets how many threads an engine uses, and a hand of pieces for each."""
    monkeypatch.setattr(threads, "_HANDS", 1)
    return lambda n: monkeypatch.setattr(threads, "count", lambda: n)


@pytest.fixture
def tiny_pieces(monkeypatch):
    """So small that a few numbers are shared among threads."""
    monkeypatch.setattr(matmul, "PIECE", 512)
    monkeypatch.setattr(threads, "SMALL", 0)
    monkeypatch.setattr(fft, "_SMALL", 0)


def blas_threads():
    return [blas.get_num_threads() for blas in threads._blas()]


@pytest.fixture(autouse=True)
def _as_before():
    """BLAS computes on two threads, and still does after the test."""
    before = blas_threads()
    for blas in threads._blas():
        blas.set_num_threads(2)
    want = blas_threads()
    yield
    assert blas_threads() == want
    assert threads._one_blas_thread.inside == 0
    for blas, n in zip(threads._blas(), before, strict=True):
        blas.set_num_threads(n)


# share


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("pieces", [0, 1, 2, 3, 7])
def test_hands_get_every_nth_piece_and_answer_in_order(n, pieces, hands):
    hands(n)
    dealt = threads.share(list, range(pieces))
    assert dealt == [list(range(pieces))[i::len(dealt)] for i in range(len(dealt))]
    assert len(dealt) == max(1, min(n, pieces))


def test_all_run_at_the_same_time(hands):
    hands(3)
    together = threading.Barrier(3, timeout=20)
    threads.share(lambda pieces: [together.wait() for _ in pieces], range(3))


@pytest.mark.parametrize("error", [ValueError, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("failing", range(3))
def test_a_failure_is_raised_and_stops_the_others(failing, error, hands):
    hands(3)
    started, done = threading.Barrier(3, timeout=20), []

    def work(pieces):
        for i in pieces:
            if i < 3:
                started.wait()
            if i == failing:
                raise error("here")
            time.sleep(0.01)
            done.append(i)

    with pytest.raises(error, match="here"):
        threads.share(work, range(300))
    finished = len(done)
    time.sleep(0.05)
    assert len(done) == finished  # none goes on behind our back
    assert threads.share(sum, range(9)) == [9, 12, 15]
    assert finished < 50


def test_more_hands_than_threads(monkeypatch):
    """What is in a hand, and their order, do not depend on who takes it when."""
    monkeypatch.setattr(threads, "count", lambda: 2)
    monkeypatch.setattr(threads, "_HANDS", 4)
    for _ in range(20):
        assert threads.share(list, range(19)) == [list(range(19))[i::8] for i in range(8)]


def test_one_blas_thread_inside(hands):
    hands(2)
    seen = threads.share(lambda pieces: [blas_threads() for _ in pieces], range(2))
    assert all(set(each) <= {1} for each in itertools.chain(*seen))


def test_several_callers_at_once(hands, tiny_pieces):
    """Each with its own arrays: results are right, and BLAS has its threads back at the end."""
    hands(2)
    x, w = torch.randn(8, 2, 3, 9, 8), torch.randn(8, 4, 3, 3, 2)
    expected = [torch.nn.functional.conv2d(*pair) for pair in zip(x, w, strict=True)]

    def many(i):
        for _ in range(20):
            y = conv2d(x[i], w[i], method=("matmul", "fft")[i % 2])
        return y

    with concurrent.futures.ThreadPoolExecutor(8) as users:
        for y, want in zip(users.map(many, range(8)), expected, strict=True):
            torch.testing.assert_close(y, want, rtol=1e-4, atol=1e-4)


def test_work_that_shares_again(hands):
    """A user's own function that convolves inside of a piece must not wait for itself."""
    hands(2)

    def outer(pieces):
        return [sum(threads.share(sum, range(10))) for _ in pieces]

    with concurrent.futures.ThreadPoolExecutor(1) as user:
        assert user.submit(threads.share, outer, range(1)).result(timeout=20) == [[45]]


# The engines


def shapes_and_arrays(dtype):
    rng = np.random.default_rng(0)
    shapes = {"x": (3, 4, 11, 9), "w": (6, 2, 3, 2), "y": (3, 6, 5, 7)}
    arrays = {role: rng.normal(size=shape).astype(dtype) for role, shape in shapes.items()}
    return shapes, arrays, ((2, 1), (1, 2), 2)


def maps(engine, dtype=np.float32):
    shapes, a, geometry = shapes_and_arrays(dtype)
    return [engine.correlate(a["x"], a["w"], shapes["y"], *geometry),
            engine.input_gradient(a["y"], a["w"], shapes["x"], *geometry),
            engine.weight_gradient(a["x"], a["y"], shapes["w"], *geometry)]


@pytest.mark.parametrize("engine", [matmul, fft])
def test_any_number_of_threads_and_the_same_in_every_run(engine, hands, tiny_pieces):
    hands(1)
    alone = maps(engine)
    for n in (1, 2, 3):
        hands(n)
        first = maps(engine)
        for one, other in zip(first, alone, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        for _ in range(5):
            for one, other in zip(maps(engine), first, strict=True):
                np.testing.assert_array_equal(one, other)


def test_threads_follow_torch(monkeypatch):
    torch.set_num_threads(2)
    assert threads.count() == 2
    torch.set_num_threads(1)
    assert threads.count() == 1


def in_a_process(script):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# What is left behind


def test_no_thread_spins_after_a_layer():
    """A twentieth of a second asleep costs no processor time; BLAS's threads would spin in it."""
    idle = in_a_process("""
import time, torch
from scipyconv.functional import conv2d
torch.set_num_threads(2)
x, w = torch.randn(4, 32, 40, 40, requires_grad=True), torch.randn(32, 32, 3, 3)
shares = []
for method in ("matmul", "fft"):
    for _ in range(3):
        y = conv2d(x, w, method=method)
        y.detach()
        before = time.process_time()
        time.sleep(0.05)
        shares.append((time.process_time() - before) / 0.05)
    print(min(shares))
    shares.clear()
""")
    assert [float(share) < 0.2 for share in idle] == [True, True], idle


FORK = """
import faulthandler, os, torch
faulthandler.dump_traceback_later(60, exit=True)
from scipyconv.engines import threads
from scipyconv.functional import conv2d
torch.set_num_threads(2)
x, w = torch.randn(4, 16, 40, 40), torch.randn(16, 16, 3, 3)
wanted = {m: conv2d(x, w, method=m) for m in ("matmul", "fft")}
"""


@pytest.mark.skipif(not hasattr(threads.os, "fork"), reason="there is no fork here")
def test_after_a_fork():
    """The parent's threads are not in the child: it makes its own, and BLAS's count is its own."""
    printed = in_a_process(FORK + """
before = [b.get_num_threads() for b in threads._blas()]
child = os.fork()
if child == 0:
    torch.set_num_threads(2)
    same = all(torch.allclose(conv2d(x, w, method=m), y, atol=1e-4) for m, y in wanted.items())
    after = [b.get_num_threads() for b in threads._blas()]
    os._exit(0 if same and len(after) == len(before) else 1)
print(os.waitpid(child, 0)[1])
""")
    assert printed == ["0"]


@pytest.mark.skipif(not hasattr(threads.os, "fork"), reason="there is no fork here")
def test_a_fork_while_another_thread_is_inside():
    """The child's BLAS has its threads back, and its lock is open."""
    printed = in_a_process(FORK + """
import threading
entered, leave = threading.Event(), threading.Event()
before = [b.get_num_threads() for b in threads._blas()]
def stay():
    with threads._one_blas_thread:
        entered.set()
        leave.wait()
thread = threading.Thread(target=stay)
thread.start()
entered.wait()
child = os.fork()
if child == 0:
    right = [b.get_num_threads() for b in threads._blas()] == before
    conv2d(x, w, method="matmul")
    os._exit(0 if right and threads._one_blas_thread.inside == 0 else 1)
leave.set()
thread.join()
print(os.waitpid(child, 0)[1], [b.get_num_threads() for b in threads._blas()] == before)
""")
    assert printed == ["0", "True"]


@pytest.mark.skipif(not hasattr(threads.os, "fork"), reason="there is no fork here")
def test_workers_of_a_data_loader():
    printed = in_a_process(FORK + """
from torch.utils.data import DataLoader, Dataset
class Convolved(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, i):
        torch.set_num_threads(2)
        return conv2d(x[i], w, method=("matmul", "fft")[i % 2])
loader = DataLoader(Convolved(), num_workers=2, multiprocessing_context="fork", timeout=50)
got = torch.cat(list(loader))
print(torch.allclose(got, wanted["matmul"], atol=1e-4))
""")
    assert printed == ["True"]


def test_the_layer_is_interrupted_as_any_other(hands, tiny_pieces, monkeypatch):
    """Ctrl-C in the caller's share: it is raised, and the next layer computes as before."""
    hands(2)
    x, w = torch.randn(4, 2, 9, 8), torch.randn(3, 2, 3, 2)
    columns, caller = matmul._columns, threading.current_thread()

    def interrupted(*args):
        if threading.current_thread() is caller:
            raise KeyboardInterrupt
        return columns(*args)

    with monkeypatch.context() as patched, scipyconv.use_method("matmul"):
        patched.setattr(matmul, "_columns", interrupted)
        with pytest.raises(KeyboardInterrupt):
            conv2d(x, w)
    torch.testing.assert_close(conv2d(x, w, method="matmul"), torch.nn.functional.conv2d(x, w))
