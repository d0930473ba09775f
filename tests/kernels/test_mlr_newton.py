from itertools import pairwise

import numpy as np
import pytest

from oocml.kernels.mlr import EMPTY, ClassBlock
from oocml.kernels.mlr_newton import (
    Solver,
    newton_advance,
    newton_begin,
    newton_gradient,
    newton_line,
    newton_losses,
    newton_move,
    newton_norms,
    newton_product,
)
from tests.kernels.labelled import labelled_rows, log_sum_exp, work

F32 = np.float32
STEPS = np.array([0.0, 0.5, 1.0], F32)


class Setting:
    """Rows, parameters and their exact objective, gradient and class-wise Hessians in float64."""

    def __init__(self, n_classes=5, l2=1e-2, seed=0):
        rng = np.random.default_rng(seed)
        self.rows, self.X, self.T = labelled_rows(rng, n_classes=n_classes)
        self.kept = self.T.sum(axis=1) > 0
        self.n, self.l2 = self.kept.sum(), l2
        self.W = rng.normal(size=(self.X.shape[1], n_classes)).astype(F32)
        self.c = rng.normal(size=n_classes).astype(F32)
        self.log_a = -log_sum_exp(self.X @ self.W + self.c)

    def objective(self, W, c):
        Z = (self.X @ W + c)[self.kept]
        return (log_sum_exp(Z) - (self.T[self.kept] * Z).sum(axis=1)).mean() + self.l2 / 2 * (W**2).sum()

    def extended(self):
        """Features with a constant one for the intercept, and the ridge of each."""
        X1 = np.hstack([self.X, np.ones((len(self.X), 1))])[self.kept]
        return X1, np.append(np.full(self.X.shape[1], self.l2), 0.0)

    def hessian(self, k):
        X1, ridge = self.extended()
        p = np.exp(X1 @ np.vstack([self.W, self.c])[:, k] + self.log_a[self.kept])
        return X1.T @ (X1 * (p * (1 - p))[:, None]) / self.n + np.diag(ridge)

    def diagonal(self, k):
        """What stands for the Hessian's diagonal."""
        ridge = self.extended()[1]
        p = np.exp(self.X @ self.W[:, k] + self.c[k] + self.log_a)[self.kept]
        squares = np.append((self.X**2).mean(axis=0), 1)
        return np.diag(squares * (p * (1 - p)).mean() + ridge)

    def block(self, lo=0, hi=None):
        return ClassBlock(np.ascontiguousarray(self.W[:, lo:hi]), self.c[lo:hi].copy(), lo)

    def solver(self, n_classes):
        D = self.X.shape[1]
        V, residual, direction, product = (np.zeros((D + n, n_classes), F32) for n in (0, 1, 1, 1))
        v0, variances = np.zeros((2, n_classes), F32)
        norms, squares = np.zeros((n_classes, 2)), (self.X**2).mean(axis=0).astype(F32)
        return Solver(V, v0, residual, direction, product, variances, norms, squares)

    def solve(self, mu, n_steps, tolerance=1e-6, fit_intercept=True, bounds=(0, 5)):
        solvers = []
        for lo, hi in pairwise(bounds):
            block, solver = self.block(lo, hi), self.solver(hi - lo)
            log_a, inverse_n = self.log_a.astype(F32), F32(1 / self.n)
            newton_gradient(self.rows, block, log_a, inverse_n, solver, work())
            newton_begin(block.W, F32(self.l2), F32(mu), fit_intercept, solver)
            for _ in range(n_steps):
                newton_product(self.rows, block, log_a, inverse_n, solver, work())
                newton_advance(F32(self.l2), F32(mu), fit_intercept, tolerance, solver)
            solvers.append(solver)
        return np.hstack([s.V for s in solvers]), np.concatenate([s.v0 for s in solvers]), solvers


