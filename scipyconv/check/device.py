"""Where the function takes its tensors; data comes from the CPU, and goes back."""

import time

import torch
from torch import Tensor

# Bound now: what the function patches later cannot blind the check.
_to, _detach, _clone = Tensor.to, Tensor.detach, Tensor.clone


class Device:
    """A device of torch's, by its name.

    A class of your own with the same methods serves for any other.

    Args:
        name: As `torch.device` takes it.

    Examples:
        >>> Device("cpu").read(torch.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, name: str | torch.device = "cpu") -> None:
        self.device = torch.device(name)

    def send(self, tensor: Tensor) -> Tensor:
        """Return a CPU tensor's copy on the device."""
        return _to(tensor, self.device)

    def read(self, tensor: Tensor) -> Tensor:
        """Return a copy on the CPU, as the tensor is at this moment."""
        return _clone(_to(_detach(tensor), "cpu"))

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor lies on the device."""
        return tensor.device.type == self.device.type

    def synchronize(self) -> None:
        """Wait for all work on the device.

        On the CPU nothing tells of a thread that is still at work, so wait a little.
        """
        if self.device.type == "cpu":
            time.sleep(0.1)
        else:
            torch.accelerator.synchronize(self.device)
