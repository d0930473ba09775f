import numpy as np
import pytest
from scipy.special import multigammaln
from scipy.stats import dirichlet, invwishart, multivariate_normal, multivariate_t, t

from oocml.models.gmm_posterior import (
    Prior,
    evidence,
    evidence_constant,
    expected,
    log_gamma_of_wishart,
    offset,
    plugged_in,
    posterior,
    statistics,
)

D, N, K = 3, 12, 2
COVARIANCES = pytest.mark.parametrize("full", [False, True])


def prior(full, n_components=K, n_features=D, n_rows=N):
    return Prior(1.5, 0.3, 2.0, 0.7, full, True, n_components, n_rows, n_features)


def numbers(x, full):
    i, j = np.triu_indices(x.shape[1])
    products = x[:, i] * x[:, j] if full else x**2
    return np.hstack([np.ones((len(x), 1)), x, products])


def rows(n=N, n_features=D):
    return np.random.default_rng(0).normal(size=(n, n_features)) @ np.triu(np.ones((n_features, n_features)))


def some_posterior(full):
    x = rows()
    z = np.random.default_rng(1).dirichlet(np.ones(K), N)
    return posterior(z.T @ numbers(x, full), prior(full))


@COVARIANCES
def test_statistics_give_the_posterior_and_it_gives_them_back(full):
    T = np.random.default_rng(1).dirichlet(np.ones(K), N).T @ numbers(rows(), full)
    np.testing.assert_allclose(statistics(posterior(T, prior(full)), prior(full)), T, rtol=1e-10)


@COVARIANCES
def test_components_without_rows_keep_the_prior(full):
    p = prior(full)
    q = posterior(np.zeros((K, p.width)), p)
    assert (q.mean == 0).all()
    precision = (p.a0 + (D - 1) / 2) / p.b0 * np.eye(D) if full else np.full(D, p.a0 / p.b0)
    np.testing.assert_allclose(q.precision, np.broadcast_to(precision, q.precision.shape))
    assert evidence(q, p) == pytest.approx(0)


@COVARIANCES
def test_with_one_component_the_bound_is_the_evidence(full):
    """Which is a product of Student's t densities, of each row given those before."""
    p, x, log_p = prior(full, n_components=1), rows(), 0.0
    for i in range(N):
        q = posterior(numbers(x[:i], full).sum(axis=0)[None], p)
        kappa, a = p.kappa0 + i, p.a0 + i / 2
        if full:
            df = 2 * a  # nu + 1 - D
            inverse_W = np.linalg.inv(q.precision[0]) * (df + D - 1)
            log_p += multivariate_t.logpdf(x[i], q.mean[0], inverse_W * (kappa + 1) / (kappa * df), df)
        else:
            scale = np.sqrt((kappa + 1) / kappa / q.precision[0])
            log_p += t.logpdf(x[i], 2 * a, q.mean[0], scale).sum()
    T = numbers(x, full).sum(axis=0)[None]
    q = posterior(T, p)
    assert evidence(q, p) + evidence_constant(p) == pytest.approx(log_p, rel=1e-10)
    scored = numbers(x, full) @ expected(q, p)[0]
    divergence = (expected(q, p) * T).sum() - evidence(q, p)
    assert scored.sum() - divergence + evidence_constant(p) == pytest.approx(log_p, rel=1e-10)


@COVARIANCES
def test_scores_are_expectations_under_the_posterior(full):
    p, q, rng = prior(full), some_posterior(full), np.random.default_rng(2)
    x, n_draws = rows(4), 20_000
    found = numbers(x, full) @ expected(q, p).T + offset(p)
    weights = dirichlet.rvs(p.alpha + q.n, n_draws, rng)
    for k in range(K):
        kappa, a = p.kappa0 + q.n[k], p.a0 + q.n[k] / 2
        if full:
            nu = 2 * a + D - 1
            sigma = invwishart.rvs(nu, np.linalg.inv(q.precision[k]) * nu, n_draws, rng)
            spread = np.linalg.cholesky(sigma)
            means = q.mean[k] + np.einsum("nij,nj->ni", spread, rng.normal(size=(n_draws, D))) / np.sqrt(
                kappa
            )
            precision, log_det = np.linalg.inv(sigma), -np.linalg.slogdet(sigma)[1]
            away = x[:, None] - means
            square = np.einsum("rni,nij,rnj->rn", away, precision, away)
        else:
            precision = rng.gamma(a, q.precision[k] / a, (n_draws, D))
            means = q.mean[k] + rng.normal(size=(n_draws, D)) / np.sqrt(kappa * precision)
            log_det = np.log(precision).sum(axis=1)
            square = ((x[:, None] - means) ** 2 * precision).sum(axis=2)
        draws = np.log(weights[:, k]) + (log_det - D * np.log(2 * np.pi) - square) / 2
        error = draws.std(axis=1) / np.sqrt(n_draws)
        assert (np.abs(draws.mean(axis=1) - found[:, k]) < 5 * error).all()


@COVARIANCES
def test_plugged_in_scores_are_densities_at_the_posterior_means(full):
    p, q, x = prior(full), some_posterior(full), rows(4)
    found = numbers(x, full) @ plugged_in(q, p).T + offset(p)
    for k in range(K):
        covariance = np.linalg.inv(q.precision[k] if full else np.diag(q.precision[k]))
        weight = (p.alpha + q.n[k]) / (K * p.alpha + N)
        expected_ = np.log(weight) + multivariate_normal.logpdf(x, q.mean[k], covariance)
        np.testing.assert_allclose(found[:, k], expected_, rtol=1e-10)


def test_with_one_feature_full_and_diagonal_covariances_are_the_same():
    x = rows(n_features=1)
    T = np.random.default_rng(1).dirichlet(np.ones(K), N).T @ numbers(x, False)
    diag, full = (prior(kind, n_features=1) for kind in (False, True))
    one, other = posterior(T, diag), posterior(T, full)
    np.testing.assert_allclose(other.precision[:, :, 0], one.precision)
    np.testing.assert_allclose(expected(other, full), expected(one, diag))
    assert evidence(other, full) == pytest.approx(evidence(one, diag))


def test_gamma_function_of_matrices():
    nu = np.array([3.5, 10.0, 200.0])
    np.testing.assert_allclose(log_gamma_of_wishart(nu, 3), [multigammaln(value / 2, 3) for value in nu])
