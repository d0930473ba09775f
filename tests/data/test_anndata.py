import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

from oocml.data.anndata import AnndataReader
from oocml.data.readers import make_reader
from oocml.errors import InputError, UsageError
from tests.data.assembling import Assembled

N, D = 60, 23
MATRIX = sp.random_array((N, D), density=0.2, rng=np.random.default_rng(0), dtype=np.float32).tocsr()
KINDS = ["T cell", "B cell", "NK", "T cell", "NK"]


def stored(tmp_path, X=MATRIX, name="cells.zarr", **arguments):
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical([KINDS[i % 5] for i in range(N)]),
            "age": np.arange(N, dtype=np.float64),
            "batch": np.arange(N) % 3,
            "free": np.array([f"note {i}" for i in range(N)], object),
        },
        index=[f"cell{i}" for i in range(N)],
    )
    var = pd.DataFrame(index=[f"gene{j}" for j in range(D)])
    data = anndata.AnnData(X=X, obs=obs, var=var, layers={"doubled": MATRIX * 2})
    data.write_zarr(tmp_path / name, **arguments)
    return tmp_path / name


@pytest.fixture
def tiny_batches(monkeypatch):
    monkeypatch.setattr("oocml.data.sparse_source.BATCH_ENTRIES", 7)
    monkeypatch.setattr("oocml.data.anndata.BATCH_ENTRIES", 50)


def same(got, want):
    np.testing.assert_array_equal(got.X.toarray(), sp.csr_matrix(want).toarray().astype(np.float32))
    assert got.X.shape == want.shape
    assert got.position == list(range(want.shape[0]))


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("part_bytes", [500, 1 << 20])
@pytest.mark.usefixtures("tiny_batches")
def test_matrix_written_by_anndata_comes_back(tmp_path, layout, part_bytes):
    X = MATRIX.toarray() if layout == "dense" else MATRIX.asformat(layout)
    chunks = (17, 11) if layout == "dense" else None
    got = Assembled(AnndataReader(), [stored(tmp_path, X, chunks=chunks)], part_bytes=part_bytes)
    same(got, MATRIX)
    assert got.dense == (layout == "dense")
    assert (len(got.parts) > 1) == (layout != "csc" and part_bytes == 500)
    assert got.schema.label_kind == "none"
    assert got.schema.feature_names == [f"gene{j}" for j in range(D)]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_both_zarr_formats_are_read(tmp_path, zarr_format):
    with anndata.settings.override(zarr_write_format=zarr_format):
        path = stored(tmp_path)
    assert zarr.open_group(path, mode="r").metadata.zarr_format == zarr_format
    got = Assembled(AnndataReader(y="kind"), [path])
    same(got, MATRIX)
    assert got.classes == [KINDS[i % 5] for i in range(N)]


def test_layer_can_be_read_instead(tmp_path):
    same(Assembled(make_reader("anndata", {"layer": "doubled"}), [stored(tmp_path)]), MATRIX * 2)
    with pytest.raises(InputError, match=r"no layers/halved; its layers are doubled"):
        AnndataReader(layer="halved").parts([str(tmp_path / "cells.zarr")], 1 << 20)


def test_matrix_alone_is_read_too(tmp_path):
    """As every panel of a sparse dataset is stored."""
    same(Assembled(AnndataReader(), [stored(tmp_path) / "X"]), MATRIX)


@pytest.mark.parametrize("column", ["kind", "free"])
def test_classes_are_numbered_in_sorted_order_of_their_names(tmp_path, column):
    got = Assembled(AnndataReader(y=column), [stored(tmp_path)], part_bytes=300)
    want = [KINDS[i % 5] for i in range(N)] if column == "kind" else [f"note {i}" for i in range(N)]
    assert got.schema.label_names == sorted(set(want))
    assert got.classes == want
    assert len(got.parts) > 1


@pytest.mark.parametrize(("column", "want"), [("age", np.arange(N)), ("batch", np.arange(N) % 3)])
def test_numbers_are_labels_as_they_are(tmp_path, column, want):
    got = Assembled(AnndataReader(y=column), [stored(tmp_path)])
    assert got.labels == [[float(v)] for v in want]
    assert got.schema.label_kind == "number"


def test_rows_may_have_no_label(tmp_path):
    path = stored(tmp_path)
    group = zarr.open_group(path, mode="a")
    group["obs/kind/codes"][3] = -1
    group["obs/age"][5] = np.nan
    free = group["obs/free"]
    (free["values"] if isinstance(free, zarr.Group) else free)[7] = ""
    for column, row in (("kind", 3), ("age", 5), ("free", 7)):
        got = Assembled(AnndataReader(y=column), [path])
        assert [i for i, labels in enumerate(got.labels) if not labels] == [row]


def test_nullable_column_has_labels_where_it_is_not_masked(tmp_path):
    data = anndata.AnnData(X=MATRIX)
    data.obs["n"] = pd.array([None, *range(1, N)], dtype="Int64")
    data.write_zarr(tmp_path / "x.zarr")
    got = Assembled(AnndataReader(y="n"), [tmp_path / "x.zarr"])
    assert got.labels == [[], *([float(i)] for i in range(1, N))]


def test_bad_value_is_named_by_row(tmp_path):
    X = MATRIX.copy()
    X.data[X.indptr[40]] = np.nan
    path = stored(tmp_path, X)
    got = Assembled(AnndataReader(), [path], part_bytes=500, max_bad=1)
    (part, bad) = next((p, b) for p, b in zip(got.parts, got.bad, strict=True) if b.count)
    assert bad.unit == "row"
    assert part.lo + bad.first_line == 40
    assert got.X.shape[0] == N - 1


def test_other_stores_are_refused(tmp_path):
    path = stored(tmp_path)
    with pytest.raises(UsageError, match="no obs column 'cell'; it has .*age, batch, free, kind"):
        AnndataReader(y="cell").parts([str(path)], 1 << 20)
    with pytest.raises(InputError, match="does not exist"):
        AnndataReader().parts([str(tmp_path / "absent.zarr")], 1 << 20)
    (tmp_path / "x.h5ad").write_bytes(b"\x89HDF")
    with pytest.raises(InputError, match="not an AnnData store.*write_zarr"):
        AnndataReader().parts([str(tmp_path / "x.h5ad")], 1 << 20)
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    with pytest.raises(InputError, match="has no X"):
        AnndataReader().parts([str(tmp_path / "other.zarr")], 1 << 20)
    stored(tmp_path, name="broken.zarr")
    for chunk in (tmp_path / "broken.zarr/X/data").rglob("0*"):
        chunk.write_bytes(b"xx")
    with pytest.raises(InputError, match="broken.zarr/X/data is damaged"):
        Assembled(AnndataReader(), [tmp_path / "broken.zarr"])
