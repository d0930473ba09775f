import numpy as np
import pytest

from oocml.kernels.jit import jit
from oocml.kernels.vectors import add_row, combine_rows, descend_row, inner_product, inner_products

SIZES = [1, 2, 7, 8, 9, 15, 16, 17, 24, 25, 31, 32, 47, 64, 77]


@jit
def call_inner_products(U, i, V, j):
    return inner_products(U, i, V, j)


@jit
def call_inner_product(U, i, V, j):
    return inner_product(U, i, V, j)


@jit
def call_combine_rows(U, i, V, j, uu, uv, vv, vu, floor):
    combine_rows(U, i, V, j, uu, uv, vv, vu, floor)


@jit
def call_add_row(out, x, V, j):
    return add_row(out, x, V, j)


@jit
def call_descend_row(V, j, own, x, a, step):
    return descend_row(V, j, own, x, a, step)


def matrices(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, n)).astype(np.float32), rng.normal(size=(3, n)).astype(np.float32)


def f32(*values):
    return [np.float32(value) for value in values]


@pytest.mark.parametrize("n", SIZES)
def test_inner_products_of_rows_of_any_length(n):
    U, V = matrices(n)
    expected = [U[2] @ V[1], U[2] @ U[2], V[1] @ V[1]]
    np.testing.assert_allclose(call_inner_products(U, 2, V, 1), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(call_inner_product(U, 2, V, 1), expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("floor", [-np.inf, 0.0])
def test_combine_rows_changes_two_rows_and_nothing_else(n, floor):
    U, V = matrices(n)
    expected_u, expected_v = U.copy(), V.copy()
    expected_u[2] = np.maximum(0.5 * U[2] + 2 * V[1], floor)
    expected_v[1] = np.maximum(3 * V[1] - U[2], floor)
    call_combine_rows(U, 2, V, 1, *f32(0.5, 2, 3, -1, floor))
    np.testing.assert_allclose(U, expected_u, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(V, expected_v, rtol=1e-5, atol=1e-6)


def test_combine_rows_keeps_nan():
    U, V = matrices(9)
    U[2, 3] = U[2, 8] = np.nan
    call_combine_rows(U, 2, V, 1, *f32(1, 1, 1, 1, 0))
    assert np.isnan(U[2, [3, 8]]).all()
    assert np.isnan(V[1, [3, 8]]).all()
    assert np.isfinite(np.delete(U[2], [3, 8])).all()


@pytest.mark.parametrize("n", SIZES)
def test_add_row_takes_as_much_of_the_row_as_the_vector_is_long(n):
    U, V = matrices(n)
    longer = np.hstack([V, np.full((3, 2), 9, np.float32)])
    out = U.copy()
    squares = call_add_row(out[0], np.float32(-2), longer, 1)
    np.testing.assert_allclose(out[0], U[0] - 2 * V[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out[1:], U[1:])
    np.testing.assert_allclose(squares, V[1] @ V[1], rtol=1e-5)


@pytest.mark.parametrize("n", SIZES)
def test_descend_row_steps_against_the_gradient_and_returns_its_square(n):
    U, V = matrices(n)
    a = np.concatenate([U[0], np.float32([5, 6])])
    d = 0.3 * V[1] - 2 * U[0]
    expected = V.copy()
    expected[1] -= 0.1 * d
    square = call_descend_row(V, 1, *f32(0.3, -2), a, np.float32(0.1))
    np.testing.assert_allclose(V, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(square, d @ d, rtol=1e-5)
