"""The textbook layer: one filter over one plane, by `scipy.signal`."""

from scipyconv.textbook.single_channel import ScipyConv2d, ScipyConv2dFunction

__all__ = ["ScipyConv2d", "ScipyConv2dFunction"]
