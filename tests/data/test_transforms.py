import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer

from oocml.data import transforms
from oocml.errors import InputError, UsageError
from oocml.types import Csr


def as_csr(M):
    M = sp.csr_matrix(M)
    return Csr(M.indptr.astype(np.int64), M.indices.astype(np.int32), M.data.astype(np.float32))


def as_scipy(X, n_cols):
    return sp.csr_matrix((X.data, X.indices, X.indptr), shape=(X.indptr.size - 1, n_cols))


def counts(n_rows, n_cols, seed, density=0.3):
    rng = np.random.default_rng(seed)
    dense = rng.integers(1, 9, (n_rows, n_cols)) * (rng.random((n_rows, n_cols)) < density)
    return sp.csr_matrix(dense.astype(np.float32))


def fitted(kind, parts, n_cols):
    state = transforms.fit_start(kind)
    for part in parts:
        state = transforms.accumulate(state, as_csr(part))
    return transforms.finish(state, n_cols)


def test_tfidf_equals_scikit_learn():
    train, test = counts(60, 40, 0), counts(20, 40, 1)
    oracle = TfidfTransformer(sublinear_tf=True).fit(train.astype(np.float64))
    transform = fitted("tfidf", [train[:7], train[7:7], train[7:]], 40)
    for M in (train, test):
        got = as_scipy(transforms.apply(transform, as_csr(M)), 40)
        np.testing.assert_allclose(got.toarray(), oracle.transform(M.astype(np.float64)).toarray(), atol=1e-6)


@given(cuts=st.lists(st.integers(0, 30), max_size=4), seed=st.integers(0, 5), swap=st.booleans())
def test_any_split_and_grouping_of_the_rows_fits_the_same(cuts, seed, swap):
    M = counts(30, 17, seed)
    edges = [0, *sorted(cuts), 30]
    states = [
        transforms.accumulate(transforms.fit_start("tfidf"), as_csr(M[a:b]))
        for a, b in itertools.pairwise(edges)
    ]
    merged = transforms.fit_start("tfidf", 3)
    for state in states:
        merged = transforms.merge(state, merged) if swap else transforms.merge(merged, state)
    whole = fitted("tfidf", [M], 17)
    got = transforms.finish(merged, 17)
    assert got.n_rows == 30
    np.testing.assert_array_equal(got.idf, whole.idf)


def test_merge_changes_neither_state():
    a = transforms.accumulate(transforms.fit_start("tfidf"), as_csr(counts(5, 9, 0)))
    b = transforms.accumulate(transforms.fit_start("tfidf"), as_csr(counts(5, 4, 1)))
    before = a.df.copy(), b.df.copy()
    transforms.merge(a, b)
    transforms.merge(b, a)
    np.testing.assert_array_equal(a.df, before[0])
    np.testing.assert_array_equal(b.df, before[1])


def test_columns_never_seen_in_training_have_the_largest_weight():
    transform = fitted("tfidf", [counts(10, 5, 0, density=1.0)], 8)
    assert transform.idf.shape == (8,)
    np.testing.assert_allclose(transform.idf[:5], 1.0)
    np.testing.assert_allclose(transform.idf[5:], np.log(11) + 1)


@pytest.mark.parametrize(("kind", "function"), [("binary", lambda v: (v != 0) * 1.0), ("log1p", np.log1p)])
def test_simple_kinds_map_each_value(kind, function):
    values = np.array([3, -0.5, 0, 1e6, 1e-8], np.float32)
    X = Csr(np.array([0, 3, 5]), np.array([0, 1, 2, 0, 4], np.int32), values.copy())
    got = transforms.apply(fitted(kind, [], 5), X)
    np.testing.assert_allclose(got.data, function(values.astype(np.float64)), rtol=1e-6)
    assert got.data.dtype == np.float32


def test_none_changes_nothing():
    X = as_csr(counts(4, 4, 0))
    assert transforms.apply(fitted("none", [], 4), X) is X


def test_apply_works_in_place_where_it_can():
    X = as_csr(counts(4, 4, 0))
    assert transforms.apply(fitted("log1p", [], 4), X).data is X.data
    frozen = X._replace(data=X.data.copy())
    frozen.data.flags.writeable = False
    before = frozen.data.copy()
    transforms.apply(fitted("log1p", [], 4), frozen)
    np.testing.assert_array_equal(frozen.data, before)


def test_stored_zeros_count_as_absent():
    X = Csr(np.array([0, 2, 3]), np.array([0, 1, 1], np.int32), np.array([2, 0, 1], np.float32))
    state = transforms.accumulate(transforms.fit_start("tfidf"), X)
    np.testing.assert_array_equal(state.df, [1, 1])
    got = transforms.apply(transforms.finish(state), X)
    np.testing.assert_allclose(got.data, [1, 0, 1])


def test_empty_rows_stay_empty():
    X = Csr(np.array([0, 0, 1, 1]), np.array([0], np.int32), np.array([5], np.float32))
    got = transforms.apply(fitted("tfidf", [], 1), X)
    np.testing.assert_array_equal(got.indptr, [0, 0, 1, 1])
    np.testing.assert_allclose(got.data, [1])


@pytest.mark.parametrize(
    ("kind", "value"), [("tfidf", -2.0), ("log1p", -1.0), ("tfidf", np.nan), ("log1p", np.nan)]
)
def test_value_without_a_transform_is_refused_with_its_row(kind, value):
    X = Csr(np.array([0, 0, 1, 3]), np.array([0, 1, 2], np.int32), np.array([1, 2, value], np.float32))
    with pytest.raises(InputError, match=r"row 3, column 2: value (nan|-\d)"):
        transforms.apply(fitted(kind, [], 3), X)
    with pytest.raises(InputError, match=r"row 1001, column 2"):
        transforms.apply(fitted(kind, [], 3), X, row_ids=np.array([5, 6, 1000]))


def test_column_outside_the_fit_is_refused():
    with pytest.raises(InputError, match="column 4 .* 3 columns"):
        transforms.apply(
            fitted("tfidf", [], 3), Csr(np.array([0, 1]), np.array([4], np.int32), np.ones(1, np.float32))
        )
    with pytest.raises(InputError, match="fitted on"):
        fitted("tfidf", [counts(5, 9, 0, density=1.0)], 3)


def test_unknown_kind_names_the_known_ones():
    with pytest.raises(UsageError, match=r"'tfdif'.*none, binary, log1p, tfidf"):
        transforms.fit_start("tfdif")


@pytest.mark.parametrize("kind", transforms.KINDS)
def test_stored_transform_comes_back_the_same(kind):
    transform = fitted(kind, [counts(9, 6, 0)], 6)
    back = transforms.from_stored(transform.attrs(), transform.arrays())
    assert back[:2] == transform[:2]
    np.testing.assert_array_equal(back.idf, transform.idf)
    assert transforms.needs_fit(kind) == (kind == "tfidf")


def test_tfidf_without_its_array_is_refused():
    with pytest.raises(InputError, match="no idf"):
        transforms.from_stored({"kind": "tfidf", "n_rows": 3}, {})
