"""Implicit RoBiRank trained from disk by the engine: schedules, held-out data, rankings, and the goals on real sets."""

import numpy as np
import pytest

from oocml import api
from oocml.data.split import split_path
from oocml.metrics.recommendation import NAMES
from tests.models.interests import planted

SETTINGS = {"n_factors": 8, "n_negatives": 64}
BLOCKS = {"row_blocks": 3, "col_blocks": 4}


def write_lists(path, liked):
    lines = (" ".join([f"u{i}", *(f"i{j}" for j in np.flatnonzero(row))]) for i, row in enumerate(liked))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """(folder, what is held out): ``train.zarr`` of small panels, ``test.zarr`` of the same users."""
    folder = tmp_path_factory.mktemp("interests")
    liked, held_out = planted(n_users=240, n_items=120, per_user=12)
    for name, part in (("train", liked), ("test", held_out)):
        like = {} if name == "train" else {"like": folder / "train.zarr"}
        source = write_lists(folder / f"{name}.txt", part)
        api.ingest("interactions", source, folder / f"{name}.zarr", panel_bytes=2000, **like)
    return folder


def trained(stored, path, settings=SETTINGS, **options):
    given = {"epochs": 6, "schedule": "serial", **BLOCKS} | options
    return api.train("robirank-implicit", stored / "train.zarr", path, settings=settings, **given)


@pytest.fixture(scope="module")
def run(stored):
    return trained(stored, stored / "run.zarr")


XI = {"surrogate": "logistic", "xi": "exact", "refresh": 2}


@pytest.mark.parametrize("more", [{}, XI, {"loss": "bpr"}])
def test_objective_of_evaluate_is_that_of_the_training(stored, tmp_path, more):
    run = trained(stored, tmp_path / "run.zarr", SETTINGS | more, epochs=2)
    found = run.evaluate(stored / "train.zarr")
    assert found["objective"] == pytest.approx(run.summary()["objective"], rel=1e-5)


def test_workers_do_not_decide_bits_and_no_barriers_are_as_good(stored, run, tmp_path):
    together = trained(stored, tmp_path / "sync.zarr", schedule="sync", workers=2)
    nomad = trained(stored, tmp_path / "async.zarr", schedule="async", workers=2)
    for name, array in run.arrays().items():
        np.testing.assert_array_equal(array.compute(), together.arrays()[name].compute())
    found = [one.evaluate(stored / "test.zarr") for one in (run, together, nomad)]
    assert found[0] == found[1]
    assert found[2]["auc"] == pytest.approx(found[0]["auc"], rel=0.02)
    assert set(NAMES) < set(found[0])


def test_the_best_epoch_on_held_out_data_is_kept(stored, tmp_path):
    options = {
        "valid": stored / "test.zarr",
        "metric": "ndcg_at_10",
        "patience": 1,
        "row_blocks": 1,
        "col_blocks": 2,
    }
    run = trained(stored, tmp_path / "run.zarr", SETTINGS | {"l2": 0.0}, epochs=30, **options)
    values = [record["valid"]["ndcg_at_10"] for record in run.history]
    assert len(values) < 30
    assert run.evaluate(stored / "test.zarr", at="best")["ndcg_at_10"] == pytest.approx(max(values))


def test_rankings_name_unseen_items(stored, run, tmp_path):
    run.predict(stored / "train.zarr", tmp_path / "best.txt", top=3)
    liked, _ = planted(n_users=240, n_items=120, per_user=12)
    lines = [line.split() for line in (tmp_path / "best.txt").read_text().splitlines()]
    assert len(lines) == 3 * 240
    assert not any(liked[int(user[1:]), int(item[1:])] for user, item, _ in lines)
    ranked = {}
    for user, _, score in lines:
        ranked.setdefault(user, []).append(float(score))
    assert all(scores == sorted(scores, reverse=True) for scores in ranked.values())


def test_a_run_with_tours_can_be_resumed(stored, tmp_path):
    trained(stored, tmp_path / "run.zarr", SETTINGS | XI, epochs=3, row_blocks=1, col_blocks=2)
    run = api.resume(tmp_path / "run.zarr", epochs=3, schedule="serial")
    assert [record["epoch"] for record in run.history] == [1, 2, 3, 4, 5, 6]
    assert run.evaluate(stored / "test.zarr")["auc"] > 0.65


@pytest.mark.long
def test_gowalla_reaches_the_goals_with_defaults(shared_data, tmp_path):
    sources = [shared_data(f"gowalla/{part}.txt.gz") for part in ("train", "valid")]
    train, test = tmp_path / "train.zarr", tmp_path / "test.zarr"
    api.ingest("interactions", sources, train)
    api.ingest("interactions", shared_data("gowalla/test.txt.gz"), test, like=train)
    found = [
        api.train("robirank-implicit", train, tmp_path / f"{n}.zarr", schedule="serial", col_blocks=n)
        for n in (1, 16)
    ]
    whole, cut = (run.evaluate(test) for run in found)
    assert whole["ndcg_at_10"] >= 0.115
    assert whole["recall_at_20"] >= 0.160
    assert cut["ndcg_at_10"] >= 0.98 * whole["ndcg_at_10"]


@pytest.mark.long
def test_lastfm_reaches_the_goal_with_defaults(shared_data, tmp_path):
    train = tmp_path / "train.zarr"
    api.ingest("ratings", shared_data("lastfm-2k/user_artists.dat.gz"), train, split=0.8)
    run = api.train("robirank-implicit", train, tmp_path / "run.zarr", schedule="serial")
    assert run.evaluate(split_path(train))["ndcg_at_10"] >= 0.22
