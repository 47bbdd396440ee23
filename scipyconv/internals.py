"""The private names of PyTorch that the operator needs, each with its reason.

They live here so that a new release of PyTorch breaks one file. A test for each fails
when its name changes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import Function, forward_ad

#: `is_grads_batched` maps under this key. Looking it up costs more than asking for it.
_OLDER_VMAP: Any = torch._C._parse_dispatch_key("VmapMode")

#: Under this, a dispatcher's kernel may apply a Function inside a `torch.func`
#: transform.
single_level: Callable[[], AbstractContextManager[Any]] = (
    enable_single_level_autograd_function
)
#: Under this, calls reach the kernels that come after autograd's.
below_autograd: Callable[[], Any] = torch._C._AutoDispatchBelowAutograd


def single_level_apply(function: type[Function]) -> Callable[..., Any]:
    """Return the part of `Function.apply` that records one level of autograd.

    `Function.apply` itself hands the whole stack of transforms to one call, where the
    dispatcher has already picked the level. It also takes longer than a small layer.
    """
    apply: Callable[..., Any] = super(Function, function).apply  # type: ignore[misc]
    return apply


def forward_mode_enabled() -> AbstractContextManager[Any]:
    """Switch forward mode on, where PyTorch has switched it off."""
    return forward_ad._set_fwd_grad_enabled(True)


def in_forward_mode() -> bool:
    """Tell whether a dual number may be around."""
    return forward_ad._current_level >= 0


def primal(tensor: Tensor) -> Tensor:
    """Return a tensor without its tangent."""
    own: Tensor = forward_ad.unpack_dual(tensor).primal
    return own


def is_observed() -> bool:
    """Tell whether anything but the gradient can be asked of what is computed now.

    That is: a transform of `torch.func`, a mode that sees each operator, a tracer,
        forward
    mode, or a compiler.
    """
    return (
        torch.compiler.is_compiling()
        or in_forward_mode()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._is_tracing()
        or torch._C._dispatch_tls_is_dispatch_key_included(_OLDER_VMAP)
    )


def is_profiled() -> bool:
    """Tell whether a profiler of PyTorch is running."""
    return torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
