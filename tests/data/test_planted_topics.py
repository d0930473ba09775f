"""Planted documents follow from their numbers alone, and are those of the topics that are said to be planted."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from oocml.data.dataset import Dataset
from oocml.data.planted_topics import CONCENTRATION, make_documents, make_topics, word_probabilities
from oocml.data.specs import load_spec
from oocml.data.synth import make_shape, synth
from oocml.errors import UsageError
from tests.data.test_synth import digest

SHAPE = (500, 8)


def documents(split="train", n=3000, seed=1, shape=SHAPE):
    recipe = make_topics(shape, 40.0, seed=seed, split=split, exponent=1.05)
    X = make_documents(recipe, 0, n)
    return recipe, sp.csr_matrix((X.data, X.indices, X.indptr), (n, shape[0])).toarray()


def fold_in(phi, counts, prior):
    """Topic proportions of documents by expectation maximisation, given the topics."""
    theta = np.full((len(counts), len(phi)), 1 / len(phi))
    for _ in range(50):
        theta = theta * ((counts / np.maximum(theta @ phi, 1e-30)) @ phi.T) + prior
        theta /= theta.sum(axis=1, keepdims=True)
    return theta


def test_same_seed_gives_the_same_bytes_for_any_workers(tmp_path: Path):
    small = {"rows": 700, "cols": 3000, "nnz_per_row": 12, "classes": 5, "panel_bytes": 20_000}
    for name, seed, workers in (("a", 0, 1), ("b", 0, 3), ("c", 1, 1)):
        synth("enron", tmp_path / name, seed=seed, workers=workers, **small)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    dataset = Dataset.open(tmp_path / "a")
    assert dataset.info(deep=True)["whole"]
    assert dataset.n_panels > 2
    assert dataset.label_kind == "none"


def test_documents_have_the_frequencies_of_the_planted_topics():
    recipe, X = documents()
    phi = word_probabilities(recipe)
    np.testing.assert_allclose(phi.sum(axis=1), 1, rtol=1e-9)
    sizes = np.diff(np.concatenate([[0.0], recipe.topic_cdf]))
    assert np.abs(X.sum(axis=0) / X.sum() - sizes @ phi).sum() / 2 < 0.02
    assert np.count_nonzero(X) / len(X) == pytest.approx(40, rel=0.05)
    np.testing.assert_array_equal(X, np.rint(X))


def test_topics_are_shared_by_the_splits_and_predict_words_better_than_their_frequencies():
    recipe, X = documents()
    _, test = documents("test", n=300)
    assert not np.array_equal(test, X[:300])
    phi = word_probabilities(recipe)
    first = np.random.default_rng(0).binomial(test.astype(int), 0.5)
    second = test - first
    sizes = np.diff(np.concatenate([[0.0], recipe.topic_cdf]))
    theta = fold_in(phi, first, CONCENTRATION * sizes)
    with_topics = (second * np.log(theta @ phi)).sum() / second.sum()
    without = (second * np.log(sizes @ phi)).sum() / second.sum()
    assert with_topics > without + 0.2
    other = word_probabilities(documents(seed=2, n=1)[0])
    with_others = (second * np.log(fold_in(other, first, CONCENTRATION * sizes) @ other)).sum()
    assert with_others / second.sum() < with_topics - 0.2


def test_documents_have_few_topics_each():
    """With the concentration that is said, the most frequent topic has about as much as Dirichlet draws give it."""
    recipe, X = documents(n=300)
    theta = fold_in(word_probabilities(recipe), X, 1e-3)
    sizes = np.diff(np.concatenate([[0.0], recipe.topic_cdf]))
    drawn = np.random.default_rng(0).dirichlet(CONCENTRATION * sizes, 3000)
    assert theta.max(axis=1).mean() == pytest.approx(drawn.max(axis=1).mean(), abs=0.06)


@pytest.mark.parametrize("name", ["enron", "nytimes", "pubmed", "umbc_3b", "nips", "kos", "ap_data"])
def test_specs_of_documents_have_stand_ins(name: str):
    shape = make_shape(
        load_spec(name), "train", dict.fromkeys(["rows", "cols", "classes", "nnz_per_row"]), "topics"
    )
    assert (shape.values, shape.dense, shape.normalise) == ("counts", False, False)
    assert shape.classes == 64


def test_documents_of_most_words_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="--nnz-per-row is 60, but there are 100 columns; give at most 50"):
        synth("kos", tmp_path / "x.zarr", rows=10, cols=100, nnz_per_row=60)
