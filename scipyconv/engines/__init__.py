"""The arithmetic: NumPy arrays in, NumPy arrays out. An engine is a module of three functions.

T(x, w, g) is the sum over n, o, c, t and k of g[n, o, t] · w[o, c, k] · x[n, c, p], with
p = stride·t + dilation·k. `correlate`, `input_gradient` and `weight_gradient` take two of x, w and
g and return what T multiplies the third by. Arrays are x `(N, groups·C, P...)`, w
`(groups·O, C, K...)`, and y and g `(N, groups·O, T...)`, with any number of spatial dimensions, any
strides in memory, real or complex of one dtype. Nothing is conjugated, and nothing padded: x comes
with its border, and its gradient is returned with it. `shape` is the result's, which the operands
alone do not determine. No engine imports torch.
"""
