"""Predictions are those of the exported model, in the source's order of rows and the dataset's of columns."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from oocml import api
from oocml.data import entry_spill
from oocml.data.dataset import Dataset
from oocml.data.writer import DatasetWriter
from oocml.engine import output_names, prediction_sinks, spool
from oocml.engine.kept_columns import kept_order
from oocml.engine.kept_rows import kept_names
from oocml.engine.predictions import write_predictions
from oocml.errors import DoesNotFit, InputError
from oocml.run import Run
from oocml.types import Panel
from tests.models.tiled import csr

N_KNOWN, N_COLS, CUTS = 40, 15, (0, 11, 12, 40)
N_ROWS = N_KNOWN + 4
ABSENT = N_KNOWN + 1
"""A row number that no dataset has."""
EMPTY, FULL = 7, 9
"""A row without training entries, and one with all but two."""
ROW_IDS = np.concatenate([np.random.default_rng(1).permutation(N_KNOWN), [N_ROWS - 1, N_KNOWN, N_KNOWN + 2]])
USERS = [f"user {i}" for i in range(N_ROWS)]
ITEMS = ["tab\there", 'a "quote"', "Ünï,code", *(f"item {j}" for j in range(3, N_COLS))]


def make(path: Path, R: np.ndarray, known: np.ndarray, bounds: Sequence[int], **names: Any) -> Path:
    writer = DatasetWriter(str(path), n_cols=N_COLS, label_kind="none")
    for p, (lo, hi) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        ids = ROW_IDS[lo:hi]
        writer.write_panel(p, Panel(csr(R[ids], known[ids]), None, ids))
    writer.finish(n_panels=len(bounds) - 1, attrs={}, **names)
    return path


@pytest.fixture(scope="module")
def ratings() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratings, which of them training has, and which are to be predicted."""
    rng = np.random.default_rng(0)
    R = rng.integers(1, 6, (N_ROWS, N_COLS)).astype(float)
    known = rng.random(R.shape) < 0.4
    known[[EMPTY, *range(N_KNOWN, N_ROWS)]] = False
    known[FULL], known[FULL, [4, 8]] = True, False
    asked = (rng.random(R.shape) < 0.2) & ~known
    asked[[3, ABSENT]] = False
    asked[[EMPTY, N_ROWS - 1], :3] = True
    return R, known, asked


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ratings: Any) -> Run:
    """A trained run whose dataset is gone."""
    folder = tmp_path_factory.mktemp("run")
    R, known, _ = ratings
    names = {"row_names": USERS[:N_KNOWN], "feature_names": ITEMS}
    data = make(folder / "train.zarr", R, known, CUTS, **names)
    settings = {"n_factors": 3, "l2": 0.02}
    blocks = {"row_blocks": 2, "col_blocks": 4}
    run = api.train("mf", data, folder / "run.zarr", epochs=3, schedule="serial", settings=settings, **blocks)
    shutil.rmtree(data)
    order = kept_order(run.store)
    assert order is not None
    assert (order.columns(0, N_COLS) != np.arange(N_COLS)).any(), "they are dealt"
    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, ratings: Any) -> Path:
    R, _, asked = ratings
    folder = tmp_path_factory.mktemp("data")
    return make(folder / "test.zarr", R, asked, (*CUTS, len(ROW_IDS)), row_names=USERS)


