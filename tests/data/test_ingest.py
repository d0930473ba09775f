"""What an ingest promises, on svmlight files: the same rows, the same bytes, or one line that says what is wrong."""

import gzip
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_svmlight_file

from oocml.data import ingest_parts
from oocml.data.dataset import Dataset
from oocml.data.ingest import ingest
from oocml.errors import DoesNotFit, InputError, UsageError
from tests.data.sparse_files import rows, styles, write
from tests.data.stored import Stored
from tests.data.svmlight_text import files_of, lines, put

# -- the same rows ------------------------------------------------------------------------------------------


@settings(max_examples=settings.default.max_examples // 2)
@given(
    data=st.lists(st.tuples(st.lists(st.integers(-5, 20), max_size=1), rows), min_size=1, max_size=30),
    style=styles,
    keep_order=st.booleans(),
)
def test_round_trip_of_single_labels(data, style, keep_order):
    data = [([3], {0: 1.0}), *((labels, row) for labels, row in data if labels or row)]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "x.svm", data, style)
        result = ingest("libsvm", path, f"{folder}/x.zarr", keep_order=keep_order, workers=1)
        stored = Stored(f"{folder}/x.zarr")
    assert result["index_base"] == style.base
    assert result["n_cols"] == max(max(row, default=0) for _, row in data) + 1
    assert result["n_rows"] == len(data)
    wanted = np.zeros((len(data), result["n_cols"]), np.float32)
    for i, (_, row) in enumerate(data):
        for j, value in row.items():
            wanted[i, j] = value
    np.testing.assert_array_equal(stored.X.toarray(), wanted)
    np.testing.assert_array_equal(stored.y, [labels[0] if labels else np.nan for labels, _ in data])
    if keep_order:
        assert (np.diff(stored.row_ids) > 0).all()


@settings(max_examples=settings.default.max_examples // 2)
@given(
    data=st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=4), rows), min_size=1, max_size=20),
    style=styles,
)
def test_round_trip_of_label_sets(data, style):
    data = [([7, 2], {0: 1.0}), *((labels, row) for labels, row in data if labels or row)]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "x.svm", data, style)
        result = ingest("libsvm", path, f"{folder}/x.zarr", workers=1)
        stored = Stored(f"{folder}/x.zarr")
    assert result["label_kind"] == "sets"
    assert stored.y == [set(labels) for labels, _ in data]
    occurring = sorted({label for labels, _ in data for label in labels})
    assert stored.dataset.labels.tolist() == occurring


@pytest.mark.parametrize(
    "name", ["clef/test.svm.gz", "a9a/a9a.t.gz", "housing/housing_scale", "diabetes/diabetes"]
)
def test_real_files_match_scikit_learn(shared_data, tmp_path, name):
    source = shared_data(name)
    X, y = load_svmlight_file(str(source))
    ingest("libsvm", source, tmp_path / "x.zarr")
    stored = Stored(tmp_path / "x.zarr")
    X.eliminate_zeros()
    np.testing.assert_array_equal(stored.y, y)
    assert abs(stored.X - X.astype(np.float32)).max() == 0
    assert stored.X.nnz == X.nnz


def test_several_files_are_one_source(tmp_path, small):
    texts = [lines(60, seed) for seed in range(3)]
    paths = [put(tmp_path / f"{n}.svm", text) for n, text in enumerate(texts)]
    ingest("libsvm", paths, tmp_path / "x.zarr")
    ingest("libsvm", put(tmp_path / "all.svm", "".join(texts)), tmp_path / "y.zarr")
    one, other = Stored(tmp_path / "x.zarr"), Stored(tmp_path / "y.zarr")
    assert (one.X != other.X).nnz == 0
    np.testing.assert_array_equal(one.y, other.y)
    assert [s["name"] for s in one.dataset.attrs["source"]] == ["0.svm", "1.svm", "2.svm"]


def test_the_same_file_twice_gives_its_rows_twice(tmp_path, small):
    path = put(tmp_path / "x.svm", lines(40))
    ingest("libsvm", [path, path], tmp_path / "x.zarr")
    stored = Stored(tmp_path / "x.zarr")
    assert (stored.X[:40] != stored.X[40:]).nnz == 0


def test_one_row_is_a_dataset(tmp_path):
    result = ingest("libsvm", put(tmp_path / "x.svm", "1 1:2"), tmp_path / "x.zarr")
    assert (result["n_rows"], result["n_cols"], result["nnz"], result["n_row_blocks"]) == (1, 1, 1, 1)
    assert result["whole"]


