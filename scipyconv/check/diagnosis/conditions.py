"""Where does it fail? The simplest property of all failing cases, and no other."""

from collections.abc import Callable, Collection, Mapping
from itertools import combinations

from scipyconv.check.cases import Case
from scipyconv.check.precision import Precision

Trial = tuple[Case, Precision]


def _leaves_remainder(case: Case) -> bool:
    room = [
        n + sum(pair) - span
        for n, pair, span in zip(case.pixels, case.zeros, case.spans, strict=True)
    ]
    return not case.transposed and any(
        r % s for r, s in zip(room, case.each("stride"), strict=True)
    )


def _uneven(numbers: tuple[int, ...]) -> bool:
    return len(set(numbers)) > 1


_PROPERTIES: Mapping[str, Callable[[Case], bool]] = {
    "a stride above 1": lambda case: max(case.each("stride")) > 1,
    "padding": lambda case: any(map(any, case.zeros)),
    "a dilation above 1": lambda case: max(case.each("dilation")) > 1,
    "several groups": lambda case: case.groups > 1,
    "an output padding": lambda case: max(case.each("output_padding")) > 0,
    "a bias": lambda case: case.bias,
    "no bias": lambda case: not case.bias,
    "a remainder that the stride leaves": _leaves_remainder,
    "one channel in each group": lambda case: case.channels == 1,
    "several channels in each group": lambda case: case.channels > 1,
    "a kernel that is not square": lambda case: _uneven(case.taps),
    "an input that is not square": lambda case: _uneven(case.pixels),
    "strides that differ": lambda case: _uneven(case.each("stride")),
    "dilations that differ": lambda case: _uneven(case.each("dilation")),
    "paddings that differ": lambda case: _uneven(case.zeros),  # type: ignore[arg-type]
    "an even kernel": lambda case: any(k % 2 == 0 for k in case.taps),
    "a kernel of several taps": lambda case: max(case.taps) > 1,
    'padding="same"': lambda case: case.parameters.get("padding") == "same",
    "a batch dimension": lambda case: case.batch is not None,
    "no batch dimension": lambda case: case.batch is None,
    "an empty batch": lambda case: case.batch == 0,
    "a batch of one": lambda case: case.batch == 1,
    "a batch of several": lambda case: (case.batch or 0) > 1,
    "more than 16 samples": lambda case: (case.batch or 0) > 16,
    "more than 16 input channels": lambda case: case.channels * case.groups > 16,
    "more than 16 output channels": lambda case: case.filters * case.groups > 16,
    "more than 16 pixels in a row": lambda case: max(case.pixels) > 16,
    "more than 32 pixels in a row": lambda case: max(case.pixels) > 32,
    "more than 64 pixels in a row": lambda case: max(case.pixels) > 64,
}


def find_condition(failing: Collection[Trial], passing: Collection[Trial]) -> str:
    """Return what all failing trials have, and no passing one; or nothing.

    One property is tried before two, and two before three.

    With no passing trials it is nothing.

    Examples:
        >>> from scipyconv.check.cases import cases
        >>> from scipyconv.check.precision import find_precision
        >>> trials = [(case, find_precision("float32")) for case in cases("conv2d")]
        >>> bad = [
        ...     (case, precision) for case, precision in trials
        ...     if case.groups > 1 and max(case.each("stride")) > 1
        ... ]
        >>> find_condition(bad, [trial for trial in trials if trial not in bad])
        'a stride above 1 and several groups'
    """
    if not failing or not passing:
        return ""
    shared = [
        (name, {trial for trial in passing if _holds(name, trial)})
        for name in _names(failing)
        if all(_holds(name, trial) for trial in failing)
    ]
    for count in (1, 2, 3):
        for chosen in combinations(shared, count):
            if not set.intersection(*(others for _, others in chosen)):
                return " and ".join(name for name, _ in chosen)
    return ""


def _names(failing: Collection[Trial]) -> list[str]:
    dtypes = {precision.name for _, precision in failing}
    kinds = ["complex numbers", "integers"]
    return [*_PROPERTIES, *kinds, *sorted(dtypes)]


def _holds(name: str, trial: Trial) -> bool:
    case, precision = trial
    if name in _PROPERTIES:
        return _PROPERTIES[name](case)
    if name == "complex numbers":
        return precision.complex
    return precision.integer if name == "integers" else precision.name == name
