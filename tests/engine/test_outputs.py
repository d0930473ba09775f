"""What leaves a run is of one moment, in the dataset's order, whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import zarr
from hypothesis import given
from hypothesis import strategies as st

from oocml.data.dataset import Dataset
from oocml.data.writer import DatasetWriter
from oocml.engine import outputs, spool
from oocml.engine.outputs import RunArrays, export_run
from oocml.engine.predictions import write_predictions
from oocml.engine.spool import RowSpool
from oocml.errors import DoesNotFit, OocmlError, UsageError
from oocml.run import Run
from oocml.types import Csr, Panel
from tests.engine.test_resume import judged
from tests.engine.toys import ToyRun, begin, drive

ORDERED = f"{Path(__file__).parent / 'ordered_model.py'}:Ordered"
N_COLS, ROW_IDS = 7, np.array([6, 2, 9, 0, 3, 12, 5, 1])
LEFT_OUT = np.setdiff1d(np.arange(13), ROW_IDS)


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose columns and rows stand elsewhere than in its data."""
    folder, rng = tmp_path_factory.mktemp("ordered"), np.random.default_rng(3)
    writer = DatasetWriter(str(folder / "data.zarr"), n_cols=N_COLS, label_kind="none")
    for p, (lo, hi) in enumerate([(0, 3), (3, 4), (4, 8)]):
        indices = [np.flatnonzero(rng.random(N_COLS) < 0.5).astype(np.int32) for _ in range(lo, hi)]
        indptr = np.cumsum([0, *map(len, indices)])
        X = Csr(indptr, np.concatenate(indices), np.ones(indptr[-1], np.float32))
        writer.write_panel(p, Panel(X, None, ROW_IDS[lo:hi]))
    writer.finish(n_panels=3, attrs={})
    toy = begin(folder / "run.zarr", folder / "data.zarr", reference=ORDERED, row_blocks=2, col_blocks=3)
    run = Run(toy.run.path)
    assert sorted(columns_of(run)) != columns_of(run), "they are dealt"
    return run


def columns_of(run: Run) -> list[int]:
    order = RunArrays(run.store, None).column_order
    assert order is not None
    return order.columns(0, N_COLS).tolist()


def expected(run: Run) -> dict[str, np.ndarray]:
    """In the dataset's order of columns and the source's order of rows, by hand."""
    columns = columns_of(run)
    U, V, W, b = np.zeros((13, 2)), np.zeros((N_COLS, 3)), np.zeros((N_COLS, N_COLS)), np.zeros(N_COLS)
    for place, row in enumerate(ROW_IDS):
        U[row] = [place + 1, place + 1.5]
    for j, column in enumerate(columns):
        V[column] = [j + 1, j + 1.25, j + 1.5]
        b[column] = j + 1
        for i, other in enumerate(columns):
            W[other, column] = 100 * i + j + 1
    return {"U": U, "V": V, "W": W, "b": b, "none": np.zeros((N_COLS, 0))}


def assert_equal(found: Any, run: Run) -> None:
    for name, values in expected(run).items():
        assert np.array_equal(np.asarray(found[name]), values), name


@pytest.mark.parametrize("window_bytes", [1, 40, spool.WINDOW_BYTES])
def test_exports_are_in_the_order_of_the_data(ordered, tmp_path, monkeypatch, window_bytes):
    monkeypatch.setattr(spool, "WINDOW_BYTES", window_bytes)
    ordered.export(tmp_path / "w.zarr")
    group = zarr.open_group(str(tmp_path / "w.zarr"), mode="r")
    assert_equal({name: group[name][...] for name in expected(ordered)}, ordered)  # type: ignore[index]
    ordered.export(tmp_path / "w.npz")
    assert_equal(np.load(tmp_path / "w.npz"), ordered)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.npz", "w.zarr"]


def test_lazy_arrays_are_in_the_order_of_the_data(ordered):
    lazy = ordered.arrays()
    assert_equal({name: array.compute(scheduler="sync") for name, array in lazy.items()}, ordered)
    assert {name: array.shape for name, array in lazy.items()} == {
        name: values.shape for name, values in expected(ordered).items()
    }
    assert not lazy["U"].compute(scheduler="sync")[LEFT_OUT].any()


def test_a_pruned_export_is_sparse_and_in_order(ordered, tmp_path):
    W = np.where(np.abs(expected(ordered)["W"]) < 300, 0, expected(ordered)["W"])
    V = np.where(np.abs(expected(ordered)["V"]) < 300, 0, expected(ordered)["V"])
    told = ordered.export(tmp_path / "w.npz", prune=300)
    found = np.load(tmp_path / "w.npz")
    parts = [found[f"W_{name}"] for name in ("data", "indices", "indptr")]
    assert np.array_equal(scipy.sparse.csc_array(tuple(parts), shape=found["W_shape"]).toarray(), W)
    assert np.array_equal(found["V"], V)
    ordered.export(tmp_path / "w.zarr", prune=300)
    group = zarr.open_group(str(tmp_path / "w.zarr"), mode="r")
    for name, part in zip(("data", "indices", "indptr"), parts, strict=True):
        assert np.array_equal(group[f"W/{name}"][...], part)  # type: ignore[index]
    nonzeros = sum(
        np.count_nonzero(values) for values in (W, V, expected(ordered)["U"], expected(ordered)["b"])
    )
    assert told["nonzeros"] == nonzeros


