"""NPMI of pairs of top words: the definition, its ends, and counts that add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oocml.metrics.coherence import Cooccurrence, mean_npmi, merge, npmi

present = hnp.arrays(bool, st.tuples(st.integers(1, 30), st.just(6)))
PLACES = np.array([[0, 1, 2], [2, 4, 5]])


def count_documents(documents, places):
    """Documents that have the words at ``places``, alone and in pairs."""
    codf = np.array([documents[:, own].T.astype(int) @ documents[:, own] for own in places])
    return Cooccurrence(len(documents), np.einsum("ktt->kt", codf), codf)


def by_definition(documents, places):
    """The mean over pairs, one pair and document at a time."""
    values, n = [], len(documents)
    for one in range(len(places)):
        for other in range(one):
            v, w = documents[:, places[one]], documents[:, places[other]]
            if not v.any() or not w.any():
                continue
            p = (v & w).sum() / n
            if p == 0:
                values.append(-1.0)
            elif p == 1:
                values.append(1.0)
            else:
                values.append(np.log(p / (v.mean() * w.mean())) / -np.log(p))
    return np.mean(values) if values else np.nan


@given(documents=present)
def test_a_topic_has_the_mean_over_its_pairs(documents):
    counts = count_documents(documents, PLACES)
    wanted = [by_definition(documents, places) for places in PLACES]
    np.testing.assert_allclose(npmi(counts), wanted, atol=1e-12)
    known = [value for value in wanted if not np.isnan(value)]
    assert mean_npmi(counts) == pytest.approx(np.mean(known) if known else np.nan, nan_ok=True)
    assert np.all((npmi(counts) >= -1 - 1e-12) & (npmi(counts) <= 1 + 1e-12) | np.isnan(npmi(counts)))


@given(documents=present, cut=st.integers(0, 30))
def test_counts_of_batches_add_up(documents, cut):
    parts = [count_documents(documents[:cut], PLACES), count_documents(documents[cut:], PLACES)]
    for whole, sum_ in zip(count_documents(documents, PLACES), merge(*parts), strict=True):
        np.testing.assert_array_equal(whole, sum_)


def test_independent_words_have_0_and_inseparable_ones_1():
    documents = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    counts = count_documents(documents, np.array([[0, 1], [2, 3], [0, 2]]))
    np.testing.assert_allclose(npmi(counts), [0, 1, 1], atol=1e-12)


def test_no_document_says_nothing():
    counts = Cooccurrence(0, np.zeros((2, 3), np.int64), np.zeros((2, 3, 3), np.int64))
    assert np.isnan(npmi(counts)).all()
    assert np.isnan(mean_npmi(counts))
