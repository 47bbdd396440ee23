"""What a function should leave alone: the state of the process that it is called in."""

import os
import pickle
import random
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: Modules whose functions a function under test might replace.
_MODULES = (
    torch,
    torch.Tensor,
    torch.nn.functional,
    torch.testing,
    torch.autograd,
    np,
    np.linalg,
    np.testing,
)


class _Environment(dict[str, str]):
    """The environment's variables; new ones are no change, as libraries add theirs."""

    def __eq__(self, later: object) -> bool:
        return isinstance(later, dict) and self.items() <= later.items()

    def __ne__(self, later: object) -> bool:
        return not self == later

    def restore(self) -> None:
        """Put the variables back."""
        os.environ.update(self)


_TORCH = str(Path(torch.__file__).parent)

#: Flags of torch's backends, which decide how exactly the rest of a program computes.
_FLAGS: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "torch.backends.cudnn": (
        torch.backends.cudnn,
        ("enabled", "benchmark", "deterministic", "allow_tf32"),
    ),
    "torch.backends.cuda.matmul": (torch.backends.cuda.matmul, ("allow_tf32",)),
    "torch.backends.mkldnn": (torch.backends.mkldnn, ("enabled",)),
}


def _set_flag(module: Any, name: str, value: Any) -> None:
    """Set a flag, also where `torch.backends.disable_global_flags` was called."""
    if not hasattr(module, "set_flags"):
        setattr(module, name, value)
        return
    known = signature(module.set_flags).parameters
    others = {"_fp32_precision": None} if "_fp32_precision" in known else {}
    module.set_flags(**{f"_{name}": value}, **others)


#: name, how to read it, how to put it back.
_Setting = tuple[Callable[[], Any], Callable[[Any], Any]]
_SETTINGS: Mapping[str, _Setting] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, torch.set_default_device),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's deterministic mode": (
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
    ),
    "torch's matmul precision": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    **{
        f"{path}.{name}": (
            partial(getattr, module, name),
            partial(_set_flag, module, name),
        )
        for path, (module, names) in _FLAGS.items()
        for name in names
    },
    "NumPy's error state": (np.geterr, lambda kept: np.seterr(**kept)),
    "the working directory": (os.getcwd, os.chdir),
    "the standard output": (
        lambda: sys.stdout,
        lambda kept: setattr(sys, "stdout", kept),
    ),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "the environment": (lambda: _Environment(os.environ), lambda kept: kept.restore()),
    "Python's random state": (random.getstate, random.setstate),
    "NumPy's random state": (
        lambda: pickle.dumps(np.random.get_state()),  # noqa: NPY002
        lambda kept: np.random.set_state(pickle.loads(kept)),  # noqa: NPY002
    ),
    "torch's random state": (
        lambda: torch.get_rng_state().numpy().tobytes(),
        lambda kept: torch.set_rng_state(
            torch.frombuffer(bytearray(kept), dtype=torch.uint8)
        ),
    ),
}


@dataclass(frozen=True)
class State:
    """A snapshot of the process.

    Examples:
        >>> before = State.now()
        >>> torch.set_default_dtype(torch.float64)
        >>> before.changes()
        ["torch's default dtype"]
        >>> before.restore()
        >>> before.changes()
        []
    """

    settings: Mapping[str, Any]
    attributes: tuple[Mapping[str, Any], ...]

    @classmethod
    def now(cls) -> "State":
        """Return a snapshot."""
        return cls(
            {name: _tried(read) for name, (read, _) in _SETTINGS.items()},
            tuple(dict(vars(module)) for module in _MODULES),
        )

    def changes(self) -> list[str]:
        """Say what is no longer as it was."""
        found = [
            name
            for name, (read, _) in _SETTINGS.items()
            if self.settings[name] != _tried(read)
        ]
        return found + [
            f"{module.__name__}.{name}" for module, name, _ in self._replaced()
        ]

    def restore(self) -> None:
        """Put back what is no longer as it was."""
        changed = self.changes()
        for name, (_, write) in _SETTINGS.items():
            kept = self.settings[name]
            if name in changed and not isinstance(kept, _Unreadable):
                with suppress(RuntimeError):  # torch refuses what mixes its two APIs
                    write(kept)
        for module, name, value in self._replaced():
            setattr(module, name, value)

    def _replaced(self) -> list[tuple[Any, str, Any]]:
        return [
            (module, name, value)
            for module, kept in zip(_MODULES, self.attributes, strict=True)
            for name, value in kept.items()
            if callable(value)
            and not isinstance(value, type)
            and _is_foreign(value, vars(module).get(name))
        ]


def _is_foreign(kept: Any, now: Any) -> bool:
    """Whether a function was replaced, other than by torch itself."""
    code = getattr(now, "__code__", None)
    return now is not kept and not (code and code.co_filename.startswith(_TORCH))


class _Unreadable(str):
    """Why a setting cannot be read, such as a working directory that is gone."""


def _tried(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, RuntimeError) as error:
        return _Unreadable(error)
