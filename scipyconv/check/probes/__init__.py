"""The probes, in the order that they are asked in."""

from scipyconv.check.probes import (
    arguments,
    contract,
    derivatives,
    logic,
    memory,
    modes,
    rounding,
    values,
)
from scipyconv.check.probes.probe import Noted, Probe, always, differentiable, inexact
from scipyconv.check.trial import Trial

__all__ = ["PROBES", "Noted", "Probe", "find_probes"]

_FIRST = (
    "forward",
    "input gradient",
    "weight gradient",
    "bias gradient",
    "all gradients",
)


def _has_bias(trial: Trial) -> bool:
    return differentiable(trial) and trial.case.bias


def _is_complex(trial: Trial) -> bool:
    return trial.precision.complex


def _is_integer(trial: Trial) -> bool:
    return trial.precision.integer


def _has_two_of_all(trial: Trial) -> bool:
    """Whether the case has two of everything, so that wrong arguments show."""
    case = trial.case
    return bool(case.batch) and min(case.channels, case.filters, *case.taps) > 1


# fmt: off
PROBES = (
    Probe("forward", "logic", logic.forward, always),
    Probe("input gradient", "logic", logic.gradient("input")),
    Probe("weight gradient", "logic", logic.gradient("weight")),
    Probe("bias gradient", "logic", logic.gradient("bias"), _has_bias),
    Probe("all gradients", "logic", logic.all_gradients, needs=_FIRST[:-1]),
    Probe("vacuity", "logic", logic.vacuity, always),
    Probe("whole range of integers", "logic", values.whole_range, _is_integer,
          needs=("forward",)),
    Probe("rounding of the output", "rounding", rounding.forward, inexact,
          needs=("forward",)),
    Probe("rounding of the gradients", "rounding", rounding.gradients, needs=_FIRST),
    Probe("operands unchanged", "contract", contract.operands_unchanged, always),
    Probe("own memory", "contract", contract.owns_result, always),
    Probe("same address", "contract", contract.same_address, always, needs=_FIRST),
    Probe("later call", "contract", contract.later_call, always, needs=_FIRST),
    Probe("interleaved calls", "contract", contract.interleaved, needs=_FIRST),
    Probe("deterministic", "contract", contract.deterministic, always, needs=_FIRST),
    Probe("saved operands", "contract", contract.saved_operands, needs=_FIRST),
    Probe("invalid arguments", "contract", arguments.invalid, _has_two_of_all),
    Probe("layout of the input", "memory", memory.layout("input"), always,
          needs=_FIRST),
    Probe("layout of the weight", "memory", memory.layout("weight"), always,
          needs=_FIRST),
    Probe("layout of the cotangent", "memory", memory.layout("cotangent"),
          needs=_FIRST),
    Probe("new memory", "memory", memory.new_memory, always, needs=_FIRST),
    Probe("no_grad", "modes", modes.no_grad, always, needs=("forward",)),
    Probe("inference mode", "modes", modes.inference, always, needs=("forward",)),
    Probe("backward twice", "modes", modes.backward_twice, needs=_FIRST),
    Probe("conjugate bit", "values", values.conjugate_bit, _is_complex, needs=_FIRST,
          feature="the conjugate bit"),
    Probe("NaN containment", "values", values.containment, inexact,
          needs=("forward",)),
    Probe("second order", "derivatives", derivatives.second_order,
          needs_everywhere=_FIRST, feature="second derivatives"),
    Probe("forward mode", "derivatives", derivatives.forward_mode,
          needs_everywhere=("forward",), feature="forward mode"),
    Probe("vmap", "derivatives", derivatives.vmap, needs=("forward",),
          feature="vmap"),
    Probe("global state", "contract", contract.global_state, always),
)
# fmt: on
GROUPS = tuple(dict.fromkeys(probe.group for probe in PROBES))


def find_probes(names: object, argument: str = "probes") -> tuple[Probe, ...]:
    """Return the probes of some names or groups; None is all of them.

    Raises:
        ValueError: a name that no probe or group has.

    Examples:
        >>> [probe.name for probe in find_probes(["rounding"])]
        ['rounding of the output', 'rounding of the gradients']
    """
    if names is None:
        return PROBES
    wanted = [names] if isinstance(names, str) else list(names)  # type: ignore[call-overload]
    known = [*GROUPS, *(probe.name for probe in PROBES)]
    for name in wanted:
        if name not in known:
            raise ValueError(
                f"{argument} must be among {', '.join(known)}: one is {name!r}; "
                f'pass {argument}=["logic"], say'
            )
    return tuple(p for p in PROBES if p.name in wanted or p.group in wanted)
