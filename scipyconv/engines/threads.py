"""How an engine uses the cores: each takes a share of the pieces, and BLAS stays on one.

BLAS has threads of its own. They wait for the next product by spinning, for a tenth of a second,
and take the cores from whatever runs then: the next layer of a model, say. Threads of Python sleep
while they wait. They run side by side where it matters, because NumPy lets go of the interpreter
while it copies and multiplies; and pieces that are copied in one thread while another multiplies
also keep both cores busy where a threaded product alone would not.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from threading import Barrier, Lock
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


#: So few products BLAS computes on one thread anyway.
SMALL = 1 << 18
#: Hands for each thread.
_HANDS = 4
#: glibc keeps freed blocks up to the size of the largest that it saw freed, and at most 32 MiB.
_FREED = 31 << 20
#: How many threads an engine uses: a function. Under PyTorch it is `torch.get_num_threads`.
count: Callable[[], int] = cores


def share(work: Callable[[Iterable[Piece]], Result], pieces: Sequence[Piece],
          alone: bool = False) -> list[Result]:
    """Deal the pieces into hands, which the threads take; what `work` makes of each, in order.

    If `alone`, the caller's thread does it all: to wake another takes some tenths of a millisecond.

    There are more hands than threads, so that one which comes late, because its core was busy,
    leaves more of them to the others. What is in a hand depends on the numbers of pieces and
    threads alone, so that sums come out the same in every run. If a thread fails, or is
    interrupted, the others stop after their piece.

    Examples:
        >>> sum(share(sum, range(10)))
        45
    """
    players = 1 if alone else max(1, min(count(), len(pieces)))
    if players == 1:
        with _one_blas_thread:
            return [work(pieces)]
    hands = min(_HANDS * players, len(pieces))
    left, made, stopped = iter(range(hands)), dict[int, Result](), list[bool]()

    def deal(i: int) -> Iterator[Piece]:
        for piece in pieces[i::hands]:
            if stopped:
                return
            yield piece

    def play() -> None:
        try:
            with np.errstate(all="ignore"):  # each thread has its own
                for i in left:  # shared: whoever asks gets the next
                    made[i] = work(deal(i))
        except BaseException:
            stopped.append(True)
            raise

    with _one_blas_thread:
        futures = [_pool(players - 1).submit(play) for _ in range(1, players)]
        try:
            play()
        finally:
            late = [future for future in futures if not future.cancel()]
            wait(late)  # they write into the caller's arrays
        for future in late:
            future.result()
    return [made[i] for i in range(hands)]


def cut(size: int, parts: int) -> list[slice]:
    """Cut an axis of this size into so many parts, as even as can be.

    Examples:
        >>> cut(7, 2)
        [slice(0, 3, None), slice(3, 7, None)]
    """
    ends = [size * i // max(1, parts) for i in range(parts + 1)]
    return list(map(slice, ends[:-1], ends[1:]))


def use(threads: Callable[[], int]) -> None:
    """Let a function say how many threads an engine uses."""
    global count
    count = threads


class _OneBlasThread:
    """While at least one thread is inside, every BLAS computes on the thread that calls it."""

    def __init__(self) -> None:
        self.lock, self.inside, self.before = Lock(), 0, list[int]()

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.before = [blas.get_num_threads() for blas in _blas()]
                for blas in _blas():
                    blas.set_num_threads(1)
                _warm(count())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self._restore()

    def _restore(self) -> None:
        for blas, threads in zip(_blas(), self.before, strict=True):
            blas.set_num_threads(threads)

    def forget(self) -> None:
        """In a forked process: the threads that were inside are not."""
        if self.inside:
            self._restore()
        self.lock, self.inside = Lock(), 0


_one_blas_thread = _OneBlasThread()


@lru_cache
def _blas() -> list[Any]:
    from threadpoolctl import ThreadpoolController  # here, because looking takes milliseconds

    return [lib for lib in ThreadpoolController().lib_controllers if lib.user_api == "blas"]


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "scipyconv")


@lru_cache
def _warm(hands: int) -> None:
    """Let BLAS write to all of the memory that it packs its factors into, once for each thread.

    Its kernels read ahead of what a small product has written. In memory that was never written to
    the processor looks for a page that is not there, each time, and half of its speed is lost.

    And let the C library keep some of the memory that is freed. It gives all but the least back,
    and the next call pays for new pages, until it has seen that a large array was freed.
    """
    np.empty(_FREED, np.int8)
    together = Barrier(hands)

    def multiply() -> None:
        together.wait()
        np.ones((64, 400)) @ np.ones((400, 512))

    futures = [_pool(hands - 1).submit(multiply) for _ in range(1, hands)]
    multiply()
    wait(futures)


def _forked() -> None:
    _pool.cache_clear()  # its threads are the parent's
    _warm.cache_clear()
    _one_blas_thread.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
