"""From the statistics of components to their posterior, and from that to what rows are scored with.

All in standardised features (centred, divided by their standard deviation). The statistics of a component are the sums
over rows of z_ik times (1, x, x^2), or times (1, x, all x_j x_l with j <= l) for full covariances. Given them

    weights ~ Dirichlet(alpha + n_k)
    diag:  precision_kj ~ Gamma(a_k, b_kj),   mean_kj | precision ~ N(m_kj, 1 / (kappa_k precision_kj))
    full:  precision_k ~ Wishart(nu_k, W_k),  mean_k | precision ~ N(m_k, (kappa_k precision_k)^-1)

    kappa_k = kappa0 + n_k     m_k = sum z x / kappa_k     a_k = a0 + n_k / 2     nu_k = 2 a_k + D - 1
    b_k  = b0 + (sum z x^2 - kappa_k m_k^2) / 2
    W_k^-1 = 2 b0 I + sum z x x' - kappa_k m_k m_k'

so that with one feature both are the same. Bishop, *Pattern Recognition and Machine Learning* (2006), section 10.2, has
the full case; the diagonal one is its product over features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, multigammaln, psi

from oocml.models.protocol import Array, Problem
from oocml.types import Float64Array

LOG_2PI = float(np.log(2 * np.pi))


class Prior(NamedTuple):
    alpha: float
    """Of the Dirichlet distribution of weights, for each component."""
    kappa0: float
    """Rows that the prior mean (the mean of the data) counts for."""
    a0: float
    b0: float
    """Of precisions, in units of the features' variances."""
    full: bool
    double: bool
    """Whether rows are worked on in double precision."""
    n_components: int
    n_rows: int
    n_features: int

    @classmethod
    def of(cls, problem: Problem) -> Prior:
        settings = problem.settings
        return cls(
            **{name: float(settings[name]) for name in ("alpha", "kappa0", "a0", "b0")},
            full=settings["covariance"] == "full",
            double=settings["arithmetic"] == "float64"
            or (settings["covariance"] == "full" and settings["arithmetic"] == "auto"),
            n_components=int(settings["n_components"]),
            n_rows=problem.n_rows,
            n_features=problem.n_features,
        )

    @classmethod
    def of_array(cls, values: Array) -> Prior:
        """From what `numpy.array` makes of one: kernels get it as a constant."""
        alpha, kappa0, a0, b0, full, double, *sizes = values.tolist()
        n_components, n_rows, n_features = (int(size) for size in sizes)
        return cls(alpha, kappa0, a0, b0, bool(full), bool(double), n_components, n_rows, n_features)

    @property
    def width(self) -> int:
        """Numbers of a row, and of a component's statistics."""
        n = self.n_features
        return 1 + n + (n * (n + 1) // 2 if self.full else n)

    @property
    def alpha_sum(self) -> float:
        return self.n_components * self.alpha + self.n_rows


class Posterior(NamedTuple):
    """Of some components. n_k rows, kappa_k and a_k follow from ``n``."""

    n: Float64Array
    """Shape (components,)."""
    mean: Float64Array
    """Shape (components, n_features)."""
    precision: Float64Array
    """Posterior mean of the precision: shape (components, n_features), or (components, n_features, n_features)."""


def posterior(T: Float64Array, prior: Prior) -> Posterior:
    """The posterior given statistics of shape (components, width)."""
    n_features = prior.n_features
    n = np.maximum(T[:, 0], 0)
    kappa = prior.kappa0 + n
    mean = T[:, 1 : 1 + n_features] / kappa[:, None]
    a = prior.a0 + n / 2
    if not prior.full:
        spread = T[:, 1 + n_features :] - kappa[:, None] * mean**2
        np.maximum(spread, 0, out=spread)  # rounding, where a component has next to no rows
        return Posterior(n, mean, a[:, None] / (prior.b0 + spread / 2))
    inverse_W = square(T[:, 1 + n_features :], n_features) - kappa[:, None, None] * (
        mean[:, :, None] * mean[:, None, :]
    )
    inverse_W += 2 * prior.b0 * np.eye(n_features)
    nu = 2 * a + n_features - 1
    return Posterior(n, mean, nu[:, None, None] * np.linalg.inv(inverse_W))


def statistics(q: Posterior, prior: Prior) -> Float64Array:
    """The statistics that give this posterior."""
    kappa, a = (prior.kappa0 + q.n)[:, None], (prior.a0 + q.n / 2)[:, None]
    if not prior.full:
        return np.hstack([q.n[:, None], kappa * q.mean, 2 * (a / q.precision - prior.b0) + kappa * q.mean**2])
    nu = 2 * a + prior.n_features - 1
    inverse_W = nu[:, :, None] * np.linalg.inv(q.precision)
    products = inverse_W - 2 * prior.b0 * np.eye(prior.n_features)
    products += kappa[:, :, None] * (q.mean[:, :, None] * q.mean[:, None, :])
    rows, cols = np.triu_indices(prior.n_features)
    return np.hstack([q.n[:, None], kappa * q.mean, products[:, rows, cols]])


def expected(q: Posterior, prior: Prior) -> Float64Array:
    """Shape (components, width): products with rows are expected log densities of row and component, less `offset`."""
    a = prior.a0 + q.n / 2
    kappa, n_features = prior.kappa0 + q.n, prior.n_features
    constant = psi(prior.alpha + q.n) - n_features / (2 * kappa)
    if prior.full:
        nu = 2 * a + n_features - 1
        above = nu[:, None] - np.arange(n_features)
        constant += (psi(above / 2).sum(axis=1) + n_features * np.log(2 / nu)) / 2
    else:
        constant += n_features * (psi(a) - np.log(a)) / 2
    return _quadratic(q, constant + log_det(q, prior) / 2, prior)


def plugged_in(q: Posterior, prior: Prior) -> Float64Array:
    """As `expected`, of the log density of a row and a component at the posterior means of all parameters."""
    share = np.log((prior.alpha + q.n) / prior.alpha_sum) + float(psi(prior.alpha_sum))
    return _quadratic(q, share + log_det(q, prior) / 2, prior)


def offset(prior: Prior) -> float:
    """What log densities of standardised rows have beside products."""
    return -float(psi(prior.alpha_sum)) - prior.n_features * LOG_2PI / 2


def log_det(q: Posterior, prior: Prior) -> Float64Array:
    """Shape (components,): log determinants of precisions."""
    if prior.full:
        return np.asarray(np.linalg.slogdet(q.precision)[1])
    return np.asarray(np.log(q.precision).sum(axis=1))


def _quadratic(q: Posterior, constant: Float64Array, prior: Prior) -> Float64Array:
    """Coefficients of constant_k - (x - m_k)' precision_k (x - m_k) / 2."""
    if not prior.full:
        linear = q.precision * q.mean
        constant = constant - (linear * q.mean).sum(axis=1) / 2
        return np.hstack([constant[:, None], linear, -q.precision / 2])
    linear = np.einsum("kij,kj->ki", q.precision, q.mean)
    constant = constant - (linear * q.mean).sum(axis=1) / 2
    rows, cols = np.triu_indices(prior.n_features)
    weight = np.where(rows == cols, -0.5, -1.0)
    return np.hstack([constant[:, None], linear, q.precision[:, rows, cols] * weight])


def evidence(q: Posterior, prior: Prior) -> float:
    """The components' share of the log evidence of rows and z (without the entropy of z and `evidence_constant`)."""
    a, kappa, n_features = prior.a0 + q.n / 2, prior.kappa0 + q.n, prior.n_features
    found = gammaln(prior.alpha + q.n) - gammaln(prior.alpha)
    found += n_features / 2 * (np.log(prior.kappa0) - np.log(kappa))
    if prior.full:
        nu, nu0 = 2 * a + n_features - 1, 2 * prior.a0 + n_features - 1
        found += log_gamma_of_wishart(nu, n_features) - multigammaln(nu0 / 2, n_features)
        found += nu0 / 2 * n_features * np.log(prior.b0)
        found -= nu / 2 * (n_features * np.log(nu / 2) - log_det(q, prior))
    else:
        found += n_features * (gammaln(a) - gammaln(prior.a0) + prior.a0 * np.log(prior.b0))
        found -= a * (n_features * np.log(a) - log_det(q, prior))
    return float(found.sum())


def evidence_constant(prior: Prior) -> float:
    """What all components' `evidence` lacks of the log evidence of standardised rows and z."""
    dirichlet = gammaln(prior.n_components * prior.alpha) - gammaln(prior.alpha_sum)
    return float(dirichlet - prior.n_rows * prior.n_features * LOG_2PI / 2)


def divergence(q: Posterior, prior: Prior) -> float:
    """These components' share of what the evidence lower bound of all rows is below their log-sum-exps' sum.

    Over all components, with `evidence_constant` taken off and the rows' `offset` counted with the rows, that is the
    divergence of the posterior from the prior.
    """
    return float((expected(q, prior) * statistics(q, prior)).sum()) - evidence(q, prior)


def log_gamma_of_wishart(nu: Float64Array, n_features: int) -> Float64Array:
    """Logarithm of the multivariate gamma function at nu / 2, of every nu."""
    above = nu[:, None] - np.arange(n_features)
    return np.asarray(n_features * (n_features - 1) / 4 * np.log(np.pi) + gammaln(above / 2).sum(axis=1))


def square(products: Array, n_features: int) -> Float64Array:
    """Symmetric matrices from their upper triangles, on the last axis."""
    found = np.empty((*products.shape[:-1], n_features, n_features))
    rows, cols = np.triu_indices(n_features)
    found[..., rows, cols] = products
    found[..., cols, rows] = products
    return found