@pytest.fixture(scope="module")
def unclipped(run: Run, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Predictions of all rows and columns by hand from an export."""
    out = tmp_path_factory.mktemp("export") / "model.npz"
    run.export(out)
    model = np.load(out)
    U, b = np.zeros((N_ROWS, 3)), np.zeros(N_ROWS)
    U[:N_KNOWN] = np.where(model["row_count"][:, None] > 0, model["U"], 0)
    b[:N_KNOWN] = model["row_bias"]
    center, scale, *_ = model["target"]
    return center + scale * (U @ model["V"].T + b[:, None] + model["col_bias"])


def clipped(run: Run, values: np.ndarray) -> np.ndarray:
    lowest, highest = run.arrays()["target"].compute()[2:]
    return np.clip(values, lowest, highest)


def predicted(run: Run, data: Path, out: Path, **options: Any) -> dict[str, np.ndarray]:
    told = run.predict(data, out, **options)
    assert told["n_rows"] == N_ROWS
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    return {name: array[...] for name, array in zarr.open_group(str(out), mode="r").arrays()}


def lines(path: Path) -> list[tuple[str, str, float]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [(user, item, float(value)) for user, item, value in csv.reader(file, delimiter="\t")]


@pytest.fixture(params=["at once", "in pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many batches; limits of memory that cut everything up."""
    if request.param == "at once":
        return 1
    monkeypatch.setattr(spool, "WINDOW_BYTES", 200)
    monkeypatch.setattr(entry_spill, "RANGE_ENTRIES", 5)
    monkeypatch.setattr(entry_spill, "BUFFER_ENTRIES", 4)
    monkeypatch.setattr(prediction_sinks, "NUMBERS_AT_ONCE", 7)
    return 4


def test_entries_are_predicted_as_the_export_says(run, data, ratings, unclipped, tmp_path, pieces):
    found = predicted(run, data, tmp_path / "p.zarr", workers=pieces)
    rows, columns = ratings[2].nonzero()
    np.testing.assert_array_equal(found["rows"], rows)
    np.testing.assert_array_equal(found["columns"], columns)
    np.testing.assert_allclose(found["values"], clipped(run, unclipped)[rows, columns], rtol=1e-5)
    assert {array.dtype.str for array in found.values()} == {"<i8", "<f4"}


def test_entries_are_written_with_names(run, data, ratings, unclipped, tmp_path, pieces):
    told = run.predict(data, tmp_path / "p.txt", workers=pieces)
    rows, columns = ratings[2].nonzero()
    assert told["n_entries"] == len(rows)
    found = lines(tmp_path / "p.txt")
    assert [line[:2] for line in found] == [(USERS[i], ITEMS[j]) for i, j in zip(rows, columns, strict=True)]
    values = [line[2] for line in found]
    np.testing.assert_allclose(values, clipped(run, unclipped)[rows, columns], rtol=1e-5)


def expected_ranking(values: np.ndarray, known: np.ndarray, top: int) -> np.ndarray:
    """The best unclipped values of unseen columns, NaN where there are no more."""
    best = -np.sort(-np.where(known, -np.inf, values), axis=1)[:, :top]
    return np.where(np.isinf(best), np.nan, best)


@pytest.mark.parametrize("top", [1, 5, N_COLS + 3])
def test_rankings_are_the_best_of_all_unseen_columns(run, data, ratings, unclipped, tmp_path, pieces, top):
    found = predicted(run, data, tmp_path / "p.zarr", workers=pieces, top=top)
    known, there = ratings[1], np.arange(N_ROWS) != ABSENT
    columns = found["columns"]
    assert columns.shape == (N_ROWS, min(top, N_COLS)) and columns.dtype == np.int64
    best = expected_ranking(unclipped, known, top)
    best[ABSENT] = np.nan
    np.testing.assert_array_equal(columns >= 0, ~np.isnan(best))
    for row in np.flatnonzero(there):
        mine = columns[row][columns[row] >= 0]
        assert len(set(mine)) == len(mine)
        assert not known[row, mine].any()
        np.testing.assert_allclose(unclipped[row, mine], best[row][: len(mine)], rtol=1e-5)
    np.testing.assert_allclose(found["scores"], clipped(run, best), rtol=1e-5)


def test_rankings_are_written_with_names_a_column_a_line(run, data, tmp_path, pieces):
    run.predict(data, tmp_path / "p.txt", workers=pieces, top=4)
    run.predict(data, tmp_path / "p.zarr", top=4)
    group = zarr.open_group(str(tmp_path / "p.zarr"), mode="r")
    columns, scores = group["columns"][...], group["scores"][...]
    expected = [(USERS[i], ITEMS[columns[i, t]]) for i, t in np.argwhere(columns >= 0)]
    assert expected.count((USERS[FULL], ITEMS[4])) == 1
    found = lines(tmp_path / "p.txt")
    assert [line[:2] for line in found] == expected
    np.testing.assert_allclose([line[2] for line in found], scores[columns >= 0], rtol=1e-6)


def test_predictions_of_entries_can_be_ingested_as_ratings(run, data, ratings, tmp_path):
    run.predict(data, tmp_path / "p.txt")
    api.ingest("ratings", tmp_path / "p.txt", tmp_path / "p.zarr")
    dataset = Dataset.open(tmp_path / "p.zarr")
    assert dataset.nnz == ratings[2].sum()
    assert set(dataset.feature_names) == {ITEMS[j] for j in np.flatnonzero(ratings[2].any(axis=0))}


def test_rows_without_a_name_are_numbers(run, ratings, tmp_path):
    R, _, asked = ratings
    data = make(tmp_path / "test.zarr", R, asked, (*CUTS, len(ROW_IDS)))
    run.predict(data, tmp_path / "p.txt")
    users = [*USERS[:N_KNOWN], *map(str, range(N_KNOWN, N_ROWS))]
    assert [line[0] for line in lines(tmp_path / "p.txt")] == [users[i] for i in asked.nonzero()[0]]


def test_a_run_without_names_writes_numbers(ratings, tmp_path):
    R, known, asked = ratings
    train = make(tmp_path / "train.zarr", R, known, CUTS)
    run = api.train(
        "mf", train, tmp_path / "run.zarr", epochs=1, schedule="serial", settings={"n_factors": 2}
    )
    data = make(tmp_path / "test.zarr", R, asked, (*CUTS, len(ROW_IDS)))
    run.predict(data, tmp_path / "p.txt")
    found = [(int(user), int(item)) for user, item, _ in lines(tmp_path / "p.txt")]
    assert found == list(zip(*(places.tolist() for places in asked.nonzero()), strict=True))


def test_nothing_asked_gives_no_entries(run, ratings, tmp_path):
    R, _, asked = ratings
    data = make(tmp_path / "test.zarr", R, np.zeros_like(asked), (*CUTS, len(ROW_IDS)))
    (tmp_path / "out").mkdir()
    found = predicted(run, data, tmp_path / "out" / "p.zarr")
    assert {name: array.shape for name, array in found.items()} == {
        "rows": (0,),
        "columns": (0,),
        "values": (0,),
    }
    assert run.predict(data, tmp_path / "p.txt")["n_entries"] == 0
    assert (tmp_path / "p.txt").read_text() == ""


@pytest.mark.parametrize("name", ["row_names", "feature_names"])
def test_data_of_other_rows_or_columns_are_refused(run, ratings, tmp_path, name):
    R, _, asked = ratings
    names = {"row_names": USERS, "feature_names": ITEMS}
    names[name] = [*names[name][:2], "another", *names[name][3:]]
    data = make(tmp_path / "test.zarr", R, asked, (*CUTS, len(ROW_IDS)), **names)
    with pytest.raises(
        InputError, match=r"(row|column) 2 of .* is 'another' but was .*; ingest it with --like"
    ):
        run.predict(data, tmp_path / "p.txt")
    with pytest.raises(InputError, match="another"):
        run.evaluate(data)
    assert [path.name for path in tmp_path.iterdir()] == ["test.zarr"]


def test_predictions_that_fail_leave_nothing(run, data, tmp_path):
    def failing() -> Iterator[Any]:
        yield np.arange(2), {"values": np.ones(2)}
        raise OSError(28, "No space left on device")

    for name in ("p.zarr", "p.txt"):
        with pytest.raises(DoesNotFit, match=f"no space left on the disk of .*{name}"):
            write_predictions(failing(), tmp_path / name, run.store, Dataset.open(data))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [0, 1, 5, 12])
