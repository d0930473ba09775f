import numpy as np
import pytest
from scipy.special import digamma

from oocml.kernels.lda_fold_in import lda_halve
from oocml.metrics import coherence
from oocml.models import lda_scoring
from oocml.models.lda_scoring import tokens_of
from oocml.types import Csr
from tests.kernels.counted import rows_of
from tests.models.tiled import scored
from tests.models.topics import dirichlet, planted, training


@pytest.fixture(scope="module")
def run():
    return training(planted()).run(20)


def held_out():
    """Documents of the same topics, one without words; and a word that the training did not have."""
    X = planted(seed=0, n_documents=180)
    lo = X.indptr[140]
    return Csr(X.indptr[140:] - lo, X.indices[lo:], X.data[lo:])


def inferred(X, data, topic_word, alpha, steps=100):
    """Gamma of documents whose counts are ``data``, in float64."""
    weights = np.exp(digamma(topic_word) - digamma(topic_word.sum(axis=0)))
    gamma = np.empty((len(X.indptr) - 1, topic_word.shape[1]))
    for i in range(len(gamma)):
        here = slice(X.indptr[i], X.indptr[i + 1])
        n, w = data[here].astype(np.float64), weights[X.indices[here]]
        gamma[i] = alpha + n.sum() / gamma.shape[1]
        for _ in range(steps):
            E, before = np.exp(digamma(gamma[i])), gamma[i].copy()
            gamma[i] = alpha + E * ((n / (w @ E))[:, None] * w).sum(axis=0)
            if np.abs(gamma[i] - before).mean() < 1e-3:
                break
    return gamma


def known(run, X):
    """Topics by word, where words that the training did not have are next to nothing; and counts of the others."""
    topic_word = run.joined("topic_word").astype(np.float64)
    data = X.data * topic_word.any(axis=1)[X.indices]
    return np.maximum(topic_word, 1e-12), data


def test_document_completion_is_that_of_the_definition(run):
    X = held_out()
    topic_word, data = known(run, X)
    observed = np.empty(len(data), np.float32)
    scores, _ = scored(run, X)
    scoring = run.model.scoring(run.problem, 0)
    lda_halve(np.arange(40), X.indptr, X.indices, data, np.uint64(scoring.seed), observed)
    gamma = inferred(X, observed, topic_word, 0.1)
    theta, phi = gamma / gamma.sum(axis=1, keepdims=True), topic_word / topic_word.sum(axis=0)
    p = (theta[rows_of(X)] * phi[X.indices]).sum(axis=1)
    rest = data - observed
    wanted = rest @ np.log(p) / rest.sum()
    assert 0.4 < observed.sum() / data.sum() < 0.6
    assert scores["heldout_log_likelihood_per_word"] == pytest.approx(wanted, rel=2e-3)
    assert scores["perplexity"] == pytest.approx(np.exp(-wanted), rel=1e-2)


def test_bound_is_that_of_the_best_documents_given_the_topics(run):
    X = held_out()
    topic_word, data = known(run, X)
    gamma = inferred(X, data, topic_word, 0.1)
    theta = digamma(gamma) - digamma(gamma.sum(axis=1, keepdims=True))
    phi = digamma(topic_word) - digamma(topic_word.sum(axis=0))
    tokens = data @ np.log(np.exp(theta[rows_of(X)] + phi[X.indices]).sum(axis=1))
    documents = (tokens + dirichlet(gamma, 0.1)) / data.sum()
    used = run.joined("topic_word").any(axis=1)
    topics = dirichlet(topic_word[used].T, 0.01) / run.panel.X.data.sum()
    scores, _ = scored(run, X)
    assert scores["elbo_per_word"] == pytest.approx(documents + topics, rel=1e-3)
    assert scores["objective"] == -scores["elbo_per_word"]


def test_bound_of_the_training_is_at_least_what_training_had(run):
    scores, _ = scored(run, run.panel.X)
    assert scores["objective"] == pytest.approx(run.finals[0].objective, abs=0.02)
    assert scores["objective"] < run.finals[0].objective + 1e-3


@pytest.mark.parametrize("step", [1, 2])
def test_coherence_counts_documents_that_have_the_top_words(run, step, monkeypatch):
    top = run.state["top_words", 0, 0][::step]
    monkeypatch.setattr(lda_scoring, "MOST_COHERENT", len(top))  # of more topics, some have to do
    X = held_out()
    present = np.zeros((40, 60), bool)
    present[rows_of(X), X.indices] = True
    codf = np.array([present[:, own].astype(int).T @ present[:, own] for own in top])
    counts = coherence.Cooccurrence(40, np.einsum("ktt->kt", codf), codf)
    scores, _ = scored(run, X)
    assert scores["coherence_npmi"] == pytest.approx(coherence.mean_npmi(counts))


def test_coherence_is_of_the_words_of_this_very_epoch(run):
    """Whatever words were found when the stretch of epochs began."""
    wanted = scored(run, held_out())[0]["coherence_npmi"]
    kept = run.state["top_words", 0, 0].copy()
    run.state["top_words", 0, 0][...] = np.arange(10)
    assert scored(run, held_out())[0]["coherence_npmi"] == wanted
    run.state["top_words", 0, 0][...] = kept


def test_scores_do_not_depend_on_the_order_of_columns(run):
    """A run's own order of columns is undone by the numbers that it keeps."""
    X = planted()
    order = np.random.default_rng(1).permutation(60)
    place = np.argsort(order).astype(np.int32)
    by_row = np.lexsort((place[X.indices], rows_of(X)))
    turned = Csr(X.indptr, place[X.indices][by_row], X.data[by_row])
    other = training(turned).run(1)
    for q, cols in enumerate(other.cols):
        other.state["topic_word", 0, q][...] = run.joined("topic_word")[order[cols.lo : cols.hi]]
        other.state["word", 0, q][...] = order[cols.lo : cols.hi]
    for name in ("totals", "priors"):
        other.state[name, 0, 0][...] = run.state[name, 0, 0]
    one, two = scored(run, X)[0], scored(other, turned)[0]
    np.testing.assert_allclose(list(one.values()), list(two.values()), rtol=1e-4)


def test_predictions_are_proportions_of_topics(run):
    X = planted()
    _, [outputs] = scored(run, X)
    topic_word, data = known(run, X)
    gamma = inferred(X, data, topic_word, 0.1)
    wanted = gamma / gamma.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["proportions"], wanted, atol=5e-3)
    np.testing.assert_allclose(outputs["proportions"][5], 0.25, rtol=1e-5)  # no words
    _, [best] = scored(run, X, top=2)
    assert best["topics"].shape == (120, 2)
    np.testing.assert_array_equal(best["topics"][:, 0], outputs["proportions"].argmax(axis=1))
    np.testing.assert_allclose(best["proportions"], np.sort(outputs["proportions"])[:, ::-1][:, :2])


def test_a_model_without_epochs_can_be_scored():
    scores, _ = scored(training(planted()), planted())
    assert np.isfinite(scores["perplexity"])
    assert np.isnan(scores["coherence_npmi"])


def test_documents_without_known_words_score_nothing(run):
    X = planted()
    nothing = Csr(np.zeros(3, np.int64), X.indices[:0], X.data[:0])
    scores, [outputs] = scored(run, nothing, rows=np.array([-1, -1]))
    assert np.isnan(scores["perplexity"])
    np.testing.assert_allclose(outputs["proportions"], 0.25, rtol=1e-6)
    np.testing.assert_array_equal(tokens_of(nothing), [0, 0])
