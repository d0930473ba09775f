"""lda trained from disk by the engine: whoever runs the tasks, and scored with little memory."""

import numpy as np
import pytest

from oocml import api
from oocml.data.dataset import Dataset
from oocml.data.writer import DatasetWriter
from oocml.engine.events import EpochDone, Notice
from oocml.engine.score import batches
from oocml.errors import DoesNotFit, InputError
from oocml.types import Csr, Panel
from tests.models.topics import planted

N_PANELS = 4


def write(path, X, n_cols):
    writer = DatasetWriter(str(path), n_cols=n_cols, label_kind="none", overwrite=True)
    bounds = np.linspace(0, len(X.indptr) - 1, N_PANELS + 1).astype(int)
    for p, (lo, hi) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        own = slice(X.indptr[lo], X.indptr[hi])
        part = Csr(X.indptr[lo : hi + 1] - X.indptr[lo], X.indices[own], X.data[own])
        writer.write_panel(p, Panel(part, None, np.arange(lo, hi)))
    writer.finish(n_panels=N_PANELS, attrs={}, labels=None)
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return write(tmp_path_factory.mktemp("lda") / "documents.zarr", planted(), 60)


@pytest.fixture(scope="module")
def run(stored, tmp_path_factory):
    return trained(stored, tmp_path_factory.mktemp("runs") / "serial.zarr")


def trained(stored, path, **options):
    given = {"epochs": 8, "schedule": "serial", "row_blocks": 4, "col_blocks": 3}
    settings = {"n_topics": 20, "top_k": 8, "learn_priors": True}
    return api.train("lda", stored, path, **{"settings": settings} | given | options)


def test_workers_do_not_decide_bits(stored, run, tmp_path):
    together = trained(stored, tmp_path / "sync.zarr", schedule="sync", workers=2)
    assert together.history[-1]["objective"] == run.history[-1]["objective"]
    for name, array in run.arrays().items():
        np.testing.assert_array_equal(together.arrays()[name].compute(), array.compute(), err_msg=name)


def test_a_training_without_responsibilities_keeps_none(stored, tmp_path):
    run = trained(stored, tmp_path / "run.zarr", settings={"n_topics": 20, "store_z": False})
    assert {path.name for path in (run.path / "state").iterdir()}.isdisjoint({"z", "z_value", "gamma"})
    assert run.summary()["objective"] < run.history[0]["objective"] + 1


def test_scores_do_not_depend_on_the_memory(stored, run):
    plenty = run.evaluate(stored)
    dataset = Dataset.open(str(stored))
    room = 40_000
    while True:  # as little as there can be, plus a little
        try:
            pieces = batches(run.store, dataset, room, 1)
            break
        except DoesNotFit:
            room += 1000
    assert len(pieces) > N_PANELS
    of_first = [batch.piece for batch in pieces if batch.panels == range(1)]
    assert of_first == [(i, len(of_first)) for i in range(len(of_first))]
    little = run.evaluate(stored, memory=room)
    assert little.keys() == plenty.keys()
    np.testing.assert_allclose(list(little.values()), list(plenty.values()), rtol=1e-5)


def test_proportions_come_in_the_order_of_the_source(stored, run, tmp_path):
    run.predict(stored, tmp_path / "proportions.txt")
    lines = (tmp_path / "proportions.txt").read_text().splitlines()
    proportions = np.array([[float(pair.partition(":")[2]) for pair in line.split()] for line in lines])
    assert proportions.shape == (120, 20)
    np.testing.assert_allclose(proportions.sum(axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(proportions[5], 0.05, rtol=1e-4)  # has no words


def test_words_are_exported_by_columns_of_the_dataset(run):
    arrays = {name: array.compute() for name, array in run.arrays().items()}
    np.testing.assert_array_equal(arrays["word"], np.arange(60))
    phi = arrays["topic_word"] / arrays["totals"]
    np.testing.assert_allclose(phi[arrays["top_words"][0], 0], arrays["top_weights"][0], rtol=1e-4)


def test_a_training_ends_with_a_notice_where_topics_are_alike(stored, tmp_path):
    seen = []
    settings = {"n_topics": 20, "inference": "cvb0"}
    trained(stored, tmp_path / "run.zarr", epochs=1, settings=settings, monitors=[seen.append])
    assert any("alike" in event.text for event in seen if isinstance(event, Notice))


def test_updates_are_entries_times_topics(stored, tmp_path):
    seen = []
    settings = {"n_topics": 20, "top_k": 8, "dense_epochs": 2, "learn_priors": False}
    trained(stored, tmp_path / "run.zarr", epochs=4, settings=settings, monitors=[seen.append])
    updates = [event.updates for event in seen if isinstance(event, EpochDone)]
    nnz = Dataset.open(str(stored)).nnz
    assert updates[1::2] == [20 * nnz, 8 * nnz]


def test_every_checkpoint_has_topics_with_words(stored, tmp_path):
    run = trained(stored, tmp_path / "run.zarr", valid=stored, epochs=4)
    assert run.summary()["checkpoints"]
    words = run.arrays()["top_words"].compute()  # of the best epoch
    assert words.min() >= 0
    assert np.isfinite(run.evaluate(stored)["coherence_npmi"])


@pytest.mark.parametrize("value", [-1.0, np.inf])
def test_counts_that_are_none_leave_one_line_and_no_run(tmp_path, value):
    X = planted()
    data = X.data.copy()
    data[5] = value
    broken = write(tmp_path / "broken.zarr", X._replace(data=data), 60)
    with pytest.raises(InputError, match="negative or not finite") as caught:
        trained(broken, tmp_path / "run.zarr")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run.zarr").exists()


def test_parts_of_words_cannot_be_held_out(stored, run, tmp_path):
    X = planted()
    halves = write(tmp_path / "halves.zarr", X._replace(data=X.data + np.float32(0.5)), 60)
    with pytest.raises(InputError, match="no whole numbers"):
        run.evaluate(halves)