def test_names_are_kept_whatever_their_number(run, tmp_path, monkeypatch, n):
    monkeypatch.setattr("oocml.engine.kept_rows.CHUNK_NAMES", 5)
    names = [f"{'ü' * (i % 3)}{i}" if i != 3 else "" for i in range(n)]
    writer = DatasetWriter(str(tmp_path / "d.zarr"), n_cols=N_COLS, label_kind="none")
    R = np.ones((3, N_COLS))
    writer.write_panel(0, Panel(csr(R), None, np.arange(3)))
    writer.finish(n_panels=1, attrs={}, feature_names=names)
    settings = {"n_factors": 2}
    made = api.train(
        "mf", tmp_path / "d.zarr", tmp_path / "r.zarr", epochs=1, schedule="serial", settings=settings
    )
    n_kept, kept = kept_names(made.store, "feature_names")
    assert (n_kept, list(kept)) == (n, names)
    assert kept_names(made.store, "row_names") == (0, None)
    n_kept, kept = kept_names(made.store, "feature_names")
    mapped = output_names.mapped_names(kept, n_kept, tmp_path)
    assert list(mapped) == names


def trained_on_labels(folder: Path, model: str, y: np.ndarray, **names: Any) -> tuple[Run, Path]:
    """A run, and its data with the rows in another order and row 2 left out."""
    X = np.random.default_rng(2).random((len(y), 6)) + np.eye(len(y), 6)
    writer = DatasetWriter(str(folder / "d.zarr"), n_cols=6, label_kind="number")
    order = np.random.default_rng(3).permutation(len(y))
    order = order[order != 2]
    writer.write_panel(0, Panel(csr(X[order]), y[order], order))
    labels = np.unique(y[order]) if names else None
    writer.finish(n_panels=1, attrs={}, labels=labels, **names)
    run = api.train(model, folder / "d.zarr", folder / "r.zarr", epochs=1, schedule="serial")
    return run, folder / "d.zarr"


