from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from oocml.data.writer import DatasetWriter
from oocml.errors import UsageError
from oocml.types import Csr, Panel
from pipelines import softmax
from pipelines.softmax import InMemory, Linear

L2 = 1e-3


def random_problem(n_classes: int, n_rows: int = 90) -> InMemory:
    rng = np.random.default_rng(0)
    X = sp.random_array((n_rows, 7), density=0.5, rng=rng, format="csr")
    return InMemory(sp.csr_matrix(X), rng.integers(n_classes, size=n_rows), n_classes)


def slow_objective(problem: InMemory, l2: float, model: Linear) -> float:
    Z = problem.X.toarray() @ model.W + model.intercept
    P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    losses = -np.log(P[np.arange(len(Z)), problem.y])
    return losses.mean() + l2 / 2 * (model.W**2).sum()


@pytest.mark.parametrize("rows_at_once", [7, 1000])
def test_objective_is_its_definition_whatever_the_batches(monkeypatch, rows_at_once):
    monkeypatch.setattr(softmax, "BATCH_ROWS", rows_at_once)
    problem, rng = random_problem(3), np.random.default_rng(1)
    model = Linear(rng.normal(size=(7, 3)), rng.normal(size=3))
    assert softmax.objective(problem, L2, model) == pytest.approx(
        slow_objective(problem, L2, model), rel=1e-12
    )


def test_the_gradient_tells_how_far_the_minimum_is():
    problem = random_problem(3)
    short, long = (softmax.fit("lbfgs", problem, L2, n).model for n in (15, 1000))
    least = softmax.objective(problem, L2, long)
    assert softmax.objective(problem, L2, short) - least <= softmax.distance(problem, L2, short)
    assert softmax.distance(problem, L2, long) < 1e-8


@pytest.mark.parametrize("n_classes", [2, 3])
def test_solvers_end_at_a_minimum_of_our_objective(n_classes):
    problem, rng = random_problem(n_classes), np.random.default_rng(2)
    found = softmax.fit("newton-cg", problem, L2, 200)
    assert found.converged
    least = softmax.objective(problem, L2, found.model)
    for _ in range(20):
        near = Linear(
            found.model.W + 1e-2 * rng.normal(size=found.model.W.shape),
            found.model.intercept + 1e-2 * rng.normal(size=n_classes),
        )
        assert softmax.objective(problem, L2, near) > least
    other = softmax.fit("lbfgs", problem, L2, 500)
    assert softmax.objective(problem, L2, other.model) == pytest.approx(least, rel=1e-6)


def test_fewer_iterations_end_higher_and_not_converged():
    problem = random_problem(3)
    short, long = (softmax.fit("lbfgs", problem, L2, n) for n in (2, 500))
    assert (short.n_iter, short.converged, long.converged) == (2, False, True)
    assert softmax.objective(problem, L2, short.model) > softmax.objective(problem, L2, long.model)


def test_a_class_that_no_row_has_gets_no_probability():
    problem = random_problem(3)
    problem = problem._replace(y=problem.y % 2 * 2)
    found = softmax.fit("lbfgs", problem, L2, 100)
    assert found.model.W.shape == (7, 3)
    assert softmax.scores(problem, found.model)["accuracy"] > 0.5
    assert np.isfinite(softmax.objective(problem, L2, found.model))


def test_rows_and_classes_of_a_test_set_are_the_training_sets(splits):
    train, test = splits
    problem, held_out = softmax.load(train), softmax.load(test, like=train)
    assert problem.X.shape == (300, 300)
    assert held_out.X.shape == (100, 300)
    assert set(held_out.y) <= set(range(problem.n_classes))
    model = softmax.fit("newton-cg", problem, 1e-4, 50).model
    assert softmax.scores(problem, model)["accuracy"] > 0.9
    other = held_out._replace(y=(held_out.y + 1) % problem.n_classes)
    assert softmax.scores(held_out, model)["accuracy"] > softmax.scores(other, model)["accuracy"] + 0.1


def test_data_without_classes_is_refused(tmp_path):
    writer = DatasetWriter(tmp_path / "d.zarr", n_cols=2, label_kind="none")
    X = Csr(np.array([0, 1]), np.array([0], np.int32), np.ones(1, np.float32))
    writer.write_panel(0, Panel(X, None, np.arange(1)))
    writer.finish(n_panels=1, attrs={})
    with pytest.raises(UsageError, match="one class per row"):
        softmax.load(tmp_path / "d.zarr")


def test_needed_memory_grows_with_the_model():
    small, large = (softmax.bytes_needed("lbfgs", 100, 1000, k, 5000) for k in (10, 1000))
    assert large > 50 * small
