"""A tensor's memory as a NumPy array, with the tensor left as it was.

`Tensor.numpy` marks the tensor's storage as not resizable, for good, and what
`torch.from_numpy` returns is born so. Whatever resizes a storage later then fails: a
buffer used again by `out=`, or fully sharded training. So arrays borrow the memory
here, for as long as an engine computes, and results are tensors that PyTorch allocated.
"""

from ctypes import c_char
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from scipyconv.dtypes import COMPUTED_IN, numpy_dtype

Array = npt.NDArray[Any]

#: As much as there may be: the tensor knows how much of it is its own.
_Memory: Any = c_char * (1 << 62)
_NUMPY = {dtype: numpy_dtype(dtype) for dtype in set(COMPUTED_IN.values())}


def as_array(tensor: Tensor) -> Array:
    """Return an array that shares a tensor's memory and keeps it alive.

    Args:
        tensor: In main memory, of a dtype that is computed in. A conjugate or negative
            view is resolved, which copies it.

    Examples:
        >>> import torch
        >>> x = torch.zeros(2, 3)
        >>> as_array(x.t())[0, 1] = 7
        >>> x, x.untyped_storage().resizable()
        (tensor([[0., 0., 0.],
                [7., 0., 0.]]), True)
    """
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    dtype = _NUMPY[tensor.dtype]
    memory = _Memory.from_address(tensor.data_ptr())
    memory.owner = tensor
    if tensor.is_contiguous():  # in less time, which a small layer notices
        return np.ndarray(tensor.shape, dtype, memory)
    strides = [step * dtype.itemsize for step in tensor.stride()]
    return np.ndarray(tensor.shape, dtype, memory, 0, strides)
