import errno
import io
import os
import pickle

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
import zarr

from oocml.data.dataset import Dataset, open_cached
from oocml.data.writer import DatasetWriter
from oocml.errors import DamagedStore, InputError
from oocml.types import Csr, LabelSets, Panel

X = sp.random(60, 9, density=0.3, format="csr", random_state=0, dtype=np.float32)
X.sort_indices()


def panel_of(rows, y=None):
    part = X[rows]
    return Panel(Csr(part.indptr.astype(np.int64), part.indices, part.data), y, np.asarray(rows, np.int64))


@pytest.fixture
def path(tmp_path):
    writer = DatasetWriter(tmp_path / "d.zarr", n_cols=9, label_kind="number")
    for p in range(3):
        rows = np.arange(20 * p, 20 * p + 20)
        writer.write_panel(p, panel_of(rows, rows % 4.0))
    return writer.finish(n_panels=3, feature_names=[f"f{j}" for j in range(9)], attrs={"index_base": 1})


def test_panels_hold_what_was_written(path):
    dataset = Dataset.open(path)
    panel = dataset.read_panel(1)
    np.testing.assert_array_equal(panel.row_ids, np.arange(20, 40))
    np.testing.assert_array_equal(panel.y, np.arange(20, 40) % 4.0)
    for got, wanted in zip(panel.X, panel_of(np.arange(20, 40)).X, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)
    assert all(a.flags.writeable for a in panel.X)


def test_attributes_describe_the_data(path):
    dataset = Dataset.open(path)
    assert (dataset.n_rows, dataset.n_cols, dataset.nnz, dataset.n_panels) == (60, 9, X.nnz, 3)
    assert dataset.sparse
    assert dataset.label_kind == "number"
    assert dataset.index_base == 1
    assert dataset.feature_names == [f"f{j}" for j in range(9)]
    assert dataset.transform == {"kind": "none"}
    np.testing.assert_array_equal(dataset.labels, [0, 1, 2, 3])
    np.testing.assert_array_equal(dataset.feature_nnz, X.getnnz(axis=0))
    np.testing.assert_allclose(dataset.feature_sumsq, X.power(2).sum(axis=0).A1, rtol=1e-6)


def test_panel_bytes_is_the_size_in_memory(path):
    dataset = Dataset.open(path)
    panel = dataset.read_panel(2)
    assert dataset.panel_bytes(2) == sum(a.nbytes for a in (*panel.X, panel.y, panel.row_ids))


def test_lazy_array_equals_the_rows(path):
    lazy = Dataset.open(path).X
    assert lazy.chunks == ((20, 20, 20), (9,))
    block = lazy.blocks[1, 0].compute()
    np.testing.assert_array_equal(block.to_scipy_sparse().toarray(), X[20:40].toarray())


def test_every_panel_is_an_anndata_matrix(path):
    matrix = anndata.io.sparse_dataset(zarr.open_group(path, mode="r")["panels/2/X"])[:]
    np.testing.assert_array_equal(matrix.toarray(), X[40:].toarray())


def test_pickled_dataset_is_its_path(path):
    dataset = Dataset.open(path)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 500
    assert pickle.loads(pickled).n_rows == 60
    assert open_cached(path) is open_cached(path)


def test_label_sets_come_back(tmp_path):
    writer = DatasetWriter(tmp_path / "d.zarr", n_cols=9, label_kind="sets")
    sets = LabelSets(np.array([0, 2, 2, 3]), np.array([0, 1, 1], np.int32))
    for p in (1, 0):
        writer.write_panel(p, panel_of(range(3), sets))
    dataset = Dataset.open(writer.finish(n_panels=2, labels=[7, 9]))
    for p in (0, 1):
        y = dataset.read_labels(p)
        np.testing.assert_array_equal(y.indptr, sets.indptr)
        np.testing.assert_array_equal(y.indices, sets.indices)
        panel = dataset.read_panel(p)
        arrays = (*panel.X, *panel.y, panel.row_ids)
        assert dataset.panel_bytes(p) == sum(a.nbytes for a in arrays)
    np.testing.assert_array_equal(dataset.labels, [7, 9])


