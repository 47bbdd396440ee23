"""One case in one dtype: the numbers, the right answers, and the calls."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor

from scipyconv.check import answers, bounds, compare
from scipyconv.check.answers import GRADIENTS, OUTPUT, Answers
from scipyconv.check.cases import Case
from scipyconv.check.data import (
    integer_operands,
    real_operands,
    to_array,
    to_tensor,
    wide_integers,
)
from scipyconv.check.operands import Operands
from scipyconv.check.precision import Precision
from scipyconv.check.state import State
from scipyconv.check.subject import Raised, Subject, Wrong, attempt

# Bound now: what the function patches later cannot blind the check.
_grad = torch.autograd.grad
ALL = ("input", "weight", "bias")
#: Bits to spare: with few of them a transform errs by more than rounding to the nearest
#: integer mends, with many it may be exact by luck.
_SPARE = (4, 7, 10, 13)
Tensors = dict[str, Tensor]
Change = Callable[[Tensor], Tensor]


@dataclass
class Trial:
    """A function under test at one case, in one dtype.

    Attributes:
        subject: The function.
        case: The case.
        precision: The dtype of the operands.
        accumulator: The dtype that sums are expected to be made in.
        gradients: Whether the function is expected to have gradients.
        before: The state of the process before the first call.
    """

    subject: Subject
    case: Case
    precision: Precision
    accumulator: Precision
    gradients: bool = True
    before: State = field(default_factory=State.now)

    @cached_property
    def integers(self) -> Operands:
        """The operands from which every result is exact."""
        return integer_operands(self.case, self.precision)

    @cached_property
    def others(self) -> Operands:
        """More of the same: other operands, tangents, cotangents of gradients."""
        return integer_operands(self.case, self.precision, "others")

    @cached_property
    def reals(self) -> Operands:
        """The operands that show how the function rounds."""
        return real_operands(self.case, self.precision)

    @cached_property
    def right(self) -> Answers:
        """The answers for the integers."""
        return answers.first_order(self.case, self.integers)

    @cached_property
    def right_reals(self) -> Answers:
        """The answers for the real numbers."""
        return answers.first_order(self.case, self.reals)

    @cached_property
    def right_others(self) -> Answers:
        """The answers for the other integers."""
        return answers.first_order(self.case, self.others)

    @cached_property
    def magnitudes(self) -> Answers:
        """The answers for the real numbers' absolute values."""
        return answers.first_order(self.case, self.reals.magnitudes())

    def prepare(self) -> None:
        """Compute the right answers now, before the function can get in the way."""
        self.right, self.right_others  # noqa: B018
        if not self.precision.integer:
            self.right_reals, self.magnitudes  # noqa: B018

    @property
    def wanted(self) -> tuple[str, ...]:
        """The operands whose gradients are asked for: all, or none."""
        return ALL if self.gradients and not self.precision.integer else ()

    @property
    def names(self) -> tuple[str, ...]:
        """The operands that there are."""
        return ALL if self.case.bias else ALL[:2]

    def tensor(self, array: np.ndarray, change: Change | None = None) -> Tensor:
        """Return an operand on the function's device, changed in its layout perhaps."""
        tensor = self.subject.device.send(to_tensor(array, self.precision.dtype))
        return tensor if change is None else change(tensor)

    def tensors(
        self,
        operands: Operands,
        requiring: Sequence[str] = (),
        changes: Mapping[str, Change] | None = None,
    ) -> Tensors:
        """Return new tensors for the operands; some require a gradient."""
        arrays = {"input": operands.x, "weight": operands.w, "bias": operands.b}
        changes = changes or {}
        return {
            name: self.tensor(array, changes.get(name)).requires_grad_(
                name in requiring
            )
            for name, array in arrays.items()
            if array is not None
        }

    def output(self, tensors: Tensors) -> Tensor:
        """Call the function."""
        return self.subject.result(self.case, tensors)

    def pull_back(
        self,
        y: Tensor,
        tensors: Tensors,
        g: Tensor,
        wanted: Sequence[str],
        **options: bool,
    ) -> Tensors:
        """Return some gradients of an output, by the operands' names."""
        if not y.requires_grad:
            raise Wrong(
                "the output does not require a gradient, though its operands do: "
                "gradients are silently lost; compute with torch's operations or "
                "through a torch.autograd.Function, or pass gradients=False"
            )
        wanted = [name for name in wanted if name in tensors]
        found = attempt(
            _grad,
            y,
            [tensors[name] for name in wanted],
            g,
            allow_unused=True,
            **options,
        )
        missing = [
            name
            for name, gradient in zip(wanted, found, strict=True)
            if gradient is None
        ]
        if missing:
            raise Wrong(
                f"the {missing[0]} gets no gradient (None); return one for it from "
                "backward",
                "logic",
                GRADIENTS[missing[0]],
            )
        return dict(zip(wanted, found, strict=True))

    def run(
        self,
        operands: Operands,
        wanted: Sequence[str] | None = None,
        changes: Mapping[str, Change] | None = None,
    ) -> Tensors:
        """Return the output and the wanted gradients, by quantity."""
        wanted = self.wanted if wanted is None else wanted
        tensors = self.tensors(operands, wanted, changes)
        y = self.output(tensors)
        results = {OUTPUT: y}
        if wanted:
            self.expect_shape(OUTPUT, y, self.case.output_shape)
            g = self.tensor(operands.g, (changes or {}).get("cotangent"))
            found = self.pull_back(y, tensors, g, wanted)
            results |= {GRADIENTS[name]: gradient for name, gradient in found.items()}
        return results

    def expect_shape(self, quantity: str, tensor: Tensor, shape: Sequence[int]) -> None:
        """Demand a tensor of this shape, of the operands' dtype and on their device."""
        compare.check_shape(quantity, tensor, shape)
        compare.check_dtype(quantity, tensor, self.precision)
        if not self.subject.device.holds(tensor):
            raise Wrong(
                f"the {quantity} lies on {tensor.device}, not on "
                f"{self.subject.device.device}; return it where the input lies"
            )

    def expect(self, results: Mapping[str, Tensor], right: Answers) -> None:
        """Demand that results are right, to the last bit or as a transform rounds."""
        for quantity, tensor in results.items():
            self.expect_shape(quantity, tensor, right[quantity].shape)
            self._expect_equal(quantity, tensor, right[quantity])

    def _expect_equal(self, quantity: str, tensor: Tensor, right: np.ndarray) -> None:
        got = self.read(tensor)
        if not compare.agree(got, right):
            if self.subject.settle() and compare.agree(self.read(tensor), right):
                self.subject.patience += 1
                raise Wrong(
                    f"the {quantity} was wrong when it was returned, and right a "
                    "moment later: work was still under way; wait for it before "
                    "you return, or do it on the current stream",
                    "contract",
                    quantity,
                )
            raise Wrong(compare.difference(quantity, got, right), "logic", quantity)

    def read(self, tensor: Tensor) -> np.ndarray:
        """Return a tensor's values, as they are at this moment."""
        return to_array(self.subject.device.read(tensor), self.precision)

    @cached_property
    def is_transform(self) -> bool:
        """Whether results are inexact where sums of integers are exact.

        What shows once counts for all later cases: in a small one, a transform may be
        exact by luck.
        """
        name = self.precision.name
        return name in self.subject.transforms or self._rounds(self.integers)

    def _rounds(self, integers: Operands, wanted: Sequence[str] | None = None) -> bool:
        """Whether the results of integers are nearly right, and not exactly."""
        results = self.run(integers, wanted)
        right = answers.first_order(self.case, integers)
        near, exact = (
            all(alike(self.read(t), right[name]) for name, t in results.items())
            for alike in (compare.agree, compare.equal)
        )
        if near and not exact:
            self.subject.transforms.add(self.precision.name)
        return near and not exact

    def sound(self, wanted: Sequence[str]) -> None:
        """Try again whether it is a transform: with larger integers, and more pixels.

        A function may choose by the shapes, and by the gradients that are wanted,
        whether it transforms. So each case is tried; a larger one is tried once.
        """
        trials = [self]
        if self.precision.name not in self.subject.sounded:
            self.subject.sounded.add(self.precision.name)
            batch = None if self.case.batch is None else 2
            pixels = tuple(n + 12 for n in self.case.pixels)
            larger = replace(self.case, name="larger", batch=batch, pixels=pixels)
            trials.append(replace(self, case=larger))
        for trial, spare in product(trials, _SPARE):
            with suppress(Raised, Wrong):
                integers = wide_integers(trial.case, trial.precision, spare)
                trial._rounds(integers, wanted)
        del self.is_transform

    def limit(self, quantity: str) -> np.ndarray:
        """Return the largest error that rounding explains, for the real operands."""
        right, precision = self.right_reals[quantity], self.precision
        if self.is_transform and quantity != GRADIENTS["bias"]:
            return bounds.transform_limit(
                self.case, quantity, right, self.reals, precision, self.accumulator
            )
        return bounds.limit(
            self.case,
            quantity,
            right,
            self.magnitudes[quantity],
            precision,
            self.accumulator,
        )
