"""How an engine uses the cores: each takes a share of the pieces, and BLAS stays on one.

BLAS has threads of its own. They wait for the next product by spinning, for a tenth of a
second, and take the cores from whatever runs then: the next layer of a model, say. Threads
of Python sleep while they wait. They run side by side where it matters, because NumPy lets
go of the interpreter while it copies and multiplies; and pieces that are copied in one
thread while another multiplies also keep both cores busy where a threaded product alone
would not.

A call leaves the process as it found it, also where it fails, is interrupted, or is called
again from a signal handler or a destructor; and so does a fork. Helping threads are a
favor: where none can be had, the caller's thread does it all.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import lru_cache
from itertools import product
from threading import Barrier, BrokenBarrierError, RLock
from typing import Any, TypeVar

import numpy as np

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


#: So few products BLAS computes on one thread anyway.
SMALL = 1 << 18
#: Hands for each thread.
_HANDS = 4
#: More threads than this do not help.
_MOST = 1 << 10
#: How many threads an engine uses: a function. Under PyTorch it is `torch.get_num_threads`.
count: Callable[[], int] = cores


def use(threads: Callable[[], int]) -> None:
    """Let a function say how many threads an engine uses."""
    global count
    count = threads


def share(work: Callable[[Iterable[Piece]], Result], pieces: Sequence[Piece],
          alone: bool = False) -> list[Result]:
    """Deal the pieces into hands, which the threads take.

    There are more hands than threads, so that one which comes late, because its core was
    busy, leaves more of them to the others. What is in a hand depends on the numbers of
    pieces and threads alone, so that sums come out the same in every run, whoever helps. If
    a thread fails, or is interrupted, the others stop after their piece.

    Args:
        work: What to do with a hand of pieces.
        pieces: What there is to do.
        alone: Whether the caller's thread does it all: to wake another takes some tenths of
            a millisecond.

    Returns:
        What `work` makes of each hand, in order.

    Examples:
        >>> sum(share(sum, range(10)))
        45
    """
    players = 1 if alone else max(1, min(count(), len(pieces), _MOST))
    user = object()
    try:
        try:
            _one_thread.enter(user)
            _warm(players)
            return [work(pieces)] if players == 1 else _play(work, pieces, players)
        finally:
            _one_thread.leave(user)
    finally:
        _one_thread.leave(user)  # in case that an interrupt came in the first


def _play(work: Callable[[Iterable[Piece]], Result], pieces: Sequence[Piece],
          players: int) -> list[Result]:
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

    _together(play, players)
    return [made[i] for i in range(hands)]


def cut(size: int, parts: int) -> list[slice]:
    """Cut an axis of this size into so many parts, as even as can be.

    Examples:
        >>> cut(7, 2)
        [slice(0, 3, None), slice(3, 7, None)]
    """
    ends = [size * i // max(1, parts) for i in range(parts + 1)]
    return list(map(slice, ends[:-1], ends[1:]))


def _together(play: Callable[[], None], players: int) -> None:
    """Play with as many helpers as can be had, and wait for those that have begun."""
    helpers = list[Future[None]]()
    try:
        with suppress(RuntimeError, MemoryError):  # no thread starts, or not any more
            for _ in range(1, players):
                helpers.append(_pool().submit(play))
        play()
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)  # they write into the caller's arrays
    for helper in begun:
        helper.result()


@lru_cache
def _pool() -> ThreadPoolExecutor:
    """One pool for all; it starts a thread only where none is idle."""
    return ThreadPoolExecutor(_MOST, "scipyconv")


class _OneThread:
    """While there is a user, every BLAS computes on the thread that calls it.

    The counts from before are kept from the first change to the last restoration. Each step
    may be interrupted, and the whole may be entered again in between: steps that are done
    twice do no harm.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.users = set[object]()
        self.before: list[int] | None = None

    def enter(self, user: object) -> None:
        # On one line there is no step at which the lock could stay closed.
        with self.lock: self._enter(user)  # fmt: skip # noqa: E701

    def leave(self, user: object) -> None:
        with self.lock: self._leave(user)  # fmt: skip # noqa: E701

    def _enter(self, user: object) -> None:
        self.users.add(user)  # first, so that a call inside of this one restores nothing
        if self.before is None:
            counts = [get() for get, _ in _blas()]
            if self.before is None:  # unless such a call has asked meanwhile
                self.before = counts
        for _, set_to in _blas():
            set_to(1)

    def _leave(self, user: object) -> None:
        self.users.discard(user)
        before = self.before
        if before is not None and not self.users:
            for (_, set_to), threads in zip(_blas(), before, strict=True):
                set_to(threads)
            self.before = None

    def forget(self) -> None:
        """In a forked process: the threads that were users are not there."""
        self.lock = RLock()
        self.users = set()
        self.leave(None)


_one_thread = _OneThread()


@lru_cache
def _blas() -> list[tuple[Callable[[], int], Callable[[int], Any]]]:
    """For each BLAS, how to ask for its number of threads, and how to set it."""
    from threadpoolctl import ThreadpoolController  # here, because looking takes long

    found = ThreadpoolController().lib_controllers
    return [(lib.get_num_threads, _setter(lib)) for lib in found if lib.user_api == "blas"]


def _setter(lib: Any) -> Callable[[int], Any]:
    """OpenBLAS's own entry: threadpoolctl 3.8 lets only one thread set the number."""
    if lib.internal_api == "openblas" and lib.threading_layer != "openmp":
        for prefix, suffix in product(("", "scipy_"), ("", "64_", "_64")):
            name = f"{prefix}openblas_set_num_threads{suffix}"
            if hasattr(lib.dynlib, name):
                setter: Callable[[int], Any] = getattr(lib.dynlib, name)
                return setter
    setter = lib.set_num_threads
    return setter


#: So many threads have been warmed.
_warmed = 0


def _warm(hands: int) -> None:
    """Let BLAS write to all of the memory that it packs its factors into, for each thread.

    Its kernels read ahead of what a small product has written. In memory that was never
    written to, the processor looks for a page that is not there, each time, and half of its
    speed is lost. Only products at the same time get different memory; but nobody waits for
    long.
    """
    global _warmed
    if hands <= _warmed:
        return
    together = Barrier(hands)

    def multiply() -> None:
        with suppress(BrokenBarrierError):
            together.wait(0.1)
        np.ones((64, 400)) @ np.ones((400, 512))

    with suppress(MemoryError):  # it is a matter of speed alone
        _keep_freed_memory()
        _together(multiply, hands)
    _warmed = hands


def _keep_freed_memory() -> None:
    """Let the C library keep some of the memory that is freed.

    It gives all but the least back, and the next call pays for new pages, until it has seen
    that a large array was freed. It keeps blocks up to that size, and at most 32 MiB.
    """
    large = np.empty(31 << 20, np.int8)
    del large


def _forked() -> None:
    global _warmed
    _warmed = 0
    _pool.cache_clear()  # its threads are the parent's
    _one_thread.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
