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
from scipyconv.geometry import Geometry


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
    return [get() for get, _ in threads._blas()]


def left_as_it_was():
    return not threads._one_thread.users and threads._one_thread.before is None


@pytest.fixture(autouse=True)
def _as_before():
    """BLAS computes on two threads, and still does after the test."""
    before = blas_threads()
    for _, set_to in threads._blas():
        set_to(2)
    want = blas_threads()
    yield
    assert blas_threads() == want
    assert left_as_it_was()
    for (_, set_to), n in zip(threads._blas(), before, strict=True):
        set_to(n)


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


GEOMETRY = Geometry((3, 4, 11, 9), (6, 2, 3, 2), (3, 6, 5, 7), (2, 1), ((0, 0), (0, 0)), (1, 2), 2)


def maps(engine, dtype=np.float32):
    rng = np.random.default_rng(0)
    a = {role: rng.normal(size=GEOMETRY.shape(role)).astype(dtype) for role in "xwy"}
    return [engine.correlate(a["x"], a["w"], GEOMETRY),
            engine.input_gradient(a["w"], a["y"], GEOMETRY),
            engine.weight_gradient(a["x"], a["y"], GEOMETRY)]


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
before = [get() for get, _ in threads._blas()]
child = os.fork()
if child == 0:
    torch.set_num_threads(2)
    same = all(torch.allclose(conv2d(x, w, method=m), y, atol=1e-4) for m, y in wanted.items())
    after = [get() for get, _ in threads._blas()]
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
before = [get() for get, _ in threads._blas()]
def stay():
    threads.share(lambda _: (entered.set(), leave.wait()), [1])
thread = threading.Thread(target=stay)
thread.start()
entered.wait()
child = os.fork()
if child == 0:
    right = [get() for get, _ in threads._blas()] == before
    conv2d(x, w, method="matmul")
    os._exit(0 if right and not threads._one_thread.users else 1)
leave.set()
thread.join()
print(os.waitpid(child, 0)[1], [get() for get, _ in threads._blas()] == before)
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


@pytest.mark.skipif(not hasattr(threads.os, "fork"), reason="there is no fork here")
def test_a_fork_while_another_thread_is_in_its_first_call():
    """Whatever it holds just then, the child computes, and BLAS has its threads."""
    printed = in_a_process("""
import os, threading, torch, numpy as np
from scipyconv.engines import threads
from scipyconv.functional import conv2d
torch.set_num_threads(2)
x, w = torch.randn(4, 16, 40, 40), torch.randn(16, 16, 3, 3)
before = [get() for get, _ in threads._blas()]
threads._blas.cache_clear()
codes = []
for delay in range(8):
    threads._forked()
    thread = threading.Thread(target=conv2d, args=(x, w), kwargs={"method": "matmul"})
    thread.start()
    for _ in range(delay * 2000):
        pass
    child = os.fork()
    if child == 0:
        import faulthandler
        faulthandler.dump_traceback_later(30, exit=True)
        conv2d(x, w, method="matmul")
        os._exit(0 if [get() for get, _ in threads._blas()] == before else 1)
    codes.append(os.waitpid(child, 0)[1])
    thread.join()
print(codes)
""")
    assert "".join(printed) == "[0,0,0,0,0,0,0,0]"


# Whatever happens, whenever


class Interrupter:
    """Raises at the n-th line of the module that this thread comes to."""

    def __init__(self, error, at):
        self.error, self.left = error, at

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename != threads.__file__:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise self.error
        return self


