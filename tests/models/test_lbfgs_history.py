import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.models.lbfgs_history import History


def two_loops(g, pairs):
    """The textbook recursion on vectors; ``pairs`` (s, y) oldest first."""
    q, shares = g.copy(), []
    for s, y in reversed(pairs):
        shares.append(s @ q / (y @ s))
        q -= shares[-1] * y
    s, y = pairs[-1]
    q *= s @ y / (y @ y)
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        q += (share - y @ q / (y @ s)) * s
    return -q


class Vectors:
    """Directions and gradients of a quadratic, stored by slot as a run stores them."""

    def __init__(self, n_pairs, dim, seed):
        rng = np.random.default_rng(seed)
        self.history = History(n_pairs + 1)
        self.A = np.diag(rng.uniform(0.1, 10, dim))
        self.w = rng.normal(size=dim)
        self.stored = np.zeros((2 * self.history.n, dim))
        self.rng = rng
        self.pairs = []

    def learn(self):
        history = self.history
        self.stored[history.gradient_of(history.iteration)] = self.A @ self.w
        history.learn((self.stored[history.newest] @ self.stored[history.kept].T).reshape(-1))

    def move(self, step):
        history = self.history
        V = self.rng.normal(size=len(self.w))
        self.stored[history.direction_of(history.iteration)] = V
        self.pairs.append((step * V, step * self.A @ V))
        self.w = self.w + step * V
        history.advance(step)


@given(
    n_pairs=st.integers(1, 4),
    steps=st.lists(st.floats(0.05, 3), min_size=1, max_size=9),
    seed=st.integers(0, 99),
)
def test_coefficients_give_the_direction_of_the_recursion_on_vectors(n_pairs, steps, seed):
    run = Vectors(n_pairs, dim=6, seed=seed)
    for step in steps:
        run.learn()
        run.move(step)
    run.learn()
    expected = two_loops(run.A @ run.w, run.pairs[-n_pairs:])
    found = run.history.quasi_newton() @ run.stored
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())


def test_a_pair_without_curvature_is_left_out():
    run = Vectors(n_pairs=2, dim=4, seed=0)
    run.A[...] = 0
    run.learn()
    run.move(1.0)
    run.learn()
    assert run.history.quasi_newton() is None


def test_nothing_from_before_forgetting_is_used():
    run = Vectors(n_pairs=3, dim=5, seed=1)
    for _ in range(5):
        run.learn()
        run.move(0.5)
    run.history.forget()
    run.learn()
    assert run.history.quasi_newton() is None
    run.move(0.5)
    run.stored[[v for v in range(8) if v not in run.history.kept]] = np.nan
    run.learn()
    expected = two_loops(run.A @ run.w, run.pairs[-1:])
    np.testing.assert_allclose(
        run.history.quasi_newton()[run.history.kept] @ run.stored[run.history.kept], expected, rtol=1e-6
    )


@pytest.mark.parametrize("n_pairs", [1, 5])
def test_a_direction_never_overwrites_what_it_is_made_of(n_pairs):
    history = History(n_pairs + 1)
    for _ in range(3 * n_pairs):
        assert history.direction_of(history.iteration) not in history.kept
        assert len(set(history.kept)) == len(history.kept)
        history.advance(1.0)
    assert len(history.kept) == 2 * n_pairs + 1
