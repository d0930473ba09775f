"""lda on news of the Associated Press (2,246 documents; nine tenths to train on), 128 topics."""

import gzip

import numpy as np
import pytest

from oocml.types import Csr
from tests.models.tiled import scored
from tests.models.topics import training

pytestmark = pytest.mark.long
SPLIT_SEED = 1
"""Of which documents are held out. Held-out figures of splits differ by 0.05, those of seeds by 0.01."""


@pytest.fixture(scope="module")
def news(shared_data):
    """Training and held-out documents, and the number of words."""
    with gzip.open(shared_data("ap/ap.ldac.gz"), "rt") as file:
        rows = [np.array([pair.split(":") for pair in line.split()[1:]], int).reshape(-1, 2) for line in file]
    n_words = 1 + max(int(row[:, 0].max(initial=0)) for row in rows)
    order, n = np.random.default_rng(SPLIT_SEED).permutation(len(rows)), round(0.9 * len(rows))
    place = np.random.default_rng(9).permutation(n_words)
    return *(joined([rows[i] for i in part], place) for part in (order[:n], order[n:])), n_words


def joined(rows, place):
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    words, counts = np.concatenate(rows).T
    words = place[words]
    by_row = np.lexsort((words, np.repeat(np.arange(len(rows)), np.diff(indptr))))
    return Csr(indptr, words[by_row].astype(np.int32), counts[by_row].astype(np.float32))


def trained(news, n_epochs=40, **settings):
    X, _, n_words = news
    given = {"n_topics": 128, "top_k": None, "blocks": (1, 1)}
    return training(X, n_words, **given | settings).run(n_epochs)


def held_out(run, news):
    return scored(run, news[1])[0]["heldout_log_likelihood_per_word"]


def test_forty_epochs_reach_what_they_should(news):
    run = trained(news)
    assert run.finals[0].extra["elbo"] > -8.17
    assert held_out(run, news) > -7.78
    cold = trained(news, start="cold")
    assert cold.finals[0].extra["elbo"] < -8.5
    half, single = (trained(news, top_k=0, z_dtype=kind) for kind in ("float16", "float32"))
    assert half.finals[0].objective == pytest.approx(single.finals[0].objective, abs=0.01)
    assert held_out(half, news) == pytest.approx(held_out(single, news), abs=0.01)
    assert run.finals[0].objective == pytest.approx(half.finals[0].objective, abs=0.02)
    assert held_out(run, news) == pytest.approx(held_out(half, news), abs=0.01)


def test_blocks_cost_nothing(news):
    run = trained(news, blocks=(8, 8))
    assert run.finals[0].extra["elbo"] > -8.16
    assert held_out(run, news) > -7.78


def test_cvb0_predicts_best(news):
    assert held_out(trained(news, inference="cvb0"), news) > -7.74


def test_without_responsibilities_it_does_as_well_as_vi(news):
    run, vi = (trained(news, **settings) for settings in ({"store_z": False}, {"inference": "vi"}))
    assert run.finals[0].objective < vi.finals[0].objective
    assert held_out(run, news) > held_out(vi, news)
    assert vi.finals[0].extra["elbo"] > -8.26


@pytest.mark.parametrize("top_k", [0, 16])
def test_the_bound_never_falls(news, top_k):
    given = {"sub_epoch_width": 1, "exact_every": 1, "cvb0_epochs": 15, "dense_epochs": 15}
    run = trained(news, 65, top_k=top_k, z_dtype="float32", blocks=(4, 4), n_topics=64, **given)
    values = np.array([epoch.objective for epoch in run.epochs])
    assert (np.diff(values[15:]) < 1e-7).all()
    X, _, n_words = news
    vi = training(X, n_words, n_topics=64, inference="vi", blocks=(1, 1))
    vi.state["topic_word", 0, 0][...] = run.joined("topic_word")
    assert vi.run(10).finals[0].objective > values[-1] * (1 - 1e-3)
