"""Asking every probe at every case: a run is an iterator over its answers."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scipyconv.check.cases import Case
from scipyconv.check.device import Device
from scipyconv.check.diagnosis import diagnose
from scipyconv.check.example import Example, is_drawable, make_example
from scipyconv.check.family import find_family
from scipyconv.check.plan import Plan, for_subject, make_plan
from scipyconv.check.precision import Precision
from scipyconv.check.probes import Noted, Probe
from scipyconv.check.report import Report
from scipyconv.check.row import FAILED, NOTED, PASSED, RAISED, Row
from scipyconv.check.subject import Raised, Subject, Wrong
from scipyconv.check.trial import Trial


def check_convolution(
    function: Callable[..., Any],
    family: str = "conv2d",
    *,
    level: str = "quick",
    dtypes: Iterable[Any] | None = None,
    accumulate: Any = None,
    adapter: Callable[..., Any] | None = None,
    device: Any = "cpu",
    probes: Iterable[str] | None = None,
    cases: Sequence[Case] | None = None,
    gradients: bool = True,
    require: Iterable[str] = (),
) -> Report:
    """Check a convolution, its gradients and its manners, and say what is wrong.

    Args:
        function: Any callable with the signature of one of torch's six convolutions, or
            of a part of it. Its first two arguments are the input and the weight; the
            others go by torch's names. What it does not take is left out, and the
            report says so.
        family: The name of torch's function: `"conv1d"` to `"conv_transpose3d"`.
        level: `"quick"`, or `"full"` for more cases, each in every dtype.
        dtypes: torch's dtypes or their names, each for every case. By default every
            case is tried in float32, and a few in each other dtype.
        accumulate: The dtype that sums must be made in. By default the operands' own,
            which lets a float16 function add up in float16.
        adapter: Called as `adapter(function, input, weight, ...)` in the function's
            place, for other signatures, layouts and return types.
        device: Where the function takes its tensors: a name, or a
            `scipyconv.check.Device`.
        probes: The names of the probes to ask, or of their groups; by default all.
        cases: The cases to try, instead of a level's.
        gradients: False for a function that has none.
        require: What must be supported, such as `"vmap"`; or `"all"`.

    Returns:
        The report. Print it, or call its `raise_if_failed()`.

    Raises:
        TypeError: the function's signature does not fit.
        ValueError: an unknown family, level, dtype or probe.

    Examples:
        >>> import torch
        >>> def conv2d(x, w):
        ...     return torch.nn.functional.conv2d(x, w.transpose(2, 3))
        >>> report = check_convolution(conv2d, probes=["forward"])
        >>> report.ok
        False
        >>> report.left_out
        ('bias', 'stride', 'padding', 'dilation', 'groups')
    """
    device = device if hasattr(device, "read") else Device(device)
    subject = Subject(function, find_family(family), adapter, device)
    plan = make_plan(family, level, dtypes, probes, accumulate, cases, gradients)
    started, rows = time.perf_counter(), list[Row]()
    found = Found()
    try:
        for row in answers(subject, plan):
            rows.append(row)
        found = explain(subject, plan, rows)
    except KeyboardInterrupt:
        found = Found(interrupted=True)  # what was found so far is worth reporting
    return Report(
        subject.name,
        family,
        rows,
        plan,
        left_out=subject.left_out,
        seconds=time.perf_counter() - started,
        require=require,
        source=find_source(function),
        **vars(found),
    )


@dataclass(frozen=True)
class Found:
    """What a second look at the wrong results found.

    Attributes:
        diagnosis: The known mistakes that explain them.
        example: One of them, for a picture.
        interrupted: Whether the run was stopped.
    """

    diagnosis: tuple[str, ...] = ()
    example: Example | None = None
    interrupted: bool = False


def explain(subject: Subject, plan: Plan, rows: Sequence[Row]) -> Found:
    """Look again at what is wrong: name the mistakes, and make an example."""
    sentences = tuple(diagnose(subject, plan, rows))
    for row in filter(is_drawable, rows):
        for case, precision in plan.trials:
            if (case.name, precision.name) == (row.case, row.dtype):
                fitted = for_subject(case, subject.parameters) or case
                trial = plan.make_trial(subject, fitted, precision)
                return Found(sentences, make_example(trial, row.quantity))
    return Found(sentences)


def find_source(function: Any) -> str:
    """Return where a function can be imported from, as `module:name`, or nothing."""
    module, name = (
        getattr(function, "__module__", None),
        getattr(function, "__name__", None),
    )
    found = getattr(sys.modules.get(module or ""), name or "", None)
    return f"{module}:{name}" if found is function and module != "__main__" else ""


def answers(subject: Subject, plan: Plan) -> Iterator[Row]:
    """Ask each probe at each case, and yield the answers as they come."""
    for case, precision in plan.trials:
        fitted = for_subject(case, subject.parameters)
        if fitted is not None:
            yield from ask_all(subject, fitted, precision, plan)


def ask_all(
    subject: Subject, case: Case, precision: Precision, plan: Plan
) -> Iterator[Row]:
    """Ask each probe at one case in one dtype."""
    trial = plan.make_trial(subject, case, precision)
    trial.prepare()
    try:
        for probe in plan.probes:
            if probe.applies(trial):
                row = ask(probe, trial)
                yield row
                if probe.name == "forward" and row.outcome == RAISED:
                    return  # every other probe would say the same
    finally:
        trial.before.restore()


def ask(probe: Probe, trial: Trial) -> Row:
    """Ask one probe, and return its answer."""
    features = {*trial.case.features, trial.precision.name, probe.feature} - {""}
    return Row(
        trial.case.name,
        trial.precision.name,
        probe.name,
        features=tuple(sorted(features)),
        **_outcome(probe, trial),
    )


def _outcome(probe: Probe, trial: Trial) -> dict[str, str]:
    """Return what came of a question: the parts of a row that depend on it."""
    try:
        probe.ask(trial)
    except Wrong as wrong:
        found = {"verdict": wrong.verdict, "quantity": wrong.quantity}
        return {"outcome": FAILED, "message": str(wrong), **found}
    except Raised as raised:
        error = type(raised.error).__name__
        return {"outcome": RAISED, "message": str(raised), "error": error}
    except Noted as note:
        return {"outcome": NOTED, "message": str(note)}
    except Exception as error:  # a result so odd that the probe could not look at it
        text = f"its result could not be examined: {type(error).__name__}: {error}"
        return {"outcome": FAILED, "message": text, "verdict": "contract"}
    return {"outcome": PASSED}