def test_numbers_are_written_one_a_line(tmp_path):
    run, data = trained_on_labels(tmp_path, "fm", np.linspace(0.5, 7.5, 20) ** 2)
    run.predict(data, tmp_path / "p.txt")
    run.predict(data, tmp_path / "p.zarr")
    values = zarr.open_group(str(tmp_path / "p.zarr"), mode="r")["values"][...]
    assert np.isnan(values).tolist() == [row == 2 for row in range(20)]
    found = [float(line) for line in (tmp_path / "p.txt").read_text().splitlines()]
    np.testing.assert_allclose(found, values, rtol=1e-6)


@pytest.mark.parametrize("model", ["mlr", "fm"])
def test_labels_are_written_with_their_names(tmp_path, model):
    y = np.arange(20.0) % (3 if model == "mlr" else 2) * 10
    names = ["no thing", "some:thing", "any"][: len(np.unique(y))]
    run, data = trained_on_labels(tmp_path, model, y, label_names=names)
    run.predict(data, tmp_path / "p.txt")
    run.predict(data, tmp_path / "p.zarr")
    group = zarr.open_group(str(tmp_path / "p.zarr"), mode="r")
    labels, scores = group["labels"][...], group["scores"][...]
    found = [
        [pair.rpartition(":") for pair in line.split("\t")]
        for line in (tmp_path / "p.txt").read_text().splitlines()
    ]
    named = dict(zip([0, 10, 20], names, strict=False)) | {-1: "-1"}
    assert [[name for name, _, _ in row] for row in found] == [[named[k] for k in row] for row in labels]
    np.testing.assert_allclose([[float(v) for *_, v in row] for row in found], scores, rtol=1e-5)
    assert labels[2].tolist() == [-1] * labels.shape[1]


def trained_on_rows(folder: Path, model: str, settings: dict[str, Any]) -> tuple[Run, Path]:
    """A run of a model without labels, and its data with the rows in another order and row 2 left out."""
    writer = DatasetWriter(str(folder / "d.zarr"), n_cols=6, label_kind="none")
    order = np.random.default_rng(3).permutation(20)
    order = order[order != 2]
    counts = np.random.default_rng(2).integers(1, 9, (20, 6)).astype(float)
    writer.write_panel(0, Panel(csr(counts[order]), None, order))
    writer.finish(n_panels=1, attrs={})
    made = api.train(
        model, folder / "d.zarr", folder / "r.zarr", epochs=2, schedule="serial", settings=settings
    )
    return made, folder / "d.zarr"


@pytest.mark.parametrize(
    ("model", "settings", "part", "share", "top"),
    [
        ("lda", {"n_topics": 4}, "topics", "proportions", 3),
        ("lda", {"n_topics": 4}, None, "proportions", None),
        ("gmm", {"n_components": 3}, "components", "responsibilities", 2),
    ],
)
def test_shares_of_parts_are_written_as_pairs(tmp_path, monkeypatch, model, settings, part, share, top):
    monkeypatch.setattr(prediction_sinks, "NUMBERS_AT_ONCE", 7)
    run, data = trained_on_rows(tmp_path, model, settings)
    run.predict(data, tmp_path / "p.txt", top=top)
    run.predict(data, tmp_path / "p.zarr", top=top)
    group = zarr.open_group(str(tmp_path / "p.zarr"), mode="r")
    shares = group[share][...]
    numbers = group[part][...] if part else np.tile(np.arange(4), (20, 1))
    lines = (tmp_path / "p.txt").read_text().splitlines()
    pairs = [[pair.split(":") for pair in line.split(" ")] for line in lines]
    assert [[int(number) for number, _ in row] for row in pairs] == numbers.tolist()
    found = np.array([[float(value) for _, value in row] for row in pairs])
    np.testing.assert_allclose(found, shares, rtol=1e-5)
    assert np.isnan(found[2]).all()
    assert part is None or (np.diff(np.delete(found, 2, axis=0)) <= 0).all(), "best first"
