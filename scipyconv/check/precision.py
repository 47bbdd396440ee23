"""What is known of each dtype: how many bits it has, and where NumPy keeps it."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Precision:
    """A dtype, as the checker sees it.

    Attributes:
        dtype: torch's dtype.
        bits: How many bits its significand has, or an integer's magnitude.
        complex: Whether it is complex.
        integer: Whether it holds integers; such data has no gradients.
    """

    dtype: torch.dtype
    bits: int
    complex: bool = False
    integer: bool = False

    @property
    def name(self) -> str:
        """Its name, as in `torch`."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def unit(self) -> float:
        """The unit roundoff: the largest relative error of rounding once."""
        return 2.0**-self.bits

    @property
    def home(self) -> str:
        """The NumPy dtype that holds its values exactly."""
        return "int64" if self.integer else "complex128" if self.complex else "float64"


PRECISIONS = {
    each.name: each
    for each in (
        Precision(torch.float32, 24),
        Precision(torch.float64, 53),
        Precision(torch.bfloat16, 8),
        Precision(torch.float16, 11),
        Precision(torch.complex64, 24, complex=True),
        Precision(torch.complex128, 53, complex=True),
        Precision(torch.int8, 7, integer=True),
        Precision(torch.uint8, 8, integer=True),
        Precision(torch.int16, 15, integer=True),
        Precision(torch.int32, 31, integer=True),
        Precision(torch.int64, 63, integer=True),
    )
}


def find_precision(dtype: Any, argument: str = "dtypes") -> Precision:
    """Return what is known of a dtype, given as torch's or by its name.

    Raises:
        ValueError: a dtype that the checker has no data for.

    Examples:
        >>> find_precision(torch.bfloat16).bits, find_precision("float32").unit
        (8, 5.960464477539063e-08)
        >>> find_precision(torch.bool)
        Traceback (most recent call last):
        ...
        ValueError: dtypes must be among float32, float64, bfloat16, float16, complex64,
        complex128, int8, uint8, int16, int32, int64: one is torch.bool; pass
        torch.float32, say
    """
    name = str(dtype).removeprefix("torch.")
    if name not in PRECISIONS:
        raise ValueError(
            f"{argument} must be among {', '.join(PRECISIONS)}: one is {dtype}; "
            "pass torch.float32, say"
        )
    return PRECISIONS[name]
