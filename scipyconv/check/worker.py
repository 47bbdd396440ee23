"""Checking in a process apart: what dies, hangs or exits there is one case's failure.

The process is spawned, so that nothing of this one's state is in it; fork would hang
where torch has used its threads. It imports the function, and is asked for one case at
a time. A case that takes too long, or kills the process, is a finding; another process
goes on with the next case.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from operator import attrgetter
from time import perf_counter
from typing import Any

from scipyconv.check.cases import Case
from scipyconv.check.device import Device
from scipyconv.check.example import Example
from scipyconv.check.family import find_family
from scipyconv.check.plan import Plan, for_subject, make_plan
from scipyconv.check.precision import Precision
from scipyconv.check.probes import Probe
from scipyconv.check.report import Report
from scipyconv.check.row import FAILED, Row
from scipyconv.check.run import Found, ask_all, explain
from scipyconv.check.subject import Subject, first_line

#: Seconds for a case, and for the process to start and import the function.
TIMEOUT, STARTING = 20.0, 180.0
#: So many processes may die one after the other before the rest is given up.
DEATHS = 3


class CannotRun(Exception):
    """There is no function to check: the target cannot be imported, or does not fit."""


class _Died(Exception):
    """The process is gone, or was stopped."""


@dataclass(frozen=True)
class Job:
    """What to check, as plain data that another process understands.

    Attributes:
        target: The function, as `package.module:function`.
        family: Which of torch's functions it stands in for.
        options: The other options of `scipyconv.check.plan.make_plan`.
        adapter: Where an adapter is, as `package.module:function`, or nothing.
        device: Where the function takes its tensors.
    """

    target: str
    family: str = "conv2d"
    options: Mapping[str, Any] = field(default_factory=dict)
    adapter: str = ""
    device: str = "cpu"

    def plan(self) -> Plan:
        """Return the run's plan."""
        options = {"chosen" if name == "cases" else name: value
                   for name, value in self.options.items()}
        return make_plan(self.family, **options)

    def subject(self) -> Subject:
        """Import the function."""
        adapter = find_target(self.adapter) if self.adapter else None
        return Subject(
            find_target(self.target),
            find_family(self.family),
            adapter,
            Device(self.device),
        )


def find_target(target: str) -> Callable[..., Any]:
    """Import what `package.module:name` names.

    Raises:
        CannotRun: there is no such thing, or its module raises an error.

    Examples:
        >>> find_target("torch.nn.functional:conv2d").__name__
        'conv2d'
        >>> find_target("torch.nn.functional.conv2d")
        Traceback (most recent call last):
        ...
        scipyconv.check.worker.CannotRun: the function must be given as module:name: it
        is 'torch.nn.functional.conv2d'; pass torch.nn.functional:conv2d, say
    """
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        guess = ":".join(target.rsplit(".", 1)) if "." in target else "my_module:conv2d"
        raise CannotRun(
            "the function must be given as module:name: it is "
            f"{target!r}; pass {guess}, say"
        )
    try:
        found: Callable[..., Any] = attrgetter(name)(import_module(module))
    except BaseException as error:  # a module may do anything, and exit too
        raise CannotRun(
            f"cannot import {target}: {type(error).__name__}: {first_line(error)}"
        ) from error
    return found


