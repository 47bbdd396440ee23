"""The one example that runs through all pages, in plain numbers: what is right and what
is wrong.

`test_example.py` computes every one of them.
"""

x = [[0, 1, 3], [2, 1, 2], [2, 1, 0]]
w = [[1, 2], [3, 4]]
b = 5
y = [[17, 23], [19, 13]]
target = [[15, 20], [21, 14]]
g = [[2, 3], [-2, -1]]  # y - target: the gradient of half the sum of its squares
loss = 9

grad_w = [[-2, 7], [2, 6]]
grad_b = 2
grad_x = [[2, 7, 6], [4, 12, 10], [-6, -11, -4]]
adjoint = 42  # sum(g * (y - b)) = sum(w * grad_w) = sum(x * grad_x)

# What goes wrong, by the name of the mistake.
wrong_y_minus_b = {
    "convolve2d": [[8, 17], [16, 12]],
    "transposed filter": [[11, 20], [13, 9]],
    "arguments swapped": [[8, 14], [18, 12]],
}
wrong_grad_w = {
    "convolve2d": [[6, 0], [4, -2]],
    "arguments swapped": [[6, 2], [7, -2]],
    "transposed g": [[3, -3], [7, 1]],
}
wrong_grad_x = {
    "correlate2d": [[8, 18, 9], [-4, -2, 0], [-4, -4, -1]],
    "transposed filter": [[2, 9, 9], [2, 7, 9], [-4, -10, -4]],
}
wrong_adjoint = {
    "no flip in grad_x": 23,
    "transposed filter in grad_x": 47,
    "convolve2d in grad_w": 10,
    "arguments swapped in grad_w": 23,
    "transposed g in grad_w": 22,
}
grad_w_of_ones = [[4, 7], [6, 4]]  # for a g of ones, convolve2d gives this too

jacobian_row_of_first_output = [1, 2, 0, 3, 4, 0, 0, 0, 0]
jacobian_column_of_centre_pixel = [4, 3, 2, 1]
loss_nudged_w01 = (
    23.5,
    9.5,
)  # w[0, 1] plus 1, minus 1; half the difference is grad_w[0, 1]
one_sided_w00 = 1  # w[0, 0] plus 1: the loss rises by 1, though grad_w[0, 0] is -2
full_correlation_top_right = 9
