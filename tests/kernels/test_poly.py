import numpy as np
import pytest

from oocml.kernels.fm import TargetRows
from oocml.kernels.poly import poly_gradient, poly_norms, poly_scores
from tests.kernels.factored import csr_of


def rows_of(n_rows=12, n_cols=7, seed=0):
    rng = np.random.default_rng(seed)
    X = ((rng.random((n_rows, n_cols)) < 0.6) * rng.normal(size=(n_rows, n_cols))).astype(np.float32)
    X[0] = 0
    t = rng.normal(size=n_rows)
    t[2] = np.nan
    return X.astype(np.float64), TargetRows(*csr_of(X), t)


@pytest.mark.parametrize(("lo", "hi"), [(0, 7), (0, 3), (3, 4), (5, 7)])
def test_scores_of_a_block_and_their_gradient(lo, hi):
    X, rows = rows_of()
    rng = np.random.default_rng(1)
    W, w = rng.normal(size=(hi - lo, 7)).astype(np.float32), rng.normal(size=hi - lo).astype(np.float32)
    pairs = np.array([[[x[j] * x[k] * (k < j) for k in range(7)] for j in range(lo, hi)] for x in X])
    scores = np.ones(12, np.float32)
    poly_scores(rows, W, w, lo, scores)
    np.testing.assert_allclose(
        scores, 1 + X[:, lo:hi] @ w + (pairs * W).sum(axis=(1, 2)), rtol=1e-4, atol=1e-5
    )
    slopes = rng.normal(size=12).astype(np.float32)
    G, g = np.ones_like(W), np.ones_like(w)
    poly_gradient(rows, slopes, lo, G, g)
    np.testing.assert_allclose(G, 1 + (pairs * slopes[:, None, None]).sum(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(g, 1 + X[:, lo:hi].T @ slopes, rtol=1e-4, atol=1e-5)


def test_norms_of_the_gradients_of_rows_with_a_target():
    X, rows = rows_of()
    expected = 0.0
    for x in np.delete(X, 2, axis=0):
        expected += 1 + x @ x + sum((x[j] * x[k]) ** 2 for j in range(7) for k in range(j))
    assert poly_norms(rows) == pytest.approx(expected)
