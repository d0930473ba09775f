import re
import types
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp

from oocml.data.arrays import NpyReader, NpzReader
from oocml.data.readers import BadLines, TooManyBad
from oocml.errors import InputError, UsageError
from tests.data.assembling import Assembled, assert_reads

MATRIX = sp.random_array((60, 23), density=0.2, rng=np.random.default_rng(0), dtype=np.float32).tocsr()


def saved(tmp_path, name="x.npz", **arrays):
    np.savez(tmp_path / name, **arrays)
    return tmp_path / name


# -- npz ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("part_bytes", [64, 1 << 20])
@pytest.mark.usefixtures("tiny_batches")
def test_scipy_matrix_comes_back(tmp_path, layout, compressed, part_bytes):
    sp.save_npz(tmp_path / "x.npz", MATRIX.asformat(layout), compressed=compressed)
    got = Assembled(NpzReader(), [tmp_path / "x.npz"], part_bytes=part_bytes)
    assert_reads(got, MATRIX)
    assert (
        len(got.parts) == (1 if compressed or layout != "csr" or part_bytes > 64 else 22 * 2 - 9)
        or len(got.parts) > 5
    )
    assert got.schema.label_kind == "none"


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64, np.int16])
@pytest.mark.parametrize("value", [np.float64, np.float16, np.int64, np.uint8, np.bool_, ">f4"])
def test_every_kind_of_number_and_index_is_read(tmp_path, dtype, value):
    M = MATRIX.copy()
    M.data = np.maximum(M.data * 9, 1).astype(np.dtype(value).type if value != ">f4" else np.float32)
    path = saved(
        tmp_path,
        data=M.data.astype(value),
        indices=M.indices.astype(dtype),
        indptr=M.indptr.astype(dtype),
        shape=np.array(M.shape),
    )
    assert_reads(Assembled(NpzReader(), [path]), M.astype(np.float32))


def test_unsorted_and_repeated_columns_are_added_up_and_zeros_left_out(tmp_path):
    path = saved(
        tmp_path,
        data=np.array([1.0, 2, 4, 0, 8]),
        indices=np.array([2, 0, 2, 1, 1]),
        indptr=np.array([0, 3, 3, 5]),
        shape=np.array([3, 4]),
    )
    got = Assembled(NpzReader(), [path])
    assert_reads(got, [[2, 0, 5, 0], [0, 0, 0, 0], [0, 8, 0, 0]])
    assert got.X.nnz == 3


def test_named_arrays_give_matrix_labels_and_names(tmp_path):
    X = np.arange(12).reshape(4, 3)
    path = saved(
        tmp_path,
        X=X,
        y=np.array([1, np.nan, 0, 1]),
        label_names=["no", "yes"],
        feature_names=["a", "b", "c"],
    )
    got = Assembled(NpzReader(), [path])
    assert got.dense
    assert_reads(got, X)
    assert got.classes == ["yes", None, "no", "yes"]
    assert list(got.schema.feature_names) == ["a", "b", "c"]
    assert got.schema.label_kind == "number"


@pytest.mark.parametrize("kind", [str, bytes])
def test_text_labels_become_classes_in_sorted_order(tmp_path, kind):
    y = np.array(["pear", "apple", "", "pear"])
    path = saved(tmp_path, X=np.eye(4), y=y if kind is str else np.char.encode(y))
    got = Assembled(NpzReader(), [path], part_bytes=32)
    assert len(got.parts) == 2
    assert got.schema.label_names == ["apple", "pear"]
    assert got.classes == ["pear", "apple", None, "pear"]


def test_matrix_of_labels_gives_sets(tmp_path):
    y = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0]], bool)
    got = Assembled(NpzReader(), [saved(tmp_path, X=np.eye(3), y=y)])
    assert got.schema.label_kind == "sets"
    assert got.labels == [[1.0, 2.0], [], [0.0]]
    np.testing.assert_array_equal(got.schema.labels, [0, 1, 2])


def test_labels_may_come_in_a_file_of_their_own(tmp_path):
    sp.save_npz(tmp_path / "x.npz", MATRIX)
    np.save(tmp_path / "y.npy", np.arange(60) % 7)
    got = Assembled(NpzReader(y=str(tmp_path / "y.npy")), [tmp_path / "x.npz"], part_bytes=200)
    assert got.labels == [[float(i % 7)] for i in range(60)]


