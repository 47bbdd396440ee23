"""How pieces are shared among threads, and that a call leaves the process as it was."""

import concurrent.futures
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import threadpoolctl
import torch
from interrupted import at_each_step

import scipyconv
from scipyconv.engines import fft, matmul, threads
from scipyconv.functional import conv2d
from scipyconv.geometry import Geometry


@pytest.fixture
def hands(monkeypatch):
    """A function that sets how many threads an engine uses, with a hand for each."""
    monkeypatch.setattr(threads, "_HANDS", 1)
    return lambda n: monkeypatch.setattr(threads, "count", lambda: n)


@pytest.fixture
def tiny_pieces(monkeypatch):
    """So small that a few numbers are shared among threads."""
    monkeypatch.setattr(matmul, "PIECE", 512)
    monkeypatch.setattr(threads, "SMALL", 0)
    monkeypatch.setattr(fft, "_SMALL", 0)


def blas_threads():
    """What threadpoolctl, which reads the same in every thread, says of each BLAS."""
    return [
        lib["num_threads"]
        for lib in threadpoolctl.threadpool_info()
        if lib["user_api"] == "blas"
    ]


def set_blas_threads(n):
    for _, put in threads._libraries().values():
        put(n)


def left_behind():
    """What a call must leave as it found it."""
    taken = []

    def take():
        taken.append(threads._lock.acquire(timeout=5) and threads._lock.release())

    other = threading.Thread(target=take)
    other.start()
    other.join()
    return {
        "BLAS": blas_threads(),
        "users": len(threads._users),
        "remembered": dict(threads._before),
        "lock": taken,
        "errors": np.geterr(),
    }


CLEAN = {"users": 0, "remembered": {}, "lock": [None]}


@pytest.fixture(autouse=True)
def _as_before():
    """BLAS computes on two threads, and still does after the test."""
    set_blas_threads(2)
    want = {**left_behind(), **CLEAN}
    yield
    assert left_behind() == want
    set_blas_threads(2)


# share


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("pieces", [0, 1, 2, 3, 7])
def test_hands_get_every_nth_piece_and_answer_in_order(n, pieces, hands):
    hands(n)
    dealt = threads.share(list, range(pieces))
    assert dealt == [list(range(pieces))[i :: len(dealt)] for i in range(len(dealt))]
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
        dealt = threads.share(list, range(19))
        assert dealt == [list(range(19))[i::8] for i in range(8)]


def test_one_blas_thread_inside(hands):
    hands(2)
    seen = threads.share(lambda pieces: [blas_threads() for _ in pieces], range(2))
    assert all(set(each) == {1} for each in itertools.chain(*seen))


def test_several_callers_at_once(hands, tiny_pieces):
    """Each with its own arrays: results are right, and BLAS has its threads back."""
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
    """A user's own function that convolves inside a piece must not wait for itself."""
    hands(2)

    def outer(pieces):
        return [sum(threads.share(sum, range(10))) for _ in pieces]

    with concurrent.futures.ThreadPoolExecutor(1) as user:
        assert user.submit(threads.share, outer, range(1)).result(timeout=20) == [[45]]


# The engines


GEOMETRY = Geometry(
    (3, 4, 11, 9), (6, 2, 3, 2), (3, 6, 5, 7), (2, 1), ((0, 0), (0, 0)), (1, 2), 2
)


def maps(engine, dtype=np.float32):
    rng = np.random.default_rng(0)
    x, w, y = (rng.normal(size=GEOMETRY.shape(role)).astype(dtype) for role in "xwy")
    return [
        engine.correlate(x, w, GEOMETRY),
        engine.input_gradient(w, y, GEOMETRY),
        engine.weight_gradient(x, y, GEOMETRY),
    ]


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
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# What is left behind


