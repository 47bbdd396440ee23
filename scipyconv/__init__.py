"""A convolution layer computed by SciPy and differentiated by hand."""

__version__ = "0.1.0"
