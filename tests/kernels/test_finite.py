import numpy as np
import pytest

from oocml.kernels.finite import all_finite


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_only_numbers_are_finite(dtype):
    largest = np.finfo(dtype).max
    block = np.array([[0, -0.0, 1], [largest, -largest, np.finfo(dtype).tiny]], dtype)
    assert all_finite(block)
    for bad in (np.nan, -np.nan, np.inf, -np.inf):
        block[1, 1] = bad
        assert not all_finite(block)