class Worker:
    """A spawned process that checks one case when it is asked to.

    Args:
        job: What to check.
        timeout: Seconds that a case may take.

    Raises:
        CannotRun: the function cannot be imported, or does not fit.
    """

    def __init__(self, job: Job, timeout: float = TIMEOUT) -> None:
        self.job, self.timeout = job, timeout
        self.name, self.left_out = job.target, ()
        self._start()

    def rows(self, index: int, case: Case, precision: Precision) -> Iterator[Row]:
        """Ask for one case, and yield its answers; a death is one of them."""
        probe, until = "", perf_counter() + self.timeout
        try:
            self._send("case", index)
            for kind, value in self._answers(until):
                if kind == "row":
                    yield Row.from_dict(value)
                else:
                    probe = value
        except _Died as death:
            message = f"{death}, and a new process went on with the next case"
            yield Row(
                case.name,
                precision.name,
                probe or "worker",
                FAILED,
                "contract",
                "",
                message,
                "died",
                tuple(sorted(case.features)),
            )
            raise

    def explain(self, rows: list[Row]) -> Found:
        """Ask for the diagnosis and the example; nothing if that kills the process."""
        try:
            self._send("explain", [row.to_dict() for row in rows])
            found = dict(self._answers(perf_counter() + 10 * self.timeout))
        except _Died:
            return Found()
        example = found["example"]
        return Found(found["diagnosis"], Example(**example) if example else None)

    def restart(self) -> None:
        """Begin another process."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _start(self) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, self.job), daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            said = dict(self._answers(perf_counter() + STARTING))
        except _Died as death:
            raise CannotRun(f"while {self.job.target} was imported, {death}") from death
        if "refused" in said:
            self.close()
            raise CannotRun(said["refused"])
        self.name, self.left_out = said["name"], tuple(said["left_out"])

    def _send(self, kind: str, value: Any) -> None:
        try:
            self._connection.send((kind, value))
        except OSError:
            raise _Died(self._death()) from None

    def _answers(self, until: float) -> Iterator[tuple[str, Any]]:
        """Yield pairs of a kind and a value, up to the end of an answer."""
        while True:
            try:
                if not self._connection.poll(max(0.0, until - perf_counter())):
                    self._process.kill()
                    raise _Died(
                        f"nothing came for {self.timeout:g} s: the process was stopped"
                    )
                kind, value = self._connection.recv()
            except (EOFError, OSError):
                raise _Died(self._death()) from None
            if kind == "end":
                return
            yield kind, value

    def _death(self) -> str:
        """Say how the process ended."""
        self._process.join(1)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            return "the process closed its connection and was stopped"
        if code < 0:
            return f"the process died of {signal.Signals(-code).name}"
        return f"the process exited with status {code}"


def check_apart(
    target: str,
    family: str = "conv2d",
    *,
    timeout: float = TIMEOUT,
    adapter: str = "",
    device: str = "cpu",
    require: tuple[str, ...] = (),
    watch: Callable[[int, Plan], None] | None = None,
    **options: Any,
) -> Report:
    """Check a function in a process of its own, which may die without harm.

    Call it below `if __name__ == "__main__":`, since the process imports the script.

    Args:
        target: The function, as `package.module:function`.
        family: The name of torch's function that it stands in for.
        timeout: Seconds that a case may take.
        adapter: An adapter, as `package.module:function`, or nothing.
        device: Where the function takes its tensors.
        require: What must be supported.
        watch: Called before each case, with its number and the plan.
        **options: `level`, `dtypes`, `probes`, `accumulate`, `cases` and `gradients`, as
            in `check_convolution`.

    Returns:
        The report; after Ctrl-C, of what was found until then.

    Raises:
        CannotRun: the target cannot be imported, or does not fit.
        ValueError: an unknown family, level, dtype or probe.
    """
    job = Job(target, family, options, adapter, device)
    plan, started, rows, found = job.plan(), perf_counter(), list[Row](), Found()
    find_family(family)
    worker = Worker(job, timeout)
    try:
        for row in _run(worker, plan, watch or (lambda index, plan: None)):
            rows.append(row)
        found = worker.explain(rows)
    except KeyboardInterrupt:
        found = Found(interrupted=True)
    finally:
        worker.close()
    return Report(
        worker.name,
        family,
        rows,
        plan,
        left_out=worker.left_out,
        seconds=perf_counter() - started,
        require=require,
        source=target,
        **vars(found),
    )


def _run(
    worker: Worker, plan: Plan, watch: Callable[[int, Plan], None]
) -> Iterator[Row]:
    """Yield all answers; after a death, go on in a new process."""
    deaths = 0
    for index, (case, precision) in enumerate(plan.trials):
        watch(index, plan)
        try:
            yield from worker.rows(index, case, precision)
            deaths = 0
        except _Died:
            deaths += 1
            worker.restart()
        if deaths == DEATHS:
            yield _given_up(plan, index)
            return


def _given_up(plan: Plan, index: int) -> Row:
    case, precision = plan.trials[index]
    rest = len(plan.trials) - 1 - index
    return Row(
        case.name,
        precision.name,
        "worker",
        FAILED,
        "contract",
        "",
        f"{DEATHS} processes died one after the other; {rest} more cases were not "
        "tried",
        "died",
    )


# What follows runs in the process apart.


def _work(connection: Connection, job: Job) -> None:
    """Answer requests until the connection closes."""
    send = _sender(connection)
    _detach()
    try:
        subject = job.subject()
    except (CannotRun, TypeError) as error:
        send("refused", str(error))
        send("end", None)
        return
    send("name", subject.name)
    send("left_out", subject.left_out)
    send("end", None)
    plan = job.plan()
    while True:
        try:
            kind, value = connection.recv()
        except EOFError:
            return
        _answer(kind, value, subject, plan, send)
        send("end", None)


def _answer(
    kind: str,
    value: Any,
    subject: Subject,
    plan: Plan,
    send: Callable[[str, Any], None],
) -> None:
    if kind == "explain":
        found = explain(subject, plan, [Row.from_dict(row) for row in value])
        send("diagnosis", found.diagnosis)
        send("example", vars(found.example) if found.example else None)
        return
    case, precision = plan.trials[value]
    fitted = for_subject(case, subject.parameters)
    announced = replace(plan, probes=tuple(_announced(p, send) for p in plan.probes))
    if fitted is None:
        return
    try:
        for row in ask_all(subject, fitted, precision, announced):
            send("row", row.to_dict())
    except (
        KeyboardInterrupt
    ):  # the terminal's are ignored here: it is the function's own
        os._exit(1)


def _announced(probe: Probe, send: Callable[[str, Any], None]) -> Probe:
    """Return a probe that says its name before it asks."""

    def ask(trial: Any) -> None:
        send("probe", probe.name)
        probe.ask(trial)

    return replace(probe, ask=ask)


def _sender(connection: Connection) -> Callable[[str, Any], None]:
    """Return what sends an answer, from this process alone and not from a fork of it."""
    mine = os.getpid()

    def send(kind: str, value: Any) -> None:
        if os.getpid() != mine:
            os._exit(0)
        connection.send((kind, value))

    return send


def _detach() -> None:
    """Leave Ctrl-C to the parent, and give the function no terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    sys.path.insert(0, os.getcwd())
