"""The arithmetic: NumPy arrays in, NumPy arrays out. An engine is a module of three functions.

`correlate(x, w, shape, ...)`, `input_gradient(g, w, shape, ...)` and `weight_gradient(x, g, shape,
...)` fix two arrays of the form

    T(x, w, g) = sum over n, o, c, t, k of  g[n, o, t] · w[o, c, k] · x[n, c, stride·t + dilation·k]

and return what the third is multiplied by. Arrays are x `(N, groups·C, P...)`, w
`(groups·O, C, K...)`, and y and g `(N, groups·O, T...)`, with any number of spatial dimensions, any
strides in memory, real or complex of one dtype. Nothing is conjugated, and nothing padded: x comes
with its border, and its gradient is returned with it. `shape` is the result's, which the operands
alone do not determine. No engine imports torch.
"""

from types import ModuleType

from scipyconv.engines import direct

#: The engines, by the name that `method` takes.
ENGINES: dict[str, ModuleType] = {"direct": direct}
