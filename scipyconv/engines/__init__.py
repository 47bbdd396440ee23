"""The arithmetic: NumPy arrays in, NumPy arrays out. An engine is a module of three functions.

T(x, w, g) is the sum over n, o, c, t and k of g[n, o, t] · w[o, c, k] · x[n, c, p], with
p = stride·t + dilation·k - before. `correlate`, `input_gradient` and `weight_gradient` take two of
x, w and g and return what T multiplies the third by. Arrays are x `(N, groups·C, P...)`, w
`(groups·O, C, K...)`, and y and g `(N, groups·O, T...)`, with any number of spatial dimensions, any
strides in memory, real or complex of one dtype. Nothing is conjugated. `padding` is (before, after)
for each spatial dimension, the zeros that x is thought to have around it; `()` is none. `shape` is
the result's, which the operands alone do not determine. No engine imports torch.
"""
