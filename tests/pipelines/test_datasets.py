from __future__ import annotations

import pytest

from oocml import api
from oocml.errors import UsageError
from pipelines import datasets

LINES = "0 1:1 2:2\n1 2:1\n0 1:3\n"


def test_a_stand_in_shrinks_rows_columns_and_classes_alike(tmp_path):
    made = datasets.stand_in("lshtc1_small", 0.01, tmp_path)
    train, test = api.open_dataset(made.train), api.open_dataset(made.test)
    assert (train.n_rows, train.n_cols, len(train.labels)) == (446, 5103, 114)
    assert (test.n_rows, test.n_cols) == (1000, 5103)
    assert made.name == "lshtc1_small@0.01"


def test_a_stand_in_with_few_features_keeps_them(tmp_path):
    made = datasets.stand_in("youtube8m_video", 1e-9, tmp_path)
    assert api.open_dataset(made.train).n_cols == 1152


def test_files_got_by_hand_are_ingested_once(tmp_path, monkeypatch):
    (tmp_path / "given" / "clef").mkdir(parents=True)
    for split in ("train", "test"):
        (tmp_path / "given" / "clef" / f"{split}.svm").write_text(LINES)
    made = datasets.real("clef", tmp_path / "data", tmp_path / "given")
    assert (api.open_dataset(made.train).n_rows, api.open_dataset(made.test).n_cols) == (3, 2)
    monkeypatch.setattr(api, "ingest", None)
    assert datasets.real("clef", tmp_path / "data", tmp_path / "given") == made


def test_a_data_set_that_nobody_got_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(UsageError, match="by hand"):
        datasets.real("clef", tmp_path)


def test_planted_splits_have_the_shape_that_is_asked_for(tmp_path, rated):
    train, test = (api.open_dataset(path) for path in (rated.train, rated.test))
    assert (train.n_rows, train.n_cols) == (test.n_rows, test.n_cols) == (120, 60)
    assert 0 < test.nnz < train.nnz / 5
    assert train.n_panels > 3
    made = datasets.planted("realsim", tmp_path, task="binary", rows=40, cols=30, nnz_per_row=5.0)
    train, test = (api.open_dataset(path) for path in (made.train, made.test))
    assert (train.n_rows, test.n_rows) == (40, datasets.TEST_ROWS)
    assert train.labels.tolist() == test.labels.tolist() == [-1, 1]