def test_rows_without_any_label_have_kind_none(tmp_path):
    assert ingest("libsvm", put(tmp_path / "x", "1:2\n2:1\n"), tmp_path / "x.zarr")["label_kind"] == "none"


def test_real_valued_labels_have_no_table(tmp_path):
    result = ingest("libsvm", put(tmp_path / "x", "1.5 1:2\n2 2:1\n"), tmp_path / "x.zarr")
    assert (result["label_kind"], result["n_classes"]) == ("number", None)


def test_more_columns_may_be_asked_for(tmp_path):
    path = put(tmp_path / "x", "1 3:1\n")
    assert ingest("libsvm", path, tmp_path / "x.zarr", n_cols=10)["n_cols"] == 10
    with pytest.raises(InputError, match="3 columns, more than the 2 asked for"):
        ingest("libsvm", path, tmp_path / "y.zarr", n_cols=2)


# -- the same bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_order", [False, True])
def test_bytes_do_not_depend_on_the_workers(tmp_path, small, keep_order):
    path = put(tmp_path / "x.svm", lines(150))
    stored = []
    for workers in (1, 3):
        out = tmp_path / f"{workers}.zarr"
        result = ingest("libsvm", path, out, workers=workers, keep_order=keep_order, panel_bytes=1000)
        stored.append(files_of(out))
    assert result["n_row_blocks"] > 5
    assert stored[0] == stored[1]


def test_rows_do_not_depend_on_how_they_were_read(tmp_path, monkeypatch):
    """Parts, spill files and compression decide nothing about where a row goes."""
    text = lines(150)
    path, packed = put(tmp_path / "x.svm", text), tmp_path / "x.svm.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    order = []
    for n, source in enumerate((path, packed, path)):
        if n == 2:
            monkeypatch.setattr("oocml.data.ingest_run.MIN_PART_BYTES", 500)
            monkeypatch.setattr(ingest_parts, "SPILL_BYTES", 1500)
        ingest("libsvm", source, tmp_path / f"{n}.zarr", panel_bytes=1000)
        order.append(Dataset.open(tmp_path / f"{n}.zarr").row_ids[:].tolist())
    assert order[0] == order[1] == order[2]


def test_the_seed_decides_the_deal(tmp_path):
    path = put(tmp_path / "x.svm", lines(100))
    for n, seed in enumerate((5, 5, 6)):
        ingest("libsvm", path, tmp_path / f"{n}.zarr", seed=seed)
    row_ids = [Dataset.open(tmp_path / f"{n}.zarr").row_ids[:].tolist() for n in range(3)]
    assert row_ids[0] == row_ids[1] != row_ids[2]


def test_a_sorted_file_is_dealt_evenly(tmp_path, small):
    text = "".join(f"{i // 200} {1 + i % 7}:1\n" for i in range(1000))
    ingest("libsvm", put(tmp_path / "x.svm", text), tmp_path / "x.zarr", panel_bytes=4000)
    dataset = Dataset.open(tmp_path / "x.zarr")
    assert dataset.n_panels >= 5
    for p in range(dataset.n_panels):
        assert set(dataset.read_labels(p)) == {0, 1, 2, 3, 4}


def test_panels_have_about_the_size_asked_for(tmp_path, small):
    ingest("libsvm", put(tmp_path / "x.svm", lines(400)), tmp_path / "x.zarr", panel_bytes=1000)
    dataset = Dataset.open(tmp_path / "x.zarr")
    sizes = [dataset.panel_bytes(p) for p in range(dataset.n_panels)]
    assert 600 < np.mean(sizes) < 1500
    assert max(sizes) < 2000


def test_queries_stay_whole_and_together(tmp_path, small):
    rng = np.random.default_rng(0)
    text = "".join(
        f"{rng.integers(3)} qid:{q} {rng.integers(1, 9)}:1\n"
        for q in range(40)
        for _ in range(rng.integers(1, 9))
    )
    ingest("libsvm", put(tmp_path / "x.svm", text), tmp_path / "x.zarr", panel_bytes=600)
    dataset = Dataset.open(tmp_path / "x.zarr")
    seen = []
    for p in range(dataset.n_panels):
        qid = dataset.read_qid(p)
        assert len(qid)
        seen += qid[np.concatenate([[True], np.diff(qid) != 0])].tolist()
    assert sorted(seen) == list(range(40)), "every query once, in one piece"
    assert seen != sorted(seen), "queries are dealt too"
    stored = Stored(tmp_path / "x.zarr")
    assert stored.qid.tolist() == sorted(stored.qid)


