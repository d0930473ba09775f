import numpy as np
import pytest

from oocml.metrics.recommendation import accumulate, scores
from oocml.models import robirank_implicit_scoring
from tests.models.interests import planted, scores_of, training
from tests.models.tiled import csr, scored


@pytest.fixture(scope="module")
def run():
    liked, _ = planted()
    liked[11] = False
    return training(liked, blocks=(3, 4)).run(3)


def seen_of(run):
    liked, _ = planted()
    liked[11] = False
    return liked


def metrics_of(S, seen, asked):
    """From ranks among unseen items by brute force."""
    above, n_others = [], (~(seen | asked)).sum(axis=1)
    for i in range(len(S)):
        others = S[i, ~(seen[i] | asked[i])]
        above += [int((others >= s).sum()) for s in np.sort(S[i, asked[i]])]
    indptr = np.concatenate([[0], np.cumsum(asked.sum(axis=1))])
    return scores(accumulate(indptr, np.array(above), n_others))


@pytest.mark.parametrize("few", [0, 48])
def test_metrics_are_those_of_ranks_among_unseen_items(run, monkeypatch, few):
    asked = planted()[1]
    monkeypatch.setattr(robirank_implicit_scoring, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(robirank_implicit_scoring, "COLS_AT_ONCE", 5)
    if few == 0:  # many wanted items are counted in another way
        asked = asked | (np.random.default_rng(0).random(asked.shape) < 0.9)
    found, _ = scored(run, csr(asked), batches=(20, 21))
    expected = metrics_of(scores_of(run), seen_of(run), asked)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name


def test_the_objective_of_held_out_pairs_is_that_of_ranks_among_what_is_left(run):
    asked, seen, S = planted()[1], seen_of(run), scores_of(run)
    Z = np.where(seen | asked, 0, np.exp2(S)).sum(axis=1)
    loss = np.log2(1 + Z[:, None] / np.exp2(S))[asked].mean()
    U, V = run.joined("U"), run.joined("V")
    known = run.joined("row_count") > 0
    squares = np.where(known, (U**2).sum(axis=1), 0)[:, None] + (V**2).sum(axis=1)
    from oocml.models.robirank_implicit_settings import ridge

    found, _ = scored(run, csr(asked))
    assert found["objective"] == pytest.approx(
        loss + ridge(run.problem) / 2 * squares[asked].mean(), rel=1e-5
    )


def test_rankings_are_of_unseen_items(run):
    S = np.where(seen_of(run), -np.inf, scores_of(run))
    _, outputs = scored(run, csr(planted()[1]), top=5, batches=(33,))
    columns = np.concatenate([output["columns"] for output in outputs])
    np.testing.assert_array_equal(columns, np.argsort(-S, axis=1)[:, :5])
    values = np.concatenate([output["scores"] for output in outputs])
    np.testing.assert_allclose(values, np.take_along_axis(S, columns, 1), rtol=1e-4, atol=1e-5)


def test_rankings_end_where_everything_was_seen():
    liked, _ = planted(n_items=9, per_user=8)
    liked[0, :7] = True
    run = training(liked, blocks=(2, 2)).run(1)
    _, [output] = scored(run, csr(liked), top=9)
    n_left = (~liked).sum(axis=1)
    np.testing.assert_array_equal((output["columns"] >= 0).sum(axis=1), n_left)
    assert np.isnan(output["scores"][0, n_left[0] :]).all()


def test_without_top_the_given_pairs_are_scored(run):
    asked = planted()[1]
    _, [output] = scored(run, csr(asked))
    rows, cols = asked.nonzero()
    np.testing.assert_array_equal(output["rows"], rows)
    np.testing.assert_array_equal(output["columns"], cols)
    np.testing.assert_allclose(output["values"], scores_of(run)[asked], rtol=1e-4, atol=1e-5)


def test_users_that_the_training_knows_nothing_of_are_shown_what_is_liked_in_general(run):
    rows = np.arange(80)
    rows[20] = -1
    _, [output] = scored(run, csr(planted()[1]), top=4, rows=rows)
    best = np.argsort(-run.joined("col_bias"))[:4]
    np.testing.assert_array_equal(output["columns"][[11, 20]], [best, best])


def test_users_without_held_out_pairs_do_not_count(run):
    asked = planted()[1]
    fewer = asked.copy()
    fewer[::2] = False
    found, _ = scored(run, csr(fewer))
    expected = metrics_of(scores_of(run)[1::2], seen_of(run)[1::2], asked[1::2])
    assert found["ndcg_at_10"] == pytest.approx(expected["ndcg_at_10"])
