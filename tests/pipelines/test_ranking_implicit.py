from __future__ import annotations

import numpy as np
import pytest

from oocml import api
from oocml.errors import UsageError
from pipelines import ranking_implicit, ranking_interactions
from pipelines.methods import Method
from pipelines.ranking_als import drawn_apart, is_installed, scores_of
from pipelines.ranking_implicit import ALS, DEFAULT, implicit, longest_within, noise
from pipelines.ranking_interactions import find_sets, in_memory, noisy, planted
from pipelines.ranking_options import Chosen


@pytest.fixture
def small(monkeypatch):
    for name, value in {"PLANTED_USERS": 60, "PLANTED_ITEMS": 50, "PLANTED_EACH": 10}.items():
        monkeypatch.setattr(ranking_interactions, name, value)
    monkeypatch.setattr(ranking_implicit, "EPOCHS", (1, 15))


def chosen(folder, **given):
    return Chosen(out=folder, full=False, repeats=2, data_dir=None, memcap=None, sets=("planted",), **given)


def test_planted_users_take_as_many_items_as_they_should(small, tmp_path):
    splits = planted(tmp_path, None, 0)
    train, test = in_memory(splits.train), in_memory(splits.test)
    each = np.diff(train.indptr) + np.diff(test.indptr)
    assert each.max() == 10  # held-out items that nobody else has are dropped
    assert each.mean() > 9.5
    assert 0.1 < len(test.data) / 600 < 0.3


def test_noise_adds_a_fifth_of_new_pairs_and_keeps_the_test(small, tmp_path):
    clean = planted(tmp_path, None, 0)
    worse = noisy(clean, tmp_path, 0)

    def pairs(path):
        X = in_memory(path)
        users, items = ranking_interactions.names_of(path)
        rows = np.repeat(np.arange(len(X.indptr) - 1), np.diff(X.indptr))
        return {(users[i], items[j]) for i, j in zip(rows, X.indices, strict=True)}

    before, after = pairs(clean.train), pairs(worse.train)
    assert before < after
    assert len(after) == len(before) + int(0.2 * len(before))
    asked = pairs(worse.test)
    assert asked == pairs(clean.test)
    assert not asked & after


def test_factors_are_scored_as_our_own_models_are(small, tmp_path):
    splits = planted(tmp_path, None, 0)
    options = {"schedule": "serial", "epochs": 2, "settings": {"n_factors": 4}}
    run = api.train("robirank-implicit", splits.train, tmp_path / "run.zarr", **options)
    arrays = {name: np.asarray(array) for name, array in run.arrays().items()}
    bias = arrays["col_bias"][:, None]
    U, V = np.hstack([arrays["U"], np.ones((60, 1), np.float32)]), np.hstack([arrays["V"], bias])
    found = scores_of(in_memory(splits.train), in_memory(splits.test), U, V)
    expected = run.evaluate(splits.test)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-5), name


def test_a_tenth_is_drawn_apart(small, tmp_path):
    X = in_memory(planted(tmp_path, None, 0).train)
    kept, asked = drawn_apart(X, 0)
    assert len(kept.data) + len(asked.data) == len(X.data)
    assert 0.05 < len(asked.data) / len(X.data) < 0.16
    np.testing.assert_array_equal(kept.indptr + asked.indptr, X.indptr)


def test_lines_at_equal_time():
    def line(method, epochs, seconds):
        return {"method": method, "epochs": epochs, "cpu_seconds": seconds}

    rows = [line(DEFAULT, 5, 1.0), line(DEFAULT, 15, 3.0), line(DEFAULT, 30, 6.0)]
    rows += [line("BPR", 15, 2.0), line("BPR", 30, 2.9), line("BPR", 60, 6.0)]
    rows += [line(ALS, 1, 4.0), line(ALS, 15, 40.0)]
    name = f"{DEFAULT}, 16 blocks"
    rows += [line(name, 5, 9.0), line(name, 15, 27.0), line(name, 30, 60.0)]
    found = [(row["method"], row["epochs"]) for row in longest_within(rows)]
    assert found == [(DEFAULT, 15), ("BPR", 30), (ALS, 1), (name, 15)]


def test_sections_have_a_line_for_every_method(small, tmp_path, monkeypatch):
    alone = [Method(DEFAULT), Method("BPR", settings={"loss": "bpr"})]
    cut = [
        Method(f"{DEFAULT}, one block", row_blocks=1, col_blocks=1),
        Method(f"{DEFAULT}, 16 blocks", col_blocks=16),
    ]
    monkeypatch.setattr(ranking_implicit, "losses", lambda full: alone)
    monkeypatch.setattr(ranking_implicit, "cuts", lambda: cut)
    monkeypatch.setattr(ranking_implicit, "LOSSES", {DEFAULT: {}, "BPR": {"loss": "bpr"}})
    section = implicit(chosen(tmp_path))
    named = [method.name for method in alone + cut] + ([ALS] if is_installed() else [])
    assert [row["method"] for row in section.rows] == named
    assert all(0 < row["ndcg_at_10"] < 1 for row in section.rows)
    assert all(row["cpu_seconds"] > 0 for row in section.rows if row["method"] not in [m.name for m in cut])
    assert any("16 blocks" in finding.what for finding in section.findings)
    assert (tmp_path / "implicit.png").read_bytes().startswith(b"\x89PNG")
    section = noise(chosen(tmp_path))
    assert [(row["method"], row["draws"]) for row in section.rows] == [(DEFAULT, 2), ("BPR", 2)]
    assert all(row["cost"] == pytest.approx(1 - row["noisy"] / row["clean"]) for row in section.rows)


def test_sets_that_cannot_be_had_are_left_out_and_unknown_ones_refused(tmp_path, capsys):
    assert list(find_sets(("gowalla", "lastfm_2k"), tmp_path, tmp_path, 0)) == []
    assert "gowalla left out: gowalla has to be got by hand" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no set 'netflix'; there are ml_100k"):
        list(find_sets(("netflix",), tmp_path, None, 0))
