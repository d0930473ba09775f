import gzip

import numpy as np
import pytest

from oocml.data.dataset import Dataset
from oocml.data.ingest import ingest
from oocml.errors import InputError
from tests.data.stored import Stored
from tests.data.svmlight_text import put

TEXT = """# two queries
2 qid:10 1:0.5 3:0.25 # docid = GX1 1:9
0 qid:7 2:1

1\tqid:10 3:1#x
0.5 qid:7 1:0 3:-1
"""


def test_rows_of_a_query_are_together_and_everything_is_kept(tmp_path):
    info = ingest("letor", put(tmp_path / "x", TEXT), tmp_path / "x.zarr")
    stored = Stored(tmp_path / "x.zarr")
    assert (info["n_rows"], info["n_cols"], info["n_queries"], info["label_kind"]) == (4, 3, 2, "number")
    np.testing.assert_array_equal(stored.X.toarray(), [[0.5, 0, 0.25], [0, 1, 0], [0, 0, 1], [0, 0, -1]])
    assert np.array(stored.y).tolist() == [2, 0, 1, 0.5]
    assert stored.qid.tolist() == [10, 7, 10, 7]
    panel = Dataset.open(tmp_path / "x.zarr").read_panel(0)
    assert np.count_nonzero(np.diff(panel.qid)) == 1, "in one piece"
    for query in (7, 10):
        ids = panel.row_ids[panel.qid == query]
        assert ids.tolist() == sorted(ids), "in the order of the source"


def test_panels_never_cut_a_query_wherever_its_rows_are(tmp_path, small):
    rng = np.random.default_rng(0)
    qid = rng.integers(0, 40, 500)
    text = "".join(f"{rng.integers(3)} qid:{q} {rng.integers(1, 9)}:1\n" for q in qid)
    info = ingest("letor", put(tmp_path / "x", text), tmp_path / "x.zarr", panel_bytes=600)
    dataset = Dataset.open(tmp_path / "x.zarr")
    seen = []
    for p in range(dataset.n_panels):
        found = dataset.read_panel(p).qid
        seen += found[np.concatenate([[True], np.diff(found) != 0])].tolist()
    assert dataset.n_panels > 5
    assert sorted(seen) == np.unique(qid).tolist()
    assert info["n_queries"] == dataset.n_queries == len(seen)
    assert dataset.info(deep=True)["whole"]
    np.testing.assert_array_equal(Stored(tmp_path / "x.zarr").qid, qid)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1 1:1", "no qid"),
        ("1", "no qid"),
        ("qid:3 1:1", "no label before 'qid:3'"),
        ("1:1 2:1", "no label before '1:1'"),
        ("1,2 qid:3 1:1", "'1,2' begins with several labels"),
        ("good qid:3 1:1", "label 'good' is not a number"),
        ("1 qid:a 1:1", "'a' is not a query number"),
        ("1 qid:-3 1:1", "'-3' is not a query number"),
        ("1 qid:3 qid:4 1:1", "'4' is not a query number, or not the first"),
        ("1 qid:3 1:x", "value 'x' is not a finite number"),
        ("1 qid:3 1:1 1:2", "index 1 occurs twice"),
    ],
)
def test_a_bad_line_ends_the_ingest_by_name_or_is_counted(tmp_path, line, reason):
    path = put(tmp_path / "x", f"0 qid:1 1:1\n# note\n{line}\n2 qid:1 2:1\n")
    with pytest.raises(InputError, match=f"line 3: {reason}") as caught:
        ingest("letor", path, tmp_path / "x.zarr")
    assert "\n" not in str(caught.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x"]
    assert ingest("letor", path, tmp_path / "x.zarr", max_bad=1)["n_rows"] == 2


def test_rows_with_queries_have_no_order_to_keep(tmp_path):
    with pytest.raises(InputError, match="leave out --keep-order"):
        ingest("letor", put(tmp_path / "x", TEXT), tmp_path / "x.zarr", keep_order=True)


def test_a_test_set_takes_columns_and_index_base_from_the_training_set(tmp_path):
    ingest("letor", put(tmp_path / "x", TEXT), tmp_path / "x.zarr")
    info = ingest(
        "letor", put(tmp_path / "t", "1 qid:4 2:1 9:1\n"), tmp_path / "t.zarr", like=tmp_path / "x.zarr"
    )
    assert (info["n_cols"], info["index_base"], info["dropped_features"]) == (3, 1, 1)


def test_a_dataset_that_lost_its_queries_is_not_whole(tmp_path):
    ingest("letor", put(tmp_path / "x", TEXT), tmp_path / "x.zarr")
    (tmp_path / "x.zarr" / "qid" / "c" / "0").unlink()
    assert "chunk qid/c/0 is missing" in Dataset.open(tmp_path / "x.zarr").info()["problem"]


@pytest.mark.parametrize("name", ["S1", "S5"])
def test_mq2008_has_its_queries(tmp_path, shared_data, name):
    path = shared_data("mq2008") / f"{name}.txt.gz"
    info = ingest("letor", path, tmp_path / "x.zarr")
    with gzip.open(path, "rt") as file:
        fields = [line.split(maxsplit=2)[:2] for line in file]
    stored = Stored(tmp_path / "x.zarr")
    assert info["n_cols"] == 46
    assert info["n_queries"] == len({query for _, query in fields})
    assert [f"qid:{query}" for query in stored.qid] == [query for _, query in fields]
    assert np.array(stored.y).tolist() == [float(grade) for grade, _ in fields]
