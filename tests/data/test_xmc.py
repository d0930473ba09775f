import numpy as np
import pytest

from oocml.data.ingest import ingest
from oocml.errors import InputError
from tests.data.stored import Stored

TEXT = """5 4 3
0,2 0:1.5 3:2
 1:1
1
0 2:0.5

"""


def write(tmp_path, text, name="x.txt"):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_rows_without_labels_features_or_both_are_kept(tmp_path):
    result = ingest("xmc", write(tmp_path, TEXT), tmp_path / "x.zarr")
    stored = Stored(tmp_path / "x.zarr")
    assert result["n_rows"] == 5
    assert stored.y == [{0, 2}, set(), {1}, {0}, set()]
    np.testing.assert_array_equal(
        stored.X.toarray(), [[1.5, 0, 0, 2], [0, 1, 0, 0], [0] * 4, [0, 0, 0.5, 0], [0] * 4]
    )
    assert stored.dataset.index_base == 0


def test_header_gives_labels_and_columns_that_never_occur(tmp_path):
    result = ingest("xmc", write(tmp_path, "1 9 7\n2 0:1\n"), tmp_path / "x.zarr")
    assert (result["n_cols"], result["n_classes"]) == (9, 7)


def test_test_file_with_the_same_header_fits_its_training_set(tmp_path):
    ingest("xmc", write(tmp_path, TEXT), tmp_path / "x.zarr")
    test = write(tmp_path, "1 4 3\n1 3:1\n", "t.txt")
    ingest("xmc", test, tmp_path / "t.zarr", like=tmp_path / "x.zarr")
    assert Stored(tmp_path / "t.zarr").y == [{1}]
    other = write(tmp_path, "1 5 3\n1 3:1\n", "o.txt")
    with pytest.raises(InputError, match="5 features, the training set .* has 4"):
        ingest("xmc", other, tmp_path / "o.zarr", like=tmp_path / "x.zarr")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1:1\n", r"line 1: .* is not a header"),
        ("1 2 3 4\n", "is not a header"),
        ("2 4 3\n0 0:1\n", "header promises 2 rows, 1 lines follow"),
        ("1 4 3\n0 0:1\n1 0:1\n", "header promises 1 rows, 2 lines follow"),
        ("2 4 3\n0 0:1\n1 4:1\n", "line 3: index of '4:1' is beyond 3"),
        ("2 4 3\n0 0:1\n3 1:1\n", "line 3: label '3' is not one of the 3 labels"),
        ("2 4 3\n0 0:1\n1.5 1:1\n", "line 3: label '1.5' is not one of"),
        ("2 4 3\n0 0:1\n-1 1:1\n", "line 3: label '-1' is not one of"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        ingest("xmc", write(tmp_path, text), tmp_path / "x.zarr")
    assert not (tmp_path / "x.zarr.partial").exists()


def test_a_bad_line_counts_as_one_of_the_rows_promised(tmp_path):
    result = ingest("xmc", write(tmp_path, "2 4 3\n0 0:1\n1 x:1\n"), tmp_path / "x.zarr", max_bad=1)
    assert (result["n_rows"], result["bad_lines"]) == (1, 1)


def test_files_with_different_headers_are_refused(tmp_path):
    a, b = write(tmp_path, "1 4 3\n0 0:1\n", "a"), write(tmp_path, "1 4 2\n0 0:1\n", "b")
    with pytest.raises(InputError, match="4 features and 2 labels"):
        ingest("xmc", [a, b], tmp_path / "x.zarr")
