"""The arithmetic: NumPy arrays in, NumPy arrays out. An engine is a module.

T(x, w, y) is the trilinear form of `scipyconv.geometry`. An engine takes two of its
arguments and returns what T multiplies the third by:

- `correlate(x, w, geometry)` returns y,
- `input_gradient(w, y, geometry)` returns the gradient of x,
- `weight_gradient(x, y, geometry)` returns the gradient of w,

and `cost(geometry, maps, dtype)` estimates what some of these take, in seconds. The
arrays have the shapes of the geometry, with any number of spatial dimensions, any
strides in memory, real or complex, of one dtype. The zeros around x are the engine's
own affair. An engine conjugates nothing, changes none of its arguments, and imports no
torch.
"""
