"""Other libraries' topic models and mixtures, timed, and their topics scored by the same code as ours."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oocml.data.dataset import Dataset
from oocml.engine.start import make_problem
from oocml.models.registry import load_model
from oocml.types import Bounds

from .datasets import Splits
from .vi_sets import dense_of, scipy_of

SCORES = {"elbo": "elbo_per_word", "heldout": "heldout_log_likelihood_per_word", "npmi": "coherence_npmi"}
"""Columns of the tables, and what they are called by ``oocml evaluate``."""


class Timed(NamedTuple):
    """What a fit made, and what it took."""

    made: Any
    seconds: float
    cpu_seconds: float


def timed(work: Any) -> Timed:
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    return Timed(made, time.perf_counter() - wall, time.process_time() - cpu)


def sklearn_topics(splits: Splits, n_iterations: int, settings: Mapping[str, Any], seed: int) -> Timed:
    """scikit-learn's batch variational inference, in double precision; ``made`` is lambda, shape (words, topics)."""
    from sklearn.decomposition import LatentDirichletAllocation

    X = scipy_of(splits.train)
    model = LatentDirichletAllocation(
        settings["n_topics"],
        doc_topic_prior=settings["alpha"],
        topic_word_prior=settings["eta"],
        max_iter=n_iterations,
        learning_method="batch",
        random_state=seed,
        n_jobs=1,
    )
    done = timed(lambda: model.fit(X))
    return done._replace(made=model.components_.T)


def tomotopy_topics(splits: Splits, n_iterations: int, settings: Mapping[str, Any], seed: int) -> Timed:
    """tomotopy's collapsed Gibbs sampler on one thread, with fixed priors."""
    import tomotopy

    X = scipy_of(splits.train)
    k = settings["n_topics"]
    model = tomotopy.LDAModel(k=k, alpha=settings["alpha"], eta=settings["eta"], seed=seed)
    model.optim_interval = 0
    for i in range(X.shape[0]):
        row = slice(X.indptr[i], X.indptr[i + 1])
        words = np.repeat(X.indices[row], X.data[row].astype(int))
        if len(words):
            model.add_doc(list(map(str, words)))
    done = timed(lambda: model.train(n_iterations, workers=1))
    topic_word = np.zeros((X.shape[1], k))
    columns = np.array([int(word) for word in model.used_vocabs])
    totals = np.asarray(model.get_count_by_topics()) + settings["eta"] * len(columns)
    for topic in range(k):
        topic_word[columns, topic] = model.get_topic_word_dist(topic) * totals[topic]
    return done._replace(made=topic_word)


PEERS = {"sklearn-batch": sklearn_topics, "tomotopy": tomotopy_topics}
NEEDS = {"sklearn-batch": "sklearn", "tomotopy": "tomotopy"}


def installed() -> Iterator[str]:
    """Names in `PEERS` that can be run."""
    return (name for name, package in NEEDS.items() if importlib.util.find_spec(package) is not None)


def score_topics(
    topic_word: npt.NDArray[np.floating], splits: Splits, settings: Mapping[str, Any], seed: int
) -> dict[str, float]:
    """What ``oocml evaluate`` would say: the bound of the training set and the held-out likelihood of the test set.

    Parameters
    ----------
    topic_word
        Shape (words, topics): Dirichlet parameters of topics.
    """
    train = Dataset.open(str(splits.train))
    model: Any = load_model("lda")
    problem = make_problem(train, model, settings, seed)
    used = np.asarray(train.feature_nnz) > 0
    topics = np.where(used[:, None], topic_word, 0).astype(np.float32)
    totals = topics.sum(axis=0, dtype=np.float64)
    tokens = scipy_of(splits.train).sum(dtype=np.float64)
    priors = np.array([settings["alpha"], settings["eta"], tokens])
    state = {"totals": totals, "priors": priors}
    columns = {"topic_word": topics, "word": np.arange(train.n_cols, dtype=np.int32)}
    found = {}
    for path, names in ((splits.train, ("elbo",)), (splits.test, ("heldout", "npmi"))):
        scores = _score(model, problem, Dataset.open(str(path)), state, columns)
        found |= {name: scores[SCORES[name]] for name in names}
    return found


def _score(
    model: Any, problem: Any, dataset: Dataset, state: Mapping[str, Any], columns: Mapping[str, Any]
) -> dict[str, float]:
    cols = Bounds(0, dataset.n_cols)
    scoring, total = model.scoring(problem, 0), None
    for p in range(dataset.n_panels):
        panel = dataset.read_panel(p)
        data = model.prepare(panel, problem, cols)
        accumulator = scoring.begin(data, len(panel.row_ids), state)
        scoring.visit(accumulator, data, cols, columns, None)
        counted = scoring.metrics(accumulator, data)
        total = counted if total is None else scoring.merge(total, counted)
    scores: dict[str, float] = scoring.scores(total)
    return scores


MIXTURES = {"sklearn-em": "float64", "sklearn-em float32": "float32"}
"""scikit-learn computes in the precision of what it is given."""


def sklearn_mixture(
    splits: Splits, n_iterations: int, n_components: int, seed: int, dtype: str
) -> dict[str, float]:
    """scikit-learn's diagonal mixture by expectation maximisation from random rows; its test log likelihood per row."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        n_components,
        covariance_type="diag",
        max_iter=n_iterations,
        tol=0,
        init_params="random_from_data",
        random_state=seed,
    )
    X = dense_of(splits.train).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        done = timed(lambda: model.fit(X))
    return {
        "seconds": done.seconds,
        "cpu_seconds": done.cpu_seconds,
        "log_likelihood": float(model.score(dense_of(splits.test).astype(dtype))),
    }
