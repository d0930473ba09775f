"""A dense table of ratings is read as the ratings that it holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.data.ingest import ingest
from oocml.data.ratings_matrix import RatingsMatrixReader
from oocml.data.readers import BadLines, TooManyBad, make_reader
from oocml.data.split import ingest_split
from oocml.errors import InputError, UsageError
from tests.data.rating_lines import read, stored

cells = st.one_of(st.none(), st.just(99.0), st.floats(-10, 10, width=16))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@given(
    table=st.integers(2, 5).flatmap(lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1)),
    skip=st.integers(0, 1),
    sep=st.sampled_from([",", ";", "\t"]),
)
def test_a_table_is_its_ratings(folder, table, skip, sep):
    lines = [sep.join("" if cell is None else repr(cell) for cell in row) for row in table]
    lines = [line for line in lines if line.strip()]
    table = [row for row in table if sep != "\t" or any(cell is not None for cell in row)]
    if not lines:
        return
    (folder / "x").write_text("\n\n".join(lines) + "\n")
    wanted = {
        (str(i + 1), str(j + 1)): cell
        for i, row in enumerate(table)
        for j, cell in enumerate(row[skip:])
        if cell not in (None, 99.0)
    }
    assert read([folder / "x"], reader=RatingsMatrixReader, skip=skip, missing=99, sep=sep) == wanted


def test_a_first_user_without_ratings_is_no_header(tmp_path):
    (tmp_path / "x").write_text(",,\n,,2\n")
    assert read([tmp_path / "x"], reader=RatingsMatrixReader) == {("2", "3"): 2.0}


def test_numbers_that_the_kernel_leaves_to_python(tmp_path):
    hard = "0.500000029802322387695312500000000000001"
    (tmp_path / "x").write_text(f"1,{hard},2\n")
    found = read([tmp_path / "x"], reader=RatingsMatrixReader)
    assert found == {("1", "1"): 1.0, ("1", "2"): float(np.float32(hard)), ("1", "3"): 2.0}


@pytest.mark.parametrize(
    ("line", "reason"), [("1,2", "there are 2 fields, not 3"), ("1,x,3", "value 'x' is not a finite number")]
)
def test_a_bad_line_is_named_and_keeps_its_number(tmp_path, line, reason):
    (tmp_path / "x").write_text(f"count,a,b\n1,5,6\n\n{line}\n1,7,\n")
    reader, bad = RatingsMatrixReader(skip=1), BadLines(0)
    with pytest.raises(TooManyBad):
        list(reader.read(reader.parts([str(tmp_path / "x")], 100)[0], bad))
    assert bad.first_line + 1 == 4
    assert bad.first_reason.startswith(reason)
    found = read([tmp_path / "x"], reader=RatingsMatrixReader, max_bad=1, skip=1)
    assert found == {("1", "1"): 5.0, ("1", "2"): 6.0, ("3", "1"): 7.0}


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "x").write_text("1,2\n")
    path = str(tmp_path / "x")
    with pytest.raises(UsageError, match="is one file, not 2"):
        RatingsMatrixReader().parts([path, path], 100)
    with pytest.raises(InputError, match="skip=2 leaves none"):
        RatingsMatrixReader(skip=2).parts([path], 100)
    with pytest.raises(UsageError, match="must be numbers"):
        make_reader("ratings-matrix", {"missing": "none"})


def test_real_jokes_are_rated_as_the_file_says(tmp_path, shared_data):
    path = shared_data("jester/jester-data-1.csv.gz")
    result = ingest("ratings-matrix", path, tmp_path / "x.zarr", skip=1, missing=99)
    assert (result["n_rows"], result["n_cols"], result["nnz"]) == (24_983, 100, 1_810_455)


def test_a_table_can_be_split(tmp_path):
    draw = np.random.default_rng(0)
    table = draw.integers(1, 6, (30, 12))
    (tmp_path / "x").write_text("\n".join(",".join(map(str, row)) for row in table))
    ingest_split("ratings-matrix", tmp_path / "x", tmp_path / "x.zarr", split=0.7)
    both = stored(tmp_path / "x.zarr") | stored(tmp_path / "x-test.zarr")
    assert both == {(str(i + 1), str(j + 1)): table[i, j] for i in range(30) for j in range(12)}
