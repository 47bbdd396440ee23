"""The dtypes a convolution accepts, and the dtype that each is computed in.

Adding a dtype is adding a row to `COMPUTED_IN`. NumPy must know the dtype computed in.
"""

import numpy as np
import torch
from torch import Tensor

#: Half precision is computed in single precision, and its result rounded once.
COMPUTED_IN = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.complex32: torch.complex64,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
    torch.uint8: torch.uint8,
    torch.int8: torch.int8,
    torch.int16: torch.int16,
    torch.int32: torch.int32,
    torch.int64: torch.int64,
}
ACCEPTED = tuple(COMPUTED_IN)
#: The dtypes that a parameter may have: only these carry gradients.
DIFFERENTIABLE = tuple(d for d in ACCEPTED if d.is_floating_point or d.is_complex)

#: The dtype of the NumPy array that each is computed in.
_NUMPY = {
    dtype: np.dtype(str(wide).removeprefix("torch."))
    for dtype, wide in COMPUTED_IN.items()
}


def computed(tensor: Tensor) -> Tensor:
    """Return a tensor in the dtype that it is computed in: itself, if that is its own.

    Examples:
        >>> computed(torch.ones(2, dtype=torch.bfloat16))
        tensor([1., 1.])
    """
    return tensor.to(COMPUTED_IN[tensor.dtype])


def numpy_dtype(dtype: torch.dtype) -> np.dtype:
    """Return NumPy's name for the dtype that a dtype is computed in.

    Examples:
        >>> numpy_dtype(torch.float16)
        dtype('float32')
    """
    return _NUMPY[dtype]
