"""Checking in a process apart: what dies, hangs or exits there is one case's failure.

A case that takes too long, or kills the process, is a finding; another process goes on
with the next case.
"""

import signal
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from time import perf_counter
from typing import Any

from scipyconv.check.cases import Case
from scipyconv.check.example import Example
from scipyconv.check.plan import Plan
from scipyconv.check.precision import Precision
from scipyconv.check.report import Report
from scipyconv.check.row import FAILED, Row
from scipyconv.check.run import Found
from scipyconv.check.worker import CannotRunError, Job, work

#: Seconds for a case, and for the process to start and to import the function.
TIMEOUT, STARTING = 20.0, 180.0
#: So many processes may be lost one after the other before the rest is given up.
PATIENCE = 3
#: What a row names as its error where the process was lost.
LOST = "process lost"


class _LostError(Exception):
    """The process is gone, or was stopped."""


class Worker:
    """A spawned process that checks one case when it is asked to.

    Args:
        job: What to check.
        timeout: Seconds that a case may take.

    Raises:
        CannotRunError: the function cannot be imported, or does not fit.
    """

    def __init__(self, job: Job, timeout: float = TIMEOUT) -> None:
        self.job, self.timeout = job, timeout
        self.name, self.left_out = job.target, ()
        self._start()

    def rows(self, index: int, case: Case, precision: Precision) -> Iterator[Row]:
        """Ask for one case, and yield its answers; the loss of the process is one."""
        if not self.alive:
            self._start()
        probe, until = "worker", perf_counter() + self.timeout
        try:
            self._send("case", index)
            for kind, value in self._answers(until):
                if kind == "row":
                    yield Row.from_dict(value)
                else:
                    probe = value
        except _LostError as death:
            self.close()
            yield _lost(case, precision, str(death), probe)

    def explain(self, rows: list[Row]) -> Found:
        """Ask for the diagnosis and the example; nothing if that kills the process."""
        lost = {(row.case, row.dtype) for row in rows if row.error == LOST}
        kept = [row for row in rows if (row.case, row.dtype) not in lost]
        if not any(row.outcome == FAILED for row in kept):
            return Found()
        if not self.alive:
            self._start()
        try:
            self._send("explain", [row.to_dict() for row in kept])
            found = dict(self._answers(perf_counter() + 10 * self.timeout))
        except _LostError:
            return Found()
        example = found["example"]
        return Found(found["diagnosis"], Example(**example) if example else None)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._connection.close()
        self.alive = False

    def _start(self) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=work, args=(theirs, self.job), daemon=True
        )
        self._process.start()
        self.alive = True
        theirs.close()
        try:
            said = dict(self._answers(perf_counter() + STARTING))
        except _LostError as death:
            self.close()
            raise CannotRunError(
                f"while {self.job.target} was imported, {death}"
            ) from death
        if "refused" in said:
            self.close()
            raise CannotRunError(said["refused"])
        self.name, self.left_out = said["name"], tuple(said["left_out"])

    def _send(self, kind: str, value: Any) -> None:
        try:
            self._connection.send((kind, value))
        except OSError:
            raise _LostError(self._death()) from None

    def _answers(self, until: float) -> Iterator[tuple[str, Any]]:
        """Yield pairs of a kind and a value, up to the end of an answer."""
        while True:
            try:
                if not self._connection.poll(max(0.0, until - perf_counter())):
                    self._process.kill()
                    raise _LostError(
                        f"no answer came in {self.timeout:g} s, and the process was "
                        "stopped"
                    )
                kind, value = self._connection.recv()
            except (EOFError, OSError):
                raise _LostError(self._death()) from None
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

    In a script, call it under `if __name__ == "__main__":`, since the new process
    imports the script.

    Args:
        target: The function, as `package.module:function`.
        family: The name of torch's function that it stands in for.
        timeout: Seconds that a case may take.
        adapter: An adapter, as `package.module:function`, or nothing.
        device: Where the function takes its tensors.
        require: What must be supported.
        watch: Called before each case, with its number and the plan.
        **options: `level`, `dtypes`, `probes`, `accumulate`, `cases` and `gradients`,
            as in `check_convolution`.

    Returns:
        The report; after Ctrl-C, of what was found until then.

    Raises:
        CannotRunError: the target cannot be imported, or does not fit.
        ValueError: an unknown family, level, dtype or probe.
    """
    job = Job(target, family, options, adapter, device)
    plan, started, rows, found = job.plan(), perf_counter(), list[Row](), Found()
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
    lost = 0
    for index, (case, precision) in enumerate(plan.trials):
        watch(index, plan)
        yield from worker.rows(index, case, precision)
        lost = 0 if worker.alive else lost + 1
        rest = len(plan.trials) - index - 1
        if lost == PATIENCE and rest:
            message = f"{lost} processes were lost one after the other, so that {rest} "
            yield _lost(case, precision, message + "more cases were not tried")
            return


def _lost(case: Case, precision: Precision, message: str, probe: str = "worker") -> Row:
    """Return the finding that a process was lost."""
    return Row(
        case.name,
        precision.name,
        probe,
        FAILED,
        verdict="contract",
        message=message,
        error=LOST,
        features=tuple(sorted(case.features)),
    )
