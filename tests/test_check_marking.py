"""What a learner is told."""

import numpy as np
import pytest

from scipyconv.check import mark

TRIES = [(np.arange(4.0),), (np.arange(6.0),)]


def doubled(x):
    return 2 * x


def broken(x):
    raise ValueError("no")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (doubled, "Correct."),
        (
            lambda x: 2 * x[:4],
            "Not yet: 1 of 2 tries are right. In try 2, the shape is (4,), and (6,) is "
            "right.",
        ),
        (
            lambda x: x * np.arange(1, len(x) + 1),
            "Not yet: 0 of 2 tries are right. In the first, at [2] it is 6, and 4 is "
            "right.",
        ),
        (
            broken,
            "Not yet: 0 of 2 tries are right. In the first, it raises ValueError: no.",
        ),
        (
            lambda x: 2 * x + np.where(x == 1, np.nan, 0),
            "Not yet: 0 of 2 tries are right. In the first, at [1] it is nan, and 2 is "
            "right.",
        ),
    ],
)
def test_it_says_how_far_and_what_is_wrong(function, said):
    assert mark(function, doubled, TRIES) == said
