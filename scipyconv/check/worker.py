"""The process apart, in which a function is checked: what it may kill is only this.

It is spawned, so that nothing of the process that asks is in it; a fork would hang
where torch has used its threads. It imports the function, and answers for one case at
a time.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from inspect import isclass
from multiprocessing.connection import Connection
from operator import attrgetter
from pathlib import Path
from typing import Any

from torch import nn

from scipyconv.check.device import Device
from scipyconv.check.family import find_family
from scipyconv.check.plan import Plan, for_subject, make_plan
from scipyconv.check.probes import Probe
from scipyconv.check.row import Row
from scipyconv.check.run import ask_all, explain
from scipyconv.check.subject import Raised, Subject, first_line


class CannotRunError(Exception):
    """There is no function to check: it cannot be imported, or does not fit."""


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
        options = {
            "chosen" if name == "cases" else name: value
            for name, value in self.options.items()
        }
        return make_plan(self.family, **options)

    def subject(self) -> Subject:
        """Import the function.

        Raises:
            CannotRunError: it cannot be imported, or it is a layer.
        """
        function = find_target(self.target)
        if isinstance(function, nn.Module) or (
            isclass(function) and issubclass(function, nn.Module)
        ):
            raise CannotRunError(
                f"{self.target} is a layer, and only functions are checked in a "
                "process apart; call scipyconv.check.check_layer on it"
            )
        adapter = find_target(self.adapter) if self.adapter else None
        device = Device(self.device)
        return Subject(function, find_family(self.family), adapter, device)


def find_target(target: str) -> Callable[..., Any]:
    """Import what `package.module:name` names.

    Raises:
        CannotRunError: there is no such thing, or its module raises an error.

    Examples:
        >>> find_target("torch.nn.functional:conv2d").__name__
        'conv2d'
        >>> find_target("torch.nn.functional.conv2d")
        Traceback (most recent call last):
        ...
        scipyconv.check.worker.CannotRunError: the function must be given as
        module:name: it is 'torch.nn.functional.conv2d'; pass
        torch.nn.functional:conv2d, say
    """
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        guess = ":".join(target.rsplit(".", 1)) if "." in target else "my_module:conv2d"
        raise CannotRunError(
            "the function must be given as module:name: it is "
            f"{target!r}; pass {guess}, say"
        )
    try:
        found: Callable[..., Any] = attrgetter(name)(import_module(module))
    except BaseException as error:  # a module may do anything, and exit too
        raise CannotRunError(
            f"cannot import {target}: {type(error).__name__}: {first_line(error)}"
        ) from error
    return found


def work(connection: Connection, job: Job) -> None:
    """Answer requests until the connection closes."""
    send = _sender(connection)
    _detach()
    try:
        subject = job.subject()
    except (CannotRunError, TypeError, ValueError, RuntimeError) as error:
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
        try:
            probe.ask(trial)
        except KeyboardInterrupt as error:  # its own: the terminal's are ignored here
            raise Raised(error) from error

    return replace(probe, ask=ask)


def _sender(connection: Connection) -> Callable[[str, Any], None]:
    """Return what sends an answer, from this process and not from a fork of it."""
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
    sys.path.insert(0, str(Path.cwd()))
