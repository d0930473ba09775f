"""Planted targets and ratings have the shape asked for, can be learnt, and follow from their numbers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from oocml.data import planted_factors
from oocml.data.dataset import Dataset
from oocml.data.planted_factors import make_rating_rows, make_ratings, make_target_rows, make_targets
from oocml.data.specs import list_specs, load_spec
from oocml.data.synth import make_shape, synth
from oocml.errors import UsageError
from oocml.kernels import planted_factors as kernels
from tests.data.test_synth import digest

SMALL = {"rows": 700, "cols": 3000, "nnz_per_row": 12, "panel_bytes": 20_000}
ROWS = {"exponent": 1.05, "normalise": True, "counts": False}


def scipy_of(X, n_cols):
    return sp.csr_matrix((X.data, X.indices, X.indptr), shape=(len(X.indptr) - 1, n_cols))


def targets(split="train", binary=False, shape=(6000, 40, 3), nnz_per_row=6.0):
    recipe = make_targets(shape, nnz_per_row, seed=2, split=split, binary=binary, **ROWS)
    X, y = make_target_rows(recipe, 0, shape[0])
    return recipe, X, scipy_of(X, shape[1]).toarray(), y


@pytest.mark.parametrize("task", ["regression", "binary", "factors"])
def test_same_seed_gives_the_same_bytes_for_any_workers(tmp_path: Path, task: str):
    for name, seed, workers in (("a", 0, 1), ("b", 0, 3), ("c", 1, 1)):
        synth("ml_100k", tmp_path / name, task=task, seed=seed, workers=workers, **SMALL)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    assert Dataset.open(tmp_path / "a").info(deep=True)["whole"]
    assert Dataset.open(tmp_path / "a").n_panels > 2


def test_second_order_is_the_sum_over_pairs_of_columns():
    recipe, X, dense, _ = targets(shape=(30, 40, 3))
    words = [np.uint64(kernels.word_of(recipe.structure, c)) for c in range(40)]
    w = np.array([kernels.weight(word) for word in words])
    V = np.array([[kernels.factor(word, k) for k in range(3)] for word in words])
    linear, pairs = np.empty(30), np.empty(30)
    kernels.second_order(*X, recipe.structure, 3, linear, pairs)
    np.testing.assert_allclose(linear, dense @ w, rtol=1e-6, atol=1e-9)
    every = np.triu(V @ V.T, 1)
    np.testing.assert_allclose(pairs, np.einsum("ib,bc,ic->i", dense, every, dense), rtol=1e-5, atol=1e-7)


def test_weights_and_factors_have_mean_0_and_variance_1_and_are_independent():
    words = [np.uint64(kernels.word_of(np.uint64(5), c)) for c in range(4000)]
    drawn = np.array([[kernels.weight(word), *(kernels.factor(word, k) for k in range(3))] for word in words])
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.08)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(4), atol=0.08)
    noise = np.array([kernels.normal(word) for word in words])
    assert abs(noise.mean()) < 0.08
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert np.mean(np.abs(noise) > 1.96) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(("cols", "nnz_per_row"), [(13, 11.3), (40, 6), (5000, 30), (30, 1)])
def test_parts_of_a_real_target_have_their_shares_of_its_variance(cols: int, nnz_per_row: float):
    recipe, X, _, y = targets(shape=(6000, cols, 8), nnz_per_row=nnz_per_row)
    z = planted_factors.true_scores(recipe, X)
    assert y.mean() == pytest.approx(0, abs=0.1)
    assert np.var(y - z) == pytest.approx(planted_factors.NOISE_SHARE, rel=0.1)
    assert np.var(z) == pytest.approx(1 - planted_factors.NOISE_SHARE, rel=0.1)
    linear = np.var(planted_factors.true_scores(recipe._replace(scale_pairs=0.0), X))
    pairs = np.var(planted_factors.true_scores(recipe._replace(scale_linear=0.0), X))
    if nnz_per_row > 1:
        assert linear == pytest.approx(pairs, rel=0.2)


def test_planted_interactions_can_be_learnt_and_hold_for_the_test_split():
    """Least squares on all pairs of 40 columns, and on the columns alone."""

    def design(dense):
        b, c = np.triu_indices(40, 1)
        return np.hstack([np.ones((len(dense), 1)), dense]), dense[:, b] * dense[:, c]

    _, _, dense, y = targets()
    recipe, Xt, other, yt = targets("test")
    error = {}
    for name, A, B in (
        ("linear", design(dense)[0], design(other)[0]),
        ("pairs", np.hstack(design(dense)), np.hstack(design(other))),
    ):
        beta = np.linalg.solve(A.T @ A + 0.02 * np.eye(A.shape[1]), A.T @ y)
        error[name] = np.mean((B @ beta - yt) ** 2) / np.var(yt)
    best = np.mean((planted_factors.true_scores(recipe, Xt) - yt) ** 2) / np.var(yt)
    assert 0.08 < best < 0.12
    assert best < error["pairs"] < 1.6 * best
    assert error["linear"] > 2 * best  # popular columns hide some of the pairs they are in
    assert (dense[0] != other[0]).any()


def test_binary_targets_are_likelier_where_the_score_says_so():
    recipe, X, _, y = targets(binary=True)
    z = planted_factors.true_scores(recipe, X)
    assert set(y) == {-1.0, 1.0}
    chance = 1 / (1 + np.exp(-planted_factors.STEEPNESS * z))
    for lo, hi in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
        here = (chance >= lo) & (chance < hi)
        assert np.mean(y[here] > 0) == pytest.approx(chance[here].mean(), abs=0.05)
    assert 0.8 < np.mean((z > 0) == (y > 0)) < 0.95


def test_target_rows_can_be_made_alone():
    recipe, X, _, y = targets(shape=(50, 40, 3))
    alone, target = make_target_rows(recipe, 17, 18)
    own = slice(int(X.indptr[17]), int(X.indptr[18]))
    np.testing.assert_array_equal(alone.indices, X.indices[own])
    np.testing.assert_array_equal(target, y[17:18])


def ratings(split="train", shape=(400, 150, 2), nnz_per_row=60.0):
    return scipy_of(
        make_rating_rows(make_ratings(shape, nnz_per_row, seed=4, split=split, exponent=0.5), 0, shape[0]),
        shape[1],
    )


def test_ratings_are_half_stars_and_as_many_as_asked_for():
    X = ratings(shape=(2000, 1500, 4), nnz_per_row=40)
    assert X.has_canonical_format
    assert X.nnz / 2000 == pytest.approx(40, rel=0.08)
    assert set(np.unique(X.data)) <= {n / 2 for n in range(1, 11)}
    assert X.data.mean() == pytest.approx(planted_factors.MEAN, abs=0.15)


def test_splits_share_users_and_items_but_no_rating():
    train, test = ratings(), ratings("test")
    assert train.shape == test.shape
    assert train.multiply(test).nnz == 0
    assert test.nnz / (train.nnz + test.nnz) == pytest.approx(planted_factors.TEST_SHARE, abs=0.01)
    np.testing.assert_array_equal(
        ratings()[7:8].data,
        make_rating_rows(make_ratings((400, 150, 2), 60, seed=4, split="train", exponent=0.5), 7, 8).data,
    )


def test_splits_of_ratings_have_the_same_rows_in_the_same_panels(tmp_path: Path):
    for split in ("train", "test"):
        synth("ml_100k", tmp_path / split, split=split, **SMALL)
    train, test = (Dataset.open(tmp_path / split) for split in ("train", "test"))
    np.testing.assert_array_equal(train.panel_bounds, test.panel_bounds)
    np.testing.assert_array_equal(train.row_ids[:], test.row_ids[:])
    assert 0 < test.nnz < train.nnz
    assert train.label_kind == "none"


def test_planted_ratings_can_be_learnt():
    """Alternating least squares with biases as factors, against the ratings of the test split."""
    train, test = ratings().tocsr(), ratings("test").tocoo()
    mean, rank, ridge = train.data.mean(), 4, 2.0
    P, Q = np.zeros((400, rank)), np.random.default_rng(0).standard_normal((150, rank)) * 0.1
    P[:, 0], Q[:, 1] = 1, 1
    for _ in range(12):
        for A, B, R, fixed in ((P, Q, train, 0), (Q, P, train.T.tocsr(), 1)):
            free = [k for k in range(rank) if k != fixed]
            for i in range(len(A)):
                own = slice(R.indptr[i], R.indptr[i + 1])
                F = B[R.indices[own]]
                left = R.data[own] - mean - F[:, fixed] * A[i, fixed]
                G = F[:, free]
                A[i, free] = np.linalg.solve(G.T @ G + ridge * np.eye(rank - 1), G.T @ left)
    rmse = np.sqrt(np.mean((mean + (P[test.row] * Q[test.col]).sum(axis=1) - test.data) ** 2))
    assert rmse < 0.65  # noise and rounding alone are 0.52
    assert np.std(test.data) > 0.85


@pytest.mark.parametrize("name", [n for n in list_specs() if load_spec(n).task in ("regression", "factors")])
def test_every_spec_of_these_tasks_has_a_stand_in(name: str, tmp_path: Path):
    answer = synth(name, tmp_path / "s.zarr", rows=40)
    assert (answer["n_cols"], answer["n_classes"]) == (load_spec(name).cols, None)


def test_labels_of_targets_are_known_where_they_are_classes(tmp_path: Path):
    for task in ("regression", "binary"):
        answer = synth("news20", tmp_path / task, task=task, **SMALL)
        labels = Dataset.open(tmp_path / task).labels
        assert answer["n_classes"] == (None if labels is None else 2)
    np.testing.assert_array_equal(labels, [-1, 1])


def test_more_ratings_than_the_items_allow_are_refused():
    given = {"rows": 10, "cols": 20, "classes": None, "nnz_per_row": 19}
    with pytest.raises(UsageError, match="there are 20 columns; give at most 18"):
        make_shape(load_spec("ml_100k"), "train", given, "factors")


@pytest.mark.long
def test_64_million_columns_need_no_table(tmp_path: Path):
    import psutil

    process, peak = psutil.Process(), []
    before = process.memory_info().rss
    synth(
        "housing",
        tmp_path / "s.zarr",
        rows=200_000,
        cols=64_000_000,
        nnz_per_row=40,
        workers=2,
        progress=lambda *_: peak.append(process.memory_info().rss - before),
    )
    assert max(peak) < 200 << 20
