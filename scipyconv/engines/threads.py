"""How an engine uses the cores: each takes a share, and BLAS stays on one thread.

BLAS has threads of its own. They wait for the next product by spinning, for a tenth
of a second, and take the cores from whatever runs then: the next layer of a model,
say. Python's threads sleep while they wait. They run side by side where it matters,
because NumPy lets go of the interpreter while it copies and multiplies; and one thread
can copy while another multiplies, which a threaded product alone cannot offer.

A call can be interrupted between any two steps, and a signal handler, a finalizer or
a fork can come in between. So every step remembers before it changes, and undoing
twice does what undoing once does: `share` undoes twice, in case an interrupt cuts
the first time short.
"""

import os
from _thread import start_new_thread
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import RLock
from time import monotonic, sleep
from typing import Any, Generic, TypeVar
from weakref import ref

import numpy as np

Piece = TypeVar("Piece")
Result = TypeVar("Result")

#: BLAS computes products of so few multiplications on one thread anyway.
SMALL = 1 << 18
#: Hands for each thread.
_HANDS = 4
#: glibc keeps freed blocks up to the size of the largest that it saw freed, and at
#: most 32 MiB.
_FREED = 31 << 20


def cores() -> int:
    """Count the cores that this process may use.

    Returns:
        The number of cores, at least one.

    Examples:
        >>> cores() >= 1
        True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_counter: Callable[[], int] = cores


def use(counter: Callable[[], int]) -> None:
    """Ask this function, from now on, how many threads an engine uses.

    Args:
        counter: A function without arguments, such as `torch.get_num_threads`. Every
            call of an engine asks it anew.
    """
    global _counter
    _counter = counter


def count() -> int:
    """Say how many threads an engine uses now.

    Returns:
        What the function last given to `use` answers; without one, the number of cores.

    Examples:
        >>> count() >= 1
        True
    """
    return _counter()


def share(
    work: Callable[[Iterable[Piece]], Result],
    pieces: Sequence[Piece],
    alone: bool = False,
) -> list[Result]:
    """Deal the pieces into hands, which the threads take and work on.

    There are more hands than threads, so that a thread that comes late, because its
    core was busy, leaves more of them to the others. What is in a hand depends only on
    the numbers of pieces and threads, so that sums come out the same in every run, even
    if no other thread can be started and the caller's does it all. If a thread fails or
    is interrupted, the others stop after their piece.

    Args:
        work: What to do with the pieces of a hand. It runs in several threads at once,
            each under the caller's NumPy error state.
        pieces: What to deal.
        alone: Whether the caller's thread does it all, as one hand. For little work
            that is faster: to wake another takes some tenths of a millisecond.

    Returns:
        What `work` returned for each hand, in order.

    Raises:
        BaseException: Whatever `work` raised first.

    Examples:
        >>> sum(share(sum, range(10)))
        45
    """
    players = 1 if alone else max(1, min(count(), len(pieces)))
    hands = 1 if players == 1 else min(_HANDS * players, len(pieces))
    _warm(players)
    return _Call(work, pieces, hands).run(players)


def cut(size: int, parts: int) -> list[slice]:
    """Cut an axis into parts, as evenly as possible.

    Args:
        size: The length of the axis.
        parts: How many parts to cut it into.

    Returns:
        A slice for each part, in order.

    Examples:
        >>> cut(7, 2)
        [slice(0, 3, None), slice(3, 7, None)]
    """
    ends = [size * i // max(1, parts) for i in range(parts + 1)]
    return list(map(slice, ends[:-1], ends[1:]))


class _Stopped(BaseException):
    """A player asks for a piece, and the call is over."""


class _Call(Generic[Piece, Result]):
    """One call of `share`: its hands, and the players who take them."""

    def __init__(
        self,
        work: Callable[[Iterable[Piece]], Result],
        pieces: Sequence[Piece],
        hands: int,
    ) -> None:
        self.work, self.pieces, self.hands = work, pieces, hands
        self.left, self.made = iter(range(hands)), dict[int, Result]()
        self.failures: list[BaseException] = []
        self.helping: list[None] = []
        self.left_off: SimpleQueue[None] = SimpleQueue()

    def run(self, players: int) -> list[Result]:
        nested = _lock._is_owned()  # in a signal handler or a finalizer, say
        try:
            try:
                return self._results(players)
            finally:
                self._end(nested)
        finally:
            self._end(nested)

    def _results(self, players: int) -> list[Result]:
        _enter(self)
        if players > 1:
            self._invite(players - 1)
        with suppress(_Stopped):
            self._play()
        self._wait()
        if self.failures:
            raise self.failures.pop(0)
        return [self.made[i] for i in range(self.hands)]

    def _invite(self, helpers: int) -> None:
        self.errors: dict[str, Any] = dict(np.geterr(), call=np.geterrcall())
        for _ in range(_helpers(helpers)):
            _tasks.put(ref(self))  # one that comes late must not find the arrays alive

    def _play(self) -> None:
        for i in self.left:  # shared: whoever asks gets the next
            self.made[i] = self.work(self._hand(i))

    def _hand(self, i: int) -> Iterator[Piece]:
        for piece in self.pieces[i :: self.hands]:
            if self.failures:
                raise _Stopped
            yield piece

    def help(self) -> None:
        """Play in a helper thread."""
        self.helping.append(None)  # first: whoever ends the call looks here last
        user = object()
        try:
            if not self.failures:
                _enter(user)
                with np.errstate(**self.errors):
                    self._play()
        except BaseException as error:
            self.failures.append(error)
        finally:
            _leave(user)
            self.helping.pop()
            self.left_off.put(None)

    def _end(self, nested: bool) -> None:
        self.failures.append(_Stopped())
        _leave(self)
        while not nested and _lock._is_owned():  # `with` can lose it: cpython 148874
            _lock.release()
        self._wait()

    def _wait(self) -> None:
        for _ in self.left:  # to a helper that comes late, nothing
            pass
        while self.helping:  # they write to the caller's arrays
            self.left_off.get()


# One BLAS thread

_Libraries = dict[str, tuple[Callable[[], int], Callable[[int], object]]]

#: Whoever multiplies.
_users = set[object]()
#: For each BLAS, what sets its number of threads, and the number to go back to.
_before = dict[str, tuple[Callable[[int], object], int]]()
#: Reentrant, because a finalizer that calls a layer can run while it is held.
_lock: Any = RLock()


def _enter(user: object) -> None:
    """Keep BLAS on one thread until this user leaves."""
    libraries = _libraries()
    _users.add(user)
    with _lock:
        for name, (get, put) in libraries.items():
            _before.setdefault(name, (put, get()))
            put(1)


def _leave(user: object) -> None:
    """Give BLAS its threads back if this user was the last."""
    _users.discard(user)
    if _before and not _users:
        with _lock:
            _restore()


def _restore() -> None:
    if not _users:
        for put, threads in list(_before.values()):
            put(threads)
        _before.clear()


#: The libraries, once they have been found.
_found: list[_Libraries] = []
#: An entry for each thread that looks for them.
_looking: list[None] = []


def _libraries() -> _Libraries:
    """Find every BLAS once, in a thread of its own, which no signal interrupts.

    In threadpoolctl 3.5 an interrupt gets lost and ends the search halfway.
    """
    if not _found:
        done: SimpleQueue[None] = SimpleQueue()
        with suppress(RuntimeError, MemoryError, Empty):  # no thread, or it cannot run
            start_new_thread(_look, (done,))
            done.get(timeout=0.2)
    if not _found:
        with suppress(ImportError, NameError):  # Python shuts down
            _found.append(_blas())
    return _found[0] if _found else {}


def _look(done: SimpleQueue[None]) -> None:
    _looking.append(None)
    try:
        with suppress(Exception):  # the caller tries again, and raises it
            _found.append(_blas())
    finally:
        _looking.pop()
        done.put(None)


def _blas() -> _Libraries:
    """Find what gets and what sets the number of threads of each OpenBLAS.

    These are its own functions, because threadpoolctl's, since 3.8, do nothing in any
    thread but one. Other libraries keep a number for each thread: they are left alone.
    """
    from threadpoolctl import ThreadpoolController  # here: looking takes milliseconds

    found = {}
    for library in ThreadpoolController().lib_controllers:
        if library.internal_api == "openblas" and library.threading_layer != "openmp":
            c = library.dynlib
            for get in filter(lambda name: hasattr(c, name), library.check_symbols):
                put = get.replace("_get_", "_set_")
                found[library.filepath] = getattr(c, get), getattr(c, put)
    return found


# Helper threads

#: What they wait for: calls to help with.
_tasks = SimpleQueue["ref[_Call[Any, Any]]"]()
_started = 0


def _helpers(wanted: int) -> int:
    """Start threads until there are so many, and count those that could be had."""
    global _started
    with suppress(RuntimeError, MemoryError):  # no more threads, or Python shuts down
        if _started < wanted:
            with _lock:
                while _started < wanted:
                    # not `Thread.start`, which waits for the new thread, in vain if
                    # Python shuts down, and holds locks that an interrupt can lose
                    start_new_thread(_help, (_tasks,))
                    _started += 1
    return min(wanted, _started)


def _help(tasks: "SimpleQueue[ref[_Call[Any, Any]]]") -> None:
    while True:
        call = tasks.get()()
        if call is not None:
            call.help()
        del call  # and its arrays, before the next arrives


_warmed = 0


def _warm(players: int) -> None:
    """Let BLAS write to all of the memory that it packs its factors into.

    Its kernels read ahead of what a small product has written. In memory that was never
    written to, the processor looks for a page that does not exist, each time, and loses
    half of its speed. There is such memory for each product at the same time.

    And let the C library keep some of the memory that is freed. It returns all but the
    least, and the next call pays for new pages, until a large array has been freed.
    """
    global _warmed
    if players <= _warmed:
        return
    np.empty(_FREED, np.int8)
    here, deadline = list[int](), monotonic() + 0.1

    def multiply(pieces: Iterable[int]) -> None:
        for piece in pieces:
            here.append(piece)
            while len(here) < players and monotonic() < deadline:
                sleep(1e-5)  # a `Barrier` does not survive an interrupt
            np.ones((64, 400)) @ np.ones((400, 512))

    _Call(multiply, range(players), players).run(players)
    _warmed = players


def _before_fork() -> None:
    while _looking:  # or the child waits forever for the import that a thread began
        sleep(1e-4)


def _after_fork() -> None:
    """In a child process: of all threads, only the one that forked is there."""
    global _lock, _tasks, _started
    _lock, _tasks, _started = RLock(), SimpleQueue(), 0
    _users.clear()
    _looking.clear()
    _restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