def test_sparse_matrix_of_labels_may_stand_beside(tmp_path):
    y = sp.random_array((60, 9), density=0.2, rng=np.random.default_rng(1))
    sp.save_npz(tmp_path / "x.npz", MATRIX)
    sp.save_npz(tmp_path / "y.npz", y)
    reader = NpzReader(y=str(tmp_path / "y.npz"))
    got = Assembled(reader, [tmp_path / "x.npz"])
    assert got.schema.label_kind == "sets"
    assert got.labels == [np.flatnonzero(row).tolist() for row in y.toarray()]
    assert len(got.schema.labels) == 9
    sp.save_npz(tmp_path / "y.npz", sp.csr_matrix((7, 2)))
    with pytest.raises(InputError, match="7 labels for 60 rows"):
        reader.parts([str(tmp_path / "x.npz")], 1 << 20)
    (tmp_path / "y.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"y.npz is not a scipy sparse matrix of labels"):
        reader.parts([str(tmp_path / "x.npz")], 1 << 20)


def test_several_files_are_read_one_after_another(tmp_path):
    first, second = (
        saved(tmp_path, "a.npz", X=np.eye(3), y=[2, 1, 0]),
        saved(tmp_path, "b.npz", X=np.ones((2, 3)), y=[5, 5]),
    )
    got = Assembled(NpzReader(), [first, second])
    assert got.X.shape == (5, 3)
    assert got.labels == [[2.0], [1.0], [0.0], [5.0], [5.0]]
    with pytest.raises(InputError, match="b.npz has 3 columns, .*c.npz has 4"):
        Assembled(NpzReader(), [saved(tmp_path, "c.npz", X=np.eye(4), y=[0, 0, 0, 0]), second])
    with pytest.raises(InputError, match="labels of different kinds"):
        Assembled(NpzReader(), [saved(tmp_path, "c.npz", X=np.eye(3)), second])


def test_test_data_must_have_the_columns_of_the_training_set(tmp_path):
    like = types.SimpleNamespace(
        path="train.zarr",
        n_cols=3,
        label_kind="number",
        label_names=["b", "d"],
        labels=np.array([0.0, 1.0]),
        feature_names=["x", "y", "z"],
    )
    path = saved(tmp_path, X=np.eye(3), y=np.array(["d", "c", "b"]))
    got = Assembled(NpzReader(), [path], like=like)
    assert got.labels == [[1.0], [2.0], [0.0]]
    assert got.schema.label_names == ["b", "d", "c"]
    assert got.schema.feature_names == ["x", "y", "z"]
    with pytest.raises(InputError, match="has 4 columns, the training set train.zarr has 3"):
        Assembled(NpzReader(), [saved(tmp_path, X=np.eye(4))], like=like)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Z": np.eye(2)}, "has the arrays Z: neither X nor a scipy sparse matrix"),
        ({"X": np.array([[1, 2j]])}, "complex128, not real numbers"),
        ({"X": np.zeros(3)}, r"shape \(3,\), not \(rows, columns\)"),
        ({"X": np.zeros((0, 3))}, "has no rows"),
        ({"X": np.array([[None]], object)}, "Python objects"),
        ({"X": np.eye(2), "y": np.zeros(3)}, "3 labels for 2 rows"),
        ({"X": np.eye(2), "y": [0, 5], "label_names": ["a"]}, "names 1 labels but holds label 5"),
        ({"X": np.eye(2), "y": [0, np.inf]}, "row 2: the label is infinite"),
        ({"X": np.eye(2), "feature_names": ["a"]}, "1 feature_names for 2 columns"),
    ],
)
def test_useless_npz_is_refused(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        Assembled(NpzReader(), [saved(tmp_path, **arrays)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": np.array([0, 4, 1])}, "an entry has column 4, the matrix has 4"),
        ({"indices": np.array([0, -1, 1])}, "an entry has column -1"),
        ({"indptr": np.array([0, 3, 1, 3])}, "row pointers fall"),
        ({"indptr": np.array([0, 1, 2, 9])}, "pass 3 entries"),
        ({"indptr": np.array([0, 1, 3])}, r"\[indptr\] has 3 entries, 4 are needed"),
        ({"indices": np.array([0, 1])}, r"\[indices\] has 2 entries, 3 are needed"),
    ],
)
def test_damaged_csr_is_refused(tmp_path, change, message):
    arrays = {
        "data": np.ones(3),
        "indices": np.array([0, 1, 2]),
        "indptr": np.array([0, 1, 2, 3]),
        "shape": np.array([3, 4]),
    }
    with pytest.raises(InputError, match=message):
        Assembled(NpzReader(), [saved(tmp_path, **{**arrays, **change})])


def test_npz_that_is_cut_short_or_something_else_is_refused(tmp_path):
    path = saved(tmp_path, X=np.eye(30))
    whole = path.read_bytes()
    for content in (whole[:-10], b"PK", b"label 1:2\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not an .npz file"):
            NpzReader().parts([str(path)], 1 << 20)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("X.npy", whole[40:100])
    with pytest.raises(InputError, match=r"x.npz\[X\] is not a .npy array"):
        NpzReader().parts([str(path)], 1 << 20)


# -- npy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("part_bytes", [300, 1 << 20])
@pytest.mark.usefixtures("tiny_batches")
def test_dense_matrix_comes_back_in_either_order(tmp_path, order, part_bytes):
    X = np.random.default_rng(0).normal(size=(31, 9))
    np.save(tmp_path / "x.npy", np.asarray(X, order=order))
    np.save(tmp_path / "y.npy", np.arange(31.0))
    got = Assembled(NpyReader(y=str(tmp_path / "y.npy")), [tmp_path / "x.npy"], part_bytes=part_bytes)
    assert_reads(got, X)
    assert got.labels == [[float(i)] for i in range(31)]
    assert len(got.parts) == (4 if part_bytes == 300 else 1)


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "nan"), (-np.inf, "-inf"), (1e300, "1e.300 .*too large")]
)
@pytest.mark.parametrize("sparse", [False, True])
def test_row_with_a_value_that_is_not_finite_is_bad(tmp_path, value, said, sparse):
    X = np.eye(9)
    X[6, 2] = X[7, 0] = value
    y = np.arange(9)
    if sparse:
        M = sp.csr_matrix(X)
        path = saved(tmp_path, data=M.data, indices=M.indices, indptr=M.indptr, shape=np.array(M.shape), y=y)
    else:
        path = saved(tmp_path, X=X, y=y)
    reader = NpzReader()
    parts = reader.parts([str(path)], 72)
    part = next(part for part in parts if part.lo <= 6 < part.hi)
    bad = BadLines(0)
    with pytest.raises(TooManyBad):
        list(reader.read(part, bad))
    assert part.lo + bad.first_line == 6
    assert bad.first_reason.startswith("value")
    assert "column 2" in bad.first_reason
    assert re.search(said, bad.first_reason)
    got = Assembled(NpzReader(), [path], max_bad=2)
    assert got.position == [0, 1, 2, 3, 4, 5, 8]
    assert got.labels == [[float(i)] for i in got.position]
    np.testing.assert_array_equal(got.X.toarray(), np.delete(X, [6, 7], axis=0))


