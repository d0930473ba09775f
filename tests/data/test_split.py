"""A split deals whole rows, with their labels and queries, to two datasets. (Ratings: test_gather.)"""

import numpy as np
import pytest

from oocml.data.dataset import Dataset
from oocml.data.split import ingest_split
from oocml.errors import InputError, UsageError
from tests.data.stored import Stored

N = 400
TABLE = np.random.default_rng(0).integers(1, 9, (N, 4)).astype(np.float32)
TABLE[:, 0] = np.arange(1, N + 1)


def write_libsvm(folder):
    lines = [
        f"{i % 3} qid:{i // 5} " + " ".join(f"{j + 1}:{value:g}" for j, value in enumerate(row))
        for i, row in enumerate(TABLE)
    ]
    (folder / "x").write_text("\n".join(lines))
    return "libsvm", folder / "x", {}


def write_npy(folder):
    np.save(folder / "x.npy", TABLE)
    np.save(folder / "y.npy", np.arange(N) % 3)
    return "npy", folder / "x.npy", {"y": str(folder / "y.npy")}


@pytest.mark.parametrize("writer", [write_libsvm, write_npy])
def test_every_row_is_in_one_part_with_its_label(tmp_path, small, writer):
    kind, source, options = writer(tmp_path)
    told = ingest_split(kind, source, tmp_path / "x.zarr", split=0.75, seed=1, **options)
    train, test = Stored(tmp_path / "x.zarr"), Stored(tmp_path / "x-test.zarr")
    assert told["test_n_rows"] == test.X.shape[0]
    assert abs(test.X.shape[0] - N / 4) < 4 * np.sqrt(5 * N * 3 / 16)
    X = np.concatenate([part.X.toarray() for part in (train, test)])
    y = np.concatenate([train.y, test.y])
    order = np.argsort(X[:, 0])
    np.testing.assert_array_equal(X[order], TABLE)
    np.testing.assert_array_equal(y[order], np.arange(N) % 3)
    assert Dataset.open(tmp_path / "x-test.zarr").attrs["split"] == {
        "share": "test",
        "fraction": 0.75,
        "seed": 1,
    }
    if kind == "libsvm":
        assert not set(train.qid) & set(test.qid)


def test_a_finished_training_part_is_used_again(tmp_path, small, monkeypatch):
    kind, source, options = write_libsvm(tmp_path)
    ingest_split(kind, source, tmp_path / "x.zarr", split=0.75, **options)
    before = (tmp_path / "x.zarr" / "zarr.json").stat().st_mtime_ns
    (tmp_path / "x-test.zarr").rename(tmp_path / "old")
    ingest_split(kind, source, tmp_path / "x.zarr", split=0.75, **options)
    assert (tmp_path / "x.zarr" / "zarr.json").stat().st_mtime_ns == before
    assert (Stored(tmp_path / "old").X != Stored(tmp_path / "x-test.zarr").X).nnz == 0


@pytest.mark.parametrize(
    ("again", "words"),
    [
        ({"max_bad": 3}, "max_bad=0, not 3"),
        ({"transform": "binary"}, "transform=none, not binary"),
        ({"n_cols": 50}, "n_cols=None, not 50"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_training_part_made_with_other_arguments_is_not_taken_for_its_own(tmp_path, small, again, words):
    kind, source, options = write_libsvm(tmp_path)
    ingest_split(kind, source, tmp_path / "x.zarr", split=0.75, **options)
    (tmp_path / "x-test.zarr").rename(tmp_path / "old")
    with pytest.raises(UsageError, match=words):
        ingest_split(kind, source, tmp_path / "x.zarr", split=0.75, **options, **again)
    assert not (tmp_path / "x-test.zarr").exists()
    ingest_split(kind, source, tmp_path / "x.zarr", split=0.75, **options, workers=1)
    assert (tmp_path / "x-test.zarr").exists()


@pytest.mark.parametrize(
    ("kind", "split", "options", "part"),
    [
        ("libsvm", 0.01, {}, "no rows in the training part of --split 0.01"),
        ("libsvm", 0.99, {}, "no rows in the test part of --split 0.99 with seed 0"),
        ("ratings", 0.99, {}, "no rows in the test part of --split 0.99"),
        ("ratings", 0.99, {"threshold": 4}, r"no ratings of at least 4 \(--threshold\) in the test part"),
    ],
)
def test_a_part_without_rows_is_named_and_leaves_nothing(tmp_path, kind, split, options, part):
    (tmp_path / "x").write_text("1 1:1\n" if kind == "libsvm" else "a,x,5\na,y,3\nb,x,4\n")
    with pytest.raises(InputError, match=part):
        ingest_split(kind, tmp_path / "x", tmp_path / "x.zarr", split=split, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