@pytest.fixture
def trained(new_run: Callable[..., ToyRun]) -> ToyRun:
    toy = new_run(epochs=1)
    drive(toy, validation=judged(toy, 100))
    return toy


def moving(monkeypatch: pytest.MonkeyPatch, toy: ToyRun, times: int) -> None:
    """Train on in the middle of that many exports."""
    pieces, left = RunArrays.pieces, [times]

    def move(arrays: RunArrays, name: str, prune: float = 0.0) -> Iterator[Any]:
        if name == "V" and left[0]:
            left[0] -= 1
            drive(toy, more_epochs=1, validation=judged(toy, 100))
        return pieces(arrays, name, prune)

    monkeypatch.setattr(RunArrays, "pieces", move)


@pytest.mark.parametrize("checkpoint", [None, "best"])
@pytest.mark.parametrize("suffix", ["zarr", "npz"])
def test_an_export_is_of_one_moment(trained, tmp_path, monkeypatch, suffix, checkpoint):
    with monkeypatch.context() as patch:
        moving(patch, trained, 2)
        export_run(trained.run, tmp_path / f"moved.{suffix}", checkpoint=checkpoint)
    export_run(trained.run, tmp_path / f"still.{suffix}", checkpoint=checkpoint)
    assert len(trained.run.read_ledger().segments) == 3
    moved, still = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in [tmp_path / name, *(tmp_path / name).rglob("*")]
            if path.is_file()
        }
        for name in (f"moved.{suffix}", f"still.{suffix}")
    )
    assert moved == still


def test_an_export_that_never_finds_a_moment_says_so_and_leaves_nothing(trained, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    moving(monkeypatch, trained, outputs.EXPORT_ATTEMPTS)
    with pytest.raises(OocmlError, match="trained on while it was exported"):
        export_run(trained.run, tmp_path / "out" / "w.zarr", checkpoint=None)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("suffix", ["zarr", "npz"])
def test_an_export_that_fails_leaves_what_was_there(trained, tmp_path, monkeypatch, suffix):
    out = tmp_path / "out" / f"w.{suffix}"
    out.parent.mkdir()
    export_run(trained.run, out, checkpoint=None)
    before = sorted(path for path in out.parent.rglob("*"))

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        np if suffix == "npz" else zarr.Group, "savez" if suffix == "npz" else "create_array", full
    )
    with pytest.raises(DoesNotFit, match=f"no space left on the disk of .*{out.name}; make room"):
        export_run(trained.run, out, checkpoint=None, overwrite=True)
    assert sorted(path for path in out.parent.rglob("*")) == before


def test_an_output_replaces_outputs_only(trained, toy_dataset, tmp_path):
    with pytest.raises(UsageError, match="not an earlier output"):
        export_run(trained.run, trained.run.path, checkpoint=None, overwrite=True)
    dataset = Dataset.open(toy_dataset)
    batches = [(np.arange(2), {"labels": np.ones((2, 1)), "scores": np.ones((2, 1))})]
    with pytest.raises(UsageError, match="not an earlier output"):
        write_predictions(iter(batches), toy_dataset, trained.run, dataset, overwrite=True)
    for _ in range(2):
        export_run(trained.run, tmp_path / "w.zarr", checkpoint=None, overwrite=True)
        write_predictions(iter(batches), tmp_path / "p.zarr", trained.run, dataset, overwrite=True)
    with pytest.raises(UsageError, match="--overwrite"):
        export_run(trained.run, tmp_path / "w.zarr", checkpoint=None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_the_spool_is_known_as_one(tmp_path):
    (tmp_path / "0.labels").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space") as caught:
        RowSpool(tmp_path).add(np.arange(4), {"labels": np.ones((4, 2))})
    assert caught.value.errno == errno.ENOSPC


@given(data=st.data(), window_bytes=st.integers(1, 200), n_rows=st.integers(1, 40))
def test_rows_leave_the_spool_in_order(tmp_path_factory, data, window_bytes, n_rows):
    folder = tmp_path_factory.mktemp("spool")
    ids = np.array(data.draw(st.lists(st.integers(0, n_rows - 1), unique=True, min_size=1)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=3)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "WINDOW_BYTES", window_bytes)
        made = RowSpool(folder, {"labels": -1})
        for mine in np.split(ids, cuts):
            made.add(mine, {"labels": mine * 2, "pairs": np.stack([mine, mine + 0.5], axis=1)})
        found = list(made.windows())
    labels = np.full(ids.max() + 1, -1)
    labels[ids] = ids * 2
    pairs = np.zeros((len(labels), 2))
    pairs[ids] = np.stack([ids, ids + 0.5], axis=1)
    assert [lo for lo, _ in found] == np.cumsum([0, *(len(w["labels"]) for _, w in found)])[:-1].tolist()
    assert np.array_equal(np.concatenate([window["labels"] for _, window in found]), labels)
    assert np.array_equal(np.concatenate([window["pairs"] for _, window in found]), pairs)