def test_large_finite_values_are_no_reason_to_complain(tmp_path):
    X = np.full((3, 3), 3e38, np.float32)
    np.save(tmp_path / "x.npy", X)
    assert_reads(Assembled(NpyReader(), [tmp_path / "x.npy"]), X)


def test_npy_that_is_missing_damaged_or_a_folder_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    for make, message in [
        (lambda: None, "No such file"),
        (lambda: path.write_bytes(b"1,2,3\n"), "is not a .npy array"),
        (lambda: path.write_bytes(b""), "is not a .npy array"),
    ]:
        make()
        with pytest.raises(InputError, match=message):
            NpyReader().parts([str(path)], 1 << 20)
    with pytest.raises(InputError, match="is a folder"):
        NpyReader().parts([str(tmp_path)], 1 << 20)
    np.save(path, np.eye(40))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"cut short: \(40, 40\) float64 needs 8 bytes more"):
        Assembled(NpyReader(), [path])


def test_one_file_of_labels_goes_with_one_source():
    with pytest.raises(UsageError, match="goes with one source, not 2"):
        NpyReader(y="y.npy").parts(["a.npy", "b.npy"], 1 << 20)


def test_compressed_array_in_column_order_is_refused_with_a_way_out(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", X=np.asfortranarray(np.ones((4, 3))))
    with pytest.raises(InputError, match="column order.*np.savez"):
        NpzReader().parts([str(tmp_path / "x.npz")], 1 << 20)