# -- like a training set ------------------------------------------------------------------------------------


def test_like_gives_columns_base_and_fitted_transform(tmp_path):
    train = put(tmp_path / "train", "0 1:2 2:1\n1 2:3 3:1\n0 3:4 5:1\n")
    test = put(tmp_path / "test", "1 2:1 3:2 6:9\n2 7:1 1:1\n")
    ingest("libsvm", train, tmp_path / "train.zarr", transform="tfidf")
    result = ingest("libsvm", test, tmp_path / "test.zarr", like=tmp_path / "train.zarr")
    assert (result["n_cols"], result["index_base"], result["dropped_features"]) == (5, 1, 2)
    assert result["transform"] == "tfidf"
    both = [Dataset.open(tmp_path / f"{name}.zarr") for name in ("train", "test")]
    np.testing.assert_array_equal(both[0].transform["idf"], both[1].transform["idf"])
    X = Stored(tmp_path / "test.zarr").X.toarray()
    idf = both[0].transform["idf"]
    row = np.array([0, idf[1], (1 + np.log(2)) * idf[2], 0, 0])
    np.testing.assert_allclose(X[0], row / np.linalg.norm(row), rtol=1e-6)
    np.testing.assert_array_equal(both[1].labels, [1, 2])


def test_like_makes_single_labels_sets_if_the_training_set_has_them(tmp_path):
    ingest("libsvm", put(tmp_path / "train", "0,1 1:2\n"), tmp_path / "train.zarr")
    result = ingest(
        "libsvm", put(tmp_path / "t", "1 1:2\n"), tmp_path / "t.zarr", like=tmp_path / "train.zarr"
    )
    assert result["label_kind"] == "sets"


def test_like_refuses_index_zero_against_a_one_based_training_set(tmp_path):
    ingest("libsvm", put(tmp_path / "train", "0 1:2\n"), tmp_path / "train.zarr")
    with pytest.raises(InputError, match="index 0 but the training set .* counts from 1"):
        ingest("libsvm", put(tmp_path / "t", "0 0:2\n"), tmp_path / "t.zarr", like=tmp_path / "train.zarr")


def test_like_reads_a_file_without_index_zero_as_zero_based(tmp_path):
    ingest("libsvm", put(tmp_path / "train", "0 0:2 3:1\n"), tmp_path / "train.zarr")
    ingest("libsvm", put(tmp_path / "t", "0 3:2\n"), tmp_path / "t.zarr", like=tmp_path / "train.zarr")
    np.testing.assert_array_equal(Stored(tmp_path / "t.zarr").X.toarray(), [[0, 0, 0, 2]])


def test_like_with_another_transform_is_a_contradiction(tmp_path):
    ingest("libsvm", put(tmp_path / "train", "0 1:2\n"), tmp_path / "train.zarr")
    with pytest.raises(UsageError, match="contradicts --like"):
        ingest(
            "libsvm", tmp_path / "train", tmp_path / "t.zarr", like=tmp_path / "train.zarr", transform="tfidf"
        )


@pytest.mark.parametrize("kind", ["binary", "log1p", "tfidf"])
def test_transforms_see_the_whole_source(tmp_path, small, kind):
    path = put(tmp_path / "x.svm", lines(200))
    ingest("libsvm", path, tmp_path / "raw.zarr")
    ingest("libsvm", path, tmp_path / "x.zarr", transform=kind, panel_bytes=1000)
    raw, X = Stored(tmp_path / "raw.zarr").X, Stored(tmp_path / "x.zarr").X
    if kind == "binary":
        wanted = raw.sign()
    elif kind == "log1p":
        wanted = raw.log1p()
    else:
        wanted = raw.copy()
        idf = np.log((1 + raw.shape[0]) / (1 + raw.getnnz(axis=0))) + 1
        wanted.data = ((1 + np.log(raw.data)) * idf[raw.indices]).astype(np.float32)
        norms = np.sqrt(wanted.power(2).sum(axis=1).A1)
        wanted = wanted.multiply(1 / norms[:, None]).tocsr()
    np.testing.assert_allclose(X.toarray(), wanted.toarray(), rtol=1e-4)


# -- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("at", [0, 1, 77, 148, 149])
def test_a_bad_line_is_named_and_leaves_nothing(tmp_path, small, packed, at):
    text = lines(150).splitlines(keepends=True)
    text[at] = "1 3:x\n"
    path = tmp_path / "x.svm"
    path.write_bytes(gzip.compress("".join(text).encode()) if packed else "".join(text).encode())
    with pytest.raises(InputError) as error:
        ingest("libsvm", path, tmp_path / "x.zarr", workers=2)
    told = f"{path} line {at + 1}: value 'x' is not a finite number; --max-bad N skips up to N such lines"
    assert str(error.value) == told
    assert os.listdir(tmp_path) == ["x.svm"]


