"""Planted clusters follow from their numbers alone, and are those of the mixture that is said to be planted."""

from pathlib import Path

import numpy as np
import pytest

from oocml.data.dataset import Dataset
from oocml.data.planted_clusters import DISTANCE, make_cluster_rows, make_clusters, true_mixture
from oocml.data.synth import synth
from oocml.errors import UsageError
from tests.data.test_synth import digest

SHAPE = (6000, 12, 5)


def test_same_seed_gives_the_same_bytes_for_any_workers(tmp_path: Path):
    small = {"rows": 700, "cols": 20, "classes": 3, "panel_bytes": 20_000}
    for name, seed, workers in (("a", 0, 1), ("b", 0, 3), ("c", 1, 1)):
        synth("toy", tmp_path / name, seed=seed, workers=workers, **small)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    dataset = Dataset.open(tmp_path / "a")
    assert dataset.info(deep=True)["whole"]
    assert dataset.n_panels > 2
    assert not dataset.sparse


def test_rows_of_a_cluster_have_its_means_deviations_and_share():
    recipe = make_clusters(SHAPE, seed=0, split="train")
    values, clusters = make_cluster_rows(recipe, 0, SHAPE[0])
    weights, means, deviations = true_mixture(recipe)
    np.testing.assert_allclose(np.bincount(clusters) / len(clusters), weights, atol=1e-3)
    for k in range(SHAPE[2]):
        own = values[clusters == k]
        error = 5 / np.sqrt(len(own))
        np.testing.assert_allclose(own.mean(axis=0), means[k], atol=2 * error)
        np.testing.assert_allclose(own.std(axis=0) / deviations[k], 1, atol=error)
    assert deviations.min() > 0.49 and deviations.max() < 1.51


def test_test_rows_are_others_of_the_same_clusters():
    train = make_clusters(SHAPE, seed=0, split="train")
    test = make_clusters(SHAPE, seed=0, split="test")
    for a, b in zip(true_mixture(train), true_mixture(test), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3)
    assert not np.array_equal(make_cluster_rows(train, 0, 9)[0], make_cluster_rows(test, 0, 9)[0])


@pytest.mark.parametrize("n_cols", [2, 200])
def test_clusters_are_as_far_apart_in_any_number_of_columns(n_cols: int):
    _, means, _ = true_mixture(make_clusters((10, n_cols, 40), seed=0, split="train"))
    squares = ((means[:, None] - means) ** 2).sum(axis=2)
    assert np.sqrt(squares.sum() / (40 * 39)) == pytest.approx(DISTANCE, rel=0.1)


def test_any_row_can_be_made_alone():
    recipe = make_clusters(SHAPE, seed=3, split="train")
    whole, _ = make_cluster_rows(recipe, 0, 50)
    part, _ = make_cluster_rows(recipe, 20, 30)
    np.testing.assert_array_equal(part, whole[20:30])


def test_rows_of_clusters_are_dense(tmp_path: Path):
    with pytest.raises(UsageError, match="leave out --nnz-per-row"):
        synth("toy", tmp_path / "x.zarr", rows=10, cols=3, nnz_per_row=2)
