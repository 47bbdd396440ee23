"""Convolution layers computed by SciPy, differentiated by hand, proven by gradcheck."""

from scipyconv.single_channel import ScipyConv2d, ScipyConv2dFunction

__all__ = ["ScipyConv2d", "ScipyConv2dFunction"]
__version__ = "0.1.0"
