"""Ingest of every format but svmlight, end to end: what other libraries read is what the dataset holds."""

import os

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from oocml.data import deal, ingest_parts
from oocml.data.dataset import Dataset
from oocml.data.ingest import ingest
from oocml.errors import InputError

RNG = np.random.default_rng(0)
MATRIX = sp.random_array((300, 40), density=0.15, rng=RNG, dtype=np.float32).tocsr()
CLASSES = np.array(["pear", "apple", "fig"])[RNG.integers(0, 3, 300)]
WORDS = np.array([f"word{i}" for i in range(80)])
DOCUMENTS = [" ".join(RNG.choice(WORDS, RNG.integers(0, 15))) for _ in range(300)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Many parts, spill files, buckets and panels from a few hundred rows."""
    monkeypatch.setattr("oocml.data.ingest_run.MIN_PART_BYTES", 1500)
    monkeypatch.setattr("oocml.data.ingest_run.MAX_PART_BYTES", 3000)
    monkeypatch.setattr(ingest_parts, "SPILL_BYTES", 2000)
    monkeypatch.setattr(deal, "BUCKET_BYTES", 4000)


def in_source_order(path):
    """The rows of a dataset as a scipy matrix, and its labels, in the order of the source."""
    dataset = Dataset.open(path)
    assert dataset.problem(deep=True) is None
    assert dataset.n_panels > 1
    panels = [dataset.read_panel(p) for p in range(dataset.n_panels)]
    X = sp.vstack(
        [sp.csr_matrix((p.X.data, p.X.indices, p.X.indptr), (len(p.row_ids), dataset.n_cols)) for p in panels]
    )
    order = np.argsort(np.concatenate([p.row_ids for p in panels]))
    y = None if panels[0].y is None else np.concatenate([p.y for p in panels])[order]
    return dataset, X.tocsr()[order], y


def run(kind, source, out, **options):
    ingest(kind, source, out, panel_bytes=4000, **options)
    return in_source_order(out)


def write_npy(folder):
    np.save(folder / "x.npy", MATRIX.toarray())
    np.save(folder / "y.npy", CLASSES)
    return "npy", folder / "x.npy", {"y": str(folder / "y.npy")}


def write_npz(folder, layout="csr"):
    sp.save_npz(folder / "x.npz", MATRIX.asformat(layout), compressed=layout == "csc")
    np.save(folder / "y.npy", CLASSES)
    return "npz", folder / "x.npz", {"y": str(folder / "y.npy")}


def write_mtx(folder):
    scipy.io.mmwrite(folder / "x.mtx", MATRIX.tocsc().tocoo(), precision=9)
    np.save(folder / "y.npy", CLASSES)
    return "mtx", folder / "x.mtx", {"y": str(folder / "y.npy")}


def write_anndata(folder):
    data = anndata.AnnData(
        X=MATRIX, obs=pd.DataFrame({"fruit": CLASSES}, index=[f"r{i}" for i in range(300)])
    )
    data.write_zarr(folder / "x.zarr")
    return "anndata", folder / "x.zarr", {"y": "fruit"}


@pytest.mark.parametrize(
    "writer", [write_npy, write_npz, lambda f: write_npz(f, "csc"), write_mtx, write_anndata]
)
def test_matrix_and_classes_come_back(tmp_path, writer):
    kind, source, options = writer(tmp_path)
    dataset, X, y = run(kind, source, tmp_path / "out.zarr", **options)
    np.testing.assert_array_equal(X.toarray(), MATRIX.toarray())
    assert dataset.label_names == ["apple", "fig", "pear"]
    assert [dataset.label_names[int(label)] for label in y] == CLASSES.tolist()
    assert dataset.sparse == (kind != "npy")
    assert len(dataset.attrs["sha256"]) == 64


def write_text(path, documents, classes):
    path.write_text("".join(f"{name}\t{text}\n" for name, text in zip(classes, documents, strict=True)))
    return path


def test_text_with_tfidf_is_that_of_scikit_learn_for_training_and_test_data(tmp_path):
    train = write_text(tmp_path / "train.txt", DOCUMENTS[:200], CLASSES[:200])
    unknown = [f"{text} zebra" for text in DOCUMENTS[200:]]
    test = write_text(tmp_path / "test.txt", unknown, CLASSES[200:])
    counts = CountVectorizer()
    tfidf = TfidfTransformer(sublinear_tf=True)
    want = tfidf.fit_transform(counts.fit_transform(DOCUMENTS[:200]))
    dataset, X, _ = run("text", train, tmp_path / "train.zarr", transform="tfidf")
    assert dataset.feature_names == counts.get_feature_names_out().tolist()
    np.testing.assert_allclose(X.toarray(), want.toarray(), atol=1e-6)
    dataset, X, y = run("text", test, tmp_path / "test.zarr", like=tmp_path / "train.zarr")
    np.testing.assert_allclose(
        X.toarray(), tfidf.transform(counts.transform(DOCUMENTS[200:])).toarray(), atol=1e-6
    )
    assert dataset.attrs["dropped_features"] == 100
    assert [dataset.label_names[int(label)] for label in y] == CLASSES[200:].tolist()


def test_test_data_is_read_with_the_training_sets_options(tmp_path):
    source = write_text(tmp_path / "x.txt", ["a b cc", "b dd"] * 500, ["x", "y"] * 500)
    first, _, _ = run("text", source, tmp_path / "a.zarr", min_token=1)
    second, X, _ = run("text", source, tmp_path / "b.zarr", like=tmp_path / "a.zarr")
    assert second.feature_names == first.feature_names == ["a", "b", "cc", "dd"]
    _, hashed, _ = run("text", source, tmp_path / "c.zarr", hashing=16)
    _, again, _ = run("text", source, tmp_path / "d.zarr", like=tmp_path / "c.zarr")
    np.testing.assert_array_equal(hashed.toarray(), again.toarray())
    assert X.shape[1] == 4
    assert hashed.shape[1] == 16


def test_number_of_workers_changes_no_byte(tmp_path):
    source = write_text(tmp_path / "x.txt", DOCUMENTS, CLASSES)
    contents = []
    for workers in (1, 3):
        out = tmp_path / f"{workers}.zarr"
        ingest("text", source, out, workers=workers, transform="tfidf", panel_bytes=4000)
        files = [file for file in sorted(out.rglob("*")) if file.is_file()]
        contents.append({str(file.relative_to(out)): file.read_bytes() for file in files})
    assert contents[0] == contents[1]


def bad_npy(folder):
    X = MATRIX.toarray()
    X[250, 3] = np.nan
    np.save(folder / "x.npy", X)
    return "npy", folder / "x.npy", "x.npy row 251: value nan in column 3 is not finite"


def bad_npz(folder):
    X = MATRIX.toarray().astype(np.float64)
    X[120, 7] = 1e60
    sp.save_npz(folder / "x.npz", sp.csr_matrix(X), compressed=False)
    return "npz", folder / "x.npz", "x.npz row 121: value 1e.60 in column 7 is too large for float32"


def bad_mtx(folder):
    kind, path, _ = write_mtx(folder)
    lines = path.read_text().splitlines()
    lines[500] = "7 x 1.5"
    path.write_text("\n".join(lines))
    return kind, path, "x.mtx line 501: '7 x 1.5' is not three numbers"


def bad_anndata(folder):
    X = MATRIX.copy()
    X.data[X.indptr[77]] = np.inf
    anndata.AnnData(X=X).write_zarr(folder / "x.zarr")
    return "anndata", folder / "x.zarr", "x.zarr row 78: value inf"


def bad_text(folder):
    path = write_text(folder / "x.txt", DOCUMENTS, CLASSES)
    lines = path.read_bytes().split(b"\n")
    lines[222] = b"fig\tcaf\xe9"
    path.write_bytes(b"\n".join(lines))
    return "text", path, "x.txt line 223: byte 0xe9 is not utf-8"


@pytest.mark.parametrize("make", [bad_npy, bad_npz, bad_mtx, bad_anndata, bad_text])
def test_bad_input_is_named_and_leaves_nothing(tmp_path, make):
    kind, source, message = make(tmp_path)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InputError, match=message):
        ingest(kind, source, tmp_path / "out.zarr")
    assert sorted(os.listdir(tmp_path)) == before
    ingest(kind, source, tmp_path / "out.zarr", max_bad=1)
    dataset = Dataset.open(tmp_path / "out.zarr")
    assert dataset.attrs["bad_lines"] == 1
    assert dataset.n_rows == (300 if kind == "mtx" else 299)