def test_gradient_agrees_with_finite_differences():
    s = Setting()
    solver = s.solver(5)
    newton_gradient(s.rows, s.block(), s.log_a.astype(F32), F32(1 / s.n), solver, work())
    newton_begin(s.W, F32(s.l2), F32(0), True, solver)
    W, c, h = s.W.astype(np.float64), s.c.astype(np.float64), 1e-6
    for j, k in [(0, 0), (3, 4), (11, 2)]:
        E = np.zeros_like(W)
        E[j, k] = h
        slope = (s.objective(W + E, c) - s.objective(W - E, c)) / (2 * h)
        assert -solver.residual[j, k] == pytest.approx(slope, abs=2e-6)
    e = np.eye(5)[3] * h
    slope = (s.objective(W, c + e) - s.objective(W, c - e)) / (2 * h)
    assert -solver.residual[-1, 3] == pytest.approx(slope, abs=2e-6)


@pytest.mark.parametrize("mu", [0.0, 0.3])
def test_enough_steps_solve_every_class_newton_equation(mu):
    s = Setting()
    V, v0, solvers = s.solve(mu, 40)
    start = s.solver(5)
    newton_gradient(s.rows, s.block(), s.log_a.astype(F32), F32(1 / s.n), start, work())
    newton_begin(s.W, F32(s.l2), F32(mu), True, start)
    for k in range(5):
        expected = np.linalg.solve(s.hessian(k) + mu * s.diagonal(k), start.residual[:, k].astype(np.float64))
        np.testing.assert_allclose(np.append(V[:, k], v0[k]), expected, rtol=2e-3, atol=2e-4)
    assert (solvers[0].norms[:, 0] < solvers[0].norms[:, 1] * 1e-8).all()


def test_solution_does_not_depend_on_the_cut_of_the_classes():
    s = Setting()
    whole, cut = s.solve(0.1, 6), s.solve(0.1, 6, bounds=(0, 1, 3, 5))
    np.testing.assert_allclose(whole[0], cut[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(whole[1], cut[1], rtol=1e-4, atol=1e-6)


def test_without_an_intercept_none_is_moved():
    V, v0, _ = Setting().solve(0.0, 5, fit_intercept=False)
    assert (v0 == 0).all()
    assert np.abs(V).max() > 0


def test_line_gives_the_exact_objective_of_every_step():
    s = Setting()
    rng = np.random.default_rng(1)
    V, v0 = rng.normal(size=s.W.shape).astype(F32), rng.normal(size=5).astype(F32)
    n_rows = len(s.X)
    line = np.zeros((2, n_rows, len(STEPS) + 1, 2), F32)
    line[:, :, :-1, 0] = EMPTY
    fit = fit_step = squares = 0.0
    for stripe, (lo, hi) in enumerate([(0, 2), (2, 5)]):
        solver = s.solver(hi - lo)._replace(V=np.ascontiguousarray(V[:, lo:hi]), v0=v0[lo:hi].copy())
        a, b = newton_line(s.rows, s.block(lo, hi), solver, STEPS, line[stripe], work())
        ww, wv, vv = newton_norms(np.ascontiguousarray(s.W[:, lo:hi]), solver.V, np.zeros(len(s.W), F32))
        fit, fit_step = fit + a, fit_step + b
        squares = squares + ww + 2 * STEPS * wv + STEPS**2 * vv
    losses = np.zeros(len(STEPS))
    newton_losses(line, losses)
    objectives = (losses - fit - STEPS * fit_step) / s.n + s.l2 / 2 * squares
    expected = [s.objective(s.W + t * V.astype(float), s.c + t * v0.astype(float)) for t in STEPS]
    np.testing.assert_allclose(objectives, expected, rtol=1e-5)
    np.testing.assert_allclose(line[0, s.kept, -1, 0], (s.X @ V + v0)[s.kept].sum(axis=1), atol=1e-4)


def test_move_takes_the_step_without_its_class_mean():
    s = Setting()
    V = np.random.default_rng(2).normal(size=s.W.shape).astype(F32)
    W = s.W.copy()
    squares = newton_move(W, V, V.mean(axis=1), F32(0.5))
    np.testing.assert_allclose(W, s.W + 0.5 * (V - V.mean(axis=1, keepdims=True)), atol=1e-6)
    assert squares == pytest.approx((W**2).sum(), rel=1e-5)