def test_no_thread_spins_after_a_layer():
    """A twentieth of a second asleep costs no processor time: BLAS's threads would."""
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork():
    """The parent's threads are not in the child: it makes its own."""
    printed = in_a_process(
        FORK
        + """
before = [get() for get, _ in threads._libraries().values()]
child = os.fork()
if child == 0:
    torch.set_num_threads(2)
    same = all(torch.allclose(conv2d(x, w, method=m), y, atol=1e-4)
               for m, y in wanted.items())
    after = [get() for get, _ in threads._libraries().values()]
    os._exit(0 if same and len(after) == len(before) else 1)
print(os.waitpid(child, 0)[1])
"""
    )
    assert printed == ["0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_another_thread_is_inside():
    """The child's BLAS has its threads back, and its lock is open."""
    printed = in_a_process(
        FORK
        + """
import threading
entered, leave = threading.Event(), threading.Event()
before = [get() for get, _ in threads._libraries().values()]
def stay():
    threads.share(lambda pieces: (entered.set(), leave.wait()), range(1))
thread = threading.Thread(target=stay)
thread.start()
entered.wait()
child = os.fork()
if child == 0:
    right = [get() for get, _ in threads._libraries().values()] == before
    conv2d(x, w, method="matmul")
    os._exit(0 if right and not threads._users else 1)
leave.set()
thread.join()
after = [get() for get, _ in threads._libraries().values()]
print(os.waitpid(child, 0)[1], after == before)
"""
    )
    assert printed == ["0", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_workers_of_a_data_loader():
    printed = in_a_process(
        FORK
        + """
from torch.utils.data import DataLoader, Dataset
class Convolved(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, i):
        torch.set_num_threads(2)
        return conv2d(x[i], w, method=("matmul", "fft")[i % 2])
loader = DataLoader(Convolved(), num_workers=2, multiprocessing_context="fork",
                    timeout=50)
got = torch.cat(list(loader))
print(torch.allclose(got, wanted["matmul"], atol=1e-4))
"""
    )
    assert printed == ["True"]


def test_the_layer_is_interrupted_as_any_other(hands, tiny_pieces, monkeypatch):
    """Ctrl-C in the caller's share is raised, and the next layer computes as before."""
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
    want = torch.nn.functional.conv2d(x, w)
    torch.testing.assert_close(conv2d(x, w, method="matmul"), want)


# A call leaves the process as it was, at whatever step something happens


def share_in_two():
    """The first call, which warms BLAS up: what two threads were dealt, summed."""
    threads._warmed = 0
    return threads.share(sum, range(10))


def share_alone():
    return threads.share(sum, range(10), alone=True)


def share_again():
    return threads.share(sum, range(10))


STEPS = [(share_alone, "opcode"), (share_again, "opcode"), (share_in_two, "line")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize(("call", "step"), STEPS)
def test_an_interrupt_at_any_step(call, step, error, hands):
    """Even where `with` loses a lock (cpython 148874): before `__exit__`, say."""
    hands(2)
    right, want, reached = call(), {**left_behind(), **CLEAN}, 0

    def happen():
        raise error("here")

    for outcome in at_each_step(threads, call, happen, step):
        assert outcome == right or isinstance(outcome, error)
        assert left_behind() == want
        assert call() == right
        reached += isinstance(outcome, error)
    assert reached > 20


@pytest.mark.parametrize(("call", "step"), STEPS)
def test_a_call_within_a_call_at_any_step(call, step, hands):
    """A signal handler, `__del__` or a trace calls a layer in the same thread."""
    hands(2)
    right, want, inner = call(), {**left_behind(), **CLEAN}, []

    def happen():
        inner.append(threads.share(lambda pieces: [blas_threads()], [0], alone=True))

    for outcome in at_each_step(threads, call, happen, step):
        assert outcome == right
        assert left_behind() == want
    assert len(inner) > 20
    assert all(set(*seen) == {1} for [seen] in inner)


def test_a_signal_interrupts_the_first_calls():
    """With a real signal: the next call works, and BLAS has its threads."""
    printed = in_a_process("""
import faulthandler, random, signal, threading
from scipyconv.engines import threads
faulthandler.dump_traceback_later(60, exit=True)
threads.use(lambda: 2)
def interrupt(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
rng, raised = random.Random(0), 0
before = [get() for get, _ in threads._libraries().values()]
for i in range(400):
    threads._warmed = i % 4
    threads._found.clear()
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 3e-3))
        while True:
            threads.share(sum, range(10))
    except KeyboardInterrupt:
        raised += 1
    assert [get() for get, _ in threads._libraries().values()] == before
    assert not threads._users and not threads._before
    assert threads.share(sum, range(10)) == [0 + 8, 1 + 9, 2, 3, 4, 5, 6, 7]
print(raised)
""")
    assert printed == ["400"]


@pytest.mark.parametrize(
    "name", ["sleep", "monotonic", "SimpleQueue", "ref", "iter", "_libraries"]
)
@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_no_memory_at_any_place(name, error, hands, monkeypatch):
    """The caller sees it unless the caller's thread can do it all."""
    hands(2)
    right = share_in_two()

    def fail(*args, **kwargs):
        raise error("no more")

    with monkeypatch.context() as patched:
        patched.setattr(threads, name, fail, raising=False)
        with pytest.raises(error, match="no more"):
            share_in_two()
    assert share_in_two() == right


def test_interrupted_more_than_once(hands):
    """Ctrl-C, and again while the call waits for the others: they give BLAS back."""
    hands(2)
    inside, leave = threading.Barrier(2, timeout=20), threading.Event()
    caller = threading.current_thread()

    def work(pieces):
        for _ in pieces:
            inside.wait()
            if threading.current_thread() is caller:
                raise KeyboardInterrupt
            leave.wait(20)

    class Impatient(threads._Call):
        def _wait(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Impatient(work, range(2), 2).run(2)
    assert set(blas_threads()) == {1}  # for the thread that still multiplies
    leave.set()
    for _ in range(200):
        if not threads._users:
            break
        time.sleep(0.01)
    assert set(blas_threads()) == {2}


# Threads that cannot be had


def test_the_same_bits_without_helpers(tiny_pieces, monkeypatch):
    """No thread can be started, whatever the reason: the caller's does it all."""
    monkeypatch.setattr(threads, "count", lambda: 2)
    expected = [maps(engine) for engine in (matmul, fft)]
    for error in (RuntimeError("can't start new thread"), MemoryError()):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(threads, "_started", 0)
        monkeypatch.setattr(threads, "_tasks", threads.SimpleQueue())
        monkeypatch.setattr(threads, "start_new_thread", fail)
        for engine, want in zip((matmul, fft), expected, strict=True):
            for one, other in zip(maps(engine), want, strict=True):
                np.testing.assert_array_equal(one, other)


LATE = """
import atexit, os, sys, threading, time, weakref
import torch
from scipyconv.engines import threads
from scipyconv.functional import conv2d
torch.set_num_threads(2)
x, w = torch.randn(4, 32, 40, 40, requires_grad=True), torch.randn(32, 32, 3, 3)
want = torch.nn.functional.conv2d(x, w)
def train(torch=torch, conv2d=conv2d, write=os.write, x=x, w=w, want=want):
    for method in ("matmul", "fft"):
        y = conv2d(x, w, method=method)
        [gradient] = torch.autograd.grad(y.sum(), x)
        right = torch.allclose(y, want, atol=1e-3) and gradient.isfinite().all()
        write(1, b"right " if right else b"wrong ")
def outlive():
    threading.main_thread().join()
    time.sleep(0.2)
    train()
def hurry():
    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    thread.join()
class Last:
    def __del__(self, share=threads.share, write=os.write):
        write(1, b"right right" if sum(share(sum, range(10))) == 45 else b"wrong")
last = Last()
"""
OUTLIVE = "threading.Thread(target=outlive).start()\n"
AT_EXIT = "atexit.register(train); weakref.finalize(last, train, torch, conv2d)\n"


@pytest.mark.parametrize(
    ("ends", "times"),
    [
        (OUTLIVE, 2),
        ("train()\n" + OUTLIVE + AT_EXIT, 5),
        ("", 1),
    ],
    ids=["a thread", "all of them", "__del__ alone"],
)
def test_when_the_main_thread_has_ended(ends, times):
    """A thread that outlives it (cpython 148280), atexit, a finalizer and `__del__`."""
    assert in_a_process(LATE + ends) == ["right"] * 2 * times


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in /proc")
def test_one_pool_that_grows(hands):
    """`torch.set_num_threads` from 2 to 32 leaves 31 threads, not 496."""

    def running():
        return len(list(Path("/proc/self/task").iterdir()))

    before = running()
    for n in range(2, 33):
        hands(n)
        threads.share(sum, range(64))
    assert running() - before <= 31
    assert threads._started == 31


def test_nothing_keeps_the_pieces_alive(hands):
    """Although no helper has come yet for the call that it was asked to help with."""
    hands(2)
    inside, leave = threading.Event(), threading.Event()
    other = threading.Thread(
        target=threads.share,
        args=(
            lambda pieces: [(inside.set(), leave.wait(20)) for _ in pieces],
            range(2),
        ),
    )
    other.start()
    inside.wait(20)
    time.sleep(0.05)  # the helper waits too
    pieces = [np.ones(3), np.ones(3)]
    last = weakref.ref(pieces[1])
    gc.disable()
    try:
        threads.share(lambda hand: [p.sum() for p in hand], pieces)
        del pieces
        assert last() is None
    finally:
        gc.enable()
        leave.set()
        other.join()


def test_helpers_have_the_callers_error_state(hands):
    hands(2)
    together = threading.Barrier(2, timeout=20)

    def work(pieces):
        return [(together.wait(), np.geterr())[1] for _ in pieces]

    with np.errstate(over="ignore", divide="raise", under="warn"):
        mine = np.geterr()
        assert threads.share(work, range(2)) == [[mine], [mine]]
    assert np.geterr() != mine


# BLAS


@pytest.fixture
def controlled():
    """Another thread is the one that threadpoolctl 3.8 obeys, and it lives on."""
    done = threading.Event()

    def control():
        for lib in threadpoolctl.ThreadpoolController().lib_controllers:
            if lib.user_api == "blas":
                lib.set_num_threads(2)
        ready.set()
        done.wait(60)

    ready, thread = threading.Event(), threading.Thread(target=control)
    thread.start()
    ready.wait(20)
    yield
    done.set()
    thread.join()


def test_blas_obeys_every_thread(controlled, tiny_pieces, monkeypatch):
    """threadpoolctl 3.8 obeys only the first that called it, while that one lives."""
    monkeypatch.setattr(threads, "count", lambda: 2)
    x, w = torch.randn(2, 16, 40, 40), torch.randn(16, 16, 3, 3)

    def call():
        seen = threads.share(lambda pieces: [blas_threads() for _ in pieces], range(2))
        return conv2d(x, w, method="matmul"), seen

    want, _ = call()
    with concurrent.futures.ThreadPoolExecutor(4) as users:
        for y, seen in [f.result() for f in [users.submit(call) for _ in range(40)]]:
            assert {n for [each] in seen for n in each} == {1}
            torch.testing.assert_close(y, want, rtol=0, atol=0)
    assert set(blas_threads()) == {2}


class Library(SimpleNamespace):
    """A BLAS for whose number of threads nobody must ask, nor set it."""

    dynlib = SimpleNamespace(MKL_Get_Max_Threads=None, openblas_get_num_threads=None)
    check_symbols = (
        "MKL_Get_Max_Threads",
        "bli_thread_get_num_threads",
        "openblas_get_num_threads",
    )


@pytest.mark.parametrize(
    "library",
    [
        Library(internal_api="mkl", threading_layer="intel"),
        Library(internal_api="blis", threading_layer="pthreads"),
        Library(internal_api="flexiblas"),
        Library(internal_api="openblas", threading_layer="openmp"),
        SimpleNamespace(
            internal_api="openblas",
            threading_layer="unknown",
            dynlib=object(),
            check_symbols=("openblas_get_num_threads",),
        ),
    ],
)
def test_other_libraries_are_left_alone(library, monkeypatch):
    found = SimpleNamespace(lib_controllers=[library])
    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", lambda: found)
    assert threads._blas() == {}
    monkeypatch.setattr(threads, "_found", [{}])
    assert threads.share(sum, range(10), alone=True) == [45]


# A fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_another_thread_imports():
    """The child need not wait for an import that its parent's thread has begun."""
    printed = in_a_process("""
import os, signal, sys, threading, time
from scipyconv.engines import threads
threads.use(lambda: 2)
class Slow:
    def find_spec(self, name, *args):
        if name == "threadpoolctl":
            importing.set()
            time.sleep(0.05)
importing = threading.Event()
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=threads.share, args=(sum, range(10)))
thread.start()
importing.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(sum(threads.share(sum, range(10))))
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert printed == ["45"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_during_another_threads_first_call():
    """Each child has BLAS's threads and an open lock, whenever it was born."""
    printed = in_a_process(
        FORK
        + """
import signal, threading, time
done = threading.Event()
def blas():
    return [get() for get, _ in threads._libraries().values()]
before = blas()
def first_calls():
    while not done.is_set():
        threads._warmed = 0
        threads._found.clear()
        threads.share(sum, range(10))
thread = threading.Thread(target=first_calls)
thread.start()
codes = []
for i in range(16):
    time.sleep(0.0003 * (i % 7))
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        right = blas() == before and not threads._users
        same = threads.share(sum, range(10)) == [0 + 8, 1 + 9, 2, 3, 4, 5, 6, 7]
        os._exit(0 if right and same and blas() == before else 1)
    codes.append(os.waitpid(child, 0)[1])
done.set()
thread.join()
print(codes.count(0), blas() == before)
"""
    )
    assert printed == ["16", "True"]