@pytest.mark.parametrize("first", [True, False], ids=["first call", "later call"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_error_at_any_line_leaves_all_as_it_was(error, first, hands):
    """Ctrl-C left BLAS at one thread in half of the trials, and sometimes for ever."""
    hands(2)
    before, raised = blas_threads(), 0
    for at in itertools.count(1):
        if first:
            threads._forked()
        interrupter = Interrupter(error, at)
        sys.settrace(interrupter)
        try:
            threads.share(lambda pieces: [np.ones((2, 2)) @ np.ones((2, 2)) for _ in pieces],
                          range(9))
        except error:
            raised += 1
        finally:
            sys.settrace(None)
        assert blas_threads() == before, at
        assert left_as_it_was(), at
        assert sum(threads.share(sum, range(10))) == 45
        if interrupter.left > 0:
            break
    assert raised > 20


def test_a_call_inside_of_any_line_of_a_call(hands):
    """By a signal handler or a destructor: it must not wait for the lock of its own thread."""
    hands(2)
    before = blas_threads()
    for at in itertools.count(1):
        left, seen = [at], []

        def trace(frame, event, _, left=left, seen=seen):
            if frame.f_code.co_filename != threads.__file__:
                return None
            if event == "line":
                left[0] -= 1
                if left[0] == 0:
                    sys.settrace(None)
                    seen.append(sum(threads.share(sum, range(10))))
                    return None
            return trace

        sys.settrace(trace)
        try:
            assert sum(threads.share(sum, range(10))) == 45
        finally:
            sys.settrace(None)
        assert blas_threads() == before, at
        assert left_as_it_was(), at
        if not seen:
            break
    assert at > 30


def test_interrupts_from_outside():
    """Twenty processes' worth of Ctrl-C, in the first call and after it."""
    printed = in_a_process("""
import faulthandler, os, random, signal, threading, time, torch
faulthandler.dump_traceback_later(100, exit=True)
from scipyconv.engines import threads
from scipyconv.functional import conv2d
torch.set_num_threads(2)
x, w = torch.randn(4, 16, 60, 60), torch.randn(16, 16, 3, 3)
before = [get() for get, _ in threads._blas()]
random.seed(0)
interrupted = bad = 0
for i in range(60):
    if i % 2:
        threads._forked()
    timer = threading.Timer(random.uniform(0, 0.02), os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        for _ in range(1000):
            conv2d(x, w, method="matmul")
    except KeyboardInterrupt:
        interrupted += 1
    timer.join()
    bad += [get() for get, _ in threads._blas()] != before or bool(threads._one_thread.users)
print(interrupted, bad)
""")
    assert printed == ["60", "0"]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_where_no_thread_can_be_had_the_caller_does_it_all(error, hands, monkeypatch):
    """With the same bits: what is in a hand does not depend on who takes it."""
    hands(3)
    expected = maps(matmul)

    class NoPool:
        def submit(self, _):
            raise error

    monkeypatch.setattr(threads, "_pool", NoPool)
    for one, other in zip(maps(matmul), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert threads.share(list, range(6)) == [[0, 3], [1, 4], [2, 5]]


def test_late_callers():
    """A thread that outlives the main thread, and code at exit (cpython 148280)."""
    printed = in_a_process("""
import atexit, threading, time, torch
from scipyconv.functional import conv2d
torch.set_num_threads(2)
x, w = torch.randn(4, 16, 60, 60), torch.randn(16, 16, 3, 3)
want = torch.nn.functional.conv2d(x, w)
def check(name):
    for method in ("matmul", "fft"):
        y = conv2d(x, w, method=method)
        print(name, bool(torch.allclose(y, want, atol=1e-3)), flush=True)
def late():
    main = threading.main_thread()
    main.join()
    time.sleep(0.2)
    check("thread")
class Last:
    def __del__(self):
        check("destructor")
last = Last()
atexit.register(check, "exit")
threading.Thread(target=late).start()
""")
    assert printed == ["thread", "True", "thread", "True", "exit", "True", "exit", "True",
                       "destructor", "True", "destructor", "True"]


def test_blas_counts_are_set_by_any_thread(hands):
    """threadpoolctl 3.8 lets only the first thread set them, while that one lives."""
    hands(2)
    before, seen = blas_threads(), []
    stay, go = threading.Barrier(5), threading.Event()

    def caller():
        inside = threads.share(lambda pieces: [blas_threads() for _ in pieces], range(4))
        seen.append({n for counts in itertools.chain(*inside) for n in counts})
        stay.wait(20)
        go.wait(20)

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for each in callers:
        each.start()
    stay.wait(20)  # all of them are still alive
    assert seen == [{1}] * 4
    assert blas_threads() == before
    go.set()
    for each in callers:
        each.join()


def test_the_same_bits_whoever_calls(hands, tiny_pieces):
    hands(2)
    expected, found = maps(matmul), []
    for _ in range(3):
        thread = threading.Thread(target=lambda: found.append(maps(matmul)))
        thread.start()
        thread.join()
    for each in found:
        for one, other in zip(each, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_one_pool_that_grows():
    """From 2 to 32 threads, one after the other, and not 496 of them."""
    printed = in_a_process("""
import threading, time
from scipyconv.engines import threads
for n in range(2, 33):
    threads.use(lambda n=n: n)
    threads.share(lambda pieces: [time.sleep(0.001) for _ in pieces], range(200))
print(sum(t.name.startswith("scipyconv") for t in threading.enumerate()))
""")
    assert int(printed[0]) <= 31


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
