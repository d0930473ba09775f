import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oocml.data.entry_spill import EntrySpill


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(st.tuples(st.integers(5, 40), st.integers(0, 6), st.integers(1, 9)), max_size=120),
    expected=st.integers(1, 200),
)
@pytest.mark.usefixtures("tiny_batches")
def test_entries_in_any_order_become_rows_in_order(tmp_path_factory, entries, expected):
    rows, columns, values = np.array(entries, np.int64).reshape(-1, 3).T
    folder = tmp_path_factory.mktemp("spill")
    spill = EntrySpill(str(folder), 5, 41, 7, expected)
    for k in range(0, len(rows), 11):
        spill.add(rows[k : k + 11], columns[k : k + 11], values[k : k + 11])
    pieces = list(spill.iter_rows())
    assert [lo for lo, _ in pieces] == np.cumsum([5, *(M.shape[0] for _, M in pieces)])[:-1].tolist()
    want = sp.coo_matrix((values, (rows - 5, columns)), shape=(36, 7)).toarray()
    np.testing.assert_array_equal(np.vstack([M.toarray() for _, M in pieces]), want)
    assert not [path for path in folder.rglob("*") if path.is_file()]
