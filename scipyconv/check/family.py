"""The six functions of torch's that a function under test can stand in for."""

from dataclasses import dataclass

#: In the order of torch's signatures.
CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED = (
    "input",
    "weight",
    "bias",
    "stride",
    "padding",
    "output_padding",
    "groups",
    "dilation",
)


@dataclass(frozen=True)
class Family:
    """One of the six functions.

    Attributes:
        name: As in `torch.nn.functional`.
        dims: The number of spatial dimensions.
        transposed: Whether it is a transposed convolution.
    """

    name: str
    dims: int
    transposed: bool

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters, in torch's order."""
        return TRANSPOSED if self.transposed else CONVOLUTION


FAMILIES = {
    name: Family(name, dims, transposed)
    for dims in (1, 2, 3)
    for name, transposed in ((f"conv{dims}d", False), (f"conv_transpose{dims}d", True))
}


def find_family(name: str) -> Family:
    """Return the family of a name.

    Raises:
        ValueError: no family has that name.

    Examples:
        >>> find_family("conv_transpose2d").parameters[5]
        'output_padding'
        >>> find_family("conv4d")
        Traceback (most recent call last):
        ...
        ValueError: family must be one of conv1d, conv_transpose1d, conv2d,
        conv_transpose2d, conv3d, conv_transpose3d: it is 'conv4d'; pass
        family="conv2d", say
    """
    if name not in FAMILIES:
        raise ValueError(
            f"family must be one of {', '.join(FAMILIES)}: it is {name!r}; "
            'pass family="conv2d", say'
        )
    return FAMILIES[name]