def test_dense_panels_come_back(tmp_path):
    values = np.random.default_rng(0).random((25, 4)).astype(np.float32)
    values[3] = 0
    writer = DatasetWriter(tmp_path / "d.zarr", n_cols=4, label_kind="none", sparse=False)
    for p in (0, 2, 1):
        rows = np.arange(10 * p, min(10 * p + 10, 25))
        writer.write_dense_panel(p, values[rows], panel_of(rows), 10 * p)
    dataset = Dataset.open(writer.finish(n_panels=3))
    np.testing.assert_array_equal(dataset.read_dense_panel(2), values[20:])
    np.testing.assert_array_equal(dataset.X.compute(), values)
    sparse = dataset.read_panel(0).X
    wanted = sp.csr_matrix(values[:10])
    np.testing.assert_array_equal(sparse.indices, wanted.indices)
    np.testing.assert_array_equal(sparse.indptr, wanted.indptr)
    np.testing.assert_array_equal(dataset.feature_nnz, np.count_nonzero(values, axis=0))
    assert dataset.info(deep=True)["problem"] is None
    assert zarr.open_group(dataset.path)["X"].shape == (25, 4)


def test_whole_dataset_has_no_problem(path):
    info = Dataset.open(path).info(deep=True)
    assert info["whole"]
    assert info["problem"] is None
    assert info["n_classes"] == 4
    assert info["n_row_blocks"] == 3


@pytest.mark.parametrize("name", ["panels/1/X/data/c/0", "panels/0/X/indptr/c/0", "row_ids/c/0", "y/c/0"])
def test_missing_or_cut_chunk_is_named_and_never_read_as_zeros(path, tmp_path, name):
    chunk = tmp_path / "d.zarr" / name
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    dataset = Dataset.open(path)
    assert name.split("/c/")[0] in dataset.info()["problem"]
    chunk.unlink()
    assert not dataset.info()["whole"]
    with pytest.raises(DamagedStore, match="missing"):
        list(map(dataset.read_panel, range(3)))


@pytest.mark.parametrize("name", ["indptr", "indices", "data"])
def test_altered_panel_is_refused_by_whoever_reads_it(path, tmp_path, name):
    flip_a_bit(tmp_path / "d.zarr/panels/1/X" / name / "c/0")
    dataset = Dataset.open(path)
    assert dataset.info()["whole"]
    assert "panel 1 was altered" in dataset.info(deep=True)["problem"]
    dataset.read_panel(0)
    with pytest.raises(DamagedStore, match="panel 1 was altered .*ingest the dataset again"):
        dataset.read_panel(1)
    with pytest.raises(DamagedStore, match="panel 1 was altered"):
        dataset.X.compute(scheduler="synchronous")


def test_altered_dense_panel_is_refused(tmp_path):
    writer = DatasetWriter(tmp_path / "d.zarr", n_cols=9, label_kind="none", sparse=False)
    writer.write_dense_panel(0, X.toarray(), panel_of(range(60)), 0)
    dataset = Dataset.open(writer.finish(n_panels=1))
    flip_a_bit(tmp_path / "d.zarr/X/c/0/0")
    with pytest.raises(DamagedStore, match="panel 0 was altered"):
        dataset.read_panel(0)


def flip_a_bit(chunk):
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.write_bytes(content)


@pytest.fixture
def labelled(tmp_path):
    writer = DatasetWriter(tmp_path / "d.zarr", n_cols=9, label_kind="sets")
    sets = LabelSets(np.array([0, 2, 2, 3]), np.array([0, 1, 1], np.int32))
    for p in range(2):
        writer.write_panel(p, panel_of(range(3), sets))
    return writer.finish(n_panels=2, labels=[7, 9], label_names=["seven", "nine"])