def test_bad_lines_up_to_the_limit_are_skipped_and_counted(tmp_path, small):
    text = lines(150).splitlines(keepends=True)
    for at in (3, 77, 140):
        text[at] = "bad\n"
    path = put(tmp_path / "x.svm", "".join(text))
    result = ingest("libsvm", path, tmp_path / "x.zarr", max_bad=3)
    assert (result["n_rows"], result["bad_lines"]) == (147, 3)
    assert sorted(Dataset.open(tmp_path / "x.zarr").row_ids[:]) == list(range(147))
    with pytest.raises(InputError, match="line 4: label 'bad' is not a number; more than 2 bad lines"):
        ingest("libsvm", path, tmp_path / "y.zarr", max_bad=2)
    assert not (tmp_path / "y.zarr.partial").exists()


def test_a_cut_compressed_file_is_named(tmp_path):
    path = tmp_path / "x.svm.gz"
    path.write_bytes(gzip.compress(lines(500).encode())[:-20])
    with pytest.raises(InputError, match=r"x\.svm\.gz is cut short"):
        ingest("libsvm", path, tmp_path / "x.zarr")
    assert os.listdir(tmp_path) == ["x.svm.gz"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n# nothing\n", "has no rows"),
        ("1\n2\n", "has no features in any of 2 rows"),
        ("1 qid:1 1:1\n2 1:1\n", "1 of 2 rows have no qid"),
        ("1.5 1:1\n1,2 1:1\n", "need whole numbers as labels"),
    ],
)
def test_a_file_that_is_no_dataset_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        ingest("libsvm", put(tmp_path / "x.svm", text), tmp_path / "x.zarr")
    assert os.listdir(tmp_path) == ["x.svm"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        ingest("libsvm", tmp_path / "nowhere", tmp_path / "x.zarr")
    assert os.listdir(tmp_path) == []


def test_unknown_formats_and_options_are_named(tmp_path):
    path = put(tmp_path / "x", "1 1:1\n")
    with pytest.raises(UsageError, match="unknown format 'svm'; known are .*libsvm"):
        ingest("svm", path, tmp_path / "x.zarr")
    with pytest.raises(UsageError, match="libsvm has no option 'header'"):
        ingest("libsvm", path, tmp_path / "x.zarr", header=1)
    with pytest.raises(UsageError, match="no transform named"):
        ingest("libsvm", path, tmp_path / "x.zarr", transform="tf")


def test_too_little_memory_is_refused_with_what_would_do(tmp_path):
    with pytest.raises(DoesNotFit, match=r"needs \d+ MiB of memory, 100 MiB given"):
        ingest("libsvm", put(tmp_path / "x", "1 1:1\n"), tmp_path / "x.zarr", memory="100MiB")


def test_columns_that_do_not_fit_the_memory_are_refused(tmp_path):
    path = put(tmp_path / "x", "1 1:1\n1 2147483647:1\n")
    with pytest.raises(
        DoesNotFit, match="2147483647 columns, whose counts need 49151 MiB.*--memory, or number"
    ):
        ingest("libsvm", path, tmp_path / "x.zarr", memory="1GiB")


def test_an_existing_dataset_is_kept_until_the_new_one_is_whole(tmp_path):
    path = put(tmp_path / "x", "1 1:1\n")
    ingest("libsvm", path, tmp_path / "x.zarr")
    with pytest.raises(UsageError, match="exists"):
        ingest("libsvm", path, tmp_path / "x.zarr")
    with pytest.raises(InputError):
        ingest("libsvm", put(tmp_path / "bad", "x\n"), tmp_path / "x.zarr", overwrite=True)
    assert Dataset.open(tmp_path / "x.zarr").n_rows == 1
    ingest("libsvm", put(tmp_path / "y", "1 1:1\n2 1:1\n"), tmp_path / "x.zarr", overwrite=True)
    assert Dataset.open(tmp_path / "x.zarr").n_rows == 2


def test_progress_ends_at_the_total(tmp_path, small):
    seen = {}
    ingest(
        "libsvm",
        put(tmp_path / "x.svm", lines(150)),
        tmp_path / "x.zarr",
        transform="tfidf",
        progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)),
    )
    assert list(seen) == ["read", "fit", "write"]
    for steps in seen.values():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1] > 0
