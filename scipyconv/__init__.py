"""Convolution layers computed by SciPy, differentiated by hand, proven by gradcheck."""

from scipyconv import convert, functional, nn
from scipyconv.functional import choose_method, use_method
from scipyconv.textbook import ScipyConv2d, ScipyConv2dFunction

__all__ = [
    "ScipyConv2d",
    "ScipyConv2dFunction",
    "choose_method",
    "convert",
    "functional",
    "nn",
    "use_method",
]
__version__ = "0.1.0"
