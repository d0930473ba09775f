import functools
import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from oocml.metrics import classification as c
from oocml.types import LabelSets


def best_classes(scores, k=c.DEPTH):
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def random_sets(rng, n_rows, n_classes, most):
    """Label sets with at least one label a row, as an indicator matrix and as `LabelSets`."""
    indicator = np.zeros((n_rows, n_classes), dtype=bool)
    for row in indicator:
        row[rng.choice(n_classes, rng.integers(1, most + 1), replace=False)] = True
    return indicator, as_sets(indicator)


def as_sets(indicator):
    rows, ids = np.nonzero(indicator)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=len(indicator)))))
    return LabelSets(indptr, ids.astype(np.int32))


def exact_equal(a, b):
    return all(
        exact_equal(x, y) if isinstance(x, tuple) else np.array_equal(x, y, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_single_labels_agree_with_scikit_learn(rng):
    n, n_classes = 400, 12
    y = rng.integers(0, n_classes - 2, n)  # two classes never occur
    z = rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[y]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    ours = c.scores(c.accumulate(best_classes(z), c.single_truth(y), -np.log(p[np.arange(n), y])))
    predicted = z.argmax(axis=1)
    assert ours["accuracy"] == pytest.approx(reference.accuracy_score(y, predicted))
    assert ours["f1_macro"] == pytest.approx(reference.f1_score(y, predicted, average="macro"))
    assert ours["f1_micro"] == pytest.approx(reference.f1_score(y, predicted, average="micro"))
    assert ours["log_loss"] == pytest.approx(reference.log_loss(y, p, labels=range(n_classes)))
    for k in c.LEVELS:
        hits = reference.top_k_accuracy_score(y, z, k=k, labels=range(n_classes))
        assert ours[f"precision_at_{k}"] == pytest.approx(hits / k)
    assert (ours["n_rows"], ours["n_unlabelled"], ours["n_unseen"]) == (n, 0, 0)


def test_label_sets_agree_with_scikit_learn(rng):
    n, n_classes = 300, 15
    indicator, sets = random_sets(rng, n, n_classes, most=8)
    z = rng.normal(size=(n, n_classes)) + indicator
    ours = c.scores(c.accumulate(best_classes(z), c.set_truth(sets)))
    one_hot = np.eye(n_classes, dtype=bool)[z.argmax(axis=1)]
    assert ours["f1_macro"] == pytest.approx(reference.f1_score(indicator, one_hot, average="macro"))
    assert ours["f1_micro"] == pytest.approx(reference.f1_score(indicator, one_hot, average="micro"))
    for k in c.LEVELS:
        assert ours[f"ndcg_at_{k}"] == pytest.approx(reference.ndcg_score(indicator, z, k=k))
        hits = np.take_along_axis(indicator, best_classes(z, k), axis=1)
        assert ours[f"precision_at_{k}"] == pytest.approx(hits.mean())
    assert ours["accuracy"] == ours["precision_at_1"]


@given(
    y=hnp.arrays(np.int64, st.integers(0, 30), elements=st.integers(-3, 6)),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    seed=st.integers(0, 99),
)
def test_batches_merge_to_the_whole(y, cuts, seed):
    y = np.where(y == -3, c.UNLABELLED, y)
    rng = np.random.default_rng(seed)
    top = best_classes(rng.integers(0, 9, (y.size, 7)))
    losses = rng.integers(0, 9, y.size) / 8.0  # sums of these are exact
    edges = sorted({0, y.size, *(min(cut, y.size) for cut in cuts)})
    whole = c.accumulate(top, c.single_truth(y), losses)
    parts = [
        c.accumulate(top[a:b], c.single_truth(y[a:b]), losses[a:b]) for a, b in itertools.pairwise(edges)
    ]
    merged, pairwise = c.merge(parts), functools.reduce(lambda a, b: c.merge([a, b]), parts, c.merge([]))
    for total in (merged, pairwise):
        exact = total._replace(ndcg=whole.ndcg)
        assert exact_equal(exact, whole)
        np.testing.assert_allclose(total.ndcg, whole.ndcg)


def test_rows_without_label_are_counted_and_ignored():
    top = np.array([[0, 1], [1, 0], [0, 1]])
    y = np.array([0, c.UNLABELLED, 1])
    ours = c.scores(c.accumulate(top, c.single_truth(y), np.array([0.5, 99.0, 1.5])))
    assert (ours["n_rows"], ours["n_unlabelled"]) == (2, 1)
    assert ours["accuracy"] == 0.5
    assert ours["log_loss"] == 1.0


def test_unseen_classes_are_misses_and_counted():
    labels = np.array([-1.0, 1.0, 7.0])
    y = np.array([1.0, 3.0, 3.0, -3.0, 7.0])
    truth = c.single_truth(c.label_codes(y, labels))
    top = np.array([[1, 0], [1, 2], [0, 1], [2, 1], [2, 1]])
    ours = c.scores(c.accumulate(top, truth, np.array([0.1, np.nan, np.nan, np.nan, 0.3])))
    predicted = labels[top[:, 0]]
    assert ours["n_unseen"] == 3
    assert ours["accuracy"] == pytest.approx(reference.accuracy_score(y, predicted))
    assert ours["f1_macro"] == pytest.approx(reference.f1_score(y, predicted, average="macro"))
    assert ours["log_loss"] == pytest.approx(0.2)


@given(
    y=st.lists(st.integers(-(2**40), 2**40).map(float) | st.sampled_from([math.nan, 0.5]), max_size=20),
    labels=st.sets(st.integers(-5, 5), max_size=8),
)
def test_label_codes_tell_labels_apart(y, labels):
    y, labels = np.array(y, dtype=float), np.array(sorted(labels), dtype=float)
    codes = c.label_codes(y, labels)
    for value, code in zip(y, codes, strict=True):
        if math.isnan(value):
            assert code == c.UNLABELLED
        elif value in labels:
            assert labels[code] == value
        else:
            assert c.UNLABELLED < code < 0
    assert len(set(codes)) == len(set(y[~np.isnan(y)])) + bool(np.isnan(y).any())


def test_sets_are_mapped_to_the_classes_of_the_model():
    sets = LabelSets(np.array([0, 2, 2, 3]), np.array([0, 2, 1], dtype=np.int32))
    truth = c.set_truth(sets, np.array([4, -1, 3]))
    total = c.accumulate(np.array([[3, 4], [3, 4], [3, 4]]), truth)
    assert (total.n_rows, total.n_unlabelled, total.n_unseen) == (2, 1, 1)
    assert total.hits.tolist() == [1, 2, 2, 2, 2]
    assert total.ndcg == pytest.approx([1, 1, 1, 1, 1])


def test_fewer_classes_than_ranks():
    top = np.array([[1, 0, -1], [0, 1, -1]])
    ours = c.scores(c.accumulate(top, c.single_truth([1, 1])))
    assert ours["precision_at_5"] == pytest.approx(1 / 5)
    assert ours["ndcg_at_5"] == pytest.approx((1 + 1 / math.log2(3)) / 2)


def test_no_rows_at_all():
    ours = c.scores(c.merge([c.accumulate(np.zeros((0, 5), dtype=np.int64), c.single_truth([]))]))
    assert ours["n_rows"] == 0
    assert all(math.isnan(value) for name, value in ours.items() if not name.startswith("n_"))


def test_many_classes_need_memory_for_those_that_occur(rng):
    n, n_classes = 2000, 10**9
    top = rng.integers(0, n_classes, (n, 5))
    y = np.where(rng.random(n) < 0.5, top[:, 2], rng.integers(0, n_classes, n))
    tracemalloc.start()
    parts = [c.accumulate(top[a : a + 500], c.single_truth(y[a : a + 500])) for a in range(0, n, 500)]
    ours = c.scores(c.merge(parts))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ours["precision_at_3"] == pytest.approx(np.mean(y == top[:, 2]) / 3)
    assert peak < 4e6
