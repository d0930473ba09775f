"""Tables of numbers as text: the values, the labels and the names that the file says."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.data.dataset import Dataset
from oocml.data.ingest import ingest
from oocml.data.readers import BadLines, make_reader
from oocml.data.split import ingest_split
from oocml.errors import InputError, UsageError
from tests.data.stored import Stored

numbers = st.one_of(st.integers(-999, 999).map(float), st.floats(-1e6, 1e6, width=32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("csv")


def values_of(path, part_bytes=50, **options):
    reader = make_reader("csv", options)
    parts = reader.parts([str(path)], part_bytes)
    return np.concatenate([batch.X for part in parts for batch in reader.read(part, BadLines(0))])


@given(
    table=st.integers(2, 5).flatmap(
        lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=1, max_size=30)
    ),
    sep=st.sampled_from([",", ";", "\t", " ", "::"]),
    header=st.booleans(),
    quotes=st.booleans(),
    packed=st.booleans(),
    part_bytes=st.integers(5, 80),
)
def test_a_table_is_its_numbers(folder, table, sep, header, quotes, packed, part_bytes):
    cell = '"{!r}"'.format if quotes and len(sep) == 1 and sep != " " else "{!r}".format
    lines = [sep.join(map(cell, row)) for row in table]
    if header:
        lines.insert(0, sep.join(f"name{j}" for j in range(len(table[0]))))
    text = ("\n\n".join(lines) + "\n").encode()
    (folder / "x").write_bytes(gzip.compress(text) if packed else text)
    options = {"sep": sep} if sep == "::" else {}
    np.testing.assert_array_equal(values_of(folder / "x", part_bytes, **options), np.float32(table))


def test_names_labels_and_values_come_from_their_columns(tmp_path, small):
    draw = np.random.default_rng(0)
    table = draw.normal(size=(300, 3)).astype(np.float32)
    kinds = draw.choice(["pear", "fig", "apple"], 300)
    lines = [f"{a!r},{k},{b!r},{c!r}" for (a, b, c), k in zip(table.tolist(), kinds, strict=True)]
    (tmp_path / "x.csv").write_text("\n".join(["a,kind,b,c", *lines]))
    for y in ("kind", "2"):
        ingest("csv", tmp_path / "x.csv", tmp_path / f"{y}.zarr", y=y, panel_bytes=500)
        dataset, stored = Dataset.open(tmp_path / f"{y}.zarr"), Stored(tmp_path / f"{y}.zarr")
        assert dataset.feature_names == ["a", "b", "c"] and not dataset.sparse and dataset.n_panels > 1
        assert dataset.label_names == ["apple", "fig", "pear"]
        np.testing.assert_array_equal(stored.X.toarray(), table)
        assert [dataset.label_names[int(k)] for k in stored.y] == kinds.tolist()


def test_labels_may_be_numbers(tmp_path):
    (tmp_path / "x").write_text("1.5 7 2\n3 8 4\n")
    ingest("csv", tmp_path / "x", tmp_path / "x.zarr", y="2")
    stored = Stored(tmp_path / "x.zarr")
    assert list(stored.y) == [7, 8]
    np.testing.assert_array_equal(stored.X.toarray(), [[1.5, 2], [3, 4]])


def test_numbers_that_the_kernel_leaves_to_python(tmp_path):
    hard = "0.500000029802322387695312500000000000001"
    (tmp_path / "x").write_text(f"1,{hard},2\n")
    np.testing.assert_array_equal(values_of(tmp_path / "x"), [[1, np.float32(hard), 2]])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2", "there are 2 fields, not 3 as in the first line"),
        ("1,2,3,4", "there are 4 fields, not 3"),
        ("1,,3", "field 2 is empty"),
        ("1,2,", "field 3 is empty"),
        ("1,x,3", r"value 'x' of column 2 \(b\) is not a finite number"),
        ("1,2, x", "value 'x' of column 3 "),
        ('"1",2,"""x"', "value '.*x' of column 3 "),
        ("x,2,3", "value 'x' of column 1 "),
        ("1,nan,3", "value 'nan' of column 2 "),
        ("1,1e39,3", "value '1e39' of column 2 .* is out of range"),
        ('1,"2,3', "the quote before .* has no end"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, line, message):
    (tmp_path / "x").write_text(f"\ufeffa,b,c\n1,2,3\n\n{line}\n4,5,6\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"x line 4: {message}"):
        ingest("csv", tmp_path / "x", tmp_path / "x.zarr")
    ingest("csv", tmp_path / "x", tmp_path / "x.zarr", max_bad=1)
    np.testing.assert_array_equal(Stored(tmp_path / "x.zarr").X.toarray(), [[1, 2, 3], [4, 5, 6]])
    assert Dataset.open(tmp_path / "x.zarr").feature_names == ["a", "b", "c"]


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "x").write_text("a,b\n")
    with pytest.raises(InputError, match="has no rows, only 1 lines"):
        ingest("csv", tmp_path / "x", tmp_path / "x.zarr")
    (tmp_path / "x").write_text("a,b\n1,2,3\n")
    with pytest.raises(InputError, match="names 2 columns and has 3 in its first row"):
        ingest("csv", tmp_path / "x", tmp_path / "x.zarr")
    (tmp_path / "x").write_text("1,2,3\n")
    with pytest.raises(InputError, match="no column 'kind' among its 3"):
        ingest("csv", tmp_path / "x", tmp_path / "x.zarr", y="kind")
    with pytest.raises(UsageError, match="can't part numbers"):
        ingest("csv", tmp_path / "x", tmp_path / "x.zarr", sep="-")


def test_dense_rows_are_split_with_their_labels(tmp_path, small):
    rows = [f"{i},{i % 3},{-i}" for i in range(1, 301)]
    (tmp_path / "x").write_text("\n".join(rows))
    ingest_split("csv", tmp_path / "x", tmp_path / "x.zarr", split=0.8, y="2")
    both = [Stored(tmp_path / name) for name in ("x.zarr", "x-test.zarr")]
    found = sorted(
        (a, int(y), b) for part in both for (a, b), y in zip(part.X.toarray(), part.y, strict=True)
    )
    assert found == [(i, i % 3, -i) for i in range(1, 301)]
    assert 30 < both[1].X.shape[0] < 90