@pytest.mark.parametrize(
    ("name", "at", "value", "what"),
    [
        ("y/indptr", 4, 99, "pointers to the labels of panel 1"),
        ("y/indptr", 1, 3, "pointers to the labels of panel 0"),
        ("y/indices", 3, 2, "panel 1 has labels outside 0..1"),
        ("y/indices", 0, -1, "panel 0 has labels outside 0..1"),
        ("labels", 1, 7, "labels are not in increasing order"),
        ("row_ids", 5, -(2**62), "panel 1 has row numbers below 0"),
        ("feature_nnz", 8, 2**40, "columns have"),
        ("feature_sumsq", 0, np.nan, "statistics of columns 0..8"),
    ],
)
def test_what_cannot_be_is_found_where_there_is_no_checksum(labelled, name, at, value, what):
    assert Dataset.open(labelled).problem(deep=True) is None
    zarr.open_array(f"{labelled}/{name}", mode="r+")[at] = value
    assert Dataset.open(labelled).info()["whole"]
    assert what in Dataset.open(labelled).problem(deep=True)


def test_names_that_are_no_text_are_found(labelled, tmp_path):
    chunk = tmp_path / "d.zarr/label_names/c/0"
    chunk.write_bytes(chunk.read_bytes().replace(b"nine", b"\xff\xff\xff\xff"))
    assert "label_names is damaged" in Dataset.open(labelled).problem(deep=True)


def test_labels_without_names_beside_some_with_are_found(tmp_path):
    writer = DatasetWriter(tmp_path / "d.zarr", n_cols=9, label_kind="number")
    writer.write_panel(0, panel_of(range(3), np.array([7.0, 9.0, 7.0])))
    path = writer.finish(n_panels=1, labels=[7, 9], label_names=["seven"])
    assert "1 labels have names, not 2" in Dataset.open(path).problem(deep=True)


def test_missing_panel_is_found(path, tmp_path):
    (tmp_path / "d.zarr/panels/2/X/data/zarr.json").unlink()
    assert "panels/2/X/data" in Dataset.open(path).info()["problem"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.mkdir(), "not an oocml store"),
        (lambda p: p.write_text("1 1:2"), "not an oocml store"),
        (lambda p: zarr.open_group(p, mode="w"), "not an oocml store"),
        (
            lambda p: zarr.open_group(p, mode="w", attributes={"oocml": {"kind": "run"}}),
            "is a run, not a dataset",
        ),
        (
            lambda p: zarr.open_group(p, mode="w", attributes={"oocml": {"kind": "dataset", "schema": 99}}),
            "has schema 99",
        ),
    ],
)
def test_opening_something_else_is_one_line(tmp_path, make, message):
    make(tmp_path / "d.zarr")
    with pytest.raises(InputError, match=message) as error:
        Dataset.open(tmp_path / "d.zarr")
    assert "\n" not in str(error.value)


def test_dataset_without_its_bounds_is_damaged(path, tmp_path):
    (tmp_path / "d.zarr/panel_bounds/zarr.json").unlink()
    with pytest.raises(DamagedStore, match="is damaged"):
        Dataset.open(path)


@pytest.mark.parametrize("name", ["zarr.json", "y/c/0", "y/zarr.json", "label_names/zarr.json", "labels/c/0"])
def test_what_may_not_be_read_is_no_damage(path, monkeypatch, name):
    """Patched, as root may read whatever its mode."""
    whole, opened = Dataset.open(path), {"io": io.open, "os": os.open}
    assert whole.info()["whole"]

    def denied(of):
        def open_file(file, *arguments, **options):
            if str(file).endswith(f"d.zarr/{name}"):
                raise PermissionError(errno.EACCES, "Permission denied", str(file))
            return opened[of](file, *arguments, **options)

        return open_file

    monkeypatch.setattr("os.open", denied("os"))
    monkeypatch.setattr("io.open", denied("io"))  # pathlib's
    monkeypatch.setattr("builtins.open", denied("io"))
    with pytest.raises(InputError, match=rf"d\.zarr/{name} may not be read .*change its permissions") as told:
        Dataset.open(path).info(deep=True)
    assert not isinstance(told.value, DamagedStore)


def test_a_disk_that_fails_is_told_as_damage(tmp_path, monkeypatch):
    from tests.engine.toys import write_dataset

    dataset = Dataset.open(write_dataset(tmp_path / "d.zarr"))

    def fail(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.preadv", fail)
    with pytest.raises(DamagedStore, match=r"panels/0/X/indptr is damaged .*Input/output error"):
        dataset.read_panel(0)
